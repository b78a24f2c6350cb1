"""The callbacks of a grid's `loggers`, and TensorBoard's."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.study.tune.mlflow_runs import MLflow
from fgaug.study.tune.tracker import WHOLE, TrackerCallback, scalars_of
from fgaug.study.tune.wandb_runs import WandB

_LONGEST = 120  # characters of a cell's description in file names, which have at most 255 bytes


def loggers_of(
    names: Sequence[str], run: RunPaths, cells: Iterable[Cell]
) -> list[TrackerCallback]:
    """Return a callback for each of the `loggers` of a grid."""
    return [_KINDS[name](run, cells) for name in names]


class TensorBoard(TrackerCallback):
    """Writes each cell's evaluations to its own folder below the run's folder.

    Evaluations are appended while a cell trains. When it resumes in a new segment, and when that
    segment ends, the folder is rewritten from the cell's curve, so no step appears twice and none
    is lost if a search is killed.
    """

    def __init__(self, run: RunPaths, cells: Iterable[Cell]) -> None:
        super().__init__(run)
        self.where = run.tensorboard
        self.names = {cell.cell_id: folder_of(cell) for cell in cells}
        self.files: dict[str, Any] = {}  # open event files of running cells

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        for cell_id in list(self.files):  # left open if the search was interrupted
            self._close(cell_id)

    def _add(self, cell_id: str, report: Mapping[str, Any]) -> None:
        if cell_id not in self.files:
            self._begin(cell_id)
            earlier = (row for row in self._curve(cell_id) if row["step"] < report["step"])
            self._write(cell_id, earlier)
        self._write(cell_id, [report])

    def _end(self, cell_id: str, result: Mapping[str, Any]) -> None:
        if result.get("status") in WHOLE:
            self._begin(cell_id)
            self._write(cell_id, self._curve(cell_id))
        self._close(cell_id)

    def _begin(self, cell_id: str) -> None:
        """Open an event file in an empty folder."""
        from tensorboardX.event_file_writer import EventsWriter

        self._close(cell_id)
        folder = self.run.tensorboard / self.names[cell_id]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # SummaryWriter would use a thread and a pipe per cell, and lose errors
        self.files[cell_id] = EventsWriter(str(folder / "events"))

    def _close(self, cell_id: str) -> None:
        if cell_id in self.files:
            self.files.pop(cell_id).close()

    def _write(self, cell_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for row in rows:
            values = [
                Summary.Value(tag=name, simple_value=value)
                for name, value in scalars_of(row).items()
            ]
            event = Event(step=row["step"], wall_time=time.time(), summary=Summary(value=values))
            self.files[cell_id].write_event(event)
        self.files[cell_id].flush()


_KINDS: dict[str, type[TensorBoard | MLflow | WandB]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}


def folder_of(cell: Cell) -> str:
    """Return a folder name for a cell: its description, shortened, and its cell_id."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "_", cell.described)[:_LONGEST]
    return f"{words}-{cell.cell_id}"
