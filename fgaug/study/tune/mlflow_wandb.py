"""MLflow and W&B through Ray's own callbacks, a run a cell.

Ray's callbacks take a trial of Tune for a run and its config for the parameters. A trial here is a
leg, whose config names a cell and how far, so they are given the cell in the trial's place.
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

FOUND = ("valid_loss", "valid_acc", "valid_auc", "wall_s")  # of the row, as `result/...`
UPLOAD_S = 120  # what an upload may hold up the end of a search


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAsTrial:
    """A cell as Ray's callbacks see it: what they read of a trial."""

    trial_id: str
    leg: int  # of this search, where a run ends with each
    name: str = field(compare=False)
    config: dict[str, Any] = field(compare=False)
    local_path: str = field(compare=False)
    experiment_dir_name: str = field(compare=False)

    def __str__(self) -> str:
        return self.name


class Tracker(TrackerCallback):
    """Tells one of Ray's callbacks each step of a cell once, in as many legs as it may train.

    A step that was told is not told again, whatever checkpoint a killed search left: training goes
    on with the same numbers.
    """

    def __init__(self, run: RunPaths, cells: Iterable[Cell]) -> None:
        super().__init__(run)
        self.cells = {cell.cell_id: cell for cell in cells}
        self.tracker: Any = None  # Ray's callback; it is made when there is something to tell
        self.running: dict[str, CellAsTrial] = {}
        self.told: dict[str, int] = {}  # the last step by cell

    @abstractmethod
    def _made(self) -> Any:
        """Return Ray's callback, set up."""

    @abstractmethod
    def _named(self, cell_id: str) -> CellAsTrial:
        """Return the cell as the trial of a leg that begins."""

    def _begun(self, trial: CellAsTrial) -> None:
        """Say that a cell trains, again or for the first time; overridden where that is known."""
        self.tracker.log_trial_start(trial)

    def _over(self, trial: CellAsTrial, status: str) -> None:
        """Say that a leg ended; overridden where more is known than failed or not."""
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
                return  # the leg did not begin
            self._begin(cell_id)
        trial = self.running.pop(cell_id)
        if status in WHOLE:
            for row in self._curve(cell_id):
                self._tell(cell_id, row, trial)
        if status == "ok":
            found = {f"result/{name}": result[name] for name in FOUND}
            finite = {name: value for name, value in found.items() if math.isfinite(value)}
            self._log(trial, self.told.get(cell_id, 0), finite)
        self._over(trial, status)

    def _begin(self, cell_id: str) -> None:
        if self.tracker is None:
            self.tracker = self._made()
        self.running[cell_id] = self._named(cell_id)
        self._begun(self.running[cell_id])

    def _tell(
        self, cell_id: str, row: Mapping[str, Any], trial: CellAsTrial | None = None
    ) -> None:
        if row["step"] > self.told.get(cell_id, 0):
            self._log(trial or self.running[cell_id], row["step"], scalars_of(row))
            self.told[cell_id] = row["step"]

    def _log(self, trial: CellAsTrial, step: int, values: Mapping[str, float]) -> None:
        # the step of a trial has this name in Tune, and so has it in these programs
        self.tracker.log_trial_result(step, trial, {"training_iteration": step, **values})

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._guarded(lambda: self._close(trials))

    def _close(self, trials: list[Any]) -> None:
        for cell_id in list(self.running):  # of a search that was cut short
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
    """A run of MLflow for each cell, in a store of files below the run's folder.

    A server is used where the user has named one (`MLFLOW_TRACKING_URI`). A cell that waits at a
    rung, or was stopped there, is KILLED; it is RUNNING again, in the same run, when it goes on.
    An evaluation takes the driver 17 ms (two cores, shared), of a server several requests.
    """

    where = "MLflow's store"

    def _made(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        asked = os.environ.get("MLFLOW_TRACKING_URI")
        if asked is None:  # else it refuses: it would rather have a database
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = asked or self.run.mlflow.resolve().as_uri()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.run.root.resolve().name
        tracker: Any = MLflowLoggerCallback(tracking_uri=where, experiment_name=experiment)
        tracker.setup()
        if asked is None:  # it was set for child processes; a later search is another's
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        self.client = MlflowClient(tracking_uri=where)
        for run in self._runs(tracker.mlflow_util.experiment_id):
            cell_id = run.data.params.get("cell_id")
            if cell_id in self.cells:
                tracker._trial_runs[self._as_trial(cell_id)] = run.info.run_id
                steps = self.client.get_metric_history(run.info.run_id, "training_iteration")
                self.told[cell_id] = max((metric.step for metric in steps), default=0)
        return tracker

    def _runs(self, experiment_id: str) -> Iterable[Any]:
        """Yield what earlier searches left."""
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
    """A run of W&B for each cell, offline below the run's folder unless the user asks for more.

    `WANDB_MODE` or `WANDB_API_KEY` in the environment ask for it.
    """

    where = "W&B"

    def _made(self) -> Any:
        if "WANDB_API_KEY" not in os.environ:
            os.environ.setdefault("WANDB_MODE", "offline")
        from ray.air.integrations.wandb import WandbLoggerCallback

        asked: dict[str, Any] = {}
        if "WANDB_MODE" in os.environ:  # processes of Ray need not have it from here
            asked["mode"] = os.environ["WANDB_MODE"]
        tracker: Any = WandbLoggerCallback(
            project=os.environ.get("WANDB_PROJECT") or "fgaug",
            resume="allow",
            upload_timeout=UPLOAD_S,
            **asked,
        )
        tracker.setup()
        self.legs = 0
        return tracker

    def _named(self, cell_id: str) -> CellAsTrial:
        self.legs += 1  # Ray ends a process with each leg: the next is another's
        return self._as_trial(cell_id, self.legs)


def parameters_of(cell: Cell) -> dict[str, Any]:
    """Return what names a cell, as a result row has it, with its recipe and budget."""
    named = {name: value for name, value in identity_columns(cell).items() if value is not None}
    return {
        **named,
        **{f"recipe.{name}": value for name, value in cell.recipe.model_dump().items()},
        **{f"budget.{name}": value for name, value in cell.budget.model_dump().items()},
    }
