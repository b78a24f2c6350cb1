"""Ray's own ASHA scheduler, applied to fractions of the budget instead of epochs.

It compares a trial with the trials that reached the same rung before it (Li et al. 2020,
arXiv:1810.05934), so the outcome depends on the order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from fgaug.grid.cells import Cell
from fgaug.grid.space import Scheduler
from fgaug.study.tune.history import SIGNS
from fgaug.study.tune.policy import CellProgress, levels_of, reached, stoppable, value_at

_TIME = "level"  # 1, eta, eta ** 2, ...: the full budget is the last of `rungs`
_NO_CONTROLLER: Any = None  # Ray's ASHA does not use it


def asked_at(scheduler: Scheduler) -> tuple[float, ...]:
    """Return the budget fractions at which ASHA may stop a cell; empty for other schedulers."""
    if scheduler.type != "asha":
        return ()
    return levels_of(scheduler.eta, scheduler.rungs)[:-1]


class ShareASHA(ASHAScheduler):
    """ASHA with rungs at `eta ** -(rungs - 1), ..., 1 / eta` of the budget.

    A cell is compared once at each rung it reaches, by its best evaluation so far. Baselines and
    controls are neither stopped nor compared with. A value that is not finite stops the cell and
    is not recorded (Ray would let it continue, as comparisons with NaN are false). A cell that
    ends early by patience is recorded at the remaining rungs and stopped at none.

    Args:
        cells: of the search, in the order of the grid.
        seen: progress on disk by cell. It fills the rungs first, so that a resumed search compares
            with earlier results; rungs a cell had reached are not decided again.
        cut: output: the rung, from 0, at which each stopped cell was stopped, by cell_id.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        cells: Iterable[Cell],
        seen: Mapping[str, CellProgress],
        cut: MutableMapping[str, int],
    ) -> None:
        self.value_name = f"best_{scheduler.metric}"
        super().__init__(
            time_attr=_TIME,
            metric=self.value_name,
            mode="min" if scheduler.metric == "loss" else "max",
            grace_period=1,
            reduction_factor=scheduler.eta,
            # Ray counts rungs by logarithms; half a rung more makes up for rounding
            max_t=scheduler.eta ** (scheduler.rungs - 0.5),
            stop_last_trials=False,  # they end by themselves; also makes Ray decide each rung once
        )
        self.eta, self.cut = scheduler.eta, cut
        self.levels = asked_at(scheduler)
        self.judged = {cell.cell_id: 0 for cell in cells if stoppable(cell)}
        for cell_id in self.judged:
            super().on_trial_add(_NO_CONTROLLER, _named(cell_id))
            self._fill(cell_id, seen.get(cell_id), SIGNS[scheduler.metric])

    def _fill(self, cell_id: str, seen: CellProgress | None, sign: float) -> None:
        for rung, level in enumerate(self.levels):
            value = value_at(seen, level) if seen is not None else None
            if value is None:
                return
            self._passes(cell_id, rung, sign * value)

    def _passes(self, cell_id: str, rung: int, value: float) -> bool:
        """Record a value at a rung and return whether the cell may continue."""
        self.judged[cell_id] = rung + 1
        if not math.isfinite(value):
            return False
        result = {_TIME: self.eta**rung, self.value_name: value}
        action = super().on_trial_result(_NO_CONTROLLER, _named(cell_id), result)
        return bool(action == self.CONTINUE)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return ASHA's decision on an evaluation; CONTINUE between rungs."""
        cell_id, share = str(trial.config["cell_id"]), float(result["share"])
        if cell_id not in self.judged:
            return str(self.CONTINUE)
        for rung in range(self.judged[cell_id], reached(self.levels, share)):
            if not self._passes(cell_id, rung, float(result[self.value_name])) and share < 1:
                self.cut[cell_id] = rung
                return str(self.STOP)
        return str(self.CONTINUE)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Do nothing: all cells were added at the start."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Do nothing: the last evaluation was handled in `on_trial_result`."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Do nothing, as above."""


def _named(cell_id: str) -> Any:
    """Return a stand-in trial whose id is the cell's, since every search has new trial ids."""
    return SimpleNamespace(trial_id=cell_id)
