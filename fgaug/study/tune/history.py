"""What is on disk of a search's cells, as policies want it."""

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
from fgaug.study.tune.policy import CellProgress, Policy, SingleCells, WholeCells, arms_of
from fgaug.study.tune.seed_racing import SeedRace
from fgaug.study.tune.successive_halving import ArmHalving

ASHA_CAUTION = (
    "`scheduler: {type: asha}` is Ray's own and compares single cells: within an arm it keeps the "
    "lucky seeds, so that the mean of those left is biased upwards; it compares equal shares of "
    "the budget, where an arm of many fakes takes many times the steps of another; and it lets "
    "the first arrivals through. `type: arm_asha` compares arms, with all their seeds."
)
SIGNS = {"auc": 1.0, "acc": 1.0, "loss": -1.0}  # policies want larger values to be better


def policy_of(scheduler: Scheduler, cells: Iterable[Cell], until: float = 1.0) -> Policy:
    """Return the policy that a grid asks for.

    Args:
        scheduler: the grid's.
        cells: its cells.
        until: the share of the budget to train to, where no scheduler stops any.

    Raises:
        ValueError: its arms have too few seeds for it.
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
    """Return the cells that the grid's scheduler stops, given what is on disk.

    Raises:
        ValueError: its arms have too few seeds for it.
    """
    policy = policy_of(scheduler, cells)
    decision = policy.decide(seen_of(run, cells, statuses, scheduler))
    of_arms = (cell.cell_id for cell in cells if cell.arm_id in decision.stopped)
    return decision.kept.union(of_arms)


def seen_of(
    run: RunPaths, cells: Iterable[Cell], statuses: Mapping[str, str], scheduler: Scheduler
) -> dict[str, CellProgress]:
    """Return what is on disk of each cell that has begun; failed cells count as not begun."""
    found = {}
    for cell in cells:
        seen = seen_cell(run, cell, statuses.get(cell.cell_id), scheduler)
        if seen is not None and seen.status != "failed":
            found[cell.cell_id] = seen
    return found


def seen_cell(
    run: RunPaths, cell: Cell, status: str | None, scheduler: Scheduler
) -> CellProgress | None:
    """Return what is on disk of one cell; None where it has not come to a first rung."""
    trial = run.trial(cell.cell_id)
    if status is None and trial.paused.is_file() and trial.checkpoint.is_file():
        status = "paused"
    if status is None:
        return None
    if scheduler.type == "none":  # a thousand curves are not read for nothing
        return CellProgress(status=status, curve=())
    try:
        curve = files.read_table(trial.curve, RunError).to_pandas()
    except RunError:
        return CellProgress(status=status, curve=()) if status in ("ok", "failed") else None
    return CellProgress(status=status, curve=best_so_far(curve, cell.budget, scheduler.metric))


def best_so_far(
    curve: pd.DataFrame, budget: Budget, metric: str
) -> tuple[tuple[float, float], ...]:
    """Return (share of the budget, value) of each evaluation of a curve.

    The value is that of the look with the lowest validation loss so far: what the row would say if
    the cell ended there. Looks of the frozen epoch of an epoch budget do not compete later.
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
