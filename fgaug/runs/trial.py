"""One trial: a cell and its inputs give a trained classifier, rows, curve and predictions.

It knows nothing of Ray: the Tune worker, tests and replays call the same code.
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
    """Return the result of training one cell to its end; see `Trial` for what can go wrong."""
    trial = Trial(cell, sources, device)
    for _ in trial:
        pass
    return trial.result()


class Trial:
    """One cell being trained: iterate over it for its evaluations, then take its result.

    Between two evaluations it can be saved; the same cell goes on from the file with the same
    numbers as if it had never stopped. A cell with rounds is trained in one after the other, each
    from the weights that the one before left; only the images of the round at work are read.

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
        self.best: Evaluation | None = None  # of the round at work, or of the one before it
        self._left: list[
            RoundResult
        ] = []  # of the rounds before: those that get a row, and the last
        self._start = (0, 0, 0, 0.0)  # epochs, steps, images and seconds of the rounds before
        self._open: tuple[mix.MixPlan, Training] | None = None  # of the round at work

    @property
    def plan(self) -> mix.MixPlan:
        """The training set of the round at work."""
        return self._opened()[0]

    @property
    def training(self) -> Training:
        """The training of the round at work."""
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
        """Train on, yielding each evaluation, counted from the start of the first round.

        Raises:
            TrialError: the loss is not a number.
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
        """Close the round at work where it has ended: the next one opens when it is asked for."""
        if self.training.stopped_by is None or self.cell.round == self.cell.last_round:
            return
        self._left = [*self._reported, self._outcome()]
        last = self.curve[-1]
        frozen = frozen_epochs(self.cell.recipe)  # a round's own count starts at 0 with them
        epochs = 0 if last["epoch"] is None else last["epoch"] + frozen
        self._start = epochs, last["step"], last["images_seen"], last["train_s"]
        self.cell, self._open = replace(self.cell, round=self.cell.round + 1), None

    @property
    def _reported(self) -> list[RoundResult]:
        """What is left of the rounds before that get a row."""
        named = self.cell.rounds.report_at if self.cell.rounds is not None else ()
        return [each for each in self._left if each.row["round"] in named]

    def _counted(self, point: Evaluation) -> Evaluation:
        """Return an evaluation of the round at work, counted from the start of the first one."""
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
        """How much of the budget is used, that of all rounds."""
        of_round = 0.0 if self._open is None else self.training.share
        return (self.cell.round - 1 + of_round) / self.cell.last_round

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        last = self.cell.round == self.cell.last_round
        return last and self._open is not None and self.training.stopped_by is not None

    def result(self, keep_model: bool = False) -> TrialResult:
        """Return rows, curve and predictions with the best weights found so far."""
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
        """Return what the round at work leaves, its best weights put back."""
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
        state, spec = self.learner.tensors(), self.dataset.spec
        return saved_model.taken(state, spec, named, row, self.cell.described, self.cell.split)

    @property
    def wall_s(self) -> float:
        return self.earlier_s + time.perf_counter() - self.clock

    @property
    def _device_type(self) -> str:
        return self.device.partition(":")[0]

    def save(self, path: Path) -> None:
        """Write all that the rest of the training depends on, whole or not at all."""
        begun = self._open is not None and self.training.best is not None
        tensors = {} if begun else self.learner.tensors()
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
        """Go on from a file that `save` wrote; False where it cannot be used."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            fits = (state["cell_id"], state["device"]) == (self.cell.cell_id, self._device_type)
        except FileNotFoundError:
            return False
        except Exception as error:  # torch names no set of errors for a torn file
            _log.warning(f"{path} cannot be read ({type(error).__name__}); the cell starts again")
            return False
        if not fits or "left" not in state:  # that of an earlier version
            return False
        self.cell = replace(self.cell, round=state["round"])
        self._left = [from_state(each) for each in state["left"]]
        self._start = tuple(state["start"])
        self.curve, self.earlier_s = list(state["curve"]), state["wall_s"]
        if state["training"] is None:
            self._opened()
            self.learner.take({name: v.numpy() for name, v in state["tensors"].items()})
        else:
            self.training.restore(state["training"])
            self.best = self.training.best
        self.learner.restore(state)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What a round leaves, of a cell without rounds its training."""

    row: dict[str, Any]
    valid: np.ndarray  # float64 [N, L], probabilities of the validation images
    sealed: np.ndarray | None  # of the test images, where there are some


def predictions(
    dataset: Dataset, split: str, outcomes: Iterable[RoundResult]
) -> pd.DataFrame | None:
    """Return the probabilities of one side of the split, round by round; None where it has none.

    Args:
        dataset: divided as the trial's.
        split: valid or test.
        outcomes: of the rounds that are reported.
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
    """Return an outcome as a checkpoint holds it."""
    sealed = None if outcome.sealed is None else torch.from_numpy(outcome.sealed)
    row = json.dumps({name: as_plain(value) for name, value in outcome.row.items()})
    return {"row": row, "valid": torch.from_numpy(outcome.valid), "sealed": sealed}


def from_state(state: dict[str, Any]) -> RoundResult:
    """Return the outcome that `as_state` gave."""
    sealed = None if state["sealed"] is None else state["sealed"].numpy()
    return RoundResult(row=json.loads(state["row"]), valid=state["valid"].numpy(), sealed=sealed)
