"""What trials report, in the form of other programs: TensorBoard.  runner -> [loggers]

A copy for those who like to watch there; the run's own files are the record.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ray import tune

from fgaug import paths
from fgaug.cells import Cell
from fgaug.errors import RunError
from fgaug.paths import RunPaths
from fgaug.search.wording import images_per_s

SCALARS = ("train_loss", "valid_loss", "valid_acc", "valid_auc")  # and images_per_s
_LONGEST = 120  # characters of a cell in words: file names have at most 255 bytes

_log = logging.getLogger("fgaug")


def loggers_of(names: Sequence[str], run: RunPaths, cells: Iterable[Cell]) -> list[tune.Callback]:
    """Return a callback for each of the `loggers` of a grid."""
    return [_KINDS[name](run, cells) for name in names]


class TensorBoard(tune.Callback):
    """Writes each cell's evaluations by step into a folder of its own below the run's folder.

    While a cell trains its evaluations are added one by one. Where it goes on in a new leg, and
    once that leg ends, the folder is written anew from the cell's curve: so no step is there
    twice, and what a killed search did not get to write is there too.
    """

    def __init__(self, run: RunPaths, cells: Iterable[Cell]) -> None:
        self.run = run
        self.names = {cell.cell_id: folder_of(cell) for cell in cells}
        self.files: dict[str, Any] = {}  # open event files by cell: of those that train, no other
        self.broken = False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that never happens here

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if not result["done"]:
            cell_id = str(trial.config["cell_id"])
            self._guarded(lambda: self._add(cell_id, result))

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        cell_id = str(trial.config["cell_id"])
        whole = (trial.last_result or {}).get("status") in ("ok", "paused")
        self._guarded(lambda: self._end(cell_id, whole))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._guarded(lambda: self._end(str(trial.config["cell_id"]), False))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        for cell_id in list(self.files):  # of a search that was cut short
            self._end(cell_id, False)

    def _guarded(self, write: Callable[[], None]) -> None:
        """Write, or give up for good: a copy of the results must not end a search."""
        if self.broken:
            return
        try:
            write()
        except (OSError, RunError) as error:
            self.broken = True
            _log.warning(f"{self.run.tensorboard} cannot be written ({error}); the search goes on")

    def _add(self, cell_id: str, report: Mapping[str, Any]) -> None:
        if cell_id not in self.files:
            self._begin(cell_id)
            earlier = (row for row in self._curve(cell_id) if row["step"] < report["step"])
            self._write(cell_id, earlier)
        self._write(cell_id, [report])

    def _end(self, cell_id: str, whole: bool) -> None:
        if whole:
            self._begin(cell_id)
            self._write(cell_id, self._curve(cell_id))
        if cell_id in self.files:
            self.files.pop(cell_id).close()

    def _begin(self, cell_id: str) -> None:
        """Open an event file in an empty folder."""
        from tensorboardX.event_file_writer import EventsWriter

        if cell_id in self.files:
            self.files.pop(cell_id).close()
        folder = self.run.tensorboard / self.names[cell_id]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # not its SummaryWriter: that has a thread and a pipe for each cell, and loses errors
        self.files[cell_id] = EventsWriter(str(folder / "events"))

    def _curve(self, cell_id: str) -> list[dict[str, Any]]:
        path = self.run.trial(cell_id).curve
        if not path.is_file():
            return []
        rows: list[dict[str, Any]] = paths.read_table(path, RunError).to_pylist()
        return rows

    def _write(self, cell_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for row in rows:
            found = {name: row[name] for name in SCALARS} | {"images_per_s": images_per_s(row)}
            values = [
                Summary.Value(tag=name, simple_value=value)
                for name, value in found.items()
                if value is not None and math.isfinite(value)
            ]
            event = Event(step=row["step"], wall_time=time.time(), summary=Summary(value=values))
            self.files[cell_id].write_event(event)
        self.files[cell_id].flush()


_KINDS = {"tensorboard": TensorBoard}


def folder_of(cell: Cell) -> str:
    """Return a cell's name as a folder: in words, as far as files allow, and by its identity."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "_", cell.described)[:_LONGEST]
    return f"{words}-{cell.cell_id}"
