"""Feeds Tune with the next leg that is certain to be needed.

Tune asks for trials one by one; each is a leg: one cell, trained to a share of its budget. What
runs next follows from the files of the run alone, so a search that is started again goes on.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.grid.space import Scheduler
from fgaug.runs.results import read_rows, statuses_of, write_pruned, write_row
from fgaug.runs.row import TrialSources, failed_row, identity_columns
from fgaug.study.tune.history import policy_of, seen_cell, seen_of
from fgaug.study.tune.policy import CellProgress, Segment


class CellSearcher(Searcher):
    """Suggests legs, and writes the rows that no trial can: of pruned cells and dead processes."""

    def __init__(
        self,
        run: RunPaths,
        cells: Sequence[Cell],
        sources: Mapping[str | None, TrialSources],
        scheduler: Scheduler,
        *,
        deadline: float | None,
        stopping: Callable[[], bool],
        retries: int,
        died: Callable[[str], str],
        until: float = 1.0,
        pruned: Callable[[str, int], None] = lambda cell_id, rung: None,
    ) -> None:
        super().__init__()
        self.run, self.sources, self.scheduler = run, sources, scheduler
        self.left = math.inf  # legs that may still be suggested, see `allow`
        self.deadline, self.stopping, self.died = deadline, stopping, died
        self.retries = retries
        self.tell_pruned = pruned
        self.tried: Counter[str] = Counter()  # times that each cell failed in this search
        self.cells = {cell.cell_id: cell for cell in cells}
        self.policy = policy_of(scheduler, cells, until)
        statuses = statuses_of(run, self.cells)
        self.seen: dict[str, CellProgress] = seen_of(run, cells, statuses, scheduler)
        self.running: dict[str, str] = {}  # cell by trial
        self.waiting: deque[Segment] = deque()
        self.given: set[Segment] = set()  # of this search: no leg is given twice
        self.pruned: set[str] = set()  # cells whose row says so
        self.cut: dict[str, int] = {}  # cells that Tune's scheduler stopped just now -> rung
        self._decide()
        for cell_id in self.policy.decide(self.seen).kept:
            self.tell_pruned(cell_id, int(read_rows(run.trial(cell_id))[-1]["rung"]))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True  # results are judged by the policy, not by Tune

    def suggest(self, trial_id: str) -> Any:
        """Return the next leg, None while it is not known, FINISHED where there is none."""
        if self.left < 1 or self._told_to_end():
            return Searcher.FINISHED
        busy = set(self.running.values())
        leg = next((leg for leg in self.waiting if leg.cell_id not in busy), None)
        if leg is None:
            return None if busy else Searcher.FINISHED
        self.waiting.remove(leg)
        self.given.add(leg)
        self.left -= 1
        self.running[trial_id] = leg.cell_id
        return {"cell_id": leg.cell_id, "until": leg.until}

    def allow(self, legs: float) -> None:
        """Suggest no more than so many legs from now on."""
        self.left = legs

    @property
    def more(self) -> bool:
        """Whether there are legs to run, nothing being at work."""
        return bool(self.waiting) and not self._told_to_end()

    def _told_to_end(self) -> bool:
        late = self.deadline is not None and time.time() >= self.deadline
        return late or self.stopping()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        cell_id = self.running.pop(trial_id)
        cell = self.cells[cell_id]
        if error:
            row = failed_row(cell, self.sources[cell.snapshot], self.died(cell_id))
            write_row(self.run.trial(cell_id), row)
        status = statuses_of(self.run, [cell_id]).get(cell_id)
        if status == "pruned":  # an earlier search's row; the cell has gone on since
            status = None
        if cell_id in self.cut:
            self._prune(cell_id, self.cut.pop(cell_id))
            status = "pruned"
        seen = seen_cell(self.run, cell, status, self.scheduler)
        if status == "failed" and not error and self._again(cell_id):
            return
        if seen is not None:
            self.seen[cell_id] = seen
        if self.scheduler.type != "none":  # else what was decided at the start stands
            self._decide()

    def _again(self, cell_id: str) -> bool:
        """Put a cell that failed back into the queue, unless it did so too often."""
        self.tried[cell_id] += 1
        if self.tried[cell_id] > self.retries:
            return False
        self.given = {leg for leg in self.given if leg.cell_id != cell_id}
        self._decide()
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing is decided before a leg has ended."""

    def _decide(self) -> None:
        """Ask the policy what follows from the files, and write the rows of beaten arms."""
        decision = self.policy.decide(self.seen)
        self.waiting = deque(leg for leg in decision.legs if leg not in self.given)
        if not decision.stopped:
            return
        for cell_id, cell in self.cells.items():
            rung = decision.stopped.get(cell.arm_id)
            if rung is None or cell_id in self.pruned or cell_id in self.running.values():
                continue
            if cell_id not in self.seen or not self.seen[cell_id].over:
                self._prune(cell_id, rung)

    def _prune(self, cell_id: str, rung: int) -> None:
        cell = self.cells[cell_id]
        row = unstarted_row(cell, self.sources[cell.snapshot])
        write_pruned(self.run.trial(cell_id), rung, row)
        self.pruned.add(cell_id)
        self.tell_pruned(cell_id, rung)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the run's own files are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


def unstarted_row(cell: Cell, sources: TrialSources) -> Mapping[str, Any]:
    """Return the row of a cell that was never begun: a race had dropped its arm."""
    return {
        **identity_columns(cell),
        "error": None,
        "budget_unit": cell.budget.unit,
        "budget_used": 0,
        "dataset_digest": sources.dataset_digest,
    }
