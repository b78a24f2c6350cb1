"""Cells: the points of a grid, each identified by its content alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fgaug.core.split_names import FOLDS, fold_of
from fgaug.grid.arm_words import PSI_BY_LABEL, arm_in_words
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
    """One point of a grid with one seed; it is trained as one trial."""

    mode: str  # one of MODES
    snapshot: str | None = None  # name of the generator, where the grid has several
    psi: float | None  # truncation; None if no fakes are used, or each label has its own
    psi_by_label: tuple[tuple[str, float], ...] | None = None  # instead of one psi
    ratio: float | None  # fakes (oversample: repeats) per real image; None with counts
    fakes: tuple[tuple[str, int], ...] | None  # fakes by label, instead of a ratio
    filter: str | None = NONE  # canonical, see `filters`; None if no fakes are used
    remove: tuple[tuple[str, Removal], ...] | None  # reals removed by label
    remove_by: str  # image | group
    split: Split = "dataset"  # as prepared, the seed of a resplit, or the fold held out
    real_fraction: float = 1.0  # fraction of the training patients whose images are used
    seed: int  # seeds the mix, the weights, the batch order and the augmentation
    rounds: Rounds | None = None
    round: int = 1  # the round it trains next, which determines the fakes it needs
    recipe: Recipe
    budget: Budget
    axes: tuple[tuple[str, Any], ...]  # values of further axes, for the result row
    cell_id: str  # 12 hex digits, see `identify`
    arm_id: str  # the same digest without the seed and the fold
    spared: bool = False  # a twin of some arm: no scheduler stops it
    dataset: str | None = None  # its name, where the grid has several

    @property
    def uses_fakes(self) -> bool:
        return self.mode in FAKE_MODES

    @property
    def view(self) -> Split:
        """The key of its real images in the plan: the split, with the dataset if named."""
        return view_of(self.dataset, self.split)

    @property
    def source(self) -> str | None:
        """The key of its image sources in the plan: the snapshot, or the dataset if named."""
        return self.snapshot if self.dataset is None else self.dataset

    @property
    def fold(self) -> int | None:
        """The fold that is held out; None without folds."""
        return fold_of(self.split)

    @property
    def filtered(self) -> bool:
        return self.uses_fakes and self.filter not in (None, NONE)

    def psi_of(self, label: str) -> float:
        """Return the truncation of a label's fakes; only for cells with fakes."""
        if self.psi_by_label is not None:
            return dict(self.psi_by_label)[label]
        assert self.psi is not None
        return self.psi

    @property
    def last_round(self) -> int:
        return 1 if self.rounds is None else self.rounds.count

    @property
    def described(self) -> str:
        """The cell in words: its arm and seed."""
        return f"{self.arm_described} seed {self.seed}"

    @property
    def arm_described(self) -> str:
        """The arm of the cell in words."""
        axes: list[tuple[str, str]] = []
        if self.psi is not None:
            axes.append(("psi", f"{self.psi:g}"))
        if self.psi_by_label is not None:
            axes.append((PSI_BY_LABEL, ", ".join(f"{k} {v:g}" for k, v in self.psi_by_label)))
        if self.ratio is not None:
            axes.append(("ratio", f"{self.ratio:g}"))
        if self.fakes is not None:
            axes.append(("fakes", ", ".join(f"{label} {n}" for label, n in self.fakes)))
        if self.remove is not None:
            counts = (f"{k} {n if isinstance(n, str) else f'{n:g}'}" for k, n in self.remove)
            axes.append(("remove", ", ".join(counts)))
        if self.rounds is not None:
            axes.append(("", f"{self.rounds.count} rounds of {self.rounds.size}"))
        if self.filtered:
            axes.append(("filter", str(self.filter)))
        axes += [(name, str(value)) for name, value in self.axes if value is not None]
        return arm_in_words(self.mode, axes)


def view_of(dataset: str | None, split: Split) -> Split:
    """Return the key of a dataset's real images under a split."""
    return split if dataset is None else f"{dataset}/{split}"


def on_dataset(cell: Cell, name: str) -> Cell:
    """Return a cell of a grid with the axis `dataset`; its ids do not change.

    They name the dataset by content, so a cell is the same as in a grid of that dataset alone.
    """
    return replace(cell, dataset=name, axes=(("dataset", name), *cell.axes))


def to_dict(cell: Cell) -> dict[str, Any]:
    """Serialise a cell to plain values, to send it to a worker."""
    fields = {name: getattr(cell, name) for name in cell.__slots__}
    rounds = None if cell.rounds is None else cell.rounds.model_dump()
    parts = {"recipe": cell.recipe.model_dump(), "budget": cell.budget.model_dump()}
    return {**fields, **parts, "rounds": rounds}


def from_dict(value: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from the output of `to_dict`."""
    recipe, budget = Recipe.model_validate(value["recipe"]), Budget.model_validate(value["budget"])
    rounds = value["rounds"] and Rounds.model_validate(value["rounds"])
    return Cell(**{**value, "recipe": recipe, "budget": budget, "rounds": rounds})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Content outside the grid that cell ids depend on."""

    dataset_digest: str
    generator: Mapping[str, Any]  # content of the generator, see `study`
    pool: int
    weights: Mapping[str, str]  # identity of the pretrained weights by recipe (JSON)
    # digests of imported images by psi and label
    imported: Mapping[float, Mapping[str, str]] = field(default_factory=dict)
    # digests of the scorers by split (they train on its images) and name
    scorers: Mapping[Split, Mapping[str, str]] = field(default_factory=dict)


def cells_of(
    space: Space, points: Sequence[Point], contexts: Mapping[str | None, Context]
) -> tuple[Cell, ...]:
    """Return the distinct cells, in the order of the points.

    Args:
        space: the grid.
        points: the grid's points, from `points.expand`.
        contexts: by snapshot name; None for cells without a named snapshot.
    """
    names = (*_further_axes(space), *_recipe_axes(space))
    spared = _random_subsets(points) if "random_subset" in space.controls else frozenset()
    arms: dict[Hashable, _CellsOfArm] = {}
    cells: dict[str, Cell] = {}
    for point in points:
        arm = point.arm
        if arm not in arms:
            arms[arm] = _CellsOfArm(space, contexts[point.snapshot], point, names)
        cell = arms[arm].cell(point.seed, spared=(arm, point.seed) in spared)
        cells.setdefault(cell.cell_id, cell)
    return tuple(cells.values())


def _random_subsets(points: Iterable[Point]) -> frozenset[Hashable]:
    """Return the keys of the unfiltered twins of filtered points."""
    twins: dict[Hashable, Hashable] = {}  # of each arm
    found = set()
    for point in points:
        arm = point.arm
        if arm not in twins:
            twin = point.random_subset
            twins[arm] = None if twin is None else twin.arm
        if twins[arm] is not None:
            found.add((twins[arm], point.seed))
    return frozenset(found)


def first_baselines(space: Space, points: Iterable[Point], context: Context) -> dict[Split, str]:
    """Return the cell_id of each split's first baseline, with the first seed and recipe.

    Args:
        space: the grid.
        points: the grid's points.
        context: for cells without a snapshot, without scorers.
    """
    found: dict[Split, str] = {}
    for point in points:
        if point.mode == "baseline" and point.split not in found:
            found[point.split] = _CellsOfArm(space, context, point, ()).cell_id(point.seed)
    return found


def recipes_of(points: Iterable[Point]) -> Iterator[Recipe]:
    """Yield the distinct recipes of the points."""
    yield from {point.recipe_name: point.recipe for point in points}.values()


def _further_axes(space: Space) -> Iterator[str]:
    """Yield the less common axes that a grid uses; its result rows get a column for each."""
    if space.axes.snapshot:
        yield "snapshot"
    if any(axes.split != ["dataset"] for axes in space.lists):
        yield "split"
    if space.folds:
        yield "fold"
    if any(share < 1 for axes in space.lists for share in axes.real_fraction):
        yield "real_fraction"


def _recipe_axes(space: Space) -> tuple[str, ...]:
    return tuple(sorted({f"recipe.{name}" for axes in space.lists for name in axes.recipe}))


class _CellsOfArm:
    """The cells of one arm and split, which differ in the seed alone."""

    def __init__(
        self, space: Space, context: Context, point: Point, names: tuple[str, ...]
    ) -> None:
        """Describe the cells of a point's arm, with the further axes `names`."""
        arm: dict[str, Any] = {
            "mode": point.mode,
            "psi": point.psi,
            "psi_by_label": point.psi_by_label,
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
        self._ids = _IdsBySeed(_identity(arm, context))
        self._shared = {
            **arm,
            "snapshot": point.snapshot,
            "axes": tuple((name, point.value(name)) for name in names),
            "arm_id": identify({**arm, "split": _split_of_arm(point)}, context),
        }

    def cell_id(self, seed: int) -> str:
        return self._ids.at(seed)

    def cell(self, seed: int, *, spared: bool) -> Cell:
        return Cell(**self._shared, seed=seed, spared=spared, cell_id=self._ids.at(seed))


class _IdsBySeed:
    """`identify` for many seeds: all but the seed is written as JSON and hashed once."""

    def __init__(self, identity: Mapping[str, Any]) -> None:
        """Prepare the ids of an identity without its seed."""
        before = {key: value for key, value in identity.items() if key < "seed"}
        after = {key: value for key, value in identity.items() if key > "seed"}
        # canonical JSON sorts its keys, so the seed stands between these two parts
        self._start = hashlib.sha256(f'{_text(before)[:-1]},"seed":'.encode())
        self._end = f",{_text(after)[1:]}".encode()

    def at(self, seed: int) -> str:
        """Return the id of the cell with this seed."""
        whole = self._start.copy()
        whole.update(b"%d%b" % (seed, self._end))
        return whole.hexdigest()[:12]


def _split_of_arm(point: Point) -> Split:
    """Return the split in an arm's identity: an arm spans its folds, as it spans its seeds."""
    return point.split if point.fold is None else FOLDS


def identify(content: Mapping[str, Any], context: Context) -> str:
    """Return 12 hex digits of the SHA-256 of everything that determines a cell's numbers.

    The digest is taken of canonical JSON without paths, resources, schedulers, hosts or versions.
    """
    return digest(_identity(content, context))[:12]


def _identity(content: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return everything that determines a cell's numbers, as values for JSON."""
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
        del named["real_fraction"]  # same id as in grids without this axis
    rounds: Rounds | None = named.pop("rounds")
    if rounds is not None:  # else the same id as in grids without rounds
        named["rounds"] = {"size": rounds.size, "count": rounds.count}
    by_label = named.pop("psi_by_label", None)
    if by_label is not None:  # else the same id as in grids with one psi
        named["psi"] = dict(by_label)
    chosen = named.pop("filter")
    if content["mode"] in FAKE_MODES:
        named |= {"pool": context.pool, "generator": context.generator}
        if content["psi"] in context.imported:
            named["imported"] = context.imported[content["psi"]]
        if by_label is not None and context.imported:
            parts = {label: context.imported[psi].get(label) for label, psi in by_label}
            named["imported"] = {label: part for label, part in parts.items() if part}
        if chosen != NONE:  # else as in the names of grids without that axis
            used = _scorers_of(content["split"], parse(chosen).scorers, context)
            named |= {"filter": chosen, "scorers": used}
    return named


def _scorers_of(split: Split, names: Iterable[str], context: Context) -> dict[str, Any]:
    """Return the digests of a filter's scorers; for an arm with folds, those of every fold."""
    if split != FOLDS:
        return {name: context.scorers[split][name] for name in names}
    by_fold = {each: of for each, of in context.scorers.items() if fold_of(each) is not None}
    return {name: {str(fold): of[name] for fold, of in by_fold.items()} for name in names}


def recipe_identity(recipe: Recipe, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return a recipe's fields with the weights' content instead of their path."""
    unused = {"weights", "pretrained", "allow_scratch", *recipe.of_other_backend}
    if recipe.precision == "float32":  # else the same identity as before that field
        unused.add("precision")
    fields = recipe.model_dump(exclude=unused)
    if recipe.draws_apart:  # earlier versions shared one seed among steps and had other ids
        fields["augmentation_streams"] = "one a step"
    return {**fields, "weights": weights[recipe.model_dump_json()]}


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in which 1 and 1.0 are equal."""
    return hashlib.sha256(_text(value).encode()).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner) for inner in value]
    return value
