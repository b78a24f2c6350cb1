"""Fine-tune a network: a frozen phase, then one cycle over all layers; keep the best weights.

Follows fastai 2.8 `fine_tune` with early stopping and restoring of the best model, as in the
fetal-brain study; the `steps` budget is an addition.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fgaug.grid.recipe import Budget, Recipe
from fgaug.training import images
from fgaug.training.budget import evaluation_steps, steps_per_epoch, total_steps
from fgaug.training.early_stopping import EarlyStopping
from fgaug.training.gpu_share import out_of_memory
from fgaug.training.images import Images
from fgaug.training.learner import Evaluation, TrainingResult
from fgaug.training.metrics import check_loss, evaluate_or_fail
from fgaug.training.pytorch.fastai_augment import to_unit
from fgaug.training.pytorch.models import Classifier
from fgaug.training.pytorch.schedule import OneCycle, frozen_cycle, unfrozen_cycle

FROZEN_SHARE = 21  # in the thesis one epoch of 21 is frozen; step budgets use the same share
Augment = Callable[[torch.Tensor], torch.Tensor]  # uint8 [N, C, H, W] -> float32 in [0, 1]
BETA2, EPS = 0.99, 1e-5  # fastai's Adam


class FineTuning:
    """One training run: iterate over it to get its evaluations, then call `finish`.

    Between evaluations its state can be saved. A training that restores the state continues
    exactly as if it had not been interrupted, with the same numbers on the same device.

    Args:
        model: on `device`; trained in place.
        labels: label names; an image's label is an index into them.
        augment: uint8 [N, C, H, W] on the device -> float32 in [0, 1].
        seed: seed of the order of the images.
        gpu_share: share of the GPU that the trial holds; named if its memory does not suffice.
    """

    def __init__(
        self,
        model: Classifier,
        train: Images,
        valid: Images,
        labels: tuple[str, ...],
        *,
        recipe: Recipe,
        budget: Budget,
        augment: Augment,
        seed: int,
        device: torch.device,
        gpu_share: float = 1.0,
    ) -> None:
        self.model, self.recipe, self.budget, self.device = model, recipe, budget, device
        self.run = Steps(model, train, valid, labels, recipe, augment, device, gpu_share)
        make = images.epochs if budget.unit == "epochs" else images.stream
        self.order = make(len(train), recipe.batch_size, seed)
        self.phases = _phases(recipe, budget, len(train), model.group_count)
        self.total = total_steps(budget, len(train), recipe.batch_size)
        self.steps, self.phase, self.begun = 0, 0, False
        self.best: Evaluation | None = None
        self.last: Evaluation | None = None
        self.kept: dict[str, torch.Tensor] = {}
        self.probability = np.empty(0)
        self.stopping = EarlyStopping(None)  # of the phase
        self.stopped_by: str | None = None

    def __iter__(self) -> Iterator[Evaluation]:
        """Continue the training, yielding each evaluation.

        Raises:
            TrialError: the training or validation loss is not finite.
        """
        while self.stopped_by is None and self.phase < len(self.phases):
            phase = self.phases[self.phase]
            if not self.begun:
                self._begin(phase)
            for point, found in self.run.evaluations(
                phase, max(self.steps, phase.first_step), self.order
            ):
                ended = self._note(point, found)
                yield point
                if ended:
                    return
            self.phase, self.begun = self.phase + 1, False

    def _begin(self, phase: Phase) -> None:
        self.run.begin(phase)
        self.begun, lowest = True, self.stopping.lowest
        self.stopping = EarlyStopping(phase.patience)
        if phase.fresh_best:
            self.best = None
        else:
            self.stopping.lowest = lowest

    def _note(self, point: Evaluation, found: np.ndarray) -> bool:
        """Update the best evaluation; return whether patience is exhausted."""
        self.steps, self.last = point.step, point
        if self.stopping.improves(point.valid["loss"]):
            self.best, self.probability = point, found
            state = self.model.state_dict()
            self.kept = {key: value.detach().clone() for key, value in state.items()}
        if self.stopping.is_over:
            self.stopped_by = "patience"
        elif point.step == self.total:
            self.stopped_by = "budget"
        return self.stopped_by is not None

    @property
    def share(self) -> float:
        """Used share of the budget; 1 once the training has ended."""
        return 1.0 if self.stopped_by is not None else self.steps / self.total

    def finish(self) -> TrainingResult:
        """Restore the best weights and return the result."""
        assert self.best is not None
        assert self.last is not None
        self.model.load_state_dict(self.kept)
        return TrainingResult(
            best=self.best,
            last=self.last,
            valid=self.best.valid,
            stopped_by=self.stopped_by or "scheduler",
            valid_probability=self.probability,
            micro_batch=self.run.micro_batch,
            oom_events=self.run.oom_events,
        )

    def state(self) -> dict[str, Any]:
        """Return the complete state for resuming: plain values and tensors."""
        assert self.best is not None
        assert self.last is not None
        return {
            "steps": self.steps,
            "phase": self.phase,
            "waited": self.stopping.waited,
            "stopped_by": self.stopped_by,
            "model": self.model.state_dict(),
            "optimiser": self.run.optimiser.state_dict(),
            "kept": None if self.best is self.last else self.kept,
            "best": asdict(self.best),
            "last": asdict(self.last),
            "probability": torch.from_numpy(self.probability),
            "costs": [self.run.images_seen, self.run.train_s, self.run.evaluated],
            "memory": [self.run.micro_batch, self.run.oom_events],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a state that an identical training returned."""
        self.phase, self.begun = state["phase"], True
        self.run.begin(self.phases[self.phase])
        self.model.load_state_dict(state["model"])
        self.run.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.stopped_by = state["steps"], state["stopped_by"]
        self.best, self.last = Evaluation(**state["best"]), Evaluation(**state["last"])
        self.stopping = EarlyStopping(self.phases[self.phase].patience)
        self.stopping.lowest = self.best.valid["loss"]
        self.stopping.waited = state["waited"]
        self.probability = state["probability"].numpy()
        kept = state["model"] if state["kept"] is None else state["kept"]
        self.kept = {key: value.detach().clone().to(self.device) for key, value in kept.items()}
        self.run.images_seen, self.run.train_s, self.run.evaluated = state["costs"]
        self.run.micro_batch, self.run.oom_events = state["memory"]
        for _ in range(self.steps):  # replays the order of the images, which is cheap
            next(self.order)


def _phases(recipe: Recipe, budget: Budget, count: int, groups: int) -> tuple[Phase, Phase]:
    if budget.unit == "epochs":
        frozen = steps_per_epoch(count, recipe.batch_size)
    else:
        frozen = max(1, round(budget.max / FROZEN_SHARE))
    total = total_steps(budget, count, recipe.batch_size)
    at = evaluation_steps(budget, count, recipe.batch_size)
    rate = recipe.learning_rate
    return (
        Phase(
            unit=budget.unit,
            frozen=True,
            cycle=frozen_cycle(rate, groups, frozen),
            first_step=0,
            evaluate_after=at,
            patience=None,
            fresh_best=True,
        ),
        Phase(
            unit=budget.unit,
            frozen=False,
            cycle=unfrozen_cycle(rate, recipe.lr_mult, groups, total - frozen),
            first_step=frozen,
            evaluate_after=at,
            patience=budget.patience,
            fresh_best=budget.unit == "epochs",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of a training with one schedule."""

    unit: str  # the budget's
    frozen: bool
    cycle: OneCycle
    first_step: int
    evaluate_after: frozenset[int]  # counted over all phases
    patience: int | None
    fresh_best: bool  # ignore earlier evaluations (fastai resets its callbacks)


class Steps:
    """Takes the optimiser steps of one training."""

    def __init__(
        self,
        model: Classifier,
        train: Images,
        valid: Images,
        labels: tuple[str, ...],
        recipe: Recipe,
        augment: Augment,
        device: torch.device,
        gpu_share: float,
    ) -> None:
        self.model, self.train, self.valid, self.labels = model, train, valid, labels
        self.recipe, self.augment, self.device = recipe, augment, device
        self.gpu_share = gpu_share
        self.images_seen, self.train_s, self.evaluated = 0, 0.0, 0
        self.micro_batch, self.oom_events = recipe.batch_size, 0
        self.optimiser: torch.optim.AdamW

    def begin(self, phase: Phase) -> None:
        """Freeze or unfreeze layers, and reset the optimiser's moments, as fastai does."""
        if phase.frozen:
            self.model.freeze()
        else:
            self.model.unfreeze()
        groups = self.model.parameter_groups(self.recipe.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, BETA2), eps=EPS, fused=True)

    def evaluations(
        self, phase: Phase, taken: int, order: Iterator[np.ndarray]
    ) -> Iterator[tuple[Evaluation, np.ndarray]]:
        """Continue the phase after `taken` steps, yielding each evaluation."""
        loss_sum = torch.zeros((), device=self.device)
        batches_seen = 0
        started = time.perf_counter()
        self.model.train()
        for step in range(taken - phase.first_step, phase.cycle.steps):
            loss_sum += self._step(phase.cycle, step, next(order))
            batches_seen += 1
            done = phase.first_step + step + 1
            if done not in phase.evaluate_after:
                continue
            train_loss = float(loss_sum) / batches_seen  # waits for the device
            self.train_s += time.perf_counter() - started
            yield self._evaluate(phase, done, train_loss)
            loss_sum.zero_()
            batches_seen = 0
            started = time.perf_counter()
            self.model.train()
        self.train_s += time.perf_counter() - started

    def _step(self, cycle: OneCycle, step: int, index: np.ndarray) -> torch.Tensor:
        rates, beta1 = cycle.at(step)
        for group in self.optimiser.param_groups:
            group["lr"], group["betas"] = rates[group["rate"]], (beta1, BETA2)
        images = self.augment(self.train.batch(index, self.device))
        loss = self._gradients(images, self.train.labels(index, self.device))
        self.optimiser.step()
        self.images_seen += len(index)
        return loss

    def _gradients(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the batch's gradients and return its mean loss.

        After running out of memory, pixels kept on the GPU are released first: this changes no
        number. If that does not suffice, batches are halved until the end of the training. The
        gradients of the halves add up to those of the batch; only BatchNorm is affected.

        Raises:
            TrialError: the memory does not suffice for two images.
        """
        while True:
            try:
                return self._accumulated(images, labels)
            except torch.OutOfMemoryError:
                parts = min(self.micro_batch, len(images))
                released = self._release_pixels()
                if parts <= 2 and not released:  # BatchNorm needs two images
                    raise out_of_memory(self.gpu_share, parts) from None
            # outside `except`: the traceback holds the activations
            if not released:
                self.micro_batch, self.oom_events = -(-parts // 2), self.oom_events + 1
            self.optimiser.zero_grad(set_to_none=True)
            _free(self.device)

    def _release_pixels(self) -> bool:
        """Release the pixels that are kept on the GPU; return whether there were any."""
        return any([self.train.release(), self.valid.release()])  # a list: both are released

    def _accumulated(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        if self.micro_batch >= len(images):
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            return loss.detach()
        total = torch.zeros((), device=self.device)
        count = parts_of(len(images), self.micro_batch)
        parts = (torch.tensor_split(whole, count) for whole in (images, labels))
        for some, of in zip(*parts, strict=True):
            loss = F.cross_entropy(self.model(some), of, reduction="sum") / len(images)
            loss.backward()  # type: ignore[no-untyped-call]  # as above
            total += loss.detach()
        return total

    def _evaluate(
        self, phase: Phase, done: int, train_loss: float
    ) -> tuple[Evaluation, np.ndarray]:
        check_loss(train_loss, done)
        probability = predict(self.model, self.valid, 2 * self.recipe.batch_size, self.device)
        valid = evaluate_or_fail(self.valid.label, probability, self.labels, done)
        point = Evaluation(
            epoch=self.evaluated if phase.unit == "epochs" else None,
            step=done,
            frozen=phase.frozen,
            train_loss=train_loss,
            valid=valid,
            images_seen=self.images_seen,
            train_s=self.train_s,
        )
        self.evaluated += 1
        return point, probability


def parts_of(images: int, most: int) -> int:
    """Return the number of parts of a batch after running out of memory, as equal as possible.

    No part has a single image, as BatchNorm cannot train on one: three images stay together even
    if `most` is two.

    Args:
        images: number of images in the batch.
        most: maximum number of images per part, 2 or more.
    """
    return max(1, min(-(-images // most), images // 2))


def predict(
    model: Classifier, images: Images, batch_size: int, device: torch.device
) -> np.ndarray:
    """Return the probabilities of all images, float64 [N, L]."""
    model.eval()
    found: list[np.ndarray] = []
    done = 0
    with torch.inference_mode():
        while done < len(images):
            index = np.arange(done, min(done + batch_size, len(images)))
            try:
                logits = model(to_unit(images.batch(index, device)))
                found.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
                done += len(index)
                continue
            except torch.OutOfMemoryError:
                if len(index) == 1 and not images.release():
                    raise
            batch_size = -(-len(index) // 2)
            _free(device)
    return np.concatenate(found)


def _free(device: torch.device) -> None:
    """Release memory after an allocation failed."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
