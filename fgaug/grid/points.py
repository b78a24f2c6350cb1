"""Points: the combinations of a grid's axes, minus `exclude`, plus `include`.

A point is a cell without its id, so a grid can be counted and checked before its dataset is
opened. Baselines and second stages also get seeds beyond those of the grid.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fgaug.core.split_names import fold_of
from fgaug.grid import twins
from fgaug.grid.analysis_plan import seeds_of_baseline
from fgaug.grid.axes import (
    Counts,
    Excluded,
    Included,
    Lists,
    PsiByLabel,
    Removal,
    Removals,
    SeedSample,
    Split,
    psi_parts,
)
from fgaug.grid.filters import NONE
from fgaug.grid.recipe import KerasRecipe, Recipe
from fgaug.grid.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One combination of axis values; axes that the mode does not use hold their neutral value."""

    mode: str
    snapshot: str | None  # a name; None if no fakes are used or the grid has one generator
    psi: float | None  # of all labels
    psi_by_label: tuple[tuple[str, float], ...] | None = None  # instead of one psi
    ratio: float | None
    fakes: tuple[tuple[str, int], ...] | None
    filter: str | None  # canonical; None if no fakes are used
    remove: tuple[tuple[str, Removal], ...] | None
    split: Split
    real_fraction: float
    seed: int
    recipe: Recipe
    recipe_name: str  # the recipe as JSON, since recipes with a pipeline are not hashable

    @property
    def key(self) -> Hashable:
        return self.arm, self.seed

    @property
    def arm(self) -> Hashable:
        """What the point shares with its copies at other seeds."""
        return (
            self.mode,
            self.snapshot,
            self.psi,
            self.psi_by_label,
            self.ratio,
            self.fakes,
            self.filter,
            self.remove,
            self.split,
            self.real_fraction,
            self.recipe_name,
        )

    @property
    def fold(self) -> int | None:
        """The fold that is held out; None without folds."""
        return fold_of(self.split)

    @property
    def random_subset(self) -> Point | None:
        """The twin with as many fakes but no filter; None for unfiltered points."""
        return None if self.filter in (None, NONE) else replace(self, filter=NONE)

    def value(self, axis: str) -> Any:
        """Return the point's value on an axis, such as `recipe.model`."""
        if axis == "psi" and self.psi is None:
            return self.psi_by_label
        if axis.startswith("recipe."):
            value = getattr(self.recipe, axis.removeprefix("recipe."))
            in_parts = isinstance(value, KerasRecipe)  # rows hold it in one column, as JSON
            return value.model_dump_json(exclude_defaults=True) if in_parts else value
        return getattr(self, axis)


def expand(space: Space) -> tuple[Point, ...]:
    """Return the distinct points of a grid, ordered by seed.

    `exclude` removes arms from the combinations of the axes, along with baselines and twins that
    no other arm needs. `include` then adds points with their baselines and twins. Last come the
    additional baselines of `baseline_seeds`.
    """
    kept = distinct(product(space, space.axes, space.exclude))
    for entry in space.include:
        kept |= distinct(product(space, entry))
    further = distinct(further_baselines(space, kept.values()))
    seeds = (*_seeds(space), *(point.seed for point in further.values()))
    order = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
    return tuple(sorted((kept | further).values(), key=lambda point: order[point.seed]))


def matches(named: Mapping[str, list[Any]], point: Point) -> bool:
    """Return whether a point has one of the listed values on every listed axis."""
    return all(point.value(axis) in values for axis, values in named.items())


def _seeds(space: Space) -> Iterator[int]:
    yield from space.seeds
    for entry in space.include:
        yield from entry.seeds


def distinct(points: Iterable[Point]) -> dict[Hashable, Point]:
    """Return the points by key, keeping the first of equal ones."""
    found: dict[Hashable, Point] = {}
    for point in points:
        found.setdefault(point.key, point)
    return found


def product(space: Space, axes: Lists, exclude: Iterable[Excluded] = ()) -> Iterator[Point]:
    """Yield each arm, preceded by its baseline and twins, without excluded points.

    The arms of the axes are combined once and copied to every seed.
    """
    entries = [entry.named for entry in exclude]
    arms = tuple(_arms_of_a_seed(space, axes))
    known: dict[tuple[bool, ...], tuple[Point, ...]] = {}  # by which entries concern a seed
    for seed in _seeds_of(space, axes):
        concerned = tuple(seed in named.get("seed", (seed,)) for named in entries)
        if concerned not in known:
            chosen = itertools.compress(entries, concerned)
            kept = _with_controls(space, arms, [*map(_without_seeds, chosen)])
            known[concerned] = tuple(distinct(kept).values())
        yield from (replace(point, seed=seed) for point in known[concerned])


def _with_controls(
    space: Space, arms: Iterable[Point], entries: Sequence[Mapping[str, list[Any]]]
) -> Iterator[Point]:
    """Yield each arm, preceded by its baseline and twins, without points that match an entry."""
    for arm in arms:
        if not any(matches(named, arm) for named in entries):
            for point in (*_controls(space, arm), arm):
                if not any(matches(named, point) for named in entries):
                    yield point


def _without_seeds(named: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {axis: values for axis, values in named.items() if axis != "seed"}


def _seeds_of(space: Space, axes: Lists) -> tuple[int, ...]:
    return axes.seeds or space.seeds


def _controls(space: Space, arm: Point) -> Iterator[Point]:
    """Yield the baseline and twins of an arm, with the same seed, recipe, split and patients."""
    yield _comparator(arm, twins.BASELINE)
    for twin in (twins.OVERSAMPLE, twins.DROP):
        if twin.name in space.controls and arm.mode in twin.of_modes:
            yield _comparator(arm, twin)
    if "random_subset" in space.controls and arm.random_subset is not None:
        yield arm.random_subset


def _comparator(arm: Point, kind: twins.Comparator) -> Point:
    nothing: dict[str, Any] = dict.fromkeys(kind.dropped)
    return replace(arm, mode=kind.name, **nothing)


def further_baselines(space: Space, points: Iterable[Point]) -> Iterator[Point]:
    """Yield the additional baselines that `baseline_seeds` requires, family by family.

    A family is a baseline and the arms compared with it. Additional seeds continue after the
    family's own, so a larger family has all the additional seeds of a smaller one.
    """
    if space.baseline_seeds is None:
        return
    baselines: dict[Hashable, list[Point]] = {}
    arms: dict[Hashable, Counter[Hashable]] = {}  # seeds of each arm by family
    families: dict[Hashable, Hashable] = {}  # by arm
    for point in points:
        if point.mode in ("oversample", "drop"):
            continue
        arm = point.arm
        if arm not in families:
            families[arm] = _comparator(point, twins.BASELINE).arm
        family = families[arm]
        if point.mode == "baseline":
            baselines.setdefault(family, []).append(point)
        else:
            arms.setdefault(family, Counter())[arm] += 1
    unfit = {seed for entry in space.exclude for seed in entry.seed}
    for family, known in baselines.items():
        wanted, seeds = space.baseline_seeds, arms.get(family, Counter())
        if wanted == "auto":
            wanted = seeds_of_baseline(len(seeds), max(seeds.values(), default=0))
        taken = unfit.union(point.seed for point in known)
        more = max(0, wanted - len(known))
        for seed in itertools.islice(seeds_after(space.axes, taken), more):
            yield replace(known[0], seed=seed)


def arms_of(space: Space, axes: Lists) -> Iterator[Point]:
    """Yield the arms of the axes' modes; a mode yields equal copies along axes it ignores."""
    arms = tuple(_arms_of_a_seed(space, axes))
    for seed in _seeds_of(space, axes):
        yield from (replace(arm, seed=seed) for arm in arms)


def _arms_of_a_seed(space: Space, axes: Lists) -> Iterator[Point]:
    """Yield the arms of the axes' modes at the first seed."""
    seed = _seeds_of(space, axes)[0]
    for recipe in combined_recipes(space.recipe, axes):
        name = recipe.model_dump_json()
        shares = itertools.product(space.splits_of(axes), axes.real_fraction, axes.mode)
        for split, share, mode in shares:
            for draw in _draws(space, axes, mode):
                snapshot, truncation, (ratio, fakes), kept, remove = draw
                psi, psi_by_label = (None, None) if truncation is None else psi_parts(truncation)
                yield Point(
                    mode=mode,
                    snapshot=snapshot,
                    psi=psi,
                    psi_by_label=psi_by_label,
                    ratio=ratio,
                    fakes=tuple(sorted(fakes.items())) if fakes is not None else None,
                    filter=kept,
                    remove=tuple(sorted(remove.items())) if remove is not None else None,
                    split=split,
                    real_fraction=1.0 if mode == "synthetic" else share,  # no reals
                    seed=seed,
                    recipe=recipe,
                    recipe_name=name,
                )


Amount = tuple[float | None, Counts | None]
Draw = tuple[str | None, float | PsiByLabel | None, Amount, str | None, Removals | None]


def _draws(space: Space, axes: Lists, mode: str) -> Iterator[Draw]:
    """Yield snapshot, psi, amount, filter and removal of the arms of a mode."""
    if mode == "baseline":
        yield None, None, (None, None), None, None
        return
    snapshots: list[str | None] = [entry.name for entry in space.snapshot_entries]
    if isinstance(axes, Included) and axes.snapshot:
        snapshots = list(axes.snapshot)
    removals: tuple[Removals | None, ...] = (None,)
    if mode == "replacement":
        removals = tuple(axes.remove) or space.removals
    amounts: tuple[Amount, ...] = axes.amounts
    if mode == "synthetic" and space.rounds is not None:
        amounts = ((None, None),)  # `rounds.size` sets the amount
    for snapshot, remove, amount in itertools.product(snapshots, removals, amounts):
        for psi, kept in itertools.product(axes.psi, axes.filter):
            yield snapshot, psi, amount, kept, remove


def combined_recipes(base: Recipe, axes: Lists) -> Iterator[Recipe]:
    """Yield the combinations of the recipe axes as recipes.

    Raises:
        pydantic.ValidationError: a combination of values is not a valid recipe.
    """
    names = sorted(axes.recipe)
    for values in itertools.product(*(axes.recipe[name] for name in names)):
        fields = {**base.model_dump(), **dict(zip(names, values, strict=True))}
        yield Recipe.model_validate(fields)


def seeds_after(axes: Lists, taken: Collection[int]) -> Iterator[int]:
    """Yield an endless, reproducible sequence of seeds that are not in `taken`.

    If the axis is a draw, the sequence continues that draw, so a larger `sample` yields the same
    seeds in the same order. If it is a list, or the population is used up, the smallest unused
    integers follow.
    """
    known = set(taken)
    drawn = _rest_of(axes.seed) if isinstance(axes.seed, SeedSample) else iter(())
    for seed in itertools.chain(drawn, itertools.count()):
        if seed not in known:
            known.add(seed)
            yield seed


def _rest_of(sample: SeedSample) -> Iterator[int]:
    """Yield what `random.sample` would draw next, until the population is used up.

    CPython swaps positions of a list for small populations and otherwise draws until a number is
    new. A Python version that samples differently would change additional seeds only.
    """
    population = range(sample.population)
    rng = random.Random(sample.rng)
    first = rng.sample(population, sample.sample)
    if sample.population <= 16 * sample.sample + 32:
        whole = random.Random(sample.rng).sample(population, sample.population)
        if whole[: sample.sample] == first:
            yield from whole[sample.sample :]
            return
    drawn = set(first)
    while len(drawn) < sample.population:
        seed = rng.randrange(sample.population)
        if seed not in drawn:
            drawn.add(seed)
            yield seed
