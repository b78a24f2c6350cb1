"""A Tune searcher that suggests the next segments certain to be needed.

Each Tune trial is a segment: one cell, trained to a fraction of its budget. What runs next depends
only on the files of the run, so restarting a search resumes it.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from fgaug.core import mirror
from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.grid.space import Scheduler
from fgaug.runs.pack_trials import TrialPacker
from fgaug.runs.results import read_rows, statuses_of, write_pruned, write_row
from fgaug.runs.row import TrialSources, failed_row, identity_columns
from fgaug.study.tune.history import policy_of, seen_cell, seen_of
from fgaug.study.tune.policy import CellProgress, Segment
from fgaug.study.tune.settings import FILES


class CellSearcher(Searcher):
    """Suggests segments, and writes the rows of pruned cells and of trials whose process died."""

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
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.run, self.sources, self.scheduler = run, sources, scheduler
        self.left = math.inf  # segments that may still be suggested, see `allow`
        self.deadline, self.stopping, self.died = deadline, stopping, died
        self.retries = retries
        self.tell_pruned = pruned
        self.alone = alone  # whether the next segment gets a process of its own, see `names`
        self.tried: Counter[str] = Counter()  # failures of each cell in this search
        self.cells = {cell.cell_id: cell for cell in cells}
        self.policy = policy_of(scheduler, cells, until)
        statuses = statuses_of(run, self.cells)
        self.seen: dict[str, CellProgress] = seen_of(run, cells, statuses, scheduler)
        self.running: dict[str, str] = {}  # cell_id by trial
        self.waiting: deque[Segment] = deque()
        self.given: set[Segment] = set()  # segments suggested in this search, each only once
        self.pruned: set[str] = set()  # cells with a pruned row
        self.cut: dict[str, int] = {}  # rung of cells that Tune's scheduler has just stopped
        self.packer = TrialPacker(run)
        self._decide()
        for cell_id in self.policy.decide(self.seen).kept:
            self.tell_pruned(cell_id, int(read_rows(run.trial(cell_id))[-1]["rung"]))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True  # the policy evaluates results, not Tune

    def suggest(self, trial_id: str) -> Any:
        """Return the next segment, None if it is not known yet, FINISHED if there is none."""
        if self.left < 1 or self._must_stop():
            return Searcher.FINISHED
        busy = set(self.running.values())
        leg = next((leg for leg in self.waiting if leg.cell_id not in busy), None)
        if leg is None:
            return None if busy else Searcher.FINISHED
        self.waiting.remove(leg)
        self.given.add(leg)
        self.left -= 1
        self.running[trial_id] = leg.cell_id
        return {"cell_id": leg.cell_id, "until": leg.until, "alone": self.alone()}

    def allow(self, legs: float) -> None:
        """Limit the number of segments to suggest from now on."""
        self.left = legs

    @property
    def more(self) -> bool:
        """Whether segments are left to run."""
        return bool(self.waiting) and not self._must_stop()

    def _must_stop(self) -> bool:
        late = self.deadline is not None and time.time() >= self.deadline
        return late or self.stopping()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        cell_id = self.running.pop(trial_id)
        cell = self.cells[cell_id]
        if result is not None and (files := result.pop(FILES, None)):
            mirror.receive(self.run.trial(cell_id).root, dict(files))
        if error:
            row = failed_row(cell, self.sources[cell.source], self.died(cell_id))
            write_row(self.run.trial(cell_id), row)
        status = statuses_of(self.run, [cell_id]).get(cell_id)
        if status == "pruned":  # a row of an earlier search; the cell has resumed since
            status = None
        if cell_id in self.cut:
            self._prune(cell_id, self.cut.pop(cell_id))
            status = "pruned"
        if status == "ok":
            self.packer.add(cell_id)
        seen = seen_cell(self.run, cell, status, self.scheduler)
        if status == "failed" and not error and self._again(cell_id):
            return
        if seen is not None:
            self.seen[cell_id] = seen
        if self.scheduler.type != "none":  # else the initial decision is final
            self._decide()

    def _again(self, cell_id: str) -> bool:
        """Requeue a failed cell; return False if it has no retries left."""
        self.tried[cell_id] += 1
        if self.tried[cell_id] > self.retries:
            return False
        self.given = {leg for leg in self.given if leg.cell_id != cell_id}
        self._decide()
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: decisions are made at the end of a segment."""

    def _decide(self) -> None:
        """Update the waiting segments by the policy, and write the rows of stopped arms."""
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
        row = unstarted_row(cell, self.sources[cell.source])
        write_pruned(self.run.trial(cell_id), rung, row)
        self.pruned.add(cell_id)
        self.tell_pruned(cell_id, rung)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the run's files are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, as above."""


def unstarted_row(cell: Cell, sources: TrialSources) -> Mapping[str, Any]:
    """Return the row of a cell that never started because its arm was stopped in a race."""
    return {
        **identity_columns(cell),
        "error": None,
        "budget_unit": cell.budget.unit,
        "budget_used": 0,
        "dataset_digest": sources.dataset_digest,
    }
