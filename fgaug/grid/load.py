"""Loads a grid file into a validated `Space`, with all problems in one error."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fgaug.core.yaml_file import read_yaml
from fgaug.errors import GridError
from fgaug.grid.analysis_plan import AnalysisPlan, Confirmation
from fgaug.grid.axes import Axes, Excluded, Included, axes_misfits, with_recipe_fields
from fgaug.grid.checks import problems_of, space_misfits
from fgaug.grid.dataset_counts import DatasetCounts
from fgaug.grid.generators import Generator, SnapshotEntry
from fgaug.grid.messages import one_line_each
from fgaug.grid.preparations import Preparation
from fgaug.grid.recipe import Budget, KerasRecipe, Plateau, Recipe
from fgaug.grid.rounds import Rounds
from fgaug.grid.space import Resources, Scheduler, Scorers, Space

GRID = "${grid}"  # in paths, stands for the grid file's folder


def load_space(path: str | PathLike[str]) -> Space:
    """Load a grid from a YAML file.

    Raises:
        GridError: the file has problems; the error lists all of them.
    """
    file = Path(path)
    raw = read_yaml(file)
    return parse_space(_with_grid_folder(raw, str(file.resolve().parent)), str(file))


def parse_space(raw: Any, source: str = "grid") -> Space:
    """Build a grid from a mapping; see `load_space`."""
    if not isinstance(raw, dict):
        problem = f"a grid must be a mapping of keys to values, got {type(raw).__name__}"
        raise GridError([problem], source)
    try:
        space = Space.model_validate(raw)
    except ValidationError as error:
        lines = one_line_each(error, _MODELS)
        # pydantic checks keys against each other only once each is valid by itself
        axes = with_recipe_fields(raw.get("axes"))
        lines += axes_misfits(axes) if isinstance(axes, dict) else []
        lines += space_misfits(raw)
    else:
        lines = problems_of(space)
        if not lines:
            return space
    lines += _drawn_misfits(raw)
    raise GridError(list(dict.fromkeys(lines)), source)


def _drawn_misfits(raw: Mapping[str, Any]) -> list[str]:
    """Return the problems of the keys that define the cells, ignoring all other keys."""
    drawn = {key: raw[key] for key in _DRAWN if key in raw}
    others: dict[str, Any] = {"name": "g", "dataset": "d"}
    axes = raw.get("axes")
    if isinstance(axes, dict) and axes.get("dataset"):
        others = {"name": "g", "generator": {"kind": "stub"}}
    elif not (isinstance(axes, dict) and axes.get("snapshot")):
        others |= {"bank": "b", "generator": {"kind": "stub"}}
    try:
        space = Space.model_validate({**others, **drawn})
    except ValidationError as error:
        return one_line_each(error, _MODELS)
    return problems_of(space)


def _with_grid_folder(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(GRID, folder)
    if isinstance(value, dict):
        return {key: _with_grid_folder(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_grid_folder(inner, folder) for inner in value]
    return value


_DRAWN = (
    "axes",
    "exclude",
    "include",
    "cells",
    "rounds",
    "remove",
    "controls",
    "recipe",
    "baseline_seeds",
)
_MODELS: dict[str, type[BaseModel]] = {
    "": Space,
    "analysis": AnalysisPlan,
    "axes": Axes,
    "axes.dataset": Preparation,
    "axes.dataset.generator": Generator,
    "axes.snapshot": SnapshotEntry,
    "axes.snapshot.generator": Generator,
    "counts": DatasetCounts,
    "exclude": Excluded,
    "include": Included,
    "generator": Generator,
    "recipe": Recipe,
    "rounds": Rounds,
    "recipe.keras": KerasRecipe,
    "recipe.keras.plateau": Plateau,
    "budget": Budget,
    "scorers": Scorers,
    "confirmation": Confirmation,
    "scheduler": Scheduler,
    "resources": Resources,
}
