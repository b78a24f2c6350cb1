"""MLflow and W&B through Ray's own callbacks, with one run per cell.

Ray's callbacks log one run per Tune trial, with the trial's config as parameters. Here a trial is
only a segment of a cell's training, so the callbacks receive the cell in place of the trial.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.runs.row import identity_columns
from fgaug.study.tune.tracker import WHOLE, TrackerCallback, scalars_of

FOUND = ("valid_loss", "valid_acc", "valid_auc", "wall_s")  # of the row, logged as `result/...`
UPLOAD_S = 120  # how long uploads may delay the end of a search


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAsTrial:
    """A cell with the attributes of a trial that Ray's callbacks read."""

    trial_id: str
    leg: int  # number of the segment, for trackers that need a new process for each
    name: str = field(compare=False)
    config: dict[str, Any] = field(compare=False)
    local_path: str = field(compare=False)
    experiment_dir_name: str = field(compare=False)

    def __str__(self) -> str:
        return self.name


class Tracker(TrackerCallback):
    """Logs every step of a cell once to one of Ray's callbacks, over all its segments.

    After a killed search, training may repeat steps from a checkpoint; since it repeats the same
    numbers, steps already logged are skipped.
    """

    def __init__(self, run: RunPaths, cells: Iterable[Cell]) -> None:
        super().__init__(run)
        self.cells = {cell.cell_id: cell for cell in cells}
        self.tracker: Any = None  # Ray's callback, created at the first thing to log
        self.running: dict[str, CellAsTrial] = {}
        self.logged: dict[str, int] = {}  # the last logged step by cell

    @abstractmethod
    def _made(self) -> Any:
        """Return Ray's callback, set up."""

    @abstractmethod
    def _named(self, cell_id: str) -> CellAsTrial:
        """Return the cell as the trial of a new segment."""

    def _begun(self, trial: CellAsTrial) -> None:
        """Log that a cell starts or resumes training."""
        self.tracker.log_trial_start(trial)

    def _over(self, trial: CellAsTrial, status: str) -> None:
        """Log that a segment ended."""
        self.tracker.log_trial_end(trial, failed=status not in WHOLE)

    def _add(self, cell_id: str, report: Mapping[str, Any]) -> None:
        if cell_id not in self.running:
            self._begin(cell_id)
            for row in self._curve(cell_id):
                if row["step"] < report["step"]:
                    self._tell(cell_id, row)
        self._tell(cell_id, report)

    def _end(self, cell_id: str, result: Mapping[str, Any]) -> None:
        status = str(result.get("status"))
        if cell_id not in self.running:
            if status not in (*WHOLE, "failed"):
                return  # the segment did not start
            self._begin(cell_id)
        trial = self.running.pop(cell_id)
        if status in WHOLE:
            for row in self._curve(cell_id):
                self._tell(cell_id, row, trial)
        if status == "ok":
            found = {f"result/{name}": result[name] for name in FOUND}
            finite = {name: value for name, value in found.items() if math.isfinite(value)}
            self._log(trial, self.logged.get(cell_id, 0), finite)
        self._over(trial, status)

    def _begin(self, cell_id: str) -> None:
        if self.tracker is None:
            self.tracker = self._made()
        self.running[cell_id] = self._named(cell_id)
        self._begun(self.running[cell_id])

    def _tell(
        self, cell_id: str, row: Mapping[str, Any], trial: CellAsTrial | None = None
    ) -> None:
        if row["step"] > self.logged.get(cell_id, 0):
            self._log(trial or self.running[cell_id], row["step"], scalars_of(row))
            self.logged[cell_id] = row["step"]

    def _log(self, trial: CellAsTrial, step: int, values: Mapping[str, float]) -> None:
        # Tune's name for the step of a trial, which the callbacks expect
        self.tracker.log_trial_result(step, trial, {"training_iteration": step, **values})

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._guarded(lambda: self._close(trials))

    def _close(self, trials: list[Any]) -> None:
        for cell_id in list(self.running):  # if the search was interrupted
            self._end(cell_id, {"status": "cut short"})
        if self.tracker is not None:
            self.tracker.on_experiment_end(trials)

    def _as_trial(self, cell_id: str, leg: int = 0) -> CellAsTrial:
        cell = self.cells[cell_id]
        return CellAsTrial(
            trial_id=cell_id,
            leg=leg,
            name=cell.described,
            config=parameters_of(cell),
            local_path=str(self.run.root.resolve()),
            experiment_dir_name=self.run.root.resolve().name,
        )


class MLflow(Tracker):
    """An MLflow run per cell, stored in files below the run's folder.

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
        from mlflow.tracking import MlflowClient
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = uri or self.run.mlflow.resolve().as_uri()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.run.root.resolve().name
        tracker: Any = MLflowLoggerCallback(tracking_uri=where, experiment_name=experiment)
        tracker.setup()
        if uri is None:  # setup has set it for child processes; later searches must not see it
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        self.client = MlflowClient(tracking_uri=where)
        for run in self._runs(tracker.mlflow_util.experiment_id):
            cell_id = run.data.params.get("cell_id")
            if cell_id in self.cells:
                tracker._trial_runs[self._as_trial(cell_id)] = run.info.run_id
                steps = self.client.get_metric_history(run.info.run_id, "training_iteration")
                self.logged[cell_id] = max((metric.step for metric in steps), default=0)
        return tracker

    def _runs(self, experiment_id: str) -> Iterable[Any]:
        """Yield the MLflow runs of earlier searches."""
        token = None
        while True:
            page = self.client.search_runs([experiment_id], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _named(self, cell_id: str) -> CellAsTrial:
        return self._as_trial(cell_id)

    def _begun(self, trial: CellAsTrial) -> None:
        known = trial in self.tracker._trial_runs
        super()._begun(trial)
        if known:
            self.client.update_run(self.tracker._trial_runs[trial], status="RUNNING")

    def _over(self, trial: CellAsTrial, status: str) -> None:
        words = {"ok": "FINISHED", "failed": "FAILED"}
        self.client.set_terminated(self.tracker._trial_runs[trial], words.get(status, "KILLED"))


class WandB(Tracker):
    """A W&B run per cell, stored offline below the run's folder.

    Set `WANDB_MODE` or `WANDB_API_KEY` in the environment to log online.
    """

    where = "W&B"

    def _made(self) -> Any:
        if "WANDB_API_KEY" not in os.environ:
            os.environ.setdefault("WANDB_MODE", "offline")
        from ray.air.integrations.wandb import WandbLoggerCallback

        options: dict[str, Any] = {}
        if "WANDB_MODE" in os.environ:  # Ray's processes may not inherit it
            options["mode"] = os.environ["WANDB_MODE"]
        tracker: Any = WandbLoggerCallback(
            project=os.environ.get("WANDB_PROJECT") or "fgaug",
            resume="allow",
            upload_timeout=UPLOAD_S,
            **options,
        )
        tracker.setup()
        self.legs = 0
        return tracker

    def _named(self, cell_id: str) -> CellAsTrial:
        self.legs += 1  # Ray ends the W&B process with each segment
        return self._as_trial(cell_id, self.legs)


def parameters_of(cell: Cell) -> dict[str, Any]:
    """Return the parameters of a cell: its columns in result rows, its recipe and budget."""
    named = {name: value for name, value in identity_columns(cell).items() if value is not None}
    return {
        **named,
        **{f"recipe.{name}": value for name, value in cell.recipe.model_dump().items()},
        **{f"budget.{name}": value for name, value in cell.budget.model_dump().items()},
    }
