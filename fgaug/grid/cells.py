"""Cells: the points of a grid, each named by its content alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fgaug.grid.axes import Removal, Split
from fgaug.grid.filters import NONE, parse
from fgaug.grid.points import Point
from fgaug.grid.recipe import RECIPE_VERSION, Budget, Recipe
from fgaug.grid.rounds import Rounds
from fgaug.grid.space import Space

MODES = ("baseline", "augmentation", "replacement", "synthetic", "oversample", "drop")
FAKE_MODES = ("augmentation", "replacement", "synthetic")
CONTROLS = ("oversample", "drop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point of a grid with one seed: one trial."""

    mode: str  # one of MODES
    snapshot: str | None = None  # the name of what makes its fakes, where the grid has several
    psi: float | None  # truncation; None where no fakes are used
    ratio: float | None  # fakes (oversample: repeats) per real; None if none or counts are given
    fakes: tuple[tuple[str, int], ...] | None  # counts by label, instead of a ratio
    filter: str | None = NONE  # canonical, see `filters`; None where no fakes are used
    remove: tuple[tuple[str, Removal], ...] | None  # reals removed by label
    remove_by: str  # image | group
    split: Split = "dataset"  # who trains and validates: as prepared, or drawn anew by a seed
    real_fraction: float = 1.0  # share of the training patients whose images are used
    seed: int  # of the mix, the weights, the batch order and the augmentation
    rounds: Rounds | None = None
    round: int = 1  # that its training has come to: which fakes it needs next
    recipe: Recipe
    budget: Budget
    axes: tuple[tuple[str, Any], ...]  # values of further axes, for the result row
    cell_id: str  # 12 hex digits, see `identify`
    arm_id: str  # the same without the seed
    spared: bool = False  # the grid wants it as an arm's twin: no scheduler stops it

    @property
    def uses_fakes(self) -> bool:
        return self.mode in FAKE_MODES

    @property
    def filtered(self) -> bool:
        return self.uses_fakes and self.filter not in (None, NONE)

    @property
    def last_round(self) -> int:
        return 1 if self.rounds is None else self.rounds.count

    @property
    def described(self) -> str:
        """The cell in words, for messages."""
        parts = [self.mode]
        if self.psi is not None:
            parts.append(f"psi {self.psi:g}")
        if self.ratio is not None:
            parts.append(f"ratio {self.ratio:g}")
        if self.fakes is not None:
            parts.append("fakes " + ", ".join(f"{label} {n}" for label, n in self.fakes))
        if self.remove is not None:
            counts = (f"{k} {n if isinstance(n, str) else f'{n:g}'}" for k, n in self.remove)
            parts.append("remove " + ", ".join(counts))
        if self.rounds is not None:
            parts.append(f"{self.rounds.count} rounds of {self.rounds.size}")
        if self.filtered:
            parts.append(f"filter {self.filter}")
        further = ((name, value) for name, value in self.axes if value is not None)
        parts += [f"{name.removeprefix('recipe.')} {value}" for name, value in further]
        return " ".join([*parts, f"seed {self.seed}"])


def to_dict(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain values: what travels to a worker."""
    fields = {name: getattr(cell, name) for name in cell.__slots__}
    rounds = None if cell.rounds is None else cell.rounds.model_dump()
    parts = {"recipe": cell.recipe.model_dump(), "budget": cell.budget.model_dump()}
    return {**fields, **parts, "rounds": rounds}


def from_dict(value: Mapping[str, Any]) -> Cell:
    """Return the cell that `to_dict` wrote."""
    recipe, budget = Recipe.model_validate(value["recipe"]), Budget.model_validate(value["budget"])
    rounds = value["rounds"] and Rounds.model_validate(value["rounds"])
    return Cell(**{**value, "recipe": recipe, "budget": budget, "rounds": rounds})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What identities depend on beside the grid's own values."""

    dataset_digest: str
    generator: Mapping[str, Any]  # content of what makes the fakes, see `study`
    pool: int
    weights: Mapping[str, str]  # identity of the pretrained weights by model and recipe
    # digest of the imported images that cells of a psi can draw, by label
    imported: Mapping[float, Mapping[str, str]] = field(default_factory=dict)
    # digests of the scorers by name, for each split: they learn from its training images
    scorers: Mapping[Split, Mapping[str, str]] = field(default_factory=dict)


def cells_of(
    space: Space, points: Sequence[Point], contexts: Mapping[str | None, Context]
) -> tuple[Cell, ...]:
    """Return each distinct cell once, in the order of the points.

    Args:
        space: the grid.
        points: what `points.expand` returns for it.
        contexts: by the name of a snapshot; None for cells without one.
    """
    names = (*_further_axes(space), *_recipe_axes(space))
    cells: dict[str, Cell] = {}
    twins = {point.random_subset.key for point in points if point.random_subset is not None}
    twins = twins if "random_subset" in space.controls else set()
    for point in points:
        context = contexts[point.snapshot]
        cell = _make(space, context, point, names, spared=point.key in twins)
        cells.setdefault(cell.cell_id, cell)
    return tuple(cells.values())


def first_baselines(space: Space, points: Iterable[Point], context: Context) -> dict[Split, str]:
    """Return the cell_id of the first baseline of each split: of the first seed and recipe.

    Args:
        space: the grid.
        points: what it expands to.
        context: of cells without a snapshot; the scorers of fakes are left out.
    """
    found: dict[Split, str] = {}
    for point in points:
        if point.mode == "baseline" and point.split not in found:
            found[point.split] = _make(space, context, point, (), spared=False).cell_id
    return found


def recipes_of(points: Iterable[Point]) -> Iterator[Recipe]:
    """Yield every distinct recipe of some points."""
    yield from {point.recipe_name: point.recipe for point in points}.values()


def _further_axes(space: Space) -> Iterator[str]:
    """Yield the axes beside the usual ones that a grid uses: its rows have a column for each."""
    if space.axes.snapshot:
        yield "snapshot"
    if any(axes.split != ["dataset"] for axes in space.lists):
        yield "split"
    if any(share < 1 for axes in space.lists for share in axes.real_fraction):
        yield "real_fraction"


def _recipe_axes(space: Space) -> tuple[str, ...]:
    return tuple(sorted({f"recipe.{name}" for axes in space.lists for name in axes.recipe}))


def _make(
    space: Space, context: Context, point: Point, names: tuple[str, ...], *, spared: bool
) -> Cell:
    arm: dict[str, Any] = {
        "mode": point.mode,
        "psi": point.psi,
        "ratio": point.ratio,
        "fakes": point.fakes,
        "filter": point.filter,
        "remove": point.remove,
        "remove_by": space.remove_by,
        "split": point.split,
        "real_fraction": point.real_fraction,
        "rounds": space.rounds if point.mode == "synthetic" else None,
        "recipe": point.recipe,
        "budget": space.budget,
    }
    return Cell(
        **arm,
        snapshot=point.snapshot,
        axes=tuple((name, point.value(name)) for name in names),
        seed=point.seed,
        spared=spared,
        cell_id=identify({**arm, "seed": point.seed}, context),
        arm_id=identify(arm, context),
    )


def identify(content: Mapping[str, Any], context: Context) -> str:
    """Return 12 hex digits of the SHA-256 of the canonical JSON of what makes a cell's numbers.

    What lies where, resources, schedulers, hosts and versions are not in it.
    """
    recipe: Recipe = content["recipe"]
    named = {
        **{key: value for key, value in content.items() if key not in ("recipe", "budget")},
        "recipe": recipe_identity(recipe, context.weights),
        "budget": content["budget"].model_dump(exclude_none=True),
        "dataset": context.dataset_digest,
        "recipe_version": RECIPE_VERSION,
    }
    if content["remove"] is None:
        del named["remove_by"]
    if content["real_fraction"] == 1:
        del named["real_fraction"]  # as in the names of grids without that axis
    rounds: Rounds | None = named.pop("rounds")
    if rounds is not None:  # else as in the names of grids without rounds
        named["rounds"] = {"size": rounds.size, "count": rounds.count}
    chosen = named.pop("filter")
    if content["mode"] in FAKE_MODES:
        named |= {"pool": context.pool, "generator": context.generator}
        if content["psi"] in context.imported:
            named["imported"] = context.imported[content["psi"]]
        if chosen != NONE:  # else as in the names of grids without that axis
            digests = context.scorers[content["split"]]
            used = {name: digests[name] for name in parse(chosen).scorers}
            named |= {"filter": chosen, "scorers": used}
    return digest(named)[:12]


def recipe_identity(recipe: Recipe, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return a recipe's fields with the content of its weights instead of their place."""
    unused = {"weights", "pretrained", "allow_scratch", *recipe.of_other_backend}
    fields = recipe.model_dump(exclude=unused)
    if recipe.draws_apart:  # earlier versions gave all steps one seed: other numbers, other names
        fields["augmentation_streams"] = "one a step"
    return {**fields, "weights": weights[recipe.model_dump_json()]}


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON; 1 and 1.0 are one value."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner) for inner in value]
    return value
