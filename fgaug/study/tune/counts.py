"""Counts of a search's cells by state and arm, with rates, time left and the best arm.

The cost of an event does not depend on the number of cells.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from fgaug.core.files import read_json
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError, one_line
from fgaug.grid.cells import Cell
from fgaug.grid.recipe import Budget
from fgaug.runs.results import paused_share

_DETAILS = (
    "share",
    "rung",
    "wall_s",
    "error",
    "traceback",
)  # fields of JSON lines, if an event has them
OVER = ("ok", "pruned", "failed")  # final states


def rates(tally: SearchCounts, elapsed_s: float, ended: int) -> str:
    """Return cells per minute, images per second and the time left, as text.

    Args:
        elapsed_s: seconds since the first cell of this search started.
        ended: cells finished since then.
    """
    rate = ended / elapsed_s * 60
    parts = [f"{rate:.{1 if rate < 100 else 0}f} cells/min"] if ended else []
    speed = sum(images_per_s(report) for report in tally.running.values())
    parts += [f"{speed:.0f} images/s"] if speed else []
    if tally.trained > 0 and tally.left > 1e-6:
        # an upper bound if more arms may be stopped
        bound = "at most" if tally.counts["paused"] or tally.counts["pruned"] else "about"
        parts.append(f"{bound} {duration(elapsed_s / tally.trained * tally.left)} left")
    return ", ".join(parts)


def best_arm(tally: SearchCounts) -> str:
    """Return the arm with the highest mean AUC as text; empty before any cell has finished."""
    scored = [(mean, arm) for arm in tally.arms.values() if (mean := arm.mean("auc"))]
    if not scored:
        return ""
    mean, best = max(scored, key=lambda pair: pair[0])
    return f"best {best.name}: auc {mean:.3f} ({best.states['ok']}/{best.seeds})"


def images_per_s(report: Mapping[str, Any]) -> float:
    """Return the training speed of a running cell; 0 before its first evaluation."""
    seconds = float(report.get("train_s") or 0.0)
    return float(report.get("images_seen") or 0.0) / seconds if seconds > 0 else 0.0


def duration(seconds: float) -> str:
    """Format a duration: a minute, 12 min, 3.4 h."""
    if seconds < 60:
        return "a minute"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def event_of(cell: Cell, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a JSON line about a cell and its latest report."""
    names = ("cell_id", "arm_id", "mode", "psi", "ratio", "seed")
    return {
        **{name: getattr(cell, name) for name in names},
        "cell": cell.described,
        "step": result.get("step"),
        "metrics": {k: number(v) for k, v in result.items() if k.startswith("valid_")},
        **{name: result[name] for name in _DETAILS if name in result},
    }


def outcome(result: Mapping[str, Any]) -> str:
    """Return the result of a cell as text: its validation metrics, or its error."""
    if result.get("status") == "failed":
        where = result.get("traceback")
        trace = f" (traceback: {where})" if where else ""
        return f"failed: {one_line(str(result.get('error') or ''))}{trace}"
    return (
        f"acc {result['valid_acc']:.3f} auc {result['valid_auc']:.3f} "
        f"loss {result['valid_loss']:.3f} in {result['wall_s']:.1f} s"
    )


@dataclass(slots=True, kw_only=True)
class Arm:
    """Counts and results of one arm."""

    name: str
    seeds: int = 0
    states: Counter[str] = field(default_factory=Counter)  # of its cells, without waiting ones
    values: dict[str, list[float]] = field(default_factory=lambda: {"auc": [], "loss": []})
    rung: int | None = None  # where it was stopped

    def mean(self, name: str) -> float | None:
        """Return the mean over fully trained seeds; None if there are none."""
        return math.fsum(self.values[name]) / len(self.values[name]) if self.values[name] else None

    @property
    def state(self) -> str:
        """Its state: running, done, pruned, paused or waiting."""
        if self.states["running"]:
            return "running"
        if sum(self.states[name] for name in OVER) == self.seeds:
            return "pruned" if self.states["pruned"] else "done"
        return "paused" if self.states["paused"] else "waiting"


class SearchCounts:
    """The state of every cell of a search, updated with each event.

    Args:
        cells: all cells of the search, including finished ones.
        already: number of finished cells, until `resume` identifies them.
    """

    def __init__(self, cells: Sequence[Cell], already: int) -> None:
        self.cells = {cell.cell_id: cell for cell in cells}
        self.unnamed = already
        self.arms: dict[str, Arm] = {}
        for cell in cells:
            arm = self.arms.setdefault(cell.arm_id, Arm(name=cell.arm_described))
            arm.seeds += 1
        self.states: dict[str, str] = {}  # by cell; waiting cells have none
        self.counts: Counter[str] = Counter()  # of these states
        self.ended: Counter[str] = Counter()  # how often cells reached each final state
        self.running: dict[str, Mapping[str, Any]] = {}  # latest report by running cell
        self.shares: dict[str, float] = {}  # fraction of the budget trained so far, by cell
        self.trained = 0.0  # training since the start, in units of whole cells
        self.left = float(len(cells) - already)  # training left, in the same units

    def arm(self, cell_id: str) -> Arm:
        return self.arms[self.cells[cell_id].arm_id]

    @property
    def done(self) -> int:
        """The number of cells in a final state."""
        return self.unnamed + sum(self.counts[name] for name in OVER)

    @property
    def waiting(self) -> int:
        return len(self.cells) - self.unnamed - sum(self.counts.values())

    def move(self, cell_id: str, state: str | None) -> None:
        """Change a cell's state in all counts; None means waiting."""
        old = self.states.pop(cell_id, None)
        if old == "failed":  # retried, from its checkpoint or from the start
            self.left += self.shares.pop(cell_id, 0.0)
        rest = 1.0 - self.shares.get(cell_id, 0.0)
        self.left += rest * ((old == "pruned") - (state == "pruned"))
        for counts in (self.counts, self.arm(cell_id).states):
            if old is not None:
                counts[old] -= 1
            if state is not None:
                counts[state] += 1
        if state is not None:
            self.states[cell_id] = state
            self.ended[state] += state in OVER
        if state != "running":
            self.running.pop(cell_id, None)

    def trained_to(self, cell_id: str, share: float, earlier: bool = False) -> None:
        """Record a cell's progress; `earlier` if an earlier search trained it so far."""
        more = share - self.shares.get(cell_id, 0.0)
        self.shares[cell_id] = share
        self.left -= more
        self.trained += 0.0 if earlier else more

    def score(self, cell_id: str, row: Mapping[str, Any]) -> None:
        """Add the results of a fully trained cell to its arm's means."""
        for name, values in self.arm(cell_id).values.items():
            value = number(row.get(f"valid_{name}"))
            if value is not None:
                values.append(value)

    def resume(self, run: RunPaths) -> None:
        """Count the results of earlier searches; failed cells count as waiting.

        Pruned cells are reported by the searcher: see `Progress.on_pruned`.
        """
        self.left, self.unnamed = self.left + self.unnamed, 0
        for cell_id in self.cells:
            paths = run.trial(cell_id)
            row = _row_in(paths.result) if paths.result.is_file() else None
            if row is not None and row.get("status") == "ok":
                self.score(cell_id, row)
                self.trained_to(cell_id, 1.0, earlier=True)
                self.move(cell_id, "ok")
            elif cell_id not in self.states and paths.paused.is_file():
                self.trained_to(cell_id, paused_share(paths), earlier=True)
                self.move(cell_id, "paused")
        self.ended.clear()

    def counted(self) -> str:
        """Return the counts of cells as text."""
        parts = [f"{self.done} of {len(self.cells)} cells done"]
        parts += [f"{self.counts['running']} running", f"{self.waiting} waiting"]
        parts += [
            f"{self.counts[n]} {n}" for n in ("paused", "pruned", "failed") if self.counts[n]
        ]
        return ", ".join(parts)

    def furthest(self) -> dict[int, str]:
        """Return the progress of the furthest running cell of each arm, by id of the arm."""
        cells = sorted(self.running, key=lambda cell_id: self.shares.get(cell_id, 0.0))
        return {
            id(self.arm(cell_id)): _at(self.cells[cell_id].budget, self.running[cell_id])
            for cell_id in cells
        }


def arms_table(tally: SearchCounts, room: int) -> Table:
    """Return a table with at most `room` arms: running arms first, then by mean AUC."""
    table = Table(title_justify="left", caption_justify="left")
    table.add_column("arm", overflow="ellipsis", no_wrap=True)
    for name in ("seeds", "auc", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    furthest = tally.furthest()
    shown = heapq.nsmallest(room, tally.arms.values(), key=_urgency)
    for arm in shown:
        table.add_row(
            arm.name,
            f"{arm.states['ok']}/{arm.seeds}",
            *("" if mean is None else f"{mean:.3f}" for mean in map(arm.mean, arm.values)),
            _state(arm, furthest.get(id(arm), "")),
            style="cyan" if arm.states["running"] else None,
        )
    if len(tally.arms) > len(shown):
        rest = Counter(arm.state for arm in tally.arms.values())
        rest -= Counter(arm.state for arm in shown)
        words = ", ".join(f"{count} {state}" for state, count in rest.items())
        table.add_row(f"{len(tally.arms) - len(shown)} more arms", "", "", "", words)
    return table


def _row_in(path: Any) -> Mapping[str, Any] | None:
    """Return the last row of a file; None if damaged, which is reported elsewhere."""
    try:
        return dict(read_json(path, RunError)["rows"][-1])
    except (RunError, LookupError, TypeError, ValueError):
        return None


def _at(budget: Budget, report: Mapping[str, Any]) -> str:
    if not report:
        return ""
    return (
        f", {budget.unit.removesuffix('s')} {report[budget.unit.removesuffix('s')]}/{budget.max}"
    )


def _urgency(arm: Arm) -> tuple[bool, float]:
    """Return the sort key of an arm: running arms first, then by mean AUC."""
    mean = arm.mean("auc")
    return not arm.states["running"], math.inf if mean is None else -mean


def _state(arm: Arm, at: str) -> str:
    words = arm.state
    if words == "running":
        words = f"{arm.states['running']} running{at}"
    elif words == "pruned":
        words = f"pruned at rung {arm.rung}"
    return words + (f", {arm.states['failed']} failed" if arm.states["failed"] else "")


def number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
