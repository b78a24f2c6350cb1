"""The controller of the augmentation's strength, against steps done by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from gan_worker.training.ada import AdaController


def run(controller: AdaController, signs: list[float], images: int) -> list[float]:
    """Return p after each iteration that sees these mean signs."""
    history = []
    for sign in signs:
        controller.see(torch.tensor(sign), images)
        history.append(controller.step())
    return history


def test_a_sequence_by_hand() -> None:
    """Batch 32 at 1 kimg: 4 x 32 images move p by 0.128."""
    controller = AdaController(target=0.6, batch=32, kimg=1)
    high, even, low = [0.5, 0.75, 1, 0.5], [0.5, 0.75, 0.65625, 0.49375], [1, 1, 0.25, 0]
    history = run(controller, high + high + even + low + low + low, 32)
    assert history == pytest.approx(
        [0, 0, 0, 0.128]  # mean 0.6875 is above 0.6
        + [0.128, 0.128, 0.128, 0.256]
        + [0.256] * 4  # the mean is 0.6: p stays
        + [0.256, 0.256, 0.256, 0.128]  # 0.5625, below
        + [0.128, 0.128, 0.128, 0]
        + [0] * 4  # never below 0
    )


def test_the_mean_is_over_images_and_not_over_calls() -> None:
    controller = AdaController(target=0.6, batch=10, kimg=1)
    for sign, images in ((1.0, 2), (1.0, 2), (1.0, 2), (0.4, 34)):  # 0.49 of images, 0.85 of calls
        controller.see(sign, images)
        p = controller.step()
    assert p == 0
    controller = AdaController(target=0.4, batch=10, kimg=1)
    assert run(controller, [1.0, 1.0, 1.0, -0.1], 10)[-1] == pytest.approx(0.04)


def test_p_rises_above_one() -> None:
    controller = AdaController(target=0.5, batch=100, kimg=1, p=0.9)
    assert run(controller, [1.0] * 8, 100)[-1] == pytest.approx(1.7)


def test_float_signs_that_equal_the_target_leave_p() -> None:
    """In float32 a mean of 12 of 20 is above 0.6."""
    sign = torch.tensor([1.0] * 16 + [-1.0] * 4).mean()
    assert sign.item() > 0.6
    controller = AdaController(target=0.6, batch=20, kimg=1, p=0.5)
    assert run(controller, [sign.item()] * 4, 20) == [0.5] * 4


def test_a_fixed_p_stays() -> None:
    controller = AdaController(target=None, batch=32, kimg=1, p=0.3)
    assert run(controller, [1.0] * 9, 32) == [0.3] * 9


def test_a_broken_sign_leaves_p() -> None:
    """The training itself stops at what is no number."""
    controller = AdaController(target=0.6, batch=32, kimg=1, p=0.3)
    assert run(controller, [math.nan] * 4, 32) == [0.3] * 4


def test_steps_that_saw_nothing_are_an_error() -> None:
    controller = AdaController(target=0.6, batch=32)
    assert [controller.step() for _ in range(3)] == [0] * 3
    with pytest.raises(AssertionError, match="without see"):
        controller.step()


@pytest.mark.parametrize("cut", range(9))
def test_a_restored_controller_goes_on_with_the_same_numbers(cut: int) -> None:
    signs = [0.9, 0.2, 0.7, 0.9, 0.1, 0.3, 1.0, 0.1, 0.8]
    whole = AdaController(target=0.6, batch=32, kimg=1, p=0.2)
    expected = run(whole, signs, 32)
    first = AdaController(target=0.6, batch=32, kimg=1, p=0.2)
    run(first, signs[:cut], 32)
    second = AdaController(target=0.6, batch=32, kimg=1)
    second.restore(json.loads(json.dumps(first.state())))
    assert run(second, signs[cut:], 32) == expected[cut:]
    assert second.state() == whole.state()
    assert expected[0] < expected[3] > expected[7]  # both kinds of steps were among them
