"""Fine-tuning: budgets, patience, the best restored, and a replay by a loop written apart."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fgaug.errors import TrialError
from fgaug.grid.recipe import Budget, Recipe
from fgaug.training import metrics
from fgaug.training.budget import total_steps
from fgaug.training.images import Images, epochs, stream
from fgaug.training.learner import Evaluation, TrainingResult
from fgaug.training.pytorch import augmentation, fine_tuning
from fgaug.training.pytorch.fastai_augment import to_unit
from fgaug.training.pytorch.fine_tuning import FineTuning, parts_of, predict
from fgaug.training.pytorch.models import Classifier

CPU = torch.device("cpu")
NAMES = ("dark", "light")


class TinyBody(nn.Module):
    """Two convolutions with norms, in the form that a classifier takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(self.first(x))
        return found


def tiny(seed: int = 0, dropout: float = 0.5) -> Classifier:
    torch.manual_seed(seed)
    body = TinyBody()
    half = (0.5, 0.5, 0.5)
    return Classifier(body, [body.first, body.second], 6, 2, dropout, half, half)


def images(count: int, seed: int = 0, size: int = 12) -> Images:
    """Return noise, a bit lighter for the second label."""
    draw = np.random.RandomState(seed)
    label = np.arange(count) % 2
    pixels = draw.randint(0, 200, (count, size, size, 1)) + 12 * label[:, None, None, None]
    row = np.arange(count)
    return Images(
        sources=[pixels.astype(np.uint8)], source=np.zeros(count, int), row=row, label=label
    )


def points(
    model: Classifier,
    budget: Budget,
    *,
    recipe: Recipe | None = None,
    train: Images | None = None,
    valid: Images | None = None,
    seed: int = 3,
) -> Iterator[Evaluation | TrainingResult]:
    """Yield every evaluation, then the outcome."""
    recipe = recipe or Recipe(batch_size=8)
    training = FineTuning(
        model,
        train or images(40),
        valid or images(20, seed=1),
        NAMES,
        recipe=recipe,
        budget=budget,
        augment=augmentation.build(recipe, 7, CPU),
        seed=seed,
        device=CPU,
    )
    yield from training
    yield training.finish()


def trained(
    model: Classifier, budget: Budget, **given: object
) -> tuple[list[Evaluation], TrainingResult]:
    *curve, outcome = points(model, budget, **given)
    assert isinstance(outcome, TrainingResult)
    return [point for point in curve if isinstance(point, Evaluation)], outcome


def with_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Let evaluations find these validation losses, one after the other."""
    left = iter(losses)
    real = metrics.evaluate

    def evaluate(*given: object) -> dict[str, float]:
        return {**real(*given), "loss": next(left)}

    monkeypatch.setattr(metrics, "evaluate", evaluate)


@pytest.mark.parametrize(
    "budget", [Budget(max=2), Budget(unit="steps", max=12, evaluations=3)], ids=lambda b: b.unit
)
def test_the_same_seeds_give_the_same_numbers(budget: Budget) -> None:
    first, second = (trained(tiny(), budget)[1].valid_probability for _ in range(2))
    assert np.array_equal(first, second)
    other = trained(tiny(), budget, seed=4)[1].valid_probability
    assert not np.array_equal(first, other)


def test_an_epochs_budget_is_one_frozen_epoch_and_max_more() -> None:
    curve, fitted = trained(tiny(), Budget(max=4, patience=9))
    assert [point.epoch for point in curve] == [0, 1, 2, 3, 4]
    assert [point.frozen for point in curve] == [True, False, False, False, False]
    assert [point.step for point in curve] == [5, 10, 15, 20, 25]
    assert [point.images_seen for point in curve] == [40, 80, 120, 160, 200]
    assert fitted.stopped_by == "budget"
    assert fitted.last == curve[-1]
    assert total_steps(Budget(max=4), 40, 8) == 25


@pytest.mark.parametrize(("steps", "frozen"), [(2, 1), (12, 1), (31, 1), (32, 2), (63, 3)])
def test_a_steps_budget_takes_exactly_its_steps(
    steps: int, frozen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[bool, int, int]] = []  # frozen, step of its cycle, batch
    real = fine_tuning.Steps._step

    def count(
        self: fine_tuning.Steps, cycle: object, step: int, index: np.ndarray
    ) -> torch.Tensor:
        is_frozen = not next(self.model.body.parameters()).requires_grad
        taken.append((is_frozen, step, len(index)))
        return real(self, cycle, step, index)

    monkeypatch.setattr(fine_tuning.Steps, "_step", count)
    looks = min(steps, 5)
    curve, fitted = trained(tiny(), Budget(unit="steps", max=steps, evaluations=looks))
    assert taken == [
        *((True, step, 8) for step in range(frozen)),
        *((False, step, 8) for step in range(steps - frozen)),
    ]
    assert [p.step for p in curve] == [round(i * steps / looks) for i in range(1, looks + 1)]
    assert [p.frozen for p in curve] == [p.step <= frozen for p in curve]
    assert {p.epoch for p in curve} == {None}
    assert fitted.last.step == steps
    assert fitted.last.images_seen == 8 * steps
    assert total_steps(Budget(unit="steps", max=steps, evaluations=looks), 40, 8) == steps


def test_a_steps_budget_does_not_depend_on_the_number_of_images() -> None:
    budget = Budget(unit="steps", max=9, evaluations=3)
    few, many = (trained(tiny(), budget, train=images(count))[0] for count in (11, 60))
    assert [(p.step, p.images_seen) for p in few] == [(p.step, p.images_seen) for p in many]


def test_patience_counts_evaluations_without_a_new_best(monkeypatch: pytest.MonkeyPatch) -> None:
    # the frozen epoch's loss is the lowest, and does not count; an equal loss is no improvement
    with_losses(monkeypatch, [0.1, 0.9, 0.8, 0.8, 0.85, 0.7, 0.75, 0.7, 0.9, 0.1])
    curve, fitted = trained(tiny(), Budget(max=20, patience=3))
    assert len(curve) == 9
    assert fitted.stopped_by == "patience"
    assert (fitted.best.epoch, fitted.last.epoch) == (5, 8)
    assert fitted.best.valid["loss"] == 0.7


def test_patience_is_not_used_up_by_the_frozen_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    with_losses(monkeypatch, [0.1, 0.9, 0.95, 0.5])
    curve, fitted = trained(tiny(), Budget(max=20, patience=1))
    assert [point.epoch for point in curve] == [0, 1, 2]
    assert fitted.best.epoch == 1


def test_all_looks_of_a_steps_budget_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    with_losses(monkeypatch, [0.1, *itertools.repeat(0.5, 20)])
    _, fitted = trained(tiny(), Budget(unit="steps", max=21))
    assert (fitted.best.step, fitted.best.frozen) == (1, True)
    assert (fitted.last.step, fitted.stopped_by) == (21, "budget")


@pytest.mark.parametrize("best", [1, 3, 5])
def test_the_best_evaluation_is_restored(best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [0.5] * 6
    losses[best] = 0.4
    with_losses(monkeypatch, losses)
    model, states = tiny(), []
    for point in points(model, Budget(max=5, patience=9)):
        if isinstance(point, TrainingResult):
            fitted = point
        else:
            states.append(copy.deepcopy(model.state_dict()))
    assert fitted.best.epoch == best
    restored = model.state_dict()
    assert all(torch.equal(value, restored[name]) for name, value in states[best].items())
    assert np.array_equal(predict(model, images(20, seed=1), 16, CPU), fitted.valid_probability)


def test_a_huge_learning_rate_stops_by_patience() -> None:
    recipe = Recipe(batch_size=8, learning_rate=30.0)
    curve, fitted = trained(tiny(), Budget(max=40, patience=2), recipe=recipe)
    assert fitted.stopped_by == "patience"
    assert fitted.best.epoch is not None
    assert len(curve) == fitted.best.epoch + 3
    assert fitted.best.valid["loss"] == min(point.valid["loss"] for point in curve[1:])


@pytest.mark.parametrize("count", [2, 5, 7])
@pytest.mark.parametrize(
    "budget", [Budget(max=2), Budget(unit="steps", max=4, evaluations=2)], ids=lambda b: b.unit
)
def test_fewer_images_than_a_batch(count: int, budget: Budget) -> None:
    curve, _ = trained(tiny(), budget, train=images(count))
    each = count if budget.unit == "epochs" else 8  # a batch of steps repeats images
    assert curve[-1].images_seen == curve[-1].step * each


def poison(model: Classifier) -> None:
    with torch.no_grad():
        model.head[-1].weight.fill_(math.nan)


def test_a_training_loss_that_is_no_number_fails_the_trial() -> None:
    model = tiny()
    poison(model)
    with pytest.raises(TrialError, match="training loss became nan before step 5"):
        trained(model, Budget(max=2))


def test_a_validation_loss_that_is_no_number_fails_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = fine_tuning.Steps._step

    def last_step_overflows(self: fine_tuning.Steps, *given: object) -> torch.Tensor:
        loss = real(self, *given)
        poison(self.model)
        return loss

    monkeypatch.setattr(fine_tuning.Steps, "_step", last_step_overflows)
    with pytest.raises(TrialError, match="validation loss became NaN at step 1"):
        trained(tiny(), Budget(unit="steps", max=2))


def test_predictions_do_not_depend_on_the_batch_and_leave_the_model_alone() -> None:
    model, some = tiny(), images(21)
    before = copy.deepcopy(model.state_dict())
    whole, parts = predict(model, some, 64, CPU), predict(model, some, 4, CPU)
    assert whole.shape == (21, 2)
    assert whole.dtype == np.float64
    assert np.allclose(whole.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(whole, parts, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def cosine(start: float, end: float, part: float) -> float:
    return start + (1 - math.cos(math.pi * part)) * (end - start) / 2


def replay(model: Classifier, train: Images, order: Iterator[np.ndarray]) -> list[float]:
    """Return the losses of 2 frozen and 4 other steps, by a loop that shares nothing with `fit`.

    AdamW, freezing and rates are written out from fastai's description: beta2 .99, eps 1e-5,
    decoupled decay .01 except for norms and biases, moments that start afresh unfrozen.
    """
    parts = [model.body.first, model.body.second, model.head]
    losses = []
    for frozen, total in ((True, 2), (False, 4)):
        peaks = [2e-4, 2e-4, 2e-3] if frozen else [1e-5, 1e-4, 1e-3]
        rise, divisor = (0.99, 25) if frozen else (0.3, 5)
        learns = []  # parameter, its peak, its decay, its moments
        for number, part in enumerate(parts):
            for module in part.modules():
                norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
                for name, parameter in module.named_parameters(recurse=False):
                    parameter.requires_grad_(True)
                    if not frozen or norm or number == 2:
                        decay = 0.0 if norm or name == "bias" else 0.01
                        moments = [torch.zeros_like(parameter), torch.zeros_like(parameter)]
                        learns.append((parameter, peaks[number], decay, moments))
        for step in range(total):
            done = step / total
            up = done < rise
            share = done / rise if up else (done - rise) / (1 - rise)
            beta1 = cosine(0.95, 0.85, share) if up else cosine(0.85, 0.95, share)
            index = next(order)
            x = torch.from_numpy(train.sources[0][index]).double().permute(0, 3, 1, 2) / 255
            loss = F.cross_entropy(model(x), torch.from_numpy(train.label[index]))
            grads = torch.autograd.grad(loss, [parameter for parameter, *_ in learns])
            losses.append(loss.item())
            with torch.no_grad():
                for (parameter, peak, decay, moments), grad in zip(learns, grads, strict=True):
                    rate = (
                        cosine(peak / divisor, peak, share)
                        if up
                        else cosine(peak, peak / 1e5, share)
                    )
                    moments[0] = moments[0] * beta1 + grad * (1 - beta1)
                    moments[1] = moments[1] * 0.99 + grad * grad * 0.01
                    mean = moments[0] / (1 - beta1 ** (step + 1))
                    spread = (moments[1] / (1 - 0.99 ** (step + 1))).sqrt() + 1e-5
                    parameter.mul_(1 - rate * decay).sub_(rate * mean / spread)
    return losses


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_a_replay_in_double_precision_gives_the_same_losses(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, seen = images(16), []
    real = fine_tuning.Steps._step

    def noted(self: fine_tuning.Steps, *given: object) -> torch.Tensor:
        loss = real(self, *given)
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(fine_tuning.Steps, "_step", noted)
    monkeypatch.setattr(fine_tuning, "to_unit", lambda batch: batch.double() / 255)
    monkeypatch.setattr(
        fine_tuning, "FROZEN_SHARE", 3
    )  # of 6 steps 2 are frozen, as the replay has it
    budget = Budget(max=2) if unit == "epochs" else Budget(unit="steps", max=6)
    recipe = Recipe(batch_size=8, augmentation="none")
    model = tiny(dropout=0.0).double()
    list(
        FineTuning(
            model,
            train,
            images(8, seed=1),
            NAMES,
            recipe=recipe,
            budget=budget,
            augment=lambda batch: batch.double() / 255,
            seed=11,
            device=CPU,
        )
    )
    order = epochs(16, 8, 11) if unit == "epochs" else stream(16, 8, 11)
    expected = replay(tiny(dropout=0.0).double().train(), train, order)
    assert len(seen) == 6
    assert seen == pytest.approx(expected, rel=0, abs=1e-7)


def test_validation_sees_plain_pixels() -> None:
    model, some = tiny().eval(), images(5)
    with torch.no_grad():
        logits = model(to_unit(some.batch(np.arange(5), CPU)))
    expected = torch.softmax(logits.double(), dim=1).numpy()
    assert np.array_equal(predict(model, some, 5, CPU), expected)


def without_batch_norm(model: Classifier) -> Classifier:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(module, name, nn.Identity())
    return model


@pytest.mark.parametrize(("fits", "micro"), [(5, 4), pytest.param(3, 2, marks=pytest.mark.slow)])
def test_out_of_memory_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch, fits: int, micro: int
) -> None:
    """The same numbers but for rounding, where the model has no BatchNorm."""
    budget = Budget(unit="steps", max=6, evaluations=3)
    _, whole = trained(without_batch_norm(tiny(dropout=0.0)), budget)
    assert (whole.micro_batch, whole.oom_events) == (8, 0)
    forward = Classifier.forward

    def small(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        if len(x) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(Classifier, "forward", small)
    _, halved = trained(without_batch_norm(tiny(dropout=0.0)), budget)
    assert (halved.micro_batch, halved.oom_events) == (micro, {4: 1, 2: 2}[micro])
    assert halved.valid_probability == pytest.approx(whole.valid_probability, abs=1e-5)


def test_out_of_memory_with_two_images_fails_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Classifier, "forward", never)
    with pytest.raises(TrialError, match="2 images at a time"):
        trained(tiny(), Budget(unit="steps", max=2))


@pytest.mark.parametrize("images", [2, 3, 4, 5, 7, 8, 9, 31, 33])
@pytest.mark.parametrize("most", [2, 3, 4, 16])
def test_no_part_of_a_batch_has_a_single_image(images: int, most: int) -> None:
    sizes = [len(part) for part in np.array_split(np.arange(images), parts_of(images, most))]
    assert sum(sizes) == images
    assert min(sizes) >= 2
    assert max(sizes) <= max(most, 3)
    if images % 2 == 0 or most > 2:
        assert max(sizes) <= most


def test_a_batch_of_one_image_stays_one() -> None:
    assert parts_of(1, 2) == 1
