"""Retrains one cell of a run and compares the results, without writing to the run's folder."""

from __future__ import annotations

import contextlib
import math
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from rich.console import Console

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.core.progress import progress_of
from fgaug.core.version import __version__
from fgaug.errors import RunError
from fgaug.grid.cells import Cell
from fgaug.runs import environment, results, software
from fgaug.runs.environment import Environment
from fgaug.runs.place import run_at
from fgaug.study.plan import Plan
from fgaug.study.planner import plan

TOLERANCE = 1e-6  # for metrics and probabilities; on the same machine they are identical
_SHOWN = 8
_COUNTS = (
    "stopped_by",
    "n_real",
    "n_fake",
    "n_dropped",
    "budget_used",
    "best_epoch",
    "best_step",
    "images_seen",
)
_METRICS = ("valid_", "precision_", "recall_", "specificity_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A value that has changed."""

    name: str
    then: object
    now: object

    @property
    def size(self) -> float:
        """The absolute difference; infinite unless both values are numbers."""
        if not (_is_number(self.then) and _is_number(self.now)):
            return math.inf
        return abs(float(self.then) - float(self.now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A retrained cell compared with its results in the run."""

    cell: Cell
    compared: int  # number of compared columns
    images: int  # validation images whose predictions were compared
    row: tuple[Change, ...]  # every column that differs at all
    predictions: float  # largest difference of a probability; infinite if images or labels differ
    environment: tuple[Change, ...]
    tolerance: float

    @property
    def same(self) -> bool:
        """Whether counts are equal, and metrics and probabilities within the tolerance."""
        return not self.beyond and self.predictions <= self.tolerance

    @property
    def beyond(self) -> tuple[Change, ...]:
        """The columns that differ by more than the tolerance, which for counts is 0."""
        return tuple(
            change
            for change in self.row
            if not change.name.startswith(_METRICS) or not change.size <= self.tolerance
        )


def replay(
    run: str | PathLike[str],
    cell: str,
    *,
    device: str | None = None,
    tolerance: float = TOLERANCE,
    console: Console | None = None,
) -> Replay:
    """Retrain one cell of a run and compare the results.

    Args:
        run: the folder of a search.
        cell: a cell_id or unique first digits of one.
        device: cpu or cuda; None: the kind that trained the cell, if this machine has it.
        tolerance: absolute, for metrics and probabilities.
        console: for progress; None: stderr.

    Raises:
        RunError: the cell is unknown, not finished, or no longer part of the run's grid.
    """
    from fgaug.core.devices import usable_device

    run_paths = run_at(run)
    cell_id = _cell_id(run_paths, cell)
    trial_paths = run_paths.trial(cell_id)
    row = results.read_rows(trial_paths)[-1]
    if row.get("status") != "ok":
        raise RunError(
            f"Cell {cell_id} has status {row.get('status')} and so no final results to compare. "
            "Finish it with `fgaug search`, or choose another cell."
        )
    then = files.read_table(trial_paths.predictions, RunError).to_pandas()
    recorded = environment.read(run_paths)
    planned, found = _planned(run_paths, cell_id, row)
    chosen = str(usable_device(device or _device_of(row)))
    new, now = _train(planned, found, chosen, row, console or Console(stderr=True))
    names = [name for name in new if name in _COUNTS or name.startswith((*_METRICS, "n_fake_"))]
    return Replay(
        cell=found,
        compared=len(names),
        images=len(now),
        row=tuple(_changes({name: (row.get(name), new[name]) for name in names})),
        predictions=_largest(then, now),
        environment=tuple(_changes(_environment(recorded, row, new))),
        tolerance=tolerance,
    )


def _cell_id(run: RunPaths, prefix: str) -> str:
    """Return the one finished cell of a run whose id starts with `prefix`."""
    if not run.trials.is_dir() or not run.space.is_file():
        raise RunError(f"{run.place} is not a run. Give the folder of a search.")
    names = sorted(folder.name for folder in run.trials.iterdir() if folder.is_dir())
    found = [name for name in names if name.startswith(prefix)] if prefix else []
    if not found:
        some = ", ".join(names[:_SHOWN]) or "none"
        raise RunError(
            f"{run.place} has no cell {prefix}. Choose one of its {len(names)} cells ({some}); "
            f"`fgaug results {run.place} --format csv` lists all."
        )
    if len(found) > 1:
        some = ", ".join(found[:_SHOWN])
        raise RunError(f"{prefix} matches {len(found)} cells ({some}). Give more digits.")
    if not run.trial(found[0]).result.is_file():
        raise RunError(f"Cell {found[0]} has no results yet. Finish it with `fgaug search`.")
    return found[0]


def _planned(run: RunPaths, cell_id: str, row: Mapping[str, Any]) -> tuple[Plan, Cell]:
    """Return the plan of the run's current or an earlier grid that contains a cell."""
    # a folder that does not exist, so that the plan finds no earlier results
    nowhere = run.root.absolute().with_name(f"{run.root.name}.replay-{cell_id}")
    plans = []
    for grid in (run.space, *sorted(run.root.glob("space.resolved.*.yaml"), reverse=True)):
        plans.append(plan(grid, nowhere))
        for cell in plans[-1].cells:
            if cell.cell_id == cell_id:
                return plans[-1], cell
    raise RunError(
        f"The grid of {run.place} no longer contains cell {cell_id}: {_why_gone(plans[0], row)}."
    )


def _why_gone(planned: Plan, row: Mapping[str, Any]) -> str:
    then, now = str(row.get("dataset_digest")), planned.dataset.spec.digest
    if then != now:
        return (
            f"{planned.dataset.place} has digest {now[:12]}, but the cell was trained on one "
            f"with digest {then[:12]}. Restore that dataset in its place"
        )
    known = [each.snapshots for each in planned.sources.values() if each.snapshots]
    if row.get("snapshots") not in (None, *known):
        return f"its fakes came from {row['snapshots']}, the grid now has {' or '.join(known)}"
    if row.get("version") != __version__:
        return (
            f"fgaug {row.get('version')} trained it, and this is {__version__}, which may give "
            "cells other ids. Install the earlier version"
        )
    return (
        "space.resolved.yaml has changed, or this machine has other pretrained weights, networks "
        "or imported images than the cell was trained with"
    )


def _train(
    planned: Plan, cell: Cell, device: str, row: Mapping[str, Any], console: Console
) -> tuple[Mapping[str, Any], pd.DataFrame]:
    """Train a cell and return its row and predictions."""
    from fgaug.runs.trial import Trial

    with _threads(row), progress_of(f"training {cell.described}", console) as progress:
        trial = Trial(cell, planned.sources[cell.source], device)
        images = trial.training.total * cell.recipe.batch_size * cell.last_round
        for point in trial:
            progress(point.images_seen, images)
        result = trial.result()
    return result.row, result.predictions


@contextlib.contextmanager
def _threads(row: Mapping[str, Any]) -> Iterator[None]:
    """Use as many threads as the original training, because rounding depends on their number."""
    import torch

    before = torch.get_num_threads()
    recorded = re.fullmatch(r"cpu x(\d{1,4})", str(row.get("device")))
    torch.set_num_threads(int(recorded[1]) if recorded else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device_of(row: Mapping[str, Any]) -> str:
    import torch

    on_cpu = str(row.get("device")).startswith("cpu ")
    return "cpu" if on_cpu or not torch.cuda.is_available() else "cuda"


def _environment(
    recorded: Environment, row: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return (then, now) for versions, commit, device and host.

    The earlier versions are those of the last search in the run's folder.
    """
    pairs = {"fgaug": (row.get("version"), new["version"])}
    versions = recorded.versions
    pairs["python"] = (versions.get("python"), platform.python_version())
    for name in software.PACKAGES:
        if name in versions:
            pairs[name] = (versions[name], software.version_of(name) or "not installed")
    if recorded.computing:
        now = software.computing()
        pairs |= {name: (then, now.get(name, "none")) for name, then in recorded.computing.items()}
    pairs["git commit"] = (recorded.git_commit, software.git_commit())
    for name in ("device", "host"):
        pairs[name] = (row.get(name), new[name])
    return pairs


def _changes(pairs: Mapping[str, tuple[object, object]]) -> Iterator[Change]:
    for name, (then, now) in pairs.items():
        if _undefined(then) and _undefined(now):
            continue
        if then != now:
            yield Change(name=name, then=then, now=now)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _undefined(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _largest(then: pd.DataFrame, now: pd.DataFrame) -> float:
    """Return the largest difference of a probability; infinite if the images differ."""
    columns = [name for name in now if str(name).startswith("p_")]
    if not {"image_id", *columns} <= set(then.columns):
        return math.inf
    first, second = (frame.set_index("image_id").sort_index() for frame in (then, now))
    if not first.index.equals(second.index):
        return math.inf
    differences = np.abs(first[columns].to_numpy() - second[columns].to_numpy())
    return float(differences.max()) if np.isfinite(differences).all() else math.inf
