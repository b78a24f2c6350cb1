"""Counts: where the cells of a search are, by arm, with rates, time left and the best arm.

An event costs the same whatever the number of cells.
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
)  # of JSON lines, where an event has them
OVER = ("ok", "pruned", "failed")  # states that need no training


def rates(tally: SearchCounts, elapsed_s: float, ended: int) -> str:
    """Return cells a minute, images a second and the time left.

    Args:
        elapsed_s: since the first cell of this search began.
        ended: cells that ended since then.
    """
    rate = ended / elapsed_s * 60
    parts = [f"{rate:.{1 if rate < 100 else 0}f} cells/min"] if ended else []
    speed = sum(images_per_s(report) for report in tally.running.values())
    parts += [f"{speed:.0f} images/s"] if speed else []
    if tally.trained > 0 and tally.left > 1e-6:
        # arms that are stopped later make it shorter
        bound = "at most" if tally.counts["paused"] or tally.counts["pruned"] else "about"
        parts.append(f"{bound} {duration(elapsed_s / tally.trained * tally.left)} left")
    return ", ".join(parts)


def best_arm(tally: SearchCounts) -> str:
    """Return the arm with the highest mean AUC; nothing while no cell has ended."""
    scored = [(mean, arm) for arm in tally.arms.values() if (mean := arm.mean("auc"))]
    if not scored:
        return ""
    mean, best = max(scored, key=lambda pair: pair[0])
    return f"best {best.name}: auc {mean:.3f} ({best.states['ok']}/{best.seeds})"


def images_per_s(report: Mapping[str, Any]) -> float:
    """Return the images that a running cell trains a second; 0 before its first evaluation."""
    seconds = float(report.get("train_s") or 0.0)
    return float(report.get("images_seen") or 0.0) / seconds if seconds > 0 else 0.0


def duration(seconds: float) -> str:
    """Return a time as it is said: a minute, 12 min, 3.4 h."""
    if seconds < 60:
        return "a minute"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def event_of(cell: Cell, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a JSON line says of a cell and of what it reported last."""
    names = ("cell_id", "arm_id", "mode", "psi", "ratio", "seed")
    return {
        **{name: getattr(cell, name) for name in names},
        "cell": cell.described,
        "step": result.get("step"),
        "metrics": {k: number(v) for k, v in result.items() if k.startswith("valid_")},
        **{name: result[name] for name in _DETAILS if name in result},
    }


def outcome(result: Mapping[str, Any]) -> str:
    """Return how a cell ended: its validation metrics, or why it failed."""
    if result.get("status") == "failed":
        where = result.get("traceback")
        told = f" (traceback: {where})" if where else ""
        return f"failed: {one_line(str(result.get('error') or ''))}{told}"
    return (
        f"acc {result['valid_acc']:.3f} auc {result['valid_auc']:.3f} "
        f"loss {result['valid_loss']:.3f} in {result['wall_s']:.1f} s"
    )


@dataclass(slots=True, kw_only=True)
class Arm:
    """What is known of one arm."""

    name: str
    seeds: int = 0
    states: Counter[str] = field(default_factory=Counter)  # of its cells; those waiting left out
    values: dict[str, list[float]] = field(default_factory=lambda: {"auc": [], "loss": []})
    rung: int | None = None  # after which it was stopped

    def mean(self, name: str) -> float | None:
        """Return the mean over the seeds that were trained to their end."""
        return math.fsum(self.values[name]) / len(self.values[name]) if self.values[name] else None

    @property
    def state(self) -> str:
        """Its state in a word."""
        if self.states["running"]:
            return "running"
        if sum(self.states[name] for name in OVER) == self.seeds:
            return "pruned" if self.states["pruned"] else "done"
        return "paused" if self.states["paused"] else "waiting"


class SearchCounts:
    """Where the cells of a search are, kept up with each event at the same small cost.

    Args:
        cells: all cells of the search, also those that need no training.
        already: how many of them those are, while it is not known which.
    """

    def __init__(self, cells: Sequence[Cell], already: int) -> None:
        self.cells = {cell.cell_id: cell for cell in cells}
        self.unnamed = already
        self.arms: dict[str, Arm] = {}
        for cell in cells:
            arm = self.arms.setdefault(cell.arm_id, Arm(name=_arm_name(cell)))
            arm.seeds += 1
        self.states: dict[str, str] = {}  # by cell; a cell that waits has none
        self.counts: Counter[str] = Counter()  # of these states
        self.ended: Counter[str] = Counter()  # times that a cell came to one of OVER, this search
        self.running: dict[str, Mapping[str, Any]] = {}  # last report by cell
        self.shares: dict[str, float] = {}  # of the budget, trained so far, by cell
        self.trained = 0.0  # cells' worth of training since the start
        self.left = float(len(cells) - already)  # the same, still to be trained

    def arm(self, cell_id: str) -> Arm:
        return self.arms[self.cells[cell_id].arm_id]

    @property
    def done(self) -> int:
        """Cells that need no training any more."""
        return self.unnamed + sum(self.counts[name] for name in OVER)

    @property
    def waiting(self) -> int:
        return len(self.cells) - self.unnamed - sum(self.counts.values())

    def move(self, cell_id: str, state: str | None) -> None:
        """Change a cell's state in all counts; None: it waits."""
        old = self.states.pop(cell_id, None)
        if old == "failed":  # it is tried again, from its checkpoint or from the start
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
        """Note how far a cell is; `earlier`: it came so far in another search."""
        more = share - self.shares.get(cell_id, 0.0)
        self.shares[cell_id] = share
        self.left -= more
        self.trained += 0.0 if earlier else more

    def score(self, cell_id: str, row: Mapping[str, Any]) -> None:
        """Take the values of a cell that was trained to its end into its arm's means."""
        for name, values in self.arm(cell_id).values.items():
            value = number(row.get(f"valid_{name}"))
            if value is not None:
                values.append(value)

    def resume(self, run: RunPaths) -> None:
        """Take over what earlier searches left; failed cells are to be trained again.

        Which cells stay pruned is the feed's to say: see `Progress.on_pruned`.
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
        """Return the counts of cells in words."""
        parts = [f"{self.done} of {len(self.cells)} cells done"]
        parts += [f"{self.counts['running']} running", f"{self.waiting} waiting"]
        parts += [
            f"{self.counts[n]} {n}" for n in ("paused", "pruned", "failed") if self.counts[n]
        ]
        return ", ".join(parts)

    def furthest(self) -> dict[int, str]:
        """Return how far the furthest running cell of each arm is."""
        cells = sorted(self.running, key=lambda cell_id: self.shares.get(cell_id, 0.0))
        return {
            id(self.arm(cell_id)): _at(self.cells[cell_id].budget, self.running[cell_id])
            for cell_id in cells
        }


def arms_table(tally: SearchCounts, room: int) -> Table:
    """Return a row for each of at most `room` arms, those running first, then the best."""
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


def _arm_name(cell: Cell) -> str:
    return cell.described.removesuffix(f" seed {cell.seed}")


def _row_in(path: Any) -> Mapping[str, Any] | None:
    """Return the last row of a file; None if it is missing or damaged: others speak of that."""
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
    """Order arms: those running, then the best."""
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
