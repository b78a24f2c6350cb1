"""The Keras learner: trains and applies a classifier that lives in another process.

Budgets and evaluations are those of the PyTorch backend. The optimiser of the original study (Adam
with a learning rate that is reduced on plateaus) is part of the recipe.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import torch

from fgaug.core.seeding import Stream, stream_seed
from fgaug.grid.recipe import Budget, KerasRecipe, Plateau, Recipe
from fgaug.training import images, memory
from fgaug.training.budget import evaluation_steps, total_steps
from fgaug.training.early_stopping import EarlyStopping
from fgaug.training.images import Images
from fgaug.training.keras import applications
from fgaug.training.keras.process import Process, Settings, process_for
from fgaug.training.keras.shared_images import rows_of
from fgaug.training.learner import Evaluation, PeakMemory, TrainingResult
from fgaug.training.metrics import check_loss, evaluate_or_fail

MIN_DELTA = 1e-4  # of Keras's ReduceLROnPlateau: the smallest change that counts
FOLDS = 10  # in the study's split of its training images


class KerasLearner:
    """A Keras classifier; see `learner.Learner`.

    The network is built when the first images determine its input size.
    """

    def __init__(
        self,
        recipe: Recipe,
        labels: tuple[str, ...],
        seed: int,
        device: str,
        gpu_share: float = 1.0,
    ) -> None:
        assert recipe.keras is not None
        self.recipe, self.labels, self.seed = recipe, labels, seed
        self.settings: KerasRecipe = recipe.keras
        self._weights = applications.find(recipe)
        self.identity = self._weights.identity
        memory.reset_peak_rss()
        # this process has as many threads as the trial has cores
        threads = torch.get_num_threads()
        how = Settings(device=device.partition(":")[0], gpu_share=gpu_share, threads=threads)
        self._process: Process = process_for(how)
        self._network: int | None = None

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command to the network's process and return the answer; see `Process.ask`."""
        return self._process.ask(command, network=self._network, **arguments)

    @property
    def device_name(self) -> str:
        return str(self._process.ask("device_name"))

    def open_for(self, size: int, channels: int) -> None:
        """Build the network for images of this size, on the first call only."""
        if self._network is not None:
            return
        path = self._weights.path
        self._network = self._process.ask(
            "open",
            recipe=self.recipe.model_dump(),
            weights=None if path is None else str(path.resolve()),
            labels=len(self.labels),
            size=size,
            channels=channels,
            seed=stream_seed(self.seed, Stream.WEIGHTS),
        )
        weakref.finalize(self, self._process.forget, self._network).atexit = False

    def sizes(self) -> dict[str, int]:
        """Return the numbers of layers and parameters, and of trainable ones."""
        return dict(self.ask("sizes"))

    def train(self, train: Images, valid: Images, budget: Budget, seed: int) -> KerasTraining:
        self.open_for(*train.sources[0].shape[2:])
        return KerasTraining(self, train, valid, budget, seed)

    def predict(self, images: Images) -> np.ndarray:
        rows = rows_of(images, np.arange(len(images)))
        found: np.ndarray = self.ask("predict", rows=rows, batch=2 * self.recipe.batch_size)
        return found

    def weights(self) -> dict[str, np.ndarray]:
        return dict(self.ask("weights"))

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load weights returned by `weights`; UserError if they do not fit."""
        self.ask("load_weights", weights=dict(weights))

    def peaks(self) -> PeakMemory:
        there, gpu = self._process.ask("peaks")
        return PeakMemory(memory_bytes=memory.peak_rss() + there, gpu_bytes=gpu)

    def state(self) -> dict[str, Any]:
        return {}  # every draw depends only on a seed and a step

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: there is no random state."""

    def close(self) -> None:
        if self._network is not None:
            self._process.forget(self._network)
            self._network = None


class KerasTraining:
    """One training run; see `learner.Training`.

    Args:
        learner: trained in place.
        seed: seed of the image order, the augmentation and the fold.
    """

    def __init__(
        self, learner: KerasLearner, train: Images, valid: Images, budget: Budget, seed: int
    ) -> None:
        self.learner, self.train, self.valid, self.budget = learner, train, valid, budget
        recipe = learner.recipe
        make = images.epochs if budget.unit == "epochs" else images.stream
        self.order = make(len(train), recipe.batch_size, seed)
        self.draws = stream_seed(seed, Stream.AUGMENTATION) >> 1  # TensorFlow's seeds are signed
        self.total = total_steps(budget, len(train), recipe.batch_size, frozen=0)
        steps = evaluation_steps(budget, len(train), recipe.batch_size, frozen=0)
        self.evaluate_after = tuple(sorted(steps))
        in_training = learner.settings.validate_on == "training_fold"
        self.watched = last_fold(train, seed) if in_training else valid
        self.steps, self.images_seen, self.train_s = 0, 0, 0.0
        self.rate = recipe.learning_rate
        self.stopped_by: str | None = None
        self.best: Evaluation | None = None  # the evaluation whose weights are kept
        self.last: Evaluation | None = None
        self.probability = np.empty(0)  # of the monitored images, at the best evaluation
        self.stopping = EarlyStopping(budget.patience)
        self.level, self.stood = np.inf, 0  # for the plateau
        self.begun = False

    def __iter__(self) -> Iterator[Evaluation]:
        """Continue the training, yielding each evaluation.

        Raises:
            TrialError: the loss is not finite, memory ran out, or the process died.
        """
        if not self.begun:
            self.begun = True
            self.learner.ask("begin", rate=self.rate, seed=self.draws)
        for number, until in enumerate(self.evaluate_after, start=1):
            if until <= self.steps:
                continue
            if self.stopped_by is not None:
                return
            yield self._evaluate(number, self._train_until(until))

    def _train_until(self, until: int) -> float:
        """Train up to step `until` and return the mean loss."""
        batches = np.stack(list(islice(self.order, until - self.steps)))
        loss, seconds = self.learner.ask(
            "fit",
            rows=rows_of(self.train, batches),
            first_step=self.steps,
            seed=self.draws,
            rate=self.rate,
        )
        self.steps, self.train_s = until, self.train_s + seconds
        self.images_seen += batches.size
        check_loss(loss, until)
        return float(loss)

    def _evaluate(self, number: int, train_loss: float) -> Evaluation:
        found = self.learner.predict(self.watched)
        point = Evaluation(
            epoch=number if self.budget.unit == "epochs" else None,
            step=self.steps,
            frozen=False,
            train_loss=train_loss,
            valid=evaluate_or_fail(self.watched.label, found, self.learner.labels, self.steps),
            images_seen=self.images_seen,
            train_s=self.train_s,
        )
        self.last = point
        self._note(point, found)
        return point

    def _note(self, point: Evaluation, found: np.ndarray) -> None:
        """Update the best weights, the learning rate and the stopping reason."""
        loss = point.valid["loss"]
        if self.stopping.improves(loss) or not self.learner.settings.restore_best:
            self.best, self.probability = point, found
            self.learner.ask("keep")
        self._lower(self.learner.settings.plateau, loss)
        if self.stopping.is_over:
            self.stopped_by = "patience"
        elif point.step == self.total:
            self.stopped_by = "budget"

    def _lower(self, plateau: Plateau | str, loss: float) -> None:
        """Reduce the learning rate on a plateau of the loss, like Keras's ReduceLROnPlateau."""
        if isinstance(plateau, str):
            return
        if loss < self.level - MIN_DELTA:
            self.level, self.stood = loss, 0
            return
        self.stood += 1
        if self.stood >= plateau.patience:
            self.rate, self.stood = self.rate * plateau.factor, 0

    @property
    def share(self) -> float:
        """Used share of the budget; 1 once the training has ended."""
        return 1.0 if self.stopped_by is not None else self.steps / self.total

    def finish(self) -> TrainingResult:
        """Restore the best weights and return the result.

        The metrics are those of the validation set. If early stopping monitored a fold of the
        training images, the validation set is predicted here for the first time.
        """
        assert self.best is not None
        assert self.last is not None
        self.learner.ask("put_back")
        valid, probability = self.best.valid, self.probability
        if self.watched is not self.valid:
            probability = self.learner.predict(self.valid)
            valid = evaluate_or_fail(
                self.valid.label, probability, self.learner.labels, self.best.step
            )
        return TrainingResult(
            best=self.best,
            last=self.last,
            valid=valid,
            stopped_by=self.stopped_by or "scheduler",
            valid_probability=probability,
            micro_batch=self.learner.recipe.batch_size,
            oom_events=0,
        )

    def state(self) -> dict[str, Any]:
        """Return the complete state for resuming: plain values and arrays."""
        assert self.best is not None
        assert self.last is not None
        network = self.learner.ask("state", kept=self.best is not self.last)
        return {
            "steps": self.steps,
            "rate": self.rate,
            "stopped_by": self.stopped_by,
            "patience": [self.stopping.lowest, self.stopping.waited],
            "plateau": [float(self.level), self.stood],
            "best": asdict(self.best),
            "last": asdict(self.last),
            "probability": torch.from_numpy(self.probability),
            "costs": [self.images_seen, self.train_s],
            "network": {name: _as_tensors(values) for name, values in network.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a state that an identical training returned."""
        network = {name: _as_arrays(values) for name, values in state["network"].items()}
        self.learner.ask("restore", state=network)
        self.begun, self.steps, self.rate = True, state["steps"], state["rate"]
        self.stopped_by = state["stopped_by"]
        self.stopping.lowest, self.stopping.waited = state["patience"]
        self.level, self.stood = state["plateau"]
        self.best, self.last = Evaluation(**state["best"]), Evaluation(**state["last"])
        if state["network"]["kept"] is None:
            self.best = self.last  # the same object, which tells `state` that they are equal
        self.probability = state["probability"].numpy()
        self.images_seen, self.train_s = state["costs"]
        for _ in range(self.steps):  # replays the order of the images, which is cheap
            next(self.order)


def last_fold(train: Images, seed: int) -> Images:
    """Return the last of ten shuffled folds of the training images, the study's validation set."""
    count = max(1, len(train) // FOLDS)
    chosen = np.random.RandomState(stream_seed(seed, Stream.FOLD)).permutation(len(train))[-count:]
    return Images(
        sources=train.sources,
        source=train.source[chosen],
        row=train.row[chosen],
        label=train.label[chosen],
    )


def _as_tensors(values: list[np.ndarray] | None) -> list[torch.Tensor] | None:
    return None if values is None else [torch.from_numpy(np.array(value)) for value in values]


def _as_arrays(values: list[torch.Tensor] | None) -> list[np.ndarray] | None:
    return None if values is None else [value.numpy() for value in values]
