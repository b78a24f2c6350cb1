"""The fine-tuning recipe: a frozen phase, then one cycle over all layers, the best look kept.

images -> [fit] -> curve, probabilities.  Facts of the recipe: fastai 2.8 `fine_tune` with early
stopping and the best model restored, as the fetal-brain study ran it; the `steps` budget is ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fgaug.errors import TrialError
from fgaug.recipe import Budget, Recipe
from fgaug.training import images as batches
from fgaug.training.augment import Augment, to_unit
from fgaug.training.images import Images
from fgaug.training.metrics import evaluate
from fgaug.training.models import Classifier
from fgaug.training.schedule import OneCycle, frozen_cycle, unfrozen_cycle

BETA2, EPS = 0.99, 1e-5  # fastai's Adam
FROZEN_SHARE = 21  # the thesis: one epoch of 21 is frozen; of a step budget the same share


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One evaluation on the way."""

    epoch: int | None  # 0 is the frozen epoch; None under a step budget
    step: int  # optimiser steps taken so far
    frozen: bool
    train_loss: float  # mean over the batches since the last evaluation
    valid: dict[str, float]  # metrics of the validation set
    images_seen: int
    train_s: float  # seconds of training so far, evaluation left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a finished training leaves; the model itself holds the best weights."""

    best: Point
    last: Point
    stopped_by: str  # budget or patience
    valid_probability: np.ndarray  # float64 [N, L], of the best evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    unit: str  # the budget's
    frozen: bool
    cycle: OneCycle
    first_step: int
    evaluate_after: frozenset[int]  # counted over all phases
    patience: int | None
    fresh_best: bool  # earlier evaluations do not compete (fastai resets its callbacks)


def fine_tune(
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
) -> Generator[Point, None, Fitted]:
    """Train `model` in place, yielding every evaluation, and return the best one.

    Args:
        model: on `device`.
        labels: names of the labels, in the order of the images' indices.
        augment: uint8 [N, C, H, W] on the device -> float32 in [0, 1].
        seed: of the order of the images.

    Raises:
        TrialError: the training or validation loss is not a number.
    """
    run = _Run(model, train, valid, labels, recipe, augment, device)
    order = _order(budget, len(train), recipe.batch_size, seed)
    best: Point | None = None
    kept: dict[str, torch.Tensor] = {}
    probability = np.empty(0)
    stopped_by = "budget"
    for phase in _phases(recipe, budget, len(train), model.group_count):
        run.begin(phase)
        waited = 0
        best = None if phase.fresh_best else best
        for point, found in run.evaluations(phase, order):
            if best is None or point.valid["loss"] < best.valid["loss"]:
                best, probability, waited = point, found, 0
                kept = {key: value.detach().clone() for key, value in model.state_dict().items()}
            else:
                waited += 1
            yield point
            if phase.patience is not None and waited >= phase.patience:
                stopped_by = "patience"
                break
    assert best is not None
    model.load_state_dict(kept)
    return Fitted(best=best, last=point, stopped_by=stopped_by, valid_probability=probability)


def predict(
    model: Classifier, images: Images, batch_size: int, device: torch.device
) -> np.ndarray:
    """Return the probabilities of all images, float64 [N, L]."""
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            index = np.arange(start, min(start + batch_size, len(images)))
            logits = model(to_unit(images.batch(index, device)))
            found.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
    return np.concatenate(found)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the batches of one pass over `count` images; an incomplete last one is left out."""
    return max(1, count // batch_size)


def total_steps(budget: Budget, count: int, batch_size: int) -> int:
    """Return the most optimiser steps a budget allows on `count` images."""
    if budget.unit == "steps":
        return budget.max
    return (1 + budget.max) * steps_per_epoch(count, batch_size)


def _order(budget: Budget, count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    make = batches.epochs if budget.unit == "epochs" else batches.stream
    return make(count, batch_size, seed)


def _phases(recipe: Recipe, budget: Budget, count: int, groups: int) -> tuple[_Phase, _Phase]:
    if budget.unit == "epochs":
        each = steps_per_epoch(count, recipe.batch_size)
        frozen, total = each, (1 + budget.max) * each
        at = frozenset(range(each, total + 1, each))
    else:
        frozen, total = max(1, round(budget.max / FROZEN_SHARE)), budget.max
        looks = budget.evaluations or 1
        at = frozenset(round(i * total / looks) for i in range(1, looks + 1))
    rate = recipe.learning_rate
    return (
        _Phase(
            unit=budget.unit,
            frozen=True,
            cycle=frozen_cycle(rate, groups, frozen),
            first_step=0,
            evaluate_after=at,
            patience=None,
            fresh_best=True,
        ),
        _Phase(
            unit=budget.unit,
            frozen=False,
            cycle=unfrozen_cycle(rate, recipe.lr_mult, groups, total - frozen),
            first_step=frozen,
            evaluate_after=at,
            patience=budget.patience,
            fresh_best=budget.unit == "epochs",
        ),
    )


class _Run:
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
        self.optimiser: torch.optim.AdamW

    def begin(self, phase: _Phase) -> None:
        """Freeze or unfreeze, and start with fresh moments as fastai does."""
        if phase.frozen:
            self.model.freeze()
        else:
            self.model.unfreeze()
        groups = self.model.parameter_groups(self.recipe.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, BETA2), eps=EPS, fused=True)

    def evaluations(
        self, phase: _Phase, order: Iterator[np.ndarray]
    ) -> Iterator[tuple[Point, np.ndarray]]:
        """Train through the phase; yield each evaluation with its probabilities."""
        loss_sum = torch.zeros((), device=self.device)
        batches_seen = 0
        started = time.perf_counter()
        self.model.train()
        for step in range(phase.cycle.steps):
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
        loss = F.cross_entropy(self.model(images), self.train.labels(index, self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        self.optimiser.step()
        self.images_seen += len(index)
        return loss.detach()

    def _evaluate(self, phase: _Phase, done: int, train_loss: float) -> tuple[Point, np.ndarray]:
        if not math.isfinite(train_loss):
            raise TrialError(
                f"The training loss became {train_loss} before step {done}. "
                "Lower `recipe.learning_rate`."
            )
        probability = predict(self.model, self.valid, 2 * self.recipe.batch_size, self.device)
        valid = evaluate(self.valid.label, probability, self.labels)
        if math.isnan(valid["loss"]):
            raise TrialError(
                f"The validation loss is not a number at step {done}. "
                "Lower `recipe.learning_rate`."
            )
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
