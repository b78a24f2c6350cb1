"""Trains one cell and returns its rows, curve, predictions and classifier.

Independent of Ray: the Tune worker, tests and replays call the same code.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fgaug.data.folds import HELD_OUT
from fgaug.grid.cells import Cell, recipe_identity
from fgaug.runs import checkpoint, mix, row
from fgaug.runs.checkpoint import Checkpoint
from fgaug.runs.reals import Reals
from fgaug.runs.results import TrialResult
from fgaug.runs.round import Round, RoundResult, Spent, open_round, predictions
from fgaug.runs.row import TrialSources
from fgaug.runs.trial_inputs import dataset_at
from fgaug.training import saved_model
from fgaug.training.backends import open_learner
from fgaug.training.budget import frozen_epochs
from fgaug.training.images import split_images
from fgaug.training.learner import Evaluation, Learner, Training, TrainingResult
from fgaug.training.metrics import evaluate_or_fail
from fgaug.training.saved_model import SavedModel

_log = logging.getLogger("fgaug")


def run_trial(cell: Cell, sources: TrialSources, device: str = "cpu") -> TrialResult:
    """Train one cell fully and return its result; see `Trial` for errors."""
    trial = Trial(cell, sources, device)
    for _ in trial:
        pass
    return trial.result()


class Trial:
    """The training of one cell: iterate over its evaluations, then call `result`.

    It can be saved between evaluations; a resumed training gives the same numbers as one that
    never stopped. Rounds are trained one after the other, each from the weights of the round
    before; only the images of the current round are read.

    Raises:
        UserError: the dataset, the bank or the weights cannot be read.
    """

    def __init__(
        self, cell: Cell, sources: TrialSources, device: str, gpu_share: float = 1.0
    ) -> None:
        self.cell, self.sources, self.device = replace(cell, round=1), sources, device
        self.gpu_share = gpu_share
        self.started, self.clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
        self.dataset = dataset_at(sources.dataset, sources.dataset_digest).with_split(cell.split)
        self.reals = Reals(self.dataset.manifest, self.dataset.spec.labels)
        self.learner = self._new_learner()
        self.curve: list[dict[str, Any]] = []
        self.earlier_s = 0.0  # wall seconds of the same cell before it was interrupted
        self.best: Evaluation | None = None  # of the current round, or of the one before
        # results of earlier rounds: those with a row, and the last
        self._earlier: tuple[RoundResult, ...] = ()
        self._spent = Spent()  # by earlier rounds
        self._round: Round | None = None  # the current one; None until it is opened

    def _new_learner(self) -> Learner:
        labels = self.dataset.spec.labels
        return open_learner(self.cell.recipe, labels, self.cell.seed, self.device, self.gpu_share)

    @property
    def plan(self) -> mix.MixPlan:
        """The training set of the current round."""
        return self._current().plan

    @property
    def training(self) -> Training:
        """The training of the current round."""
        return self._current().training

    @property
    def between_rounds(self) -> bool:
        """Whether the current round has not been opened; its images are not read yet."""
        return self._round is None

    def _current(self) -> Round:
        if self._round is None:
            self._round = self._open(self.cell, self._spent)
        return self._round

    def _open(self, cell: Cell, spent: Spent) -> Round:
        return open_round(cell, self.sources, self.dataset, self.reals, self.learner, spent)

    def __iter__(self) -> Iterator[Evaluation]:
        """Train and yield every evaluation, with steps counted from the start of the first round.

        Raises:
            TrialError: the loss is NaN.
        """
        while not self.ended:
            current = self._current()
            for point in current:
                self.best = current.training.best
                self.curve.append(self._curve_row(point))
                if current.ended and self.cell.round < self.cell.last_round:
                    self._close_round()
                yield point
                if self._round is not current:
                    break

    def _close_round(self) -> None:
        """Keep the result of the current round; the next one opens when it is needed."""
        self._earlier = (*self._reported, self._outcome())
        last = self.curve[-1]
        frozen = frozen_epochs(self.cell.recipe)  # each round counts them from 0
        self._spent = Spent(
            epochs=0 if last["epoch"] is None else last["epoch"] + frozen,
            steps=last["step"],
            images=last["images_seen"],
            train_s=last["train_s"],
        )
        self.cell, self._round = replace(self.cell, round=self.cell.round + 1), None

    @property
    def _reported(self) -> tuple[RoundResult, ...]:
        """The results of earlier rounds that get a row."""
        report_at = self.cell.rounds.report_at if self.cell.rounds is not None else ()
        return tuple(each for each in self._earlier if each.row["round"] in report_at)

    @property
    def share(self) -> float:
        """The fraction of the budget used so far, over all rounds."""
        of_round = 0.0 if self._round is None else self._round.training.share
        return (self.cell.round - 1 + of_round) / self.cell.last_round

    @property
    def ended(self) -> bool:
        """Whether training is over."""
        last = self.cell.round == self.cell.last_round
        return last and self._round is not None and self._round.ended

    def result(self, keep_model: bool = False) -> TrialResult:
        """Return rows, curve and predictions with the best weights so far."""
        begun = self._round is not None and self._round.evaluated
        latest = self._outcome() if begun or not self._earlier else self._earlier[-1]
        earlier = [each for each in self._reported if each is not latest]
        outcomes = [*earlier, latest]
        valid = predictions(self.dataset, self.dataset.evaluated, outcomes)
        assert valid is not None
        return TrialResult(
            row=latest.row,
            earlier=tuple(each.row for each in earlier),
            curve=pd.DataFrame(self.curve),
            predictions=valid,
            sealed=predictions(self.dataset, "test", outcomes),
            model=self._saved(latest.row) if keep_model else None,
        )

    def _outcome(self) -> RoundResult:
        """Return the result of the current round, after restoring its best weights."""
        current = self._current()
        fitted, spent = self._scored(current.training.finish()), current.spent
        fitted = replace(fitted, best=spent.before(fitted.best), last=spent.before(fitted.last))
        sealed = None
        if fitted.stopped_by != "scheduler" and (self.dataset.manifest["split"] == "test").any():
            sealed = self.learner.predict(split_images(self.dataset, "test"))
        return RoundResult(row=self._row(fitted), valid=fitted.valid_probability, sealed=sealed)

    def _scored(self, fitted: TrainingResult) -> TrainingResult:
        """Return a result with the scores of the held-out fold, if there is one.

        Without folds, the validation images score the trial. With folds, they only select the
        checkpoint.
        """
        if self.dataset.evaluated != HELD_OUT:
            return fitted
        images = split_images(self.dataset, HELD_OUT)
        found = self.learner.predict(images)
        labels = self.dataset.spec.labels
        scores = evaluate_or_fail(images.label, found, labels, fitted.best.step)
        return replace(fitted, valid=scores, valid_probability=found)

    def _row(self, fitted: TrainingResult) -> dict[str, Any]:
        cell, plan = self.cell, self.plan
        return {
            **row.identity_columns(cell),
            **row.outcome(cell, plan, fitted),
            **row.metrics(fitted.valid),
            **{
                f"n_fake_{label}": cell.round * row.added(plan, cell, label, self.reals)
                for label in self.reals.labels
            },
            **row.provenance(cell, self.sources, self.learner.identity),
            **row.costs(fitted, self.learner.peaks()),
            "wall_s": round(self.wall_s, 3),
            "gan_saw_removed": cell.uses_fakes and self.sources.exposure.to(plan.dropped),
            "device": self.learner.device_name,
            "started_at": self.started.isoformat(timespec="seconds"),
        }

    def _curve_row(self, point: Evaluation) -> dict[str, Any]:
        of_round = {} if self.cell.rounds is None else {"round": self.cell.round}
        return {
            **of_round,
            "epoch": point.epoch,
            "step": point.step,
            "frozen": point.frozen,
            "train_loss": point.train_loss,
            **{f"valid_{name}": point.valid[name] for name in ("loss", "acc", "auc")},
            "images_seen": point.images_seen,
            "train_s": round(point.train_s, 4),
        }

    def _saved(self, row: dict[str, Any]) -> SavedModel:
        recipe = self.cell.recipe
        named = recipe_identity(recipe, {recipe.model_dump_json(): self.learner.identity})
        state, spec = self.learner.weights(), self.dataset.spec
        return saved_model.taken(state, spec, named, row, self.cell.described, self.cell.split)

    @property
    def wall_s(self) -> float:
        return self.earlier_s + time.perf_counter() - self.clock

    @property
    def _device_type(self) -> str:
        return self.device.partition(":")[0]

    def save(self, path: Path) -> None:
        """Write a checkpoint of the training, atomically."""
        training = None
        if self._round is not None and self._round.evaluated:
            training = self._round.training.state()
        state = Checkpoint(
            cell_id=self.cell.cell_id,
            device=self._device_type,
            round=self.cell.round,
            training=training,
            weights=self.learner.weights() if training is None else {},
            streams=self.learner.state(),
            earlier=self._earlier,
            spent=self._spent,
            curve=self.curve,
            wall_s=self.wall_s,
        )
        checkpoint.write(path, state)

    def restore(self, path: Path) -> bool:
        """Resume from a checkpoint.

        Returns:
            False if it cannot be used: the trial then starts from the beginning.
        """
        saved = checkpoint.read(path)
        if saved is None or not self._fits(saved):
            return False
        cell = replace(self.cell, round=saved.round)
        current = self._open(cell, saved.spent)
        try:
            if saved.training is None:
                self.learner.load_weights(saved.weights)
            else:
                current.training.restore(saved.training)
            self.learner.restore(saved.streams)
        except torch.OutOfMemoryError:
            raise
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            _log.warning(
                f"{path} does not fit the cell ({type(error).__name__}: {error}); restarting it"
            )
            self.learner.close()
            self.learner = self._new_learner()  # the old one may hold half of the checkpoint
            return False
        self.cell, self._round, self._spent = cell, current, saved.spent
        self._earlier, self.curve, self.earlier_s = saved.earlier, saved.curve, saved.wall_s
        if saved.training is not None:
            self.best = current.training.best
        return True

    def _fits(self, saved: Checkpoint) -> bool:
        """Whether a checkpoint is of this cell, on this kind of device."""
        mine = (self.cell.cell_id, self._device_type)
        return mine == (saved.cell_id, saved.device) and 1 <= saved.round <= self.cell.last_round
