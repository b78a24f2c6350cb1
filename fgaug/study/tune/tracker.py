"""The base class of experiment trackers, which receive copies of the results.

The run's own files remain the record.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.study.tune.counts import images_per_s
from fgaug.study.tune.tracked import TrackedSearch

SCALARS = ("train_loss", "valid_loss", "valid_acc", "valid_auc")  # and images_per_s
WHOLE = ("ok", "paused")  # statuses of a segment whose complete curve is on disk
_log = logging.getLogger("fgaug")


class TrackerCallback(tune.Callback, ABC):
    """A Tune callback that passes on every evaluation of a cell and the end of every segment.

    The last evaluation of a segment is passed on with its end, when it is in the cell's curve.
    """

    where: object  # destination of the copy, for messages

    def __init__(self, run: RunPaths) -> None:
        self.run = run
        self.broken = False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that is never used

    @abstractmethod
    def _add(self, cell_id: str, report: Mapping[str, Any]) -> None:
        """Pass on an evaluation of a running cell."""

    @abstractmethod
    def _end(self, cell_id: str, result: Mapping[str, Any]) -> None:
        """Pass on the end of a segment with the status `result["status"]`."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if not result["done"]:
            cell_id = str(trial.config["cell_id"])
            self._guarded(lambda: self._add(cell_id, result))

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        result = trial.last_result or {}
        self._guarded(lambda: self._end(str(trial.config["cell_id"]), result))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._guarded(lambda: self._end(str(trial.config["cell_id"]), {"status": "failed"}))

    def summarise(self, search: TrackedSearch) -> None:
        """Write the arms of a search as they stand, and its report."""
        self._guarded(lambda: self._summarise(search))

    def _summarise(self, search: TrackedSearch) -> None:
        """Do nothing: a tracker without arms has only curves."""

    def _guarded(self, write: Callable[[], None]) -> None:
        """Write, and give up for good on an error: a tracker must not end a search."""
        if self.broken:
            return
        try:
            write()
        except Exception as error:  # trackers raise errors of their own
            self.broken = True
            _log.warning(f"{self.where} cannot be written ({error}); the search continues without")

    def _curve(self, cell_id: str) -> list[dict[str, Any]]:
        path = self.run.trial(cell_id).curve
        if not path.is_file():
            return []
        rows: list[dict[str, Any]] = files.read_table(path, RunError).to_pylist()
        return rows


def scalars_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite metrics of an evaluation by name."""
    found = {name: row[name] for name in SCALARS} | {"images_per_s": images_per_s(row)}
    return {
        name: value for name, value in found.items() if value is not None and math.isfinite(value)
    }
