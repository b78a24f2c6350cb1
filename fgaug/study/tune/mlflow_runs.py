"""MLflow: a run for each arm and, nested below it, a run for each cell."""

from __future__ import annotations

import os
from typing import Any

from fgaug.core import mirror
from fgaug.study.tune.cell_tracker import CellAsTrial, Tracker
from fgaug.study.tune.mlflow_store import STATUSES, MLflowStore
from fgaug.study.tune.tracked import TrackedSearch


class MLflow(Tracker):
    """Logs to an MLflow store in files below the run's folder.

    `MLFLOW_TRACKING_URI` selects a server instead. A cell that is paused or stopped at a rung has
    status KILLED; when it resumes, the same run is RUNNING again. Logging an evaluation takes the
    driver 17 ms (two shared cores), or several requests to a server.
    """

    where = "MLflow's store"

    def _made(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:  # MLflow rejects file stores unless told otherwise
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self._pull()
        from mlflow.tracking import MlflowClient
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = uri or self.run.mlflow.resolve().as_uri()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.search
        tracker: Any = MLflowLoggerCallback(tracking_uri=where, experiment_name=experiment)
        tracker.setup()
        if uri is None:  # setup has set it for child processes; later searches must not see it
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        self.client = MlflowClient(tracking_uri=where)
        self.store = MLflowStore(self.client, tracker.mlflow_util.experiment_id, self.search)
        for cell_id, run in self.store.cells.items():
            if cell_id in self.cells:
                tracker._trial_runs[self._as_trial(cell_id)] = run.info.run_id
                steps = self.client.get_metric_history(run.info.run_id, "training_iteration")
                self.logged[cell_id] = max((metric.step for metric in steps), default=0)
        return tracker

    def _pull(self) -> None:
        """Bring the files of a search that another machine began, if the run is at a URI."""
        mirror.pull(self.run.mlflow)
        for run in self.run.mlflow.glob("*/*/meta.yaml"):
            for name in ("artifacts", "metrics", "params", "tags"):  # stores drop empty folders
                (run.parent / name).mkdir(exist_ok=True)

    def _named(self, cell_id: str) -> CellAsTrial:
        return self._as_trial(cell_id)

    def _begun(self, trial: CellAsTrial) -> None:
        arm = self.arms[self.cells[trial.trial_id].arm_id]
        self.store.start(arm)
        self.tracker.tags = self.store.tags_of_cell(arm)  # of a run that is created now
        known = trial in self.tracker._trial_runs
        super()._begun(trial)
        if known:
            self.client.update_run(self.tracker._trial_runs[trial], status="RUNNING")
            if trial.trial_id in self.store.cells:
                self.store.tag_cell(trial.trial_id, arm)

    def _over(self, trial: CellAsTrial, status: str) -> None:
        self.client.set_terminated(self.tracker._trial_runs[trial], STATUSES.get(status, "KILLED"))

    def _summarise(self, search: TrackedSearch) -> None:
        if self.tracker is None:
            self.tracker = self._made()
        self.store.write(search)
