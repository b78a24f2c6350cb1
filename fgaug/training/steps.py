"""Steps and looks: what a training does between two decisions.  images -> [steps] -> fit"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fgaug.errors import TrialError
from fgaug.recipe import Recipe
from fgaug.training.augment import to_unit
from fgaug.training.backend import Point
from fgaug.training.checked import check_loss, looked
from fgaug.training.images import Images
from fgaug.training.models import Classifier
from fgaug.training.schedule import OneCycle

Augment = Callable[[torch.Tensor], torch.Tensor]  # uint8 [N, C, H, W] -> float32 in [0, 1]
BETA2, EPS = 0.99, 1e-5  # fastai's Adam


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a training with one schedule."""

    unit: str  # the budget's
    frozen: bool
    cycle: OneCycle
    first_step: int
    evaluate_after: frozenset[int]  # counted over all phases
    patience: int | None
    fresh_best: bool  # earlier evaluations do not compete (fastai resets its callbacks)


class Steps:
    """The state of one training between evaluations."""

    def __init__(
        self,
        model: Classifier,
        train: Images,
        valid: Images,
        labels: tuple[str, ...],
        recipe: Recipe,
        augment: Augment,
        device: torch.device,
    ) -> None:
        self.model, self.train, self.valid, self.labels = model, train, valid, labels
        self.recipe, self.augment, self.device = recipe, augment, device
        self.images_seen, self.train_s, self.looks = 0, 0.0, 0
        self.micro_batch, self.oom_events = recipe.batch_size, 0
        self.optimiser: torch.optim.AdamW

    def begin(self, phase: Phase) -> None:
        """Freeze or unfreeze, and start with fresh moments as fastai does."""
        if phase.frozen:
            self.model.freeze()
        else:
            self.model.unfreeze()
        groups = self.model.parameter_groups(self.recipe.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, BETA2), eps=EPS, fused=True)

    def evaluations(
        self, phase: Phase, taken: int, order: Iterator[np.ndarray]
    ) -> Iterator[tuple[Point, np.ndarray]]:
        """Train on through the phase, `taken` steps being done; yield each evaluation."""
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
        """Leave the batch's gradients in the parameters and return its mean loss.

        Out of memory, the batch is cut in halves whose gradients add up to the whole's, from here
        to the end of the training; only BatchNorm sees the difference.
        """
        while True:
            try:
                return self._accumulated(images, labels)
            except torch.OutOfMemoryError:
                parts = min(self.micro_batch, len(images))
                if parts <= 2:  # BatchNorm needs two
                    raise TrialError(
                        f"Out of memory with {parts} images at a time. Give the trial more of a "
                        "GPU (`resources.gpu`), smaller images or a smaller model."
                    ) from None
            # outside `except`: the traceback holds the activations
            self.micro_batch, self.oom_events = -(-parts // 2), self.oom_events + 1
            self.optimiser.zero_grad(set_to_none=True)
            _free(self.device)

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

    def _evaluate(self, phase: Phase, done: int, train_loss: float) -> tuple[Point, np.ndarray]:
        check_loss(train_loss, done)
        probability = predict(self.model, self.valid, 2 * self.recipe.batch_size, self.device)
        valid = looked(self.valid.label, probability, self.labels, done)
        point = Point(
            epoch=self.looks if phase.unit == "epochs" else None,
            step=done,
            frozen=phase.frozen,
            train_loss=train_loss,
            valid=valid,
            images_seen=self.images_seen,
            train_s=self.train_s,
        )
        self.looks += 1
        return point, probability


def parts_of(images: int, most: int) -> int:
    """Return into how many parts, as equal as can be, a batch is cut after running out of memory.

    No part has a single image, on which BatchNorm cannot train: three images stay together even
    where `most` is two.

    Args:
        images: of the batch.
        most: of a part, 2 or more.
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
                if len(index) == 1:
                    raise
            batch_size = -(-len(index) // 2)
            _free(device)
    return np.concatenate(found)


def _free(device: torch.device) -> None:
    """Give back what failed to fit."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
