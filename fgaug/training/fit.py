"""The fine-tuning recipe: a frozen phase, then one cycle over all layers, the best look kept.

images -> [fit] -> curve, probabilities.  Facts of the recipe: fastai 2.8 `fine_tune` with early
stopping and the best model restored, as the fetal-brain study ran it; the `steps` budget is ours.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fgaug.errors import TrialError
from fgaug.recipe import Budget, Recipe
from fgaug.training import images as batches
from fgaug.training.augment import to_unit
from fgaug.training.images import Images
from fgaug.training.metrics import evaluate
from fgaug.training.models import Classifier
from fgaug.training.schedule import OneCycle, frozen_cycle, unfrozen_cycle

Augment = Callable[[torch.Tensor], torch.Tensor]  # uint8 [N, C, H, W] -> float32 in [0, 1]
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
    stopped_by: str  # budget, patience or scheduler
    valid_probability: np.ndarray  # float64 [N, L], of the best evaluation
    micro_batch: (
        int  # images whose gradients are taken at once: fewer than a batch if out of memory
    )
    oom_events: int  # how often a batch was halved


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    unit: str  # the budget's
    frozen: bool
    cycle: OneCycle
    first_step: int
    evaluate_after: frozenset[int]  # counted over all phases
    patience: int | None
    fresh_best: bool  # earlier evaluations do not compete (fastai resets its callbacks)


class FineTuning:
    """One training: iterate over it for its evaluations, then take what it leaves.

    Between two evaluations its state can be taken; a training that is given the state goes on as
    if it had never stopped, with the same numbers on the same device.

    Args:
        model: on `device`; trained in place.
        labels: names of the labels, in the order of the images' indices.
        augment: uint8 [N, C, H, W] on the device -> float32 in [0, 1].
        seed: of the order of the images.
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
    ) -> None:
        self.model, self.recipe, self.budget, self.device = model, recipe, budget, device
        self.run = _Run(model, train, valid, labels, recipe, augment, device)
        make = batches.epochs if budget.unit == "epochs" else batches.stream
        self.order = make(len(train), recipe.batch_size, seed)
        self.phases = _phases(recipe, budget, len(train), model.group_count)
        self.total = total_steps(budget, len(train), recipe.batch_size)
        self.steps, self.phase, self.begun = 0, 0, False
        self.best: Point | None = None
        self.last: Point | None = None
        self.kept: dict[str, torch.Tensor] = {}
        self.probability = np.empty(0)
        self.waited = 0  # evaluations since the best
        self.stopped_by: str | None = None

    def __iter__(self) -> Iterator[Point]:
        """Train on, yielding each evaluation.

        Raises:
            TrialError: the training or validation loss is not a number.
        """
        while self.stopped_by is None and self.phase < len(self.phases):
            phase = self.phases[self.phase]
            if not self.begun:
                self._begin(phase)
            for point, found in self.run.evaluations(
                phase, max(self.steps, phase.first_step), self.order
            ):
                ended = self._note(phase, point, found)
                yield point
                if ended:
                    return
            self.phase, self.begun = self.phase + 1, False

    def _begin(self, phase: _Phase) -> None:
        self.run.begin(phase)
        self.begun, self.waited = True, 0
        self.best = None if phase.fresh_best else self.best

    def _note(self, phase: _Phase, point: Point, found: np.ndarray) -> bool:
        """Keep the best evaluation; return whether patience is at its end."""
        self.steps, self.last = point.step, point
        if self.best is None or point.valid["loss"] < self.best.valid["loss"]:
            self.best, self.probability, self.waited = point, found, 0
            state = self.model.state_dict()
            self.kept = {key: value.detach().clone() for key, value in state.items()}
        else:
            self.waited += 1
        if phase.patience is not None and self.waited >= phase.patience:
            self.stopped_by = "patience"
        elif point.step == self.total:
            self.stopped_by = "budget"
        return self.stopped_by is not None

    @property
    def share(self) -> float:
        """How much of the budget is used, 1 where the training has ended."""
        return 1.0 if self.stopped_by is not None else self.steps / self.total

    def finish(self) -> Fitted:
        """Put the best weights back into the model and return what was found."""
        assert self.best is not None
        assert self.last is not None
        self.model.load_state_dict(self.kept)
        return Fitted(
            best=self.best,
            last=self.last,
            stopped_by=self.stopped_by or "scheduler",
            valid_probability=self.probability,
            micro_batch=self.run.micro_batch,
            oom_events=self.run.oom_events,
        )

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on; plain values and tensors."""
        assert self.best is not None
        assert self.last is not None
        return {
            "steps": self.steps,
            "phase": self.phase,
            "waited": self.waited,
            "stopped_by": self.stopped_by,
            "model": self.model.state_dict(),
            "optimiser": self.run.optimiser.state_dict(),
            "kept": None if self.best is self.last else self.kept,
            "best": asdict(self.best),
            "last": asdict(self.last),
            "probability": torch.from_numpy(self.probability),
            "costs": [self.run.images_seen, self.run.train_s, self.run.looks],
            "memory": [self.run.micro_batch, self.run.oom_events],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that the same training, made anew, has given before."""
        self.phase, self.begun = state["phase"], True
        self.run.begin(self.phases[self.phase])
        self.model.load_state_dict(state["model"])
        self.run.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.waited = state["steps"], state["waited"]
        self.stopped_by = state["stopped_by"]
        self.best, self.last = Point(**state["best"]), Point(**state["last"])
        self.probability = state["probability"].numpy()
        kept = state["model"] if state["kept"] is None else state["kept"]
        self.kept = {key: value.detach().clone().to(self.device) for key, value in kept.items()}
        self.run.images_seen, self.run.train_s, self.run.looks = state["costs"]
        self.run.micro_batch, self.run.oom_events = state["memory"]
        for _ in range(self.steps):  # the order of the images is drawn again, which costs nothing
            next(self.order)


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


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the batches of one pass over `count` images; an incomplete last one is left out."""
    return max(1, count // batch_size)


def total_steps(budget: Budget, count: int, batch_size: int) -> int:
    """Return the most optimiser steps a budget allows on `count` images."""
    if budget.unit == "steps":
        return budget.max
    return (1 + budget.max) * steps_per_epoch(count, batch_size)


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
        self.micro_batch, self.oom_events = recipe.batch_size, 0
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
        self, phase: _Phase, taken: int, order: Iterator[np.ndarray]
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
        count = -(-len(images) // self.micro_batch)  # of parts, as equal as can be
        parts = (torch.tensor_split(whole, count) for whole in (images, labels))
        for some, of in zip(*parts, strict=True):
            loss = F.cross_entropy(self.model(some), of, reduction="sum") / len(images)
            loss.backward()  # type: ignore[no-untyped-call]  # as above
            total += loss.detach()
        return total

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
