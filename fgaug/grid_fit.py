"""What the parts of a grid say of each other.  grid_errors -> [grid_fit] -> space"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from fgaug.axes import Mode, uses_fakes
from fgaug.entries import as_lists
from fgaug.grid_errors import rule_of
from fgaug.recipe import Recipe

if TYPE_CHECKING:
    from fgaug.space import Space


def space_misfits(space: Mapping[str, Any]) -> list[str]:
    """Return what top-level keys and axes say of each other; `space` may be wrong otherwise."""
    problems = []
    axes = space.get("axes")
    axes = axes if isinstance(axes, dict) else {}
    entries = _entries(space.get("include"))
    if any(uses_fakes(lists) for lists in (axes, *entries.values())):
        for key in ("bank", "generator"):
            if space.get(key) is None:
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
    modes = [mode for lists in (axes, *entries.values()) for mode in _modes(lists)]
    known = modes and all(mode in get_args(Mode) for mode in modes)
    if isinstance(controls, list) and "drop" in controls and known and "replacement" not in modes:
        problems.append("`controls: drop` is the twin of replacement, which `mode` lacks")
    return problems


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


def _modes(axes: Mapping[str, Any]) -> list[Any]:
    modes = axes.get("mode")
    return modes if isinstance(modes, list) else []
