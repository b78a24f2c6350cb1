"""The trainable: one process trains cell after cell.  cells -> [worker] -> files of each trial

A trial writes its files first and reports last; Tune's own state is never read back.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray import tune

from fgaug.cells import Cell, from_dict
from fgaug.errors import DiskFullError, FgaugError
from fgaug.paths import RunPaths
from fgaug.results import TrialResult, write_row, write_trial
from fgaug.rows import Sources, failed_row
from fgaug.training.fit import Point
from fgaug.trial import Trial


class CellTrainable(tune.Trainable):
    """Trains one cell; reused for the next, so that imports and mapped pixels are paid once."""

    def setup(self, config: dict[str, Any]) -> None:
        # What is imported by now lives as long as the process: left out of every later collection.
        gc.collect()
        gc.freeze()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        import torch

        # Keep as many threads as the trial has cores, so that trials side by side do not fight.
        torch.set_num_threads(max(1, int(config["cpu"])))
        self.device = "cuda" if config["gpu"] and torch.cuda.is_available() else "cpu"
        self.cell: Cell = from_dict(config["cell"])
        self.sources = Sources(**config["sources"])
        self.paths = RunPaths(Path(config["run"])).trial(self.cell.cell_id)
        self.trial: Trial | None = None
        self.points: Iterator[Point] = iter(())
        _forget_previous_trial(torch)

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation, or finish; a failure becomes a row, never a dead trial."""
        try:
            if self.trial is None:
                self.trial = Trial(self.cell, self.sources, self.device)
                self.points = iter(self.trial)
            point = next(self.points, None)
            if point is None:
                return self._written(self.trial.result())
        except Exception as error:
            return self._failed(error)
        return {
            "step": point.step,
            "epoch": point.epoch if point.epoch is not None else -1,
            "valid_loss": point.valid["loss"],
            "valid_acc": point.valid["acc"],
            "valid_auc": point.valid["auc"],
            "images_seen": point.images_seen,
            "train_s": point.train_s,
            "done": False,
        }

    def _written(self, result: TrialResult) -> dict[str, Any]:
        try:
            write_trial(self.paths, result)
        except DiskFullError as error:
            return {"done": True, "status": "unwritten", "error": str(error)}
        row = result.row
        return {
            "done": True,
            "status": "ok",
            "valid_acc": row["valid_acc"],
            "valid_auc": row["valid_auc"],
            "valid_loss": row["valid_loss"],
            "wall_s": row["wall_s"],
        }

    def _failed(self, error: Exception) -> dict[str, Any]:
        known = isinstance(error, FgaugError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if isinstance(error, DiskFullError):
            return {"done": True, "status": "unwritten", "error": text}
        if not known:
            text += "\n" + "".join(traceback.format_tb(error.__traceback__)[-3:])
        try:
            write_row(self.paths, failed_row(self.cell, self.sources, text))
        except DiskFullError as full:
            return {"done": True, "status": "unwritten", "error": str(full)}
        return {"done": True, "status": "failed", "error": text}


def _forget_previous_trial(torch: Any) -> None:
    """Free what the last trial of this process held on to."""
    gc.collect()
    if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES"):
        torch.cuda.empty_cache()
