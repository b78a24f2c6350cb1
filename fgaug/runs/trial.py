"""Trains one cell and returns its rows, curve, predictions and classifier.

Independent of Ray: the Tune worker, tests and replays call the same code.
"""

from __future__ import annotations

import datetime
import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fgaug.core import files
from fgaug.core.seeding import Stream, stream_seed
from fgaug.data import Dataset
from fgaug.grid.cells import Cell, recipe_identity
from fgaug.runs import mix, reals, row
from fgaug.runs.fake_selection import FakeSelection
from fgaug.runs.results import TrialResult, as_plain
from fgaug.runs.row import TrialSources
from fgaug.runs.trial_inputs import bank_at, dataset_at, training_images
from fgaug.training import saved_model
from fgaug.training.backends import open_learner
from fgaug.training.budget import frozen_epochs
from fgaug.training.images import split_images
from fgaug.training.learner import Evaluation, Training, TrainingResult
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
        self.started, self.clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
        self.dataset = dataset_at(sources.dataset).with_split(cell.split)
        labels = self.dataset.spec.labels
        self.reals = reals.Reals(self.dataset.manifest, labels)
        self.learner = open_learner(cell.recipe, labels, cell.seed, device, gpu_share)
        self.curve: list[dict[str, Any]] = []
        self.earlier_s = 0.0  # wall seconds of the same cell before it was interrupted
        self.best: Evaluation | None = None  # of the current round, or of the one before
        # results of earlier rounds: those with a row, and the last
        self._left: list[RoundResult] = []
        self._start = (0, 0, 0, 0.0)  # epochs, steps, images and seconds of earlier rounds
        self._open: tuple[mix.MixPlan, Training] | None = None  # of the current round

    @property
    def plan(self) -> mix.MixPlan:
        """The training set of the current round."""
        return self._opened()[0]

    @property
    def training(self) -> Training:
        """The training of the current round."""
        return self._opened()[1]

    def _opened(self) -> tuple[mix.MixPlan, Training]:
        if self._open is None:
            cell, sources = self.cell, self.sources
            bank = bank_at(sources.bank) if cell.uses_fakes and sources.bank is not None else None
            screen = None
            if cell.filtered and bank is not None:
                screen = FakeSelection(bank.store, sources.scorers[cell.split], sources.pool)
            plan = mix.plan(cell, self.reals, sources.pool, screen)
            order = Stream.ORDER if cell.round == 1 else Stream.ORDER.of_round(cell.round)
            training = self.learner.train(
                training_images(plan, self.dataset, bank),
                split_images(self.dataset, "valid"),
                cell.budget,
                stream_seed(cell.seed, order),
            )
            self._open = plan, training
        return self._open

    def __iter__(self) -> Iterator[Evaluation]:
        """Train and yield every evaluation, with steps counted from the start of the first round.

        Raises:
            TrialError: the loss is NaN.
        """
        while not self.ended:
            for found in self.training:
                point, self.best = self._counted(found), self.training.best
                self.curve.append(self._curve_row(point))
                self._turn()
                yield point
                if self._open is None:
                    break

    def _turn(self) -> None:
        """Close the current round if it has ended; the next one opens lazily."""
        if self.training.stopped_by is None or self.cell.round == self.cell.last_round:
            return
        self._left = [*self._reported, self._outcome()]
        last = self.curve[-1]
        frozen = frozen_epochs(self.cell.recipe)  # each round counts them from 0
        epochs = 0 if last["epoch"] is None else last["epoch"] + frozen
        self._start = epochs, last["step"], last["images_seen"], last["train_s"]
        self.cell, self._open = replace(self.cell, round=self.cell.round + 1), None

    @property
    def _reported(self) -> list[RoundResult]:
        """The results of earlier rounds that get a row."""
        named = self.cell.rounds.report_at if self.cell.rounds is not None else ()
        return [each for each in self._left if each.row["round"] in named]

    def _counted(self, point: Evaluation) -> Evaluation:
        """Return an evaluation of the current round, with steps counted from the first round."""
        epochs, steps, images, seconds = self._start
        return replace(
            point,
            epoch=None if point.epoch is None else epochs + point.epoch,
            step=steps + point.step,
            images_seen=images + point.images_seen,
            train_s=seconds + point.train_s,
        )

    @property
    def share(self) -> float:
        """The fraction of the budget used so far, over all rounds."""
        of_round = 0.0 if self._open is None else self.training.share
        return (self.cell.round - 1 + of_round) / self.cell.last_round

    @property
    def ended(self) -> bool:
        """Whether training is over."""
        last = self.cell.round == self.cell.last_round
        return last and self._open is not None and self.training.stopped_by is not None

    def result(self, keep_model: bool = False) -> TrialResult:
        """Return rows, curve and predictions with the best weights so far."""
        between = self._open is None or self.training.best is None
        now = self._left[-1] if between and self._left else self._outcome()
        earlier = [each for each in self._reported if each is not now]
        outcomes = [*earlier, now]
        valid = predictions(self.dataset, "valid", outcomes)
        assert valid is not None
        return TrialResult(
            row=now.row,
            earlier=tuple(each.row for each in earlier),
            curve=pd.DataFrame(self.curve),
            predictions=valid,
            sealed=predictions(self.dataset, "test", outcomes),
            model=self._saved(now.row) if keep_model else None,
        )

    def _outcome(self) -> RoundResult:
        """Return the result of the current round, after restoring its best weights."""
        fitted = self.training.finish()
        fitted = replace(fitted, best=self._counted(fitted.best), last=self._counted(fitted.last))
        sealed = None
        if fitted.stopped_by != "scheduler" and (self.dataset.manifest["split"] == "test").any():
            sealed = self.learner.predict(split_images(self.dataset, "test"))
        return RoundResult(row=self._row(fitted), valid=fitted.valid_probability, sealed=sealed)

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
        begun = self._open is not None and self.training.best is not None
        tensors = {} if begun else self.learner.weights()
        state = {
            "cell_id": self.cell.cell_id,
            "device": self._device_type,
            "round": self.cell.round,
            "training": self.training.state() if begun else None,
            "tensors": {name: torch.from_numpy(value) for name, value in tensors.items()},
            **self.learner.state(),
            "left": [as_state(each) for each in self._left],
            "start": self._start,
            "curve": self.curve,
            "wall_s": self.wall_s,
        }
        with files.atomic_write(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> bool:
        """Resume from a checkpoint; return False if it cannot be used."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            fits = (state["cell_id"], state["device"]) == (self.cell.cell_id, self._device_type)
        except FileNotFoundError:
            return False
        except Exception as error:  # torch documents no errors for damaged files
            _log.warning(f"{path} cannot be read ({type(error).__name__}); restarting the cell")
            return False
        if not fits or "left" not in state:  # from an earlier version
            return False
        self.cell = replace(self.cell, round=state["round"])
        self._left = [from_state(each) for each in state["left"]]
        self._start = tuple(state["start"])
        self.curve, self.earlier_s = list(state["curve"]), state["wall_s"]
        if state["training"] is None:
            self._opened()
            self.learner.load_weights({name: v.numpy() for name, v in state["tensors"].items()})
        else:
            self.training.restore(state["training"])
            self.best = self.training.best
        self.learner.restore(state)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """The result of one round, or of the whole training of a cell without rounds."""

    row: dict[str, Any]
    valid: np.ndarray  # float64 [N, L], probabilities of the validation images
    sealed: np.ndarray | None  # the same for the test images, if there are any


def predictions(
    dataset: Dataset, split: str, outcomes: Iterable[RoundResult]
) -> pd.DataFrame | None:
    """Return the predictions on the validation or test set by round; None if there are none.

    Args:
        dataset: with the trial's split.
        split: valid or test.
        outcomes: of the reported rounds.
    """
    frames = []
    for outcome in outcomes:
        probability = outcome.valid if split == "valid" else outcome.sealed
        if probability is None:
            continue
        chosen = dataset.manifest["split"] == split
        frame = dataset.manifest.loc[chosen, ["image_id", "group", "label"]]
        frame = frame.reset_index(drop=True)
        for index, label in enumerate(dataset.spec.labels):
            frame[f"p_{label}"] = probability[:, index]
        number = outcome.row["round"]
        rounds = [pd.NA if number is None else number] * len(frame)
        frames.append(frame.assign(round=pd.array(rounds, dtype="Int64")))
    if len(frames) < 2:
        return frames[0] if frames else None
    return pd.concat(frames, ignore_index=True)


def as_state(outcome: RoundResult) -> dict[str, Any]:
    """Convert a round's result for a checkpoint."""
    sealed = None if outcome.sealed is None else torch.from_numpy(outcome.sealed)
    row = json.dumps({name: as_plain(value) for name, value in outcome.row.items()})
    return {"row": row, "valid": torch.from_numpy(outcome.valid), "sealed": sealed}


def from_state(state: dict[str, Any]) -> RoundResult:
    """Rebuild a round's result from the output of `as_state`."""
    sealed = None if state["sealed"] is None else state["sealed"].numpy()
    return RoundResult(row=json.loads(state["row"]), valid=state["valid"].numpy(), sealed=sealed)
