"""The Tune trainable, a process that trains one cell after the other.

A trial writes its files before it reports; Tune's own state is never read back. An interrupted
segment resumes from the cell's own checkpoint.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from ray import tune

from fgaug.core import files, mirror
from fgaug.core.paths import TrialPaths
from fgaug.core.version import __version__
from fgaug.errors import DiskFullError, FgaugError, StoreError
from fgaug.runs.results import write_paused, write_row, write_trial
from fgaug.runs.row import failed_row
from fgaug.runs.trial import Trial
from fgaug.study.tune.policy import reached
from fgaug.study.tune.settings import FILES, SearchSettings
from fgaug.study.tune.trial_metrics import TrialMetrics
from fgaug.training import saved_model
from fgaug.training.gpu_share import out_of_memory
from fgaug.training.keras.process import shut_down
from fgaug.training.learner import Evaluation

LOOK_S = 5.0  # between requests to the store whether the search was interrupted
CHECKPOINT_S = 60.0  # seconds of training to lose at most if the process dies


class CellTrainable(tune.Trainable):
    """Trains one segment; reused for the next, to import modules and map pixels only once."""

    title, reused, alone = "trial", False, False  # until `setup` is through

    def setup(self, config: dict[str, Any], settings: SearchSettings | None = None) -> None:
        """Store the settings that all trials of the search share."""
        # Modules imported so far live as long as the process: exclude them from collection.
        gc.collect()
        gc.freeze()
        assert settings is not None
        self.settings = settings
        settings.access.use()
        self.stopping, self.looked_at = False, time.monotonic()
        self.metrics = TrialMetrics()
        self.leaving = False  # this node is about to go
        self._listen()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.reused = True
        self._begin(new_config)
        return True

    def __repr__(self) -> str:
        """Return the cell that trains now.

        Ray records the text after `setup`, for good, and asks again for the message of an error.
        So a process that may train more than its first cell says so in the former. It must not
        raise, not even after a failed `setup`: Ray would report a crashed process, not the error.
        """
        more = "" if self.reused or self.alone else " and later cells"
        return f"{self.title}{more}"

    @property
    def paths(self) -> TrialPaths:
        """The files of the cell that trains now."""
        assert self.own is not None, "asked for before the trial was opened"
        return self.own

    def _begin(self, config: dict[str, Any]) -> None:
        # As many threads as the trial has cores, so that parallel trials do not compete.
        torch.set_num_threads(max(1, int(self.settings.cpu)))
        self.device = "cuda" if self.settings.gpu and torch.cuda.is_available() else "cpu"
        self.cell = self.settings.cell(config["cell_id"])
        self.title = self.cell.described
        self.until: float = config["until"]
        self.alone = bool(config.get("alone"))  # in a process of its own
        self.own: TrialPaths | None = None  # once `_opened` has found a place for them
        self.trial: Trial | None = None
        self.evaluated = False  # whether this segment has
        self.points: Iterator[Evaluation] = iter(())
        self.rungs = 0  # how many of `levels` the files on disk have reached
        self.saved_at = time.monotonic()
        _forget_previous_trial(self.device, self.cell.recipe.backend)

    def _listen(self) -> None:
        """Save at the next evaluation after SIGTERM, as nodes get before they are taken away."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)

        def leave(number: int, frame: FrameType | None) -> None:
            self.leaving = True
            if self.trial is None and callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, leave)

    def step(self) -> dict[str, Any]:
        """Train to the next evaluation or the end; a failure becomes a row, not a failed trial."""
        if self.settings.version != __version__:
            return {"done": True, "status": "refused", "error": self._other_version()}
        if self.trial is None and self._told_to_stop():
            return {"done": True, "status": "unstarted"}
        try:
            trial = self._opened()
            if not self._far_enough(trial):
                point = next(self.points, None)
                if point is None:
                    return self._written(trial)
                self.evaluated = True
                if not self._far_enough(trial):
                    return self._evaluated(trial, point)
            return self._paused(trial)
        except torch.OutOfMemoryError:  # where no batch can be split: building, evaluating
            return self._failed(out_of_memory(self.settings.gpu))
        except Exception as error:
            return self._failed(error)
        finally:
            self.metrics.export()

    def _other_version(self) -> str:
        """Return the message on a node that joined after all nodes had been checked."""
        return (
            f"Every node of the cluster needs fgaug {self.settings.version}, but "
            f"{platform.node()} has {__version__}. Install the same version there, or remove the "
            "node, and run the same command again: finished work is valid."
        )

    def _opened(self) -> Trial:
        if self.trial is None:
            self.own = self.settings.paths.trial(self.cell.cell_id)
            mirror.refresh(self.paths.root)  # another node may have begun the cell
            files.remove(self.paths.result)  # an outdated failed or pruned row
            files.remove(self.paths.traceback)
            sources = self.settings.sources[self.cell.source]
            self.trial = Trial(self.cell, sources, self.device, self.settings.gpu)
            if not self.trial.restore(self.paths.checkpoint):
                files.remove(self.paths.checkpoint)  # the cell restarts
            self.points = iter(self.trial)
            waits = self.paths.paused.is_file()
            self.rungs = reached(self.settings.levels, self.trial.share) if waits else 0
        return self.trial

    def _evaluated(self, trial: Trial, point: Evaluation) -> dict[str, Any]:
        """Report an evaluation; at a rung, where Tune may stop the cell, write its files first."""
        report = _report(point, trial)
        if self.leaving:
            trial.save(self.paths.checkpoint)
            raise SystemExit("its node was told to stop")  # Tune repeats the trial elsewhere
        if trial.ended or reached(self.settings.levels, trial.share) <= self.rungs:
            self._save_now_and_then(trial)
            return report
        self._keep(trial)
        self.trial = None  # it now holds its best weights; the next step reopens it
        return self._with_files({**report, "status": "paused"})

    def _far_enough(self, trial: Trial) -> bool:
        if trial.ended:
            return False  # only its row is left to write
        deadline = self.settings.deadline
        # A segment ends late only after an evaluation of its own: where starting takes longer than
        # the time budget, every search would otherwise pause what it resumed and get nowhere.
        late = self.evaluated and deadline is not None and time.time() >= deadline
        stopped = bool(trial.curve) and self._told_to_stop()
        return late or stopped or trial.share >= self.until

    def _told_to_stop(self) -> bool:
        if self.settings.run_uri is None:
            return self.settings.stop_file.exists()
        now = time.monotonic()
        if not self.stopping and now - self.looked_at >= LOOK_S:
            self.looked_at = now
            with contextlib.suppress(StoreError, DiskFullError):
                self.stopping = mirror.has(self.settings.stop_file)
        return self.stopping

    def _save_now_and_then(self, trial: Trial) -> None:
        if time.monotonic() - self.saved_at >= CHECKPOINT_S:
            trial.save(self.paths.checkpoint)
            self.saved_at = time.monotonic()

    def _keep(self, trial: Trial) -> None:
        trial.save(self.paths.checkpoint)
        write_paused(self.paths, trial.result(), trial.share)

    def _paused(self, trial: Trial) -> dict[str, Any]:
        self._keep(trial)
        return self._with_files({"done": True, "status": "paused", "share": trial.share})

    def _written(self, trial: Trial) -> dict[str, Any]:
        keep, scores = self.settings.keep_models, self.cell.cell_id in self.settings.keep
        result = trial.result(keep_model=scores or keep != "none")
        write_trial(self.paths, result)
        if keep == "best":
            self._prune_models()
        shown = ("valid_acc", "valid_auc", "valid_loss", "wall_s")
        report = {"done": True, "status": "ok", **{name: result.row[name] for name in shown}}
        return self._with_files(report)

    def _with_files(self, report: dict[str, Any]) -> dict[str, Any]:
        """Return a report with the files of the trial, if the driver cannot see this folder."""
        if self.settings.run_uri is None:
            return report
        return {**report, FILES: [*mirror.contents(self.paths.root).items()]}

    def _prune_models(self) -> None:
        """Keep only the best model of the arm; the driver removes leftovers at the end."""
        run, arm = self.settings.paths, self.settings.arm_of(self.cell)
        with contextlib.suppress(OSError):  # the trial itself is complete
            saved_model.keep_best(run.trial(cell_id) for cell_id in arm)

    def _failed(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, StoreError):
            raise error  # this node lost the store: Tune repeats the trial, perhaps on another
        known = isinstance(error, FgaugError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if isinstance(error, DiskFullError):
            return {"done": True, "status": "unwritten", "error": text}
        if isinstance(error, OSError) and error.errno in DiskFullError.ERRNOS:  # a library's file
            text = f"No space left on {platform.node()} ({error}). Finished work is valid."
            return {"done": True, "status": "unwritten", "error": text}
        if self.own is None:
            raise error  # no place for files on this node: Tune repeats, and the driver writes
        where: dict[str, str] = {}
        if not known:
            text += "\n" + "".join(traceback.format_tb(error.__traceback__)[-3:])
            where = {"traceback": str(self.paths.traceback)}
        try:
            if where:
                whole = "".join(traceback.format_exception(error))
                files.write_text(self.paths.traceback, whole)
            sources = self.settings.sources[self.cell.source]
            write_row(self.paths, failed_row(self.cell, sources, text))
        except DiskFullError as full:
            return {"done": True, "status": "unwritten", "error": str(full)}
        return self._with_files({"done": True, "status": "failed", "error": text, **where})


def _report(point: Evaluation, trial: Trial) -> dict[str, Any]:
    best = trial.best
    assert best is not None
    return {
        "share": trial.share,
        **{f"best_{name}": best.valid[name] for name in ("loss", "acc", "auc")},
        "step": point.step,
        "train_loss": point.train_loss,
        "epoch": point.epoch if point.epoch is not None else -1,
        "valid_loss": point.valid["loss"],
        "valid_acc": point.valid["acc"],
        "valid_auc": point.valid["auc"],
        "images_seen": point.images_seen,
        "train_s": point.train_s,
        "gpu_bytes": trial.learner.peaks().gpu_bytes if trial.device == "cuda" else None,
        "done": False,
    }


def _forget_previous_trial(device: str, backend: str) -> None:
    """Free the memory of the previous trial in this process."""
    if device != "cpu" and backend != "keras":
        shut_down()  # a TensorFlow process keeps its part of the GPU until it ends
    gc.collect()
    if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES"):
        torch.cuda.empty_cache()
