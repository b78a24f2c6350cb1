"""The progress of a run, read from its files.

Only reads, because a search may be running in the folder.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from fgaug.core.paths import RunPaths, TrialPaths
from fgaug.core.yaml_file import read_yaml
from fgaug.errors import GridError, RunError, one_line
from fgaug.grid.arm_words import PSI_BY_LABEL, arm_in_words, axis_value
from fgaug.runs import environment, row_cache, run_lock
from fgaug.runs.place import run_at

WINDOW_S = 3600.0  # period for measuring the rate
FAILURES = 3  # number of latest failures to show
_NO_FILTER = "none"  # filters.NONE, whose module loads pandas
_AXES = ("psi", PSI_BY_LABEL, "ratio", "filter", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell that failed, and why."""

    cell_id: str
    cell: str  # mode, psi, ratio and seed as text
    error: str  # as one line
    traceback: str | None  # its file, if the error was unexpected
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a run at one moment."""

    name: str
    root: Path
    uri: str | None = field(repr=False)  # with its secrets; None for a folder
    searches: tuple[str, ...]  # active in the folder now, as `process 12 on host`
    cells: int  # of the latest grid
    ok: int
    pruned: int
    failed: int
    paused: int  # with a checkpoint at a rung
    missing: int  # neither a row nor such a checkpoint: running or not started
    newest_age_s: float | None  # seconds since the newest result; None without results
    cells_per_h: float  # trained (ok or failed) in the last hour
    left_s: float | None  # upper bound at that rate; None without an active search or a rate
    failures: tuple[Failure, ...]  # newest first

    @property
    def place(self) -> str:
        """The run's location for messages."""
        return RunPaths(self.root, self.uri).place

    @property
    def done(self) -> int:
        """The number of cells with a row; a search retries failed ones."""
        return self.ok + self.pruned + self.failed


def read(run: str | PathLike[str]) -> Status:
    """Read the progress of a run: 10,000 cells in under a second from a warm disk cache.

    Only rows that `.rows.cache` lacks and those of the newest failures are read.

    Raises:
        RunError: the run does not exist.
    """
    folder = run_at(run)
    if not folder.environment.is_file():
        raise RunError(
            f"{folder.place} is not a run (no file {folder.environment.name}). "
            "Give the folder of a search."
        )
    cell_ids = environment.read(folder).cells
    if cell_ids is None:
        raise RunError(f"{folder.environment} lists no cells. Run the search again to restore it.")
    now = time.time()
    searches = {_printable(name) or "unknown": when for name, when in run_lock.holders(folder)}
    began = min(searches.values(), default=-math.inf)
    window_s = min(WINDOW_S, max(now - began, 1.0))
    counts: Counter[str] = Counter()
    newest, recent = -math.inf, 0
    failures: list[tuple[float, str]] = []
    states, cached = row_cache.result_states(folder), row_cache.read_index(folder)
    started = row_cache.started(folder)
    for cell_id in cell_ids:
        state, entry = states.get(cell_id), cached.get(cell_id)
        if state is not None and entry is not None and entry.state == state:
            status, written = entry.status, state.modified_ns / 1e9
        elif cell_id in started:
            status, written, _ = _state(folder.trial(cell_id))
        else:
            status, written = "missing", -math.inf
        counts[status] += 1
        if not math.isfinite(written):
            continue
        newest = max(newest, written)
        recent += status != "pruned" and written >= now - window_s
        if status == "failed":
            failures.append((written, cell_id))
    per_h = recent / window_s * 3600
    left = counts["missing"] + counts["paused"]
    return Status(
        name=_name(folder),
        root=folder.root,
        uri=folder.uri,
        searches=tuple(searches),
        cells=len(cell_ids),
        **{name: counts[name] for name in ("ok", "pruned", "failed", "paused", "missing")},
        newest_age_s=max(0.0, now - newest) if math.isfinite(newest) else None,
        cells_per_h=per_h,
        left_s=left / per_h * 3600 if searches and per_h else None,
        failures=tuple(_newest_failures(folder, failures, now)),
    )


def _newest_failures(
    run: RunPaths, failures: list[tuple[float, str]], now: float
) -> Iterator[Failure]:
    """Yield the newest of the failures, given as (time of writing, cell)."""
    for written, cell_id in heapq.nlargest(FAILURES, failures):
        status, _, row = _state(run.trial(cell_id))
        if row is None or status != "failed":
            continue  # retried since
        yield Failure(
            cell_id=cell_id,
            cell=_described(row),
            error=_printable(one_line(str(row.get("error") or "no reason given"))),
            traceback=_traceback_of(run.trial(cell_id)),
            age_s=max(0.0, now - written),
        )


def _state(trial: TrialPaths) -> tuple[str, float, dict[str, Any] | None]:
    """Return a cell's status and, if it has a row, the time of writing and the row.

    A damaged row counts as missing, as in the next search.
    """
    try:
        with trial.result.open("rb") as file:
            written = os.fstat(file.fileno()).st_mtime
            row = json.loads(file.read())["rows"][-1]
        return str(row["status"]), written, row
    except (OSError, ValueError, LookupError, TypeError):
        paused = trial.paused.is_file() and trial.checkpoint.is_file()
        return "paused" if paused else "missing", -math.inf, None


def _name(run: RunPaths) -> str:
    """Return the grid's name, or the folder's if the grid cannot be read."""
    try:
        return str(read_yaml(run.space)["name"])
    except (GridError, OSError, LookupError, TypeError):
        return Path(run.place).resolve().name


def _described(row: dict[str, Any]) -> str:
    known = (name for name in _AXES if row.get(name) not in (None, _NO_FILTER))
    axes = [(name, axis_value(name, row[name])) for name in known]
    return _printable(arm_in_words(str(row.get("mode")), axes))


def _traceback_of(trial: TrialPaths) -> str | None:
    return str(trial.traceback) if trial.traceback.is_file() else None


def _printable(text: str) -> str:
    """Return text without terminal control codes."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
