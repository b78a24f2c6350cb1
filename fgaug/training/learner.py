"""The interface between a trial and its training backend: the learner and its results."""

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
    """One evaluation during a training."""

    epoch: int | None  # from 1; 0 is the frozen epoch; None under a step budget
    step: int  # optimiser steps taken so far
    frozen: bool
    train_loss: float  # mean over the batches since the last evaluation
    valid: dict[str, float]  # metrics of the validation set
    images_seen: int
    train_s: float  # seconds of training so far, without evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The result of a finished training; the model itself holds the best weights."""

    best: Evaluation
    last: Evaluation
    stopped_by: str  # budget, patience or scheduler
    valid: dict[str, float]  # validation metrics of the best weights
    valid_probability: np.ndarray  # float64 [N, L], of the best weights
    micro_batch: int  # images processed at once: a batch, or fewer after running out of memory
    oom_events: int  # number of times a batch was halved


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakMemory:
    """Peak memory of a learner's process since the learner was opened."""

    memory_bytes: int
    gpu_bytes: int | None  # of tensors; None on cores


class Training(Protocol):
    """One training run: iterate over it to get its evaluations, then call `finish`.

    Between evaluations its state can be saved. A training that restores the state continues
    exactly as if it had not been interrupted, with the same numbers on the same device.
    """

    def __iter__(self) -> Iterator[Evaluation]:
        """Continue the training, yielding each evaluation.

        Raises:
            TrialError: the loss is not finite, or memory ran out.
        """
        ...

    @property
    def share(self) -> float:
        """Used share of the budget; 1 once the training has ended."""
        ...

    @property
    def stopped_by(self) -> str | None:
        """The reason why the training ended; None while it is running."""
        ...

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation so far."""
        ...

    @property
    def total(self) -> int:
        """Maximum number of optimiser steps."""
        ...

    def finish(self) -> TrainingResult:
        """Restore the best weights and return the result."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the complete state for resuming: plain values and tensors."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a state that an identical training returned."""
        ...


class Predictor(Protocol):
    """A classifier used only for prediction."""

    def predict(self, images: Images) -> np.ndarray:
        """Return the probabilities of all images, float64 [N, L]."""
        ...

    def close(self) -> None:
        """Release its resources."""
        ...


class Learner(Predictor, Protocol):
    """A classifier with its augmentation and random streams."""

    @property
    def identity(self) -> str:
        """The identity of the initial weights: `scratch`, or a name and digest."""
        ...

    @property
    def device_name(self) -> str:
        """The device as named in result rows: `cpu x2`, or the name of a GPU."""
        ...

    def train(self, train: Images, valid: Images, budget: Budget, seed: int) -> Training:
        """Return a training that starts from the current weights with a new optimiser.

        Args:
            seed: seed of the order of the images.
        """
        ...

    def weights(self) -> dict[str, np.ndarray]:
        """Return the current weights.

        Returns:
            Arrays by tensor name, float32 or int64, in the shapes and names of the backend's
            network. They may share memory with the network, so copy them before training on."""
        ...

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load weights returned by `weights`, for the same recipe.

        Args:
            weights: arrays by tensor name, in the names, shapes and dtypes of `weights`."""
        ...

    def peaks(self) -> PeakMemory:
        """Return its peak memory."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the state of its random streams: plain values and tensors."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore random streams from a result of `state`; other keys are ignored."""
        ...
