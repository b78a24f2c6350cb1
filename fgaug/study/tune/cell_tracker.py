"""The base class of MLflow and W&B, which log one run per cell through Ray's own callbacks.

Ray's callbacks log one run per Tune trial, with the trial's config as parameters. Here a trial is
only a segment of a cell's training, so the callbacks receive the cell in place of the trial.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.study.tune.tracked import TrackedArm, arms_of, parameters_of
from fgaug.study.tune.tracker import WHOLE, TrackerCallback, scalars_of

FOUND = ("valid_loss", "valid_acc", "valid_auc", "wall_s")  # of the row, logged as `result/...`


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
        self.arms = arms_of(self.cells.values())
        self.search = run.name
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
            experiment_dir_name=self._group(self.arms[cell.arm_id]),
        )

    def _group(self, arm: TrackedArm) -> str:
        """Return the name that an arm and its cells share, unique to the search."""
        return f"{self.search}: {arm.name}"
