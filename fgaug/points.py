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

from fgaug.axes import Axes, Counts, Removal, Removals
from fgaug.entries import Excluded
from fgaug.grid_errors import near
from fgaug.recipe import Recipe

if TYPE_CHECKING:
    from fgaug.space import Space

Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One combination of values; modes have None, or all patients, on axes they do not use."""

    mode: str
    psi: float | None
    ratio: float | None
    fakes: tuple[tuple[str, int], ...] | None
    remove: tuple[tuple[str, Removal], ...] | None
    real_fraction: float
    seed: int
    recipe: Recipe
    recipe_name: str  # the recipe as JSON: a recipe with a pipeline has no hash

    @property
    def key(self) -> Hashable:
        named = (self.mode, self.psi, self.ratio, self.fakes, self.remove)
        return (*named, self.real_fraction, self.seed, self.recipe_name)

    def value(self, axis: str) -> Any:
        """Return its value on an axis, `recipe.model` for example."""
        if axis.startswith("recipe."):
            return getattr(self.recipe, axis.removeprefix("recipe."))
        return getattr(self, axis)


def points_of(space: Space) -> tuple[Point, ...]:
    """Return each distinct point of a grid once, seeds outermost.

    `exclude` thins out what the axes combine to; a baseline or a twin that only excluded arms
    needed goes with them. `include` then adds its points, with the baseline and twins they need.
    """
    kept = _distinct(_product(space, space.axes, space.exclude))
    for entry in space.include:
        kept |= _distinct(_product(space, entry))
    order = {seed: place for place, seed in enumerate(dict.fromkeys(_seeds(space)))}
    return tuple(sorted(kept.values(), key=lambda point: order[point.seed]))


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


def _product(space: Space, axes: Axes, exclude: Iterable[Excluded] = ()) -> Iterator[Point]:
    """Yield each arm after its baseline and twins, less what `exclude` names."""
    entries = [entry.named for entry in exclude]
    for arm in _arms(space, axes):
        if not any(_matches(named, arm) for named in entries):
            for point in (*_controls(space, arm), arm):
                if not any(_matches(named, point) for named in entries):
                    yield point


def _controls(space: Space, arm: Point) -> Iterator[Point]:
    """Yield what an arm is compared to: same seed, recipe and patients."""
    baseline = replace(arm, mode="baseline", psi=None, ratio=None, fakes=None, remove=None)
    yield baseline
    if "oversample" in space.controls and arm.mode in ("augmentation", "replacement"):
        yield replace(arm, mode="oversample", psi=None)
    if "drop" in space.controls and arm.mode == "replacement":
        yield replace(baseline, mode="drop", remove=arm.remove)


def _arms(space: Space, axes: Axes) -> Iterator[Point]:
    """Yield the points of the modes that axes name; copies are alike where a mode uses no axis."""
    for seed in axes.seeds or space.seeds:
        for recipe in combined_recipes(space.recipe, axes):
            name = recipe.model_dump_json()
            for share, mode in itertools.product(axes.real_fraction, axes.mode):
                for psi, (ratio, fakes), remove in _draws(space, axes, mode):
                    yield Point(
                        mode=mode,
                        psi=psi,
                        ratio=ratio,
                        fakes=tuple(sorted(fakes.items())) if fakes is not None else None,
                        remove=tuple(sorted(remove.items())) if remove is not None else None,
                        real_fraction=1.0 if mode == "synthetic" else share,  # it has no patient
                        seed=seed,
                        recipe=recipe,
                        recipe_name=name,
                    )


Draw = tuple[float | None, tuple[float | None, Counts | None], Removals | None]


def _draws(space: Space, axes: Axes, mode: str) -> Iterator[Draw]:
    """Yield psi, amount and removal of the arms of a mode."""
    if mode == "baseline":
        yield None, (None, None), None
        return
    removals: tuple[Removals | None, ...] = (None,)
    if mode == "replacement":
        removals = tuple(axes.remove) or space.removals
    for remove, amount in itertools.product(removals, axes.amounts):
        for psi in axes.psi:
            yield psi, amount, remove


def combined_recipes(base: Recipe, axes: Axes) -> Iterator[Recipe]:
    """Yield the recipes that the recipe's axes combine to.

    Raises:
        pydantic.ValidationError: values that are no recipe together.
    """
    names = sorted(axes.recipe)
    for values in itertools.product(*(axes.recipe[name] for name in names)):
        fields = {**base.model_dump(), **dict(zip(names, values, strict=True))}
        yield Recipe.model_validate(fields)
