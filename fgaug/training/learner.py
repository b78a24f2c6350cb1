"""The border between a trial and the library that trains: a learner and its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fgaug.grid.recipe import Budget

if TYPE_CHECKING:
    from fgaug.training.images import Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation on the way."""

    epoch: int | None  # from 1, 0 is the frozen epoch; None under a step budget
    step: int  # optimiser steps taken so far
    frozen: bool
    train_loss: float  # mean over the batches since the last evaluation
    valid: dict[str, float]  # metrics of the validation set
    images_seen: int
    train_s: float  # seconds of training so far, evaluation left out


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a finished training leaves; the model itself holds the best weights."""

    best: Evaluation
    last: Evaluation
    stopped_by: str  # budget, patience or scheduler
    valid: dict[str, float]  # metrics of the validation set under the weights that are kept
    valid_probability: np.ndarray  # float64 [N, L], the same
    micro_batch: int  # images at once: a batch, or fewer where memory ran out
    oom_events: int  # how often a batch was halved


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakMemory:
    """The most memory that a learner's process has held since the learner was opened."""

    memory_bytes: int
    gpu_bytes: int | None  # of tensors; None on cores


class Training(Protocol):
    """One training: iterate over it for its evaluations, then take what it leaves.

    Between two evaluations its state can be taken; a training that is given the state goes on as
    if it had never stopped, with the same numbers on the same device.
    """

    def __iter__(self) -> Iterator[Evaluation]:
        """Train on, yielding each evaluation.

        Raises:
            TrialError: the loss is not a number, or the memory does not suffice.
        """
        ...

    @property
    def share(self) -> float:
        """How much of the budget is used, 1 where the training has ended."""
        ...

    @property
    def stopped_by(self) -> str | None:
        """What ended the training; None while it goes on."""
        ...

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation so far."""
        ...

    @property
    def total(self) -> int:
        """The most optimiser steps that it can take."""
        ...

    def finish(self) -> TrainingResult:
        """Put the best weights back into the model and return what was found."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on; plain values and tensors."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that the same training, made anew, has given before."""
        ...


class Predictor(Protocol):
    """A classifier that is asked for its answers alone."""

    def predict(self, images: Images) -> np.ndarray:
        """Return the probabilities of all images, float64 [N, L]."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Learner(Predictor, Protocol):
    """One classifier with its augmentation and its streams of randomness."""

    @property
    def identity(self) -> str:
        """The first weights by their content: `scratch`, or a name and digest."""
        ...

    @property
    def device_name(self) -> str:
        """What it trains on, for the row: `cpu x2`, or the name of a GPU."""
        ...

    def train(self, train: Images, valid: Images, budget: Budget, seed: int) -> Training:
        """Return a training that starts from the weights of now, with a fresh optimiser.

        Args:
            seed: of the order of the images.
        """
        ...

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the weights of now by name, as `saved` keeps them; they may change with it."""
        ...

    def take(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take over weights that `tensors` of the same recipe gave."""
        ...

    def peaks(self) -> PeakMemory:
        """Return the most memory it has held."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the places in its streams of randomness; plain values and tensors."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from places that `state` gave; other keys are left alone."""
        ...
