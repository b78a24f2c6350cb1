"""Ray metrics of a running search, for Prometheus.

Ray prefixes each name with `ray_` and serves the metrics on the driver node's metrics port.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

from ray import tune
from ray.util import metrics

from fgaug.study.tune.counts import OVER, SearchCounts, images_per_s

EVERY_S = 2.0  # Ray exports every 10 s what was set since, so running cells always appear


class Metrics(tune.Callback):
    """A Tune callback that updates the metrics at fixed intervals.

    Gauges are updated only for running cells; Ray soon forgets the others, so 10,000 cells do not
    leave 10,000 series.
    """

    def __init__(self, tally: SearchCounts) -> None:
        self.tally = tally
        self.set_at, self.counted = -math.inf, Counter[str]()
        gauge, of_cell = metrics.Gauge, ("cell",)
        self.speed = gauge("fgaug_images_per_second", "Training speed of a running cell.", of_cell)
        self.steps = gauge("fgaug_steps_done", "Steps trained by a running cell.", of_cell)
        self.epochs = gauge("fgaug_epochs_done", "Epochs trained by a running cell.", of_cell)
        self.done = metrics.Counter(
            "fgaug_cells_done", "Cells finished in this search, by status.", ("status",)
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
        for cell_id, report in self.tally.running.items():
            if not report:
                continue  # not evaluated yet
            tags = {"cell": f"{self.tally.cells[cell_id].described} ({cell_id})"}
            self.speed.set(images_per_s(report), tags)
            self.steps.set(report["step"], tags)
            if report["epoch"] >= 0:
                self.epochs.set(report["epoch"], tags)
        for status in OVER:
            more = self.tally.ended[status] - self.counted[status]
            if more:
                self.done.inc(more, {"status": status})
        self.counted = Counter(self.tally.ended)
