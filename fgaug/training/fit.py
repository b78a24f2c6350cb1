"""The fine-tuning recipe: a frozen phase, then one cycle over all layers, the best look kept.

images -> [fit] -> curve, probabilities.  Facts of the recipe: fastai 2.8 `fine_tune` with early
stopping and the best model restored, as the fetal-brain study ran it; the `steps` budget is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from fgaug.recipe import Budget, Recipe
from fgaug.training import images as batches
from fgaug.training.backend import Fitted, Point
from fgaug.training.budgets import look_steps, steps_per_epoch, total_steps
from fgaug.training.images import Images
from fgaug.training.models import Classifier
from fgaug.training.schedule import frozen_cycle, unfrozen_cycle
from fgaug.training.steps import Augment, Phase, Steps

FROZEN_SHARE = 21  # the thesis: one epoch of 21 is frozen; of a step budget the same share


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
        self.run = Steps(model, train, valid, labels, recipe, augment, device)
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

    def _begin(self, phase: Phase) -> None:
        self.run.begin(phase)
        self.begun, self.waited = True, 0
        self.best = None if phase.fresh_best else self.best

    def _note(self, phase: Phase, point: Point, found: np.ndarray) -> bool:
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
            valid=self.best.valid,
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


def _phases(recipe: Recipe, budget: Budget, count: int, groups: int) -> tuple[Phase, Phase]:
    if budget.unit == "epochs":
        frozen = steps_per_epoch(count, recipe.batch_size)
    else:
        frozen = max(1, round(budget.max / FROZEN_SHARE))
    total = total_steps(budget, count, recipe.batch_size)
    at = look_steps(budget, count, recipe.batch_size)
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
