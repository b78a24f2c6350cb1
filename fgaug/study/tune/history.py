"""Reads the progress of a search's cells from disk, for policies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.grid.cells import Cell
from fgaug.grid.recipe import Budget
from fgaug.grid.space import Scheduler
from fgaug.runs.row_cache import started
from fgaug.study.tune.policy import CellProgress, Policy, SingleCells, WholeCells, arms_of
from fgaug.study.tune.seed_racing import SeedRace
from fgaug.study.tune.successive_halving import ArmHalving

ASHA_CAUTION = (
    "`scheduler: {type: asha}` compares single cells: within an arm it keeps the lucky seeds, "
    "which biases the arm's mean upwards; it compares equal fractions of the budget, although an "
    "arm with many fakes takes many more steps; and it favours early arrivals. To compare arms "
    "with all their seeds, use `type: arm_asha`."
)
SIGNS = {"auc": 1.0, "acc": 1.0, "loss": -1.0}  # for policies, larger is better


def policy_of(scheduler: Scheduler, cells: Iterable[Cell], until: float = 1.0) -> Policy:
    """Return the policy of a grid's scheduler.

    Args:
        scheduler: the grid's scheduler.
        cells: the grid's cells.
        until: without a scheduler, the fraction of the budget to train to.

    Raises:
        ValueError: arms have too few seeds for the scheduler.
    """
    arms = arms_of(tuple(cells))
    if scheduler.type == "arm_asha":
        return ArmHalving(arms, scheduler.eta, scheduler.rungs, scheduler.min_seeds or 2)
    if scheduler.type == "race":
        return SeedRace(arms, scheduler.min_seeds or 3, fast=scheduler.fast)
    if scheduler.type == "asha":
        return SingleCells(arms)
    return WholeCells(arms, until)


def stopped_cells(
    run: RunPaths, cells: Sequence[Cell], statuses: Mapping[str, str], scheduler: Scheduler
) -> frozenset[str]:
    """Return the cells that the grid's scheduler stops, given the results on disk.

    Raises:
        ValueError: arms have too few seeds for the scheduler.
    """
    policy = policy_of(scheduler, cells)
    decision = policy.decide(seen_of(run, cells, statuses, scheduler))
    of_arms = (cell.cell_id for cell in cells if cell.arm_id in decision.stopped)
    return decision.kept.union(of_arms)


def seen_of(
    run: RunPaths, cells: Iterable[Cell], statuses: Mapping[str, str], scheduler: Scheduler
) -> dict[str, CellProgress]:
    """Return the progress of every started cell; failed cells count as not started."""
    found = {}
    known = started(run)
    for cell in cells:
        if cell.cell_id not in known:
            continue
        seen = seen_cell(run, cell, statuses.get(cell.cell_id), scheduler)
        if seen is not None and seen.status != "failed":
            found[cell.cell_id] = seen
    return found


def seen_cell(
    run: RunPaths, cell: Cell, status: str | None, scheduler: Scheduler
) -> CellProgress | None:
    """Return the progress of one cell on disk; None before its first rung."""
    trial = run.trial(cell.cell_id)
    if status is None and trial.paused.is_file() and trial.checkpoint.is_file():
        status = "paused"
    if status is None:
        return None
    if scheduler.type == "none":  # saves reading a thousand unused curves
        return CellProgress(status=status, curve=())
    try:
        curve = files.read_table(trial.curve, RunError).to_pandas()
    except RunError:
        return CellProgress(status=status, curve=()) if status in ("ok", "failed") else None
    return CellProgress(status=status, curve=best_so_far(curve, cell.budget, scheduler.metric))


def best_so_far(
    curve: pd.DataFrame, budget: Budget, metric: str
) -> tuple[tuple[float, float], ...]:
    """Return (fraction of the budget, value) for each evaluation of a curve.

    The value is taken at the lowest validation loss so far, as the result row would if the cell
    ended there. Evaluations of an epoch budget's frozen epoch are ignored afterwards.
    """
    points = []
    best_loss, best_value = math.inf, math.nan
    thawed = False
    for row in curve.to_dict("records"):
        if budget.unit == "epochs" and not row["frozen"] and not thawed:
            best_loss, thawed = math.inf, True
        if row["valid_loss"] < best_loss:
            best_loss = row["valid_loss"]
            best_value = SIGNS[metric] * row[f"valid_{metric}"]
        if budget.unit == "epochs":
            share = (row["epoch"] + 1) / (budget.max + 1)
        else:
            share = row["step"] / budget.max
        points.append((float(share), float(best_value)))
    return tuple(points)
