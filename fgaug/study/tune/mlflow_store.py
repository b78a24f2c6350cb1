"""The runs of one search in an MLflow store: one for each arm, and below it one for each cell.

Runs are found by tags, so a resumed search updates the runs that it finds.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fgaug.study.tune.tracked import TrackedArm, TrackedSearch

PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"  # what MLflow's pages read
SEARCH, KIND, ARM = "fgaug.search", "fgaug.kind", "fgaug.arm_id"
VERDICT, CONFIRMED = "verdict", "confirmed"
STATUSES = {"ok": "FINISHED", "failed": "FAILED"}  # any other: KILLED
BATCH = 100  # parameters that a server takes at once; of metrics it takes more


class MLflowStore:
    """Finds, creates and updates the runs of a search in one experiment."""

    def __init__(self, client: Any, experiment_id: str, search: str) -> None:
        """Read the runs of earlier searches in the same folder.

        Args:
            client: an `MlflowClient`.
            experiment_id: of the experiment; it may hold other searches too.
            search: the name of this search's folder.
        """
        self.client, self.experiment_id, self.search = client, experiment_id, search
        self.running: set[str] = set()  # arms whose run this search has started
        self.read()

    def read(self) -> None:
        """Read all runs of the search anew; its other shards may have added some."""
        self.arms: dict[str, list[Any]] = defaultdict(list)  # oldest first, by arm_id
        self.cells: dict[str, Any] = {}
        self.report: Any = None
        for run in sorted(self._runs(), key=lambda run: (run.info.start_time, run.info.run_id)):
            tags = run.data.tags
            if tags.get(SEARCH, self.search) != self.search:
                continue
            if tags.get(KIND) == "arm":
                self.arms[tags[ARM]].append(run)
            elif tags.get(KIND) == "report":
                self.report = self.report or run
            elif "cell_id" in run.data.params:
                self.cells.setdefault(run.data.params["cell_id"], run)

    def _runs(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def tags_of_cell(self, arm: TrackedArm) -> dict[str, str]:
        """Return the tags of a cell's run, below the run of its arm."""
        return {KIND: "cell", SEARCH: self.search, PARENT: self.arm(arm).info.run_id}

    def tag_cell(self, cell_id: str, arm: TrackedArm) -> None:
        """Put the run of an earlier search below its arm, unless it is there already."""
        run = self.cells[cell_id]
        for name, value in self.tags_of_cell(arm).items():
            if run.data.tags.get(name) != value:
                self.client.set_tag(run.info.run_id, name, value)

    def start(self, arm: TrackedArm) -> None:
        """Mark an arm as running, once."""
        if arm.arm_id not in self.running:
            self.client.update_run(self.arm(arm).info.run_id, status="RUNNING")
            self.running.add(arm.arm_id)

    def arm(self, arm: TrackedArm) -> Any:
        """Return the run of an arm, created if there is none."""
        if not self.arms[arm.arm_id]:
            tags = {KIND: "arm", SEARCH: self.search, ARM: arm.arm_id}
            run = self.client.create_run(self.experiment_id, run_name=arm.name, tags=tags)
            self._log_parameters(run.info.run_id, arm.parameters)
            self.arms[arm.arm_id].append(run)
        return self.arms[arm.arm_id][0]

    def _log_parameters(self, run_id: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        named = [Param(name, str(value)) for name, value in values.items()]
        for first in range(0, len(named), BATCH):
            self.client.log_batch(run_id, params=named[first : first + BATCH])

    def write(self, search: TrackedSearch) -> None:
        """Write the numbers and verdicts of all arms, and the report."""
        self.read()
        self._merge_arms()
        for arm in search.arms:
            run = self.arm(arm)
            tags = {VERDICT: arm.verdict, CONFIRMED: arm.confirmed, NOTE: arm.note}
            self._update(run, arm.numbers, tags, arm.status)
        if self.report is None:
            tags = {KIND: "report", SEARCH: self.search}
            self.report = self.client.create_run(self.experiment_id, run_name="report", tags=tags)
        for name, path in search.report.items():
            folder = (Path("report") / name).parent.as_posix()
            self.client.log_artifact(self.report.info.run_id, str(path), folder)
        counts = {f"cells/{name}": float(count) for name, count in search.counts.items()}
        self._update(self.report, counts, {NOTE: search.lead}, search.status)

    def _merge_arms(self) -> None:
        """Keep one run an arm: shards that start at the same time may each have created one."""
        for arm_id, (kept, *others) in [(k, v) for k, v in self.arms.items() if v]:
            for cell in self.cells.values():
                own = cell.data.params.get("arm_id") == arm_id
                if own and cell.data.tags.get(PARENT) != kept.info.run_id:
                    self.client.set_tag(cell.info.run_id, PARENT, kept.info.run_id)
            for run in others:
                self.client.delete_run(run.info.run_id)
            self.arms[arm_id] = [kept]

    def _update(
        self, run: Any, numbers: Mapping[str, float], tags: Mapping[str, str], status: str
    ) -> None:
        """Log what has changed; a number that has become undefined becomes NaN."""
        from mlflow.entities import Metric, RunTag

        run_id, now = run.info.run_id, int(1000 * time.time())
        known, old = run.data.metrics, run.data.tags
        values = {**dict.fromkeys(known, math.nan), **numbers}
        changed = [
            Metric(name, value, now, 0)
            for name, value in values.items()
            if repr(known.get(name, math.nan)) != repr(value)  # NaN does not equal itself
        ]
        words = [RunTag(name, text) for name, text in tags.items() if text != old.get(name, "")]
        self.client.log_batch(run_id, metrics=changed, tags=words)
        self.client.set_terminated(run_id, STATUSES.get(status, "KILLED"))
