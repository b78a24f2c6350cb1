"""The distribution of every stream of draws that a training makes: head, dropout, order, images.

fastai's facts are the truth here: what is drawn, how often, between which bounds. All four are
watched in trainings that run as trials do, around a body that costs nothing, as no draw depends on
a value. Each test is seeded; its bounds are five standard errors, or p = .001 of a test of fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from fgaug.core.seeding import stream_seed
from fgaug.grid.recipe import Budget, Recipe
from fgaug.training import weights
from fgaug.training.images import Images, epochs, stream
from fgaug.training.pytorch import fastai_augment
from fgaug.training.pytorch.fine_tuning import predict
from fgaug.training.pytorch.learner import TorchLearner

NAMES = ("benign", "malignant")
COUNT, BATCH, EPOCHS = 200, 64, 15  # 3 steps an epoch, 8 images left out of each
STEPS = 3 * (1 + EPOCHS)
SEEDS = (3, 4)
LOG_CONTRAST = -math.log(0.8)


@dataclass(slots=True)
class Seen:
    """What one training drew."""

    head: dict[str, torch.Tensor]  # state of the head before the first step
    masks: list[list[np.ndarray]] = field(default_factory=lambda: [[], []])  # dropped, a step each
    order: list[np.ndarray] = field(default_factory=list)  # rows of each batch
    parameters: dict[str, list[np.ndarray]] = field(default_factory=dict)  # [images], a step each

    @property
    def linear(self) -> list[np.ndarray]:
        """The head's two weight matrices."""
        return [value.numpy() for value in self.head.values() if value.ndim == 2]

    def values(self, name: str) -> np.ndarray:
        """One parameter of the augmentation, [steps, images]."""
        return np.concatenate(self.parameters[name]).reshape(STEPS, BATCH)


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    return [_watch(seed) for seed in SEEDS]


def learner_of(seed: int) -> TorchLearner:
    """Return the learner of a trial, around a body that costs nothing."""
    learner = TorchLearner(Recipe(model=weights.LITE0, batch_size=BATCH), NAMES, seed, "cpu")
    body = learner.model.body
    body.forward_features = lambda x: x.mean(dim=(1, 2, 3))[:, None, None, None].expand(
        -1, body.num_features, 2, 2
    )
    return learner


def images(seed: int) -> Images:
    row = np.arange(COUNT)
    pixels = np.random.RandomState(seed).randint(0, 256, (COUNT, 8, 8, 1), dtype=np.uint8)
    return Images(sources=[pixels], source=np.zeros(COUNT, np.int64), row=row, label=row % 2)


def _watch(seed: int) -> Seen:
    learner = learner_of(seed)
    state = learner.model.head.state_dict()
    seen = Seen(head={name: value.clone() for name, value in state.items()})
    layers = [layer for layer in learner.model.head if isinstance(layer, nn.Dropout)]
    for masks, layer in zip(seen.masks, layers, strict=True):
        layer.register_forward_hook(_mask_hook(masks))
    budget = Budget(unit="epochs", max=EPOCHS, patience=EPOCHS)
    training = learner.train(images(0), images(1), budget, stream_seed(seed, "order"))
    training.order = _kept(training.order, seen.order)
    with pytest.MonkeyPatch.context() as patch:
        _watch_parameters(patch, seen.parameters)
        for _ in training:
            pass
    return seen


def _mask_hook(masks: list[np.ndarray]) -> Callable[..., None]:
    def hook(layer: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> None:
        if layer.training:
            masks.append((out == 0).numpy() & (given[0] != 0).numpy())
        else:
            assert torch.equal(out, given[0])

    return hook


def _kept(order: Iterator[np.ndarray], rows: list[np.ndarray]) -> Iterator[np.ndarray]:
    for batch in order:
        rows.append(batch.copy())
        yield batch


def _watch_parameters(patch: pytest.MonkeyPatch, found: dict[str, list[np.ndarray]]) -> None:
    """Keep the arguments of the three functions that every drawn parameter goes through."""
    for function, names in (
        ("flip_rotate_zoom", ("flip", "angle", "scale", "centre_x", "centre_y")),
        ("warp_homography", ("warp_x", "warp_y")),
        ("relight", (None, "brightness", "contrast")),
    ):
        patch.setattr(
            fastai_augment, function, _watched(getattr(fastai_augment, function), names, found)
        )


def _watched(
    function: Callable[..., torch.Tensor],
    names: tuple[str | None, ...],
    found: dict[str, list[np.ndarray]],
) -> Callable[..., torch.Tensor]:
    def call(*given: torch.Tensor) -> torch.Tensor:
        for name, value in zip(names, given, strict=True):
            if name is not None:
                found.setdefault(name, []).append(value.numpy().copy())
        return function(*given)

    return call


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def uncorrelated(a: np.ndarray, b: np.ndarray) -> bool:
    return abs(correlation(a, b)) < 5 / math.sqrt(a.size)


class TestHead:
    @pytest.mark.parametrize(("layer", "inputs"), [(0, 2560), (1, 512)])
    def test_weights_are_normal_with_kaimings_spread(
        self, seen: list[Seen], layer: int, inputs: int
    ) -> None:
        for one in seen:
            values = one.linear[layer].ravel()[:100_000] / math.sqrt(2 / inputs)
            assert stats.ks_1samp(values, stats.norm.cdf).pvalue > 0.001
            assert abs(stats.kurtosis(values)) < 5 * math.sqrt(24 / len(values))

    def test_rows_layers_and_seeds_have_nothing_in_common(self, seen: list[Seen]) -> None:
        (first, last), (other_first, other_last) = (one.linear for one in seen)
        assert uncorrelated(last[0], last[1])
        assert uncorrelated(first[:-1], first[1:])
        assert uncorrelated(first[:2, :512], last)
        assert uncorrelated(first, other_first)
        assert uncorrelated(last, other_last)

    def test_norms_start_as_fastais(self, seen: list[Seen]) -> None:
        for name, start in (
            ("weight", 1),
            ("bias", 1e-3),
            ("running_mean", 0),
            ("running_var", 1),
        ):
            values = [value for key, value in seen[0].head.items() if key.endswith(f".{name}")]
            one_a_channel = [value for value in values if value.ndim == 1]
            assert [len(value) for value in one_a_channel] == [2560, 512]
            assert all(torch.all(value == start) for value in one_a_channel)

    def test_what_was_drawn_before_changes_nothing(self) -> None:
        torch.manual_seed(99)
        torch.rand(1000)
        one = learner_of(5).model.head.state_dict()
        two = learner_of(5).model.head.state_dict()
        assert all(torch.equal(one[name], two[name]) for name in two)


@pytest.mark.parametrize(("layer", "rate"), [(0, 0.25), (1, 0.5)])
class TestDropout:
    def test_rate_over_all_within_images_and_within_units(
        self, seen: list[Seen], layer: int, rate: float
    ) -> None:
        for one in seen:
            masks = np.stack(one.masks[layer])
            steps, count, units = masks.shape
            assert (steps, count) == (STEPS, BATCH)
            assert abs(masks.mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / masks.size)
            for rates, size in (
                (masks.mean(axis=2), units),
                (masks.mean(axis=(0, 1)), 64 * steps),
            ):
                chance = math.sqrt(rate * (1 - rate) / size)
                assert abs(rates.std() / chance - 1) < 5 / math.sqrt(2 * rates.size)

    def test_each_image_step_epoch_and_seed_has_its_own_mask(
        self, seen: list[Seen], layer: int, rate: float
    ) -> None:
        masks, others = (np.stack(one.masks[layer]) for one in seen)
        assert uncorrelated(masks[:, 1:], masks[:, :-1])
        assert uncorrelated(masks[1:], masks[:-1])
        assert uncorrelated(masks[3:], masks[:-3])  # an evaluation lies between
        assert uncorrelated(masks[:45], masks[3:])  # frozen epoch and later ones
        assert uncorrelated(masks, others)
        assert len({mask.tobytes() for mask in masks.reshape(-1, masks.shape[-1])}) == STEPS * 64


def test_the_two_dropouts_and_the_head_are_drawn_apart(seen: list[Seen]) -> None:
    first, second = (np.stack(masks) for masks in seen[0].masks)
    units = second.shape[-1]
    assert all(uncorrelated(first[..., k : k + units], second) for k in (0, units, 4 * units))
    weight = seen[0].linear[0].ravel()[: first[0].size]
    assert uncorrelated(weight, first[0].ravel())


def test_an_evaluation_draws_nothing() -> None:
    learner = learner_of(6)
    before, augmentation = torch.get_rng_state(), learner.augment.state()
    for batch_size in (128, 7):
        predict(learner.model, images(1), batch_size, learner.device)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(augmentation, learner.augment.state())


class TestOrder:
    def test_each_epoch_takes_no_image_twice(self, seen: list[Seen]) -> None:
        for one in seen:
            for step in range(0, STEPS, 3):
                epoch = np.concatenate(one.order[step : step + 3])
                assert len(np.unique(epoch)) == 3 * BATCH

    @pytest.mark.parametrize("seed", SEEDS)
    def test_each_image_is_left_out_equally_often(self, seed: int) -> None:
        batches = itertools.islice(epochs(COUNT, BATCH, stream_seed(seed, "order")), 3 * 600)
        used = np.bincount(np.concatenate(list(batches)), minlength=COUNT)
        left_out = 600 - used  # binomial(600, 8 / 200); of 200 images, 8 an epoch: almost free
        variance = 600 * 0.04 * 0.96 * COUNT / (COUNT - 1)
        chi2 = float(np.sum((left_out - 24) ** 2) / variance)
        assert left_out.sum() == 600 * 8
        assert 0.0005 < stats.chi2.cdf(chi2, COUNT - 1) < 0.9995

    @pytest.mark.parametrize("make", [epochs, stream])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_places_are_drawn_anew_each_pass(
        self, make: Callable[[int, int, int], Iterator[np.ndarray]], seed: int
    ) -> None:
        batches = list(itertools.islice(make(COUNT, 50, stream_seed(seed, "order")), 4 * 200))
        passes = np.concatenate(batches).reshape(200, COUNT)
        assert np.array_equal(np.sort(passes, axis=1), np.tile(np.arange(COUNT), (200, 1)))
        place = passes.argsort(axis=1)
        assert uncorrelated(place[1:], place[:-1])
        assert uncorrelated(place, np.tile(np.arange(COUNT), (200, 1)))
        assert uncorrelated(passes[:, 1:], passes[:, :-1])

    def test_seeds_have_nothing_in_common(self, seen: list[Seen]) -> None:
        one, two = (np.concatenate(each.order) for each in seen)
        assert uncorrelated(one, two)


# parameter, chance to be drawn, value otherwise, bounds of the uniform draw, its scale
DRAWN = [
    ("angle", 0.75, 0.0, -10 * math.pi / 180, 10 * math.pi / 180, None),
    ("scale", 0.75, 1.0, 1.0, 1.1, np.reciprocal),  # a zoom of 1.1 samples 1 / 1.1 of the side
    ("centre_x", 1.0, -1.0, 0.0, 1.0, None),
    ("centre_y", 1.0, -1.0, 0.0, 1.0, None),
    ("warp_x", 0.75, 0.0, -0.2, 0.2, None),
    ("warp_y", 0.75, 0.0, -0.2, 0.2, None),
    ("brightness", 0.75, 0.5, 0.4, 0.6, None),
    ("contrast", 0.75, 1.0, -LOG_CONTRAST, LOG_CONTRAST, np.log),
]


class TestAugmentation:
    @pytest.mark.parametrize(("name", "chance", "neutral", "low", "high", "scale"), DRAWN)
    def test_each_parameter_is_drawn_as_often_and_as_far_as_fastais(
        self,
        seen: list[Seen],
        name: str,
        chance: float,
        neutral: float,
        low: float,
        high: float,
        scale: Callable[[np.ndarray], np.ndarray] | None,
    ) -> None:
        for one in seen:
            values = one.values(name).ravel()
            drawn = values[~np.isclose(values, neutral, rtol=0, atol=1e-7)]
            error = math.sqrt(chance * (1 - chance) / len(values))
            assert abs(len(drawn) / len(values) - chance) <= 5 * error + 0.001
            drawn = scale(drawn) if scale else drawn
            assert stats.ks_1samp(drawn, stats.uniform(low, high - low).cdf).pvalue > 0.001

    def test_half_of_the_images_are_flipped(self, seen: list[Seen]) -> None:
        for one in seen:
            flip = one.values("flip")
            assert set(np.unique(flip)) == {-1.0, 1.0}
            assert abs(float(flip.mean())) < 5 / math.sqrt(flip.size)

    def test_parameters_images_steps_and_seeds_have_nothing_in_common(
        self, seen: list[Seen]
    ) -> None:
        names = ["flip", *(name for name, *_ in DRAWN)]
        for one, other in itertools.combinations(names, 2):
            assert uncorrelated(seen[0].values(one), seen[0].values(other)), (one, other)
        for name in names:
            values, others = (each.values(name) for each in seen)
            assert uncorrelated(values[:, 1:], values[:, :-1]), name
            assert uncorrelated(values[1:], values[:-1]), name
            assert uncorrelated(values[3:], values[:-3]), name  # an evaluation lies between
            assert uncorrelated(values, others), name

    def test_the_stream_is_not_the_one_of_head_and_dropout(self, seen: list[Seen]) -> None:
        """A common generator would still be right; a common seed would tie the two together."""
        one = np.stack(seen[0].masks[1])[:, :, 0]
        assert uncorrelated(seen[0].values("centre_x"), one)
        purposes: Any = {stream_seed(3, name) for name in ("weights", "augmentation", "order")}
        assert len(purposes) == 3
