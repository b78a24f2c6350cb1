"""Checks of a whole grid: conflicts between its keys, and the points it expands to."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, get_args

from pydantic import ValidationError

from fgaug.core.paths import without_secrets
from fgaug.core.split_names import PREPARED
from fgaug.grid.axes import (
    NO_AMOUNT,
    Excluded,
    Mode,
    SeedSample,
    as_lists,
    has_amounts,
    uses_fakes,
)
from fgaug.grid.filters import NONE
from fgaug.grid.messages import near, rule_of
from fgaug.grid.points import Point, arms_of, distinct, further_baselines, matches, product
from fgaug.grid.preparations import Preparation
from fgaug.grid.recipe import Recipe
from fgaug.grid.space import Space


def problems_of(space: Space) -> list[str]:
    """Return every conflict between the fields of a grid; an empty list for a valid grid."""
    lists = {"axes": dict(space.axes), "include": [dict(entry) for entry in space.include]}
    problems = space_misfits({**dict(space), **lists})
    problems += [*snapshot_misfits(space), *recipe_misfits(space), *dataset_misfits(space)]
    if not problems and (space.exclude or space.include or space.cells is not None):
        problems = points_misfits(space)
    return list(dict.fromkeys(problems))


def space_misfits(space: Mapping[str, Any]) -> list[str]:
    """Return conflicts among top-level keys and axes; `space` may have other errors."""
    problems = []
    axes = space.get("axes")
    axes = axes if isinstance(axes, dict) else {}
    entries = _entries(space.get("include"))
    lists = (axes, *entries.values())
    with_fakes = any(uses_fakes(each) for each in lists)
    own = _own_of_preparations(axes)
    for key in ("bank", "generator"):
        if axes.get("snapshot") and space.get(key) is not None:
            problems.append(
                f"`{key}` is given at the top level and by each value of `axes.snapshot`. "
                "Drop it at the top level"
            )
        elif with_fakes and not axes.get("snapshot") and key not in own and space.get(key) is None:
            problems.append(f"`{key}` is missing, but a mode uses fakes")
    removals = space.get("remove") or axes.get("remove")
    if space.get("remove") and axes.get("remove"):
        problems.append("`remove` is given twice: drop it at the top level or in `axes`")
    if "replacement" in _modes(axes) and not removals:
        problems.append("`remove` is missing, but `axes.mode` contains replacement")
    for key, entry in entries.items():
        if "replacement" in _modes(entry) and not (removals or entry.get("remove")):
            problems.append(f"`{key}.remove` is missing, but its `mode` contains replacement")
    controls = space.get("controls")
    modes = [mode for each in lists for mode in _modes(each)]
    known = modes and all(mode in get_args(Mode) for mode in modes)
    if isinstance(controls, list) and "drop" in controls and known and "replacement" not in modes:
        problems.append("`controls: drop` needs replacement arms, but no `mode` is replacement")
    if isinstance(controls, list) and "random_subset" in controls and not _filters(lists):
        problems.append(
            "`controls: random_subset` needs filtered arms, but `filter` has no value other than "
            "`none`"
        )
    if space.get("confirmation") is not None and known and set(modes) == {"baseline"}:
        problems.append("`confirmation` needs arms to confirm, but the only `mode` is baseline")
    problems += _rounds_misfits(space, lists, modes)
    problems += _fold_misfits(space, axes, entries)
    return problems + _seed_misfits(space, axes, entries)


def _rounds_misfits(
    space: Mapping[str, Any], lists: Iterable[Mapping[str, Any]], modes: list[Any]
) -> list[str]:
    """Return conflicts of `rounds` with modes, amounts and the scheduler."""
    if space.get("rounds") is None:
        lacking = any("synthetic" in _modes(axes) and not has_amounts(axes) for axes in lists)
        return [NO_AMOUNT] if lacking else []
    problems = []
    if modes and "synthetic" not in modes:
        problems.append("`rounds` need synthetic arms, but no `mode` is synthetic")
    if (kind := _scheduler_type(space)) != "none":
        problems.append(
            f"`rounds` train all cells together, round by round, which does not work with "
            f"`scheduler: {kind}`. Drop the scheduler"
        )
    return problems


def _fold_misfits(
    space: Mapping[str, Any], axes: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return conflicts of `axes.fold` with keys that choose patients or compare single cells."""
    if axes.get("fold") is None:
        return []
    problems = [
        f"`{key}.split` and `axes.fold` both choose the patients to train on. Drop one of them"
        for key, each in {"axes": axes, **entries}.items()
        if each.get("split") not in (None, [PREPARED])
    ]
    if space.get("rounds") is not None:
        problems.append(
            "`rounds` report each round by itself, and folds are pooled after the last one. Drop "
            "`rounds` or `axes.fold`"
        )
    if space.get("confirmation") is not None:
        problems.append(
            "`confirmation` tests arms on a sealed test set, but `axes.fold` holds out every "
            "patient, so none stays sealed. Drop `confirmation`: no held-out fold was used to "
            "stop its networks"
        )
    why = {
        "race": "adds seeds one at a time and takes cells for seeds",
        "asha": "compares single cells, so a hard fold would lose against an easy one",
    }
    if (kind := _scheduler_type(space)) in why:
        problems.append(
            f"`scheduler: {kind}` {why[kind]}. Use `arm_asha`, which compares means over all "
            "folds and seeds, or drop `axes.fold`"
        )
    return problems


def _scheduler_type(space: Mapping[str, Any]) -> str:
    """Return the type of a grid's scheduler; `none` if it is not given or not valid."""
    scheduler = space.get("scheduler")
    kind = scheduler.get("type") if isinstance(scheduler, Mapping) else None
    kind = getattr(scheduler, "type", kind)
    return kind if isinstance(kind, str) else "none"


def _seed_misfits(
    space: Mapping[str, Any], axes: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return conflicts between seed counts in other keys and the seeds of the axes."""
    problems = []
    seeds = _how_many(axes.get("seed"))
    confirmation = space.get("confirmation")
    if isinstance(confirmation, Mapping):
        screen = confirmation.get("screen_seeds")
    else:
        screen = getattr(confirmation, "screen_seeds", None)
    if seeds and _whole(screen) and screen != seeds:
        problems.append(
            f"`confirmation.screen_seeds` is {screen}, but `axes.seed` has {seeds} seeds, which "
            "are the screening's. Correct one of them, or drop `screen_seeds`"
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
    """Return the problems of `include` entries that name an unknown snapshot."""
    names = [str(entry.name) for entry in space.axes.snapshot]
    known = ", ".join(names) or "none"
    return [
        f"`include.{place}.snapshot`: no value of `axes.snapshot` is named {name}"
        f"{near(name, names) or f'; the names are {known}'}"
        for place, further in enumerate(space.include)
        for name in further.snapshot
        if name not in names
    ]


def dataset_misfits(space: Space) -> list[str]:
    """Return conflicts of the axis `dataset` with keys that belong to one dataset."""
    named = space.preparations
    if not named:
        return []
    problems = []
    if space.dataset not in [entry.path for entry in named.values()]:
        problems.append(
            f"`dataset` is {without_secrets(space.dataset)}, but `axes.dataset` does not name it. "
            "Drop `dataset`"
        )
    if any(uses_fakes(dict(axes)) for axes in space.lists):
        if lacking := [name for name, entry in named.items() if entry.bank is None]:
            which = ", ".join(f"`axes.dataset.{name}.bank`" for name in lacking)
            problems.append(
                f"{which} is missing: fakes belong to one dataset, so each needs a bank of its "
                "own. Write `{path: FOLDER, bank: FOLDER}`"
            )
        if space.bank is not None:
            problems.append("`bank` is given at the top level, but `axes.dataset` names banks")
    single = {
        "axes.snapshot": bool(space.axes.snapshot),
        "filter": bool(_filters([dict(axes) for axes in space.lists])),
        "rounds": space.rounds is not None,
        "confirmation": space.confirmation is not None,
    }
    problems += [
        f"`{key}` needs one dataset and cannot be combined with `axes.dataset`. Drop one of them, "
        "or write a grid for each dataset"
        for key, given in single.items()
        if given
    ]
    return problems


def _own_of_preparations(axes: Mapping[str, Any]) -> frozenset[str]:
    """Return which of bank and generator the values of `axes.dataset` may give themselves."""
    named = axes.get("dataset")
    if not isinstance(named, Mapping):
        return frozenset()
    entries = [
        entry if isinstance(entry, Mapping) else dict(entry) if isinstance(entry, Preparation)
        else {} for entry in named.values()
    ]  # fmt: skip
    every = all(entry.get("generator") is not None for entry in entries)
    return frozenset({"bank", *(["generator"] if every else [])})


def recipe_misfits(space: Space) -> list[str]:
    """Return conflicts between fields in the recipes that the recipe axes combine to."""
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


def points_misfits(space: Space) -> list[str]:
    """Return entries without effect, and a mismatch between `cells` and the actual count."""
    problems = []
    if space.exclude:
        every = distinct(product(space, space.axes)).values()
        for place, entry in enumerate(space.exclude):
            problems += _idle_exclude(f"exclude.{place}", entry, every)
    points = distinct(product(space, space.axes, space.exclude))
    if not points:
        problems.append("`exclude` removes every cell of the grid. Exclude fewer")
    for place, further in enumerate(space.include):
        added = distinct(arms_of(space, further))
        if added.keys() <= points.keys():
            problems.append(
                f"`include.{place}` adds no cells: the grid already has all {len(added)}. Drop it"
            )
        points |= distinct(product(space, further))
    points |= distinct(further_baselines(space, points.values()))
    if space.axes.fold == "all":
        return problems  # the number of cells is known with the dataset
    copies = max(1, len(space.preparations))
    if space.cells is not None and space.cells != copies * len(points) and not problems:
        modes = Counter(point.mode for point in points.values() for _ in range(copies))
        counts = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
        problems.append(
            f"`cells` is {space.cells}, but the grid has {modes.total()}: {counts}. "
            "Correct the count or the axes"
        )
    return problems


def _idle_exclude(key: str, entry: Excluded, every: Iterable[Point]) -> list[str]:
    """Return the problems of an entry with values that match no cell, alone or combined."""
    problems = []
    named = entry.named
    for axis, values in named.items():
        known = {repr(value): value for value in (point.value(axis) for point in every)}
        for value in values:
            if value not in known.values():
                guess = near(value, map(str, known.values())) if isinstance(value, str) else ""
                others = sorted((v for v in known.values() if v is not None), key=_rank)
                cure = guess or f"; the cells have {', '.join(map(_shown, others)) or 'none'}"
                problems.append(f"`{key}.{axis}`: no cell has {_shown(value)}{cure}")
    if not problems and not any(matches(named, point) for point in every):
        problems.append(
            f"`{key}` matches no cell: its values occur, but never together. "
            "Correct them, or drop the entry"
        )
    return problems


def _rank(value: Any) -> tuple[bool, float, str]:
    """Return a sort key that puts numbers first, in their order."""
    number = isinstance(value, int | float)
    return not number, value if number else 0.0, _shown(value)


def _shown(value: Any) -> str:
    """Return a value as a grid writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple) and all(isinstance(part, tuple) for part in value):
        value = dict(value)  # values by label
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_shown(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _entries(include: Any) -> dict[str, dict[str, Any]]:
    """Return the entries of `include` by key, with all values as lists."""
    if not isinstance(include, list):
        return {}
    read = {f"include.{place}": as_lists(entry) for place, entry in enumerate(include)}
    return {key: entry for key, entry in read.items() if isinstance(entry, dict)}


def _how_many(seed: Any) -> int:
    """Return the number of seeds of an axis; 0 if unknown."""
    if isinstance(seed, SeedSample):
        return seed.sample
    if isinstance(seed, Mapping):
        return seed["sample"] if _whole(seed.get("sample")) else 0
    return len(seed) if isinstance(seed, list) else 0


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _filters(lists: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the filters in lists of axes, other than `none`."""
    named = [axes.get("filter") for axes in lists]
    return {str(text) for texts in named if isinstance(texts, list) for text in texts} - {NONE}


def _modes(axes: Mapping[str, Any]) -> list[Any]:
    modes = axes.get("mode")
    return modes if isinstance(modes, list) else []
