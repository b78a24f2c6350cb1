"""Points: what the axes of a grid combine to, less `exclude`, plus `include`.

space -> [points] -> cells.  A point has all of a cell but its name, so a grid is counted and
checked before any dataset is opened.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fgaug.analysis_plan import seeds_of_baseline
from fgaug.axes import Counts, Lists, Removal, Removals, Split
from fgaug.entries import Excluded, Included
from fgaug.filters import NONE
from fgaug.grid_errors import near
from fgaug.recipe import KerasRecipe, Recipe
from fgaug.seeds import seeds_after

if TYPE_CHECKING:
    from fgaug.space import Space

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One combination of values; modes have None, or all patients, on axes they do not use."""

    mode: str
    snapshot: str | None  # by its name; None also where the grid has one generator
    psi: float | None
    ratio: float | None
    fakes: tuple[tuple[str, int], ...] | None
    filter: str | None  # canonical; None where no fakes are used
    remove: tuple[tuple[str, Removal], ...] | None
    split: Split
    real_fraction: float
    seed: int
    recipe: Recipe
    recipe_name: str  # the recipe as JSON: a recipe with a pipeline has no hash

    @property
    def key(self) -> Hashable:
        named = (self.mode, self.snapshot, self.psi, self.ratio, self.fakes, self.filter)
        return (*named, self.remove, self.split, self.real_fraction, self.seed, self.recipe_name)

    @property
    def random_subset(self) -> Point | None:
        """As many fakes as a filtered point has, chosen by no filter; None for other points."""
        return None if self.filter in (None, NONE) else replace(self, filter=NONE)

    def value(self, axis: str) -> Any:
        """Return its value on an axis, `recipe.model` for example."""
        if axis.startswith("recipe."):
            value = getattr(self.recipe, axis.removeprefix("recipe."))
            in_parts = isinstance(value, KerasRecipe)  # a row has a column for it
            return value.model_dump_json(exclude_defaults=True) if in_parts else value
        return getattr(self, axis)


def points_of(space: Space) -> tuple[Point, ...]:
    """Return each distinct point of a grid once, seeds outermost.

    `exclude` thins out what the axes combine to; a baseline or a twin that only excluded arms
    needed goes with them. `include` then adds its points, with the baseline and twins they need.
    `baseline_seeds` gives baselines, and no twins, seeds of their own: they come last.
    """
    kept = _distinct(_product(space, space.axes, space.exclude))
    for entry in space.include:
        kept |= _distinct(_product(space, entry))
    further = _distinct(_further_baselines(space, kept.values()))
    seeds = (*_seeds(space), *(point.seed for point in further.values()))
    order = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
    return tuple(sorted((kept | further).values(), key=lambda point: order[point.seed]))


def points_misfits(space: Space) -> list[str]:
    """Return which entries do nothing, and whether the grid has as many cells as it says."""
    problems = []
    if space.exclude:
        every = _distinct(_product(space, space.axes)).values()
        for place, entry in enumerate(space.exclude):
            problems += _idle_exclude(f"exclude.{place}", entry, every)
    points = _distinct(_product(space, space.axes, space.exclude))
    if not points:
        problems.append("`exclude` leaves nothing of the grid. Take out less")
    for place, further in enumerate(space.include):
        added = _distinct(_arms(space, further))
        if added.keys() <= points.keys():
            problems.append(
                f"`include.{place}` adds no cell: the grid has its {len(added)} already. Drop it"
            )
        points |= _distinct(_product(space, further))
    points |= _distinct(_further_baselines(space, points.values()))
    if space.cells is not None and space.cells != len(points) and not problems:
        modes = Counter(point.mode for point in points.values())
        counts = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
        problems.append(
            f"`cells` says {space.cells}, but the grid has {len(points)}: {counts}. "
            "Correct the count or the axes"
        )
    return problems


def _idle_exclude(key: str, entry: Excluded, every: Iterable[Point]) -> list[str]:
    """Return the values of an entry that no cell has, or that no cell has all of them."""
    problems = []
    named = entry.named
    for axis, values in named.items():
        known = {repr(value): value for value in (point.value(axis) for point in every)}
        for value in values:
            if value not in known.values():
                guess = near(value, map(str, known.values())) if isinstance(value, str) else ""
                shown = sorted(_shown(other) for other in known.values() if other is not None)
                cure = guess or f"; they have {', '.join(shown) or 'none'}"
                problems.append(f"`{key}.{axis}`: no cell has {_shown(value)}{cure}")
    if not problems and not any(_matches(named, point) for point in every):
        problems.append(
            f"`{key}` matches no cell: each of its values occurs, but not together. "
            "Correct them, or drop the entry"
        )
    return problems


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _matches(named: Mapping[str, list[Any]], point: Point) -> bool:
    return all(point.value(axis) in values for axis, values in named.items())


def _seeds(space: Space) -> Iterator[int]:
    yield from space.seeds
    for entry in space.include:
        yield from entry.seeds


def _distinct(points: Iterable[Point]) -> dict[Hashable, Point]:
    found: dict[Hashable, Point] = {}
    for point in points:
        found.setdefault(point.key, point)
    return found


def _product(space: Space, axes: Lists, exclude: Iterable[Excluded] = ()) -> Iterator[Point]:
    """Yield each arm after its baseline and twins, less what `exclude` names."""
    entries = [entry.named for entry in exclude]
    for arm in _arms(space, axes):
        if not any(_matches(named, arm) for named in entries):
            for point in (*_controls(space, arm), arm):
                if not any(_matches(named, point) for named in entries):
                    yield point


def _controls(space: Space, arm: Point) -> Iterator[Point]:
    """Yield what an arm is compared to: same seed, recipe, split and patients."""
    baseline = _baseline(arm)
    yield baseline
    if "oversample" in space.controls and arm.mode in ("augmentation", "replacement"):
        yield replace(arm, mode="oversample", snapshot=None, psi=None, filter=None)
    if "drop" in space.controls and arm.mode == "replacement":
        yield replace(baseline, mode="drop", remove=arm.remove)
    if "random_subset" in space.controls and arm.random_subset is not None:
        yield arm.random_subset


def _baseline(arm: Point) -> Point:
    of_fakes = ("snapshot", "psi", "ratio", "fakes", "filter", "remove")
    nothing: dict[str, Any] = dict.fromkeys(of_fakes)
    return replace(arm, mode="baseline", **nothing)


def _further_baselines(space: Space, points: Iterable[Point]) -> Iterator[Point]:
    """Yield the baselines with further seeds that `baseline_seeds` asks for, family by family.

    A family are the arms that are compared with one baseline, whose further seeds come after those
    that its arms have: a larger family has those of a smaller one, and some more.
    """
    if space.baseline_seeds is None:
        return
    baselines: dict[Hashable, list[Point]] = {}
    arms: dict[Hashable, Counter[Hashable]] = {}  # seeds of each arm by family
    for point in points:
        if point.mode in ("oversample", "drop"):
            continue
        family = replace(_baseline(point), seed=0).key
        if point.mode == "baseline":
            baselines.setdefault(family, []).append(point)
        else:
            arms.setdefault(family, Counter())[replace(point, seed=0).key] += 1
    unfit = {seed for entry in space.exclude for seed in entry.seed}
    for family, known in baselines.items():
        wanted, seeds = space.baseline_seeds, arms.get(family, Counter())
        if wanted == "auto":
            wanted = seeds_of_baseline(len(seeds), max(seeds.values(), default=0))
        taken = unfit.union(point.seed for point in known)
        more = max(0, wanted - len(known))
        for seed in itertools.islice(seeds_after(space.axes, taken), more):
            yield replace(known[0], seed=seed)


def _arms(space: Space, axes: Lists) -> Iterator[Point]:
    """Yield the points of the modes that axes name; copies are alike where a mode uses no axis."""
    for seed in axes.seeds or space.seeds:
        for recipe in combined_recipes(space.recipe, axes):
            name = recipe.model_dump_json()
            shares = itertools.product(axes.split, axes.real_fraction, axes.mode)
            for split, share, mode in shares:
                for draw in _draws(space, axes, mode):
                    snapshot, psi, (ratio, fakes), kept, remove = draw
                    yield Point(
                        mode=mode,
                        snapshot=snapshot,
                        psi=psi,
                        ratio=ratio,
                        fakes=tuple(sorted(fakes.items())) if fakes is not None else None,
                        filter=kept,
                        remove=tuple(sorted(remove.items())) if remove is not None else None,
                        split=split,
                        real_fraction=1.0 if mode == "synthetic" else share,  # it has no patient
                        seed=seed,
                        recipe=recipe,
                        recipe_name=name,
                    )


Amount = tuple[float | None, Counts | None]
Draw = tuple[str | None, float | None, Amount, str | None, Removals | None]


def _draws(space: Space, axes: Lists, mode: str) -> Iterator[Draw]:
    """Yield snapshot, psi, amount, filter and removal of the arms of a mode."""
    if mode == "baseline":
        yield None, None, (None, None), None, None
        return
    snapshots: list[str | None] = [entry.name for entry in space.supplies]
    if isinstance(axes, Included) and axes.snapshot:
        snapshots = list(axes.snapshot)
    removals: tuple[Removals | None, ...] = (None,)
    if mode == "replacement":
        removals = tuple(axes.remove) or space.removals
    amounts: tuple[Amount, ...] = axes.amounts
    if mode == "synthetic" and space.rounds is not None:
        amounts = ((None, None),)  # each round has its size
    for snapshot, remove, amount in itertools.product(snapshots, removals, amounts):
        for psi, kept in itertools.product(axes.psi, axes.filter):
            yield snapshot, psi, amount, kept, remove


def combined_recipes(base: Recipe, axes: Lists) -> Iterator[Recipe]:
    """Yield the recipes that the recipe's axes combine to.

    Raises:
        pydantic.ValidationError: values that are no recipe together.
    """
    names = sorted(axes.recipe)
    for values in itertools.product(*(axes.recipe[name] for name in names)):
        fields = {**base.model_dump(), **dict(zip(names, values, strict=True))}
        yield Recipe.model_validate(fields)
