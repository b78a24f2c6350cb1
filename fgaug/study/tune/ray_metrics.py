"""What a search is at as metrics of Ray, for Prometheus.

Ray adds `ray_` to each name and serves them on the metrics port of the driver's node.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

from ray import tune
from ray.util import metrics

from fgaug.study.tune.counts import OVER, SearchCounts, images_per_s

EVERY_S = 2.0  # Ray exports every 10 s what was set since, so a cell that trains is always there


class Metrics(tune.Callback):
    """Sets the metrics from time to time, whatever the number of reports.

    A cell's gauges are set again as long as it trains: Ray forgets the others soon after, so that
    10,000 cells leave no 10,000 series.
    """

    def __init__(self, tally: SearchCounts) -> None:
        self.tally = tally
        self.set_at, self.counted = -math.inf, Counter[str]()
        gauge, of_cell = metrics.Gauge, ("cell",)
        self.speed = gauge("fgaug_images_per_second", "Trained by a running cell.", of_cell)
        self.steps = gauge("fgaug_steps_done", "By a running cell.", of_cell)
        self.epochs = gauge("fgaug_epochs_done", "By a running cell.", of_cell)
        self.done = metrics.Counter("fgaug_cells_done", "In this search, by status.", ("status",))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that never happens here

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self.set_at >= EVERY_S:
            self.export()
            self.set_at = time.monotonic()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.export()

    def export(self) -> None:
        """Hand the present numbers to Ray."""
        for cell_id, report in self.tally.running.items():
            if not report:
                continue  # it has not been evaluated yet
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
