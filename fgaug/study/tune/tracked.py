"""What trackers show of a search: its arms with their numbers and verdicts, and its report.

The numbers come from the report's own functions (`fgaug/study/tracking.py` collects them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgaug.grid.cells import Cell
from fgaug.runs.row import identity_columns

OF_CELL = ("cell_id", "seed")  # parameters that differ within an arm
OF_FOLD = ("split", "fold")  # and those that do where folds are held out


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedArm:
    """An arm: the parent of its seeds."""

    arm_id: str
    name: str  # in words
    parameters: Mapping[str, Any]
    status: str = "missing"  # ok | failed | pruned | missing: of all its cells
    numbers: Mapping[str, float] = field(default_factory=dict)  # by name; NaN if undefined
    verdict: str = ""  # empty for baselines and controls
    confirmed: str = ""  # the verdict of its latest second stage, if there is one
    note: str = ""  # the verdict in full sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedSearch:
    """A search as it stands: all its arms, and its report."""

    arms: tuple[TrackedArm, ...]
    status: str  # ok | failed | missing: of all its cells
    lead: str  # the report's first paragraphs
    counts: Mapping[str, int]  # cells by status
    report: Mapping[str, Path]  # the report's files by their names relative to its folder


def arms_of(cells: Iterable[Cell]) -> dict[str, TrackedArm]:
    """Return the arms of some cells by arm_id, in the order of the cells, without numbers."""
    found: dict[str, TrackedArm] = {}
    for cell in cells:
        if cell.arm_id not in found:
            found[cell.arm_id] = _arm_of(cell)
    return found


def _arm_of(cell: Cell) -> TrackedArm:
    own = parameters_of(cell)
    lost = OF_CELL if cell.fold is None else (*OF_CELL, *OF_FOLD)
    return TrackedArm(
        arm_id=cell.arm_id,
        name=cell.arm_described,
        parameters={name: value for name, value in own.items() if name not in lost},
    )


def parameters_of(cell: Cell) -> dict[str, Any]:
    """Return the parameters of a cell: its columns in result rows, its recipe and budget.

    The column `round` is left out: it changes as the cell trains, and parameters may not.
    """
    own = {name: value for name, value in identity_columns(cell).items() if name != "round"}
    named = {name: value for name, value in own.items() if value is not None}
    return {
        **named,
        **{f"recipe.{name}": value for name, value in cell.recipe.model_dump().items()},
        **{f"budget.{name}": value for name, value in cell.budget.model_dump().items()},
    }
