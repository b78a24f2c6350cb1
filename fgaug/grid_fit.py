"""What the parts of a grid say of each other.  grid_errors -> [grid_fit] -> space"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, get_args

from pydantic import ValidationError

from fgaug.axes import NO_AMOUNT, Mode, SeedSample, has_amounts, uses_fakes
from fgaug.entries import as_lists
from fgaug.filters import NONE
from fgaug.grid_errors import near, rule_of
from fgaug.recipe import Recipe

if TYPE_CHECKING:
    from fgaug.space import Space


def space_misfits(space: Mapping[str, Any]) -> list[str]:
    """Return what top-level keys and axes say of each other; `space` may be wrong otherwise."""
    problems = []
    axes = space.get("axes")
    axes = axes if isinstance(axes, dict) else {}
    entries = _entries(space.get("include"))
    lists = (axes, *entries.values())
    with_fakes = any(uses_fakes(each) for each in lists)
    for key in ("bank", "generator"):
        if axes.get("snapshot") and space.get(key) is not None:
            problems.append(
                f"`{key}` is given at the top and by `axes.snapshot`, whose values have one each. "
                "Drop it at the top"
            )
        elif with_fakes and not axes.get("snapshot") and space.get(key) is None:
            problems.append(f"`{key}` is missing, but a mode uses fakes")
    removals = space.get("remove") or axes.get("remove")
    if space.get("remove") and axes.get("remove"):
        problems.append("`remove` is given twice: at the top and as an axis")
    if "replacement" in _modes(axes) and not removals:
        problems.append("`remove` is missing, but `mode` has replacement")
    for key, entry in entries.items():
        if "replacement" in _modes(entry) and not (removals or entry.get("remove")):
            problems.append(f"`{key}.remove` is missing, but its `mode` has replacement")
    controls = space.get("controls")
    modes = [mode for each in lists for mode in _modes(each)]
    known = modes and all(mode in get_args(Mode) for mode in modes)
    if isinstance(controls, list) and "drop" in controls and known and "replacement" not in modes:
        problems.append("`controls: drop` is the twin of replacement, which `mode` lacks")
    if isinstance(controls, list) and "random_subset" in controls and not _filters(lists):
        problems.append(
            "`controls: random_subset` is the twin of filtered arms, and `filter` has no filter "
            "but `none`"
        )
    if space.get("confirmation") is not None and known and set(modes) == {"baseline"}:
        problems.append("`confirmation` confirms arms, and `mode` has the baseline alone")
    problems += _rounds_misfits(space, lists, modes)
    return problems + _seed_misfits(space, axes, entries)


def _rounds_misfits(
    space: Mapping[str, Any], lists: Iterable[Mapping[str, Any]], modes: list[Any]
) -> list[str]:
    """Return what `rounds` says of modes, amounts and scheduler."""
    if space.get("rounds") is None:
        lacking = any("synthetic" in _modes(axes) and not has_amounts(axes) for axes in lists)
        return [NO_AMOUNT] if lacking else []
    problems = []
    if modes and "synthetic" not in modes:
        problems.append("`rounds` are of synthetic arms, which `mode` lacks")
    scheduler = space.get("scheduler")
    kind = scheduler.get("type") if isinstance(scheduler, Mapping) else None
    kind = getattr(scheduler, "type", kind)
    if kind not in (None, "none"):
        problems.append(
            f"`rounds` are trained all cells together, round by round, which `scheduler: {kind}` "
            "would tear apart. Leave the scheduler out"
        )
    return problems


def _seed_misfits(
    space: Mapping[str, Any], axes: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return what the numbers of seeds that keys name say of the seeds that are listed."""
    problems = []
    seeds = _how_many(axes.get("seed"))
    confirmation = space.get("confirmation")
    if isinstance(confirmation, Mapping):
        screen = confirmation.get("screen_seeds")
    else:
        screen = getattr(confirmation, "screen_seeds", None)
    if seeds and _whole(screen) and screen != seeds:
        problems.append(
            f"`confirmation.screen_seeds` is {screen}, but `axes.seed` has {seeds}: the grid's "
            "seeds are the screening's. Correct one of them, or leave `screen_seeds` out"
        )
    wanted = space.get("baseline_seeds")
    most = max([seeds, *(_how_many(entry.get("seed")) for entry in entries.values())])
    if _whole(wanted) and 1 <= wanted < most:
        problems.append(
            f"`baseline_seeds` is {wanted}, but an arm has {most} seeds. Give at least {most}, "
            "or `auto`"
        )
    return problems


def snapshot_misfits(space: Space) -> list[str]:
    """Return which entries of `include` name a snapshot that the grid does not have."""
    names = [str(entry.name) for entry in space.axes.snapshot]
    known = ", ".join(names) or "none"
    return [
        f"`include.{place}.snapshot`: no value of `axes.snapshot` is named {name}"
        f"{near(name, names) or f'; they are {known}'}"
        for place, further in enumerate(space.include)
        for name in further.snapshot
        if name not in names
    ]


def recipe_misfits(space: Space) -> list[str]:
    """Return what fields say of each other in the recipes that the recipe's axes combine to."""
    problems = []
    keys = ("axes", *(f"include.{place}" for place in range(len(space.include))))
    for key, axes in zip(keys, space.lists, strict=True):
        for values in itertools.product(*axes.recipe.values()):
            fields = dict(zip(axes.recipe, values, strict=True))
            try:
                Recipe.model_validate({**space.recipe.model_dump(), **fields})
            except ValidationError as error:
                rules = [rule_of(found) for found in error.errors()]
                problems += [f"`{key}.recipe` with `recipe`: {rule}" for rule in rules]
    return problems


def _entries(include: Any) -> dict[str, dict[str, Any]]:
    """Return the entries of `include` by key, each with lists of values."""
    if not isinstance(include, list):
        return {}
    read = {f"include.{place}": as_lists(entry) for place, entry in enumerate(include)}
    return {key: entry for key, entry in read.items() if isinstance(entry, dict)}


def _how_many(seed: Any) -> int:
    """Return how many seeds an axis has; 0 where that cannot be said."""
    if isinstance(seed, SeedSample):
        return seed.sample
    if isinstance(seed, Mapping):
        return seed["sample"] if _whole(seed.get("sample")) else 0
    return len(seed) if isinstance(seed, list) else 0


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _filters(lists: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the filters beside `none` that lists of axes name."""
    named = [axes.get("filter") for axes in lists]
    return {str(text) for texts in named if isinstance(texts, list) for text in texts} - {NONE}


def _modes(axes: Mapping[str, Any]) -> list[Any]:
    modes = axes.get("mode")
    return modes if isinstance(modes, list) else []
