"""One round of a trial: its training set, its training and its result.

A cell without rounds has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fgaug.core.seeding import Stream, stream_seed
from fgaug.data import Dataset
from fgaug.grid.cells import Cell
from fgaug.runs import mix
from fgaug.runs.fake_selection import FakeSelection
from fgaug.runs.reals import Reals
from fgaug.runs.row import TrialSources
from fgaug.runs.trial_inputs import bank_at, training_images
from fgaug.training.images import split_images
from fgaug.training.learner import Evaluation, Learner, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The budget that earlier rounds have used."""

    epochs: int = 0
    steps: int = 0
    images: int = 0
    train_s: float = 0.0

    def before(self, point: Evaluation) -> Evaluation:
        """Return an evaluation of the current round, counted from the first round."""
        return replace(
            point,
            epoch=None if point.epoch is None else self.epochs + point.epoch,
            step=self.steps + point.step,
            images_seen=self.images + point.images_seen,
            train_s=self.train_s + point.train_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round in training; iterate over it to get its evaluations."""

    plan: mix.MixPlan
    training: Training
    spent: Spent

    def __iter__(self) -> Iterator[Evaluation]:
        """Continue the training, yielding evaluations counted from the first round.

        Raises:
            TrialError: the loss is NaN.
        """
        return map(self.spent.before, self.training)

    @property
    def ended(self) -> bool:
        return self.training.stopped_by is not None

    @property
    def evaluated(self) -> bool:
        """Whether it has been evaluated, so that it has weights and a result of its own."""
        return self.training.best is not None


def open_round(
    cell: Cell,
    sources: TrialSources,
    dataset: Dataset,
    reals: Reals,
    learner: Learner,
    spent: Spent,
) -> Round:
    """Draw the training set of a round and return its training, not yet begun.

    Args:
        cell: with the number of the round.
        sources: of the cell's fakes.
        dataset: with the cell's split.
        reals: the training images of that dataset.
        learner: with the weights that the round starts from.
        spent: by earlier rounds.

    Raises:
        UserError: the bank cannot be read.
    """
    bank = bank_at(sources.bank) if cell.uses_fakes and sources.bank is not None else None
    screen = None
    if cell.filtered and bank is not None:
        screen = FakeSelection(bank.store, sources.scorers[cell.split], sources.pool)
    plan = mix.plan(cell, reals, sources.pool, screen)
    order = Stream.ORDER if cell.round == 1 else Stream.ORDER.of_round(cell.round)
    training = learner.train(
        training_images(plan, dataset, bank),
        split_images(dataset, "valid"),
        cell.budget,
        stream_seed(cell.seed, order),
    )
    return Round(plan=plan, training=training, spent=spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """The result of one round, or of the whole training of a cell without rounds."""

    row: dict[str, Any]
    valid: np.ndarray  # float64 [N, L], of the validation images or the held-out fold
    sealed: np.ndarray | None  # the same for the test images, if there are any


def predictions(
    dataset: Dataset, split: str, outcomes: Iterable[RoundResult]
) -> pd.DataFrame | None:
    """Return the predictions on a set of images by round; None if there are none.

    Args:
        dataset: with the trial's split.
        split: `dataset.evaluated`, or test.
        outcomes: of the reported rounds.
    """
    frames = []
    for outcome in outcomes:
        probability = outcome.sealed if split == "test" else outcome.valid
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
