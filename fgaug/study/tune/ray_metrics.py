"""Ray metrics of a running search, for Prometheus.

Ray prefixes each name with `ray_`, adds `_total` to counters, and serves them on the metrics port
of the node whose process set them. Looked at in Ray 2.60: a value appears within 10 s; a gauge
that is not set again disappears 20 to 30 s later; a counter stays as long as its node. So the
driver sets every gauge again while it holds, also those that trials report, whose evaluations may
be minutes apart.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from typing import Any

from ray import tune
from ray.util import metrics

from fgaug.study.tune.counts import OVER, Arm, SearchCounts, images_per_s

EVERY_S = 2.0  # Ray exports every 10 s what was set since, so running cells always appear
ARMS = 100  # arms with a series: the best ones
STATES = ("running", "paused", *OVER)  # and `waiting`, the queue


class Metrics(tune.Callback):
    """A Tune callback that updates the metrics at fixed intervals.

    Gauges are updated only for running cells and the best arms; Ray soon forgets the others, so
    10,000 cells do not leave 10,000 series.

    Args:
        tally: the counts of the search.
        run: the name of the run, a label of every series.
    """

    def __init__(self, tally: SearchCounts, run: str) -> None:
        self.tally, self.run = tally, run
        self.set_at, self.counted = -math.inf, Counter[str]()
        self.cells = _gauge("cells", "Cells of the grid by status; waiting: the queue.", "status")
        self.auc = _gauge("arm_auc", "Mean validation AUC of an arm's finished seeds.", "arm")
        self.loss = _gauge("arm_loss", "Mean validation loss of an arm's finished seeds.", "arm")
        self.speed = _gauge("images_per_second", "Training speed of a running cell.", "cell")
        self.steps = _gauge("steps_done", "Steps trained by a running cell.", "cell")
        self.epochs = _gauge("epochs_done", "Epochs trained by a running cell.", "cell")
        self.share = _gauge("budget_share", "Fraction of its budget a running cell used.", "cell")
        self.cell_auc = _gauge("cell_auc", "Latest validation AUC of a running cell.", "cell")
        self.cell_loss = _gauge("cell_loss", "Latest validation loss of a running cell.", "cell")
        self.gpu = _gauge("gpu_memory_bytes", "Peak GPU memory of a running cell.", "cell")
        self.done = metrics.Counter(
            "fgaug_cells_done", "Cells finished in this search, by status.", ("run", "status")
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that never happens here

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self.set_at >= EVERY_S:
            self.export()
            self.set_at = time.monotonic()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.export()

    def export(self) -> None:
        """Update Ray's metrics."""
        self._export_counts()
        self._export_arms()
        self._export_running()

    def _export_counts(self) -> None:
        for status in STATES:
            self.cells.set(self._of(status), self._tags("status", status))
        self.cells.set(self.tally.waiting, self._tags("status", "waiting"))
        for status in OVER:
            more = self.tally.ended[status] - self.counted[status]
            if more:
                self.done.inc(more, self._tags("status", status))
        self.counted = Counter(self.tally.ended)

    def _of(self, status: str) -> int:
        # finished cells that `resume` has not identified yet are complete
        return self.tally.counts[status] + (self.tally.unnamed if status == "ok" else 0)

    def _export_arms(self) -> None:
        scored = (arm for arm in self.tally.arms.values() if arm.values["auc"])
        for arm in heapq.nlargest(ARMS, scored, key=_auc):
            tags = self._tags("arm", arm.name)
            for gauge, name in ((self.auc, "auc"), (self.loss, "loss")):
                _set(gauge, arm.mean(name), tags)

    def _export_running(self) -> None:
        for cell_id, report in self.tally.running.items():
            if not report:
                continue  # not evaluated yet
            tags = self._tags("cell", f"{self.tally.cells[cell_id].described} ({cell_id})")
            self.speed.set(images_per_s(report), tags)
            self.steps.set(report["step"], tags)
            if report["epoch"] >= 0:
                self.epochs.set(report["epoch"], tags)
            self.share.set(report["share"], tags)
            _set(self.cell_auc, report.get("valid_auc"), tags)
            _set(self.cell_loss, report.get("valid_loss"), tags)
            _set(self.gpu, report.get("gpu_bytes"), tags)

    def _tags(self, name: str, value: str) -> dict[str, str]:
        return {"run": self.run, name: value}


def _gauge(name: str, description: str, label: str) -> Any:
    return metrics.Gauge(f"fgaug_{name}", description, ("run", label))


def _set(gauge: Any, value: float | None, tags: dict[str, str]) -> None:
    """Set a gauge to a number; NaN and absent values leave no series."""
    if value is not None and math.isfinite(value):
        gauge.set(value, tags)


def _auc(arm: Arm) -> float:
    return arm.mean("auc") or 0.0
