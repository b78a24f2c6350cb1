"""Augmentation: fastai's numbers, its draws and ranges, and albumentations from a grid file."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fgaug.errors import GridError
from fgaug.grid.recipe import Recipe
from fgaug.training.pytorch import augmentation, fastai_augment
from fgaug.training.pytorch.fastai_augment import fastai_transform, to_unit

GOLDENS = Path(__file__).parent / "data" / "fastai"
CPU = torch.device("cpu")


def pixels(n: int = 8, channels: int = 1, size: int = 32, seed: int = 0) -> torch.Tensor:
    drawn = np.random.RandomState(seed).randint(0, 256, (n, channels, size, size))
    return torch.from_numpy(drawn.astype(np.uint8))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def golden(name: str) -> tuple[torch.Tensor, np.ndarray]:
    with np.load(GOLDENS / name) as file:
        return to_unit(torch.from_numpy(file["in_u8"]))[:, None], file["out"]


def test_fastai_numbers() -> None:
    x, expected = golden("aug_n16_seed7.npz")
    out = fastai_transform(x, seeded(7))[:, 0].numpy()
    assert np.abs(out - expected).max() <= 1e-6


def test_fastai_numbers_within_a_larger_batch() -> None:
    x, expected = golden("aug_seed123.npz")
    whole = torch.cat([x, torch.zeros(48, 1, 128, 128)])  # draws are made for 64 images
    out = fastai_transform(whole, seeded(123))[:16, 0].numpy()
    assert np.abs(out - expected / 65535).max() <= 1e-5


def test_other_seeds_give_other_images() -> None:
    x, expected = golden("aug_n16_seed7.npz")
    assert np.abs(fastai_transform(x, seeded(8))[:, 0].numpy() - expected).mean() > 0.01


def test_colour_is_three_times_grey() -> None:
    grey = to_unit(pixels())
    colour = fastai_transform(grey.expand(-1, 3, -1, -1), seeded(1))
    assert torch.allclose(
        colour, fastai_transform(grey, seeded(1)).expand(-1, 3, -1, -1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["fastai", ({"HorizontalFlip": {"p": 0.5}},)])
def test_a_recipe_draws_the_same_twice_and_goes_on_drawing(kind: Any) -> None:
    batch = pixels()
    first = augmentation.build(Recipe(augmentation=kind), 3, CPU)
    second = augmentation.build(Recipe(augmentation=kind), 3, CPU)
    other = augmentation.build(Recipe(augmentation=kind), 4, CPU)
    drawn = [first(batch) for _ in range(3)]
    assert all(torch.equal(one, second(batch)) for one in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    assert not all(torch.equal(one, other(batch)) for one in drawn)


def test_drawing_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    augmentation.build(Recipe(), 3, CPU)(pixels())
    assert torch.equal(state, torch.get_rng_state())


def test_none_only_scales() -> None:
    batch = pixels()
    out = augmentation.build(Recipe(augmentation="none"), 3, CPU)(batch)
    assert torch.equal(out, batch.float() / 255)


def test_neutral_parameters_give_the_image_back() -> None:
    x = to_unit(pixels(n=4))
    zero, one = torch.zeros(4), torch.ones(4)
    affine = fastai_augment.flip_rotate_zoom(one, zero, one, one / 3, one / 4)
    grid = fastai_augment.sampling_grid(affine, fastai_augment.warp_homography(zero, zero), 32, 32)
    sampled = torch.nn.functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )
    assert torch.allclose(fastai_augment.relight(sampled, one / 2, one), x, rtol=0, atol=2e-5)


def test_a_flip_mirrors_left_and_right() -> None:
    x = to_unit(pixels(n=2))
    zero, one = torch.zeros(2), torch.ones(2)
    affine = fastai_augment.flip_rotate_zoom(-one, zero, one, zero, zero)
    grid = fastai_augment.sampling_grid(affine, fastai_augment.warp_homography(zero, zero), 32, 32)
    out = torch.nn.functional.grid_sample(x, grid, mode="bilinear", align_corners=True)
    assert torch.allclose(out, x.flip(3), rtol=0, atol=2e-5)


def test_the_warp_takes_moved_corners_to_the_corners() -> None:
    x, y = torch.tensor([0.2, -0.1, 0.05]), torch.tensor([-0.15, 0.2, 0.0])
    homography = fastai_augment.warp_homography(x, y)
    one = torch.ones(3)
    moved = [(-1 - y, -1 - x), (-1 + y, 1 + x), (1 + y, -1 + x), (1 - y, 1 - x)]
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    for source, corner in zip(moved, corners, strict=True):
        point = homography @ torch.stack([*source, one], dim=1)[..., None]
        found = point[:, :2, 0] / point[:, 2]
        assert torch.allclose(found, torch.tensor(corner).float().expand(3, 2), atol=1e-5)


def test_half_of_the_images_are_flipped() -> None:
    ramp = torch.linspace(0.2, 0.8, 16).expand(2000, 1, 16, 16)
    out = fastai_transform(ramp, seeded(0))
    flipped = (out[..., 0] > out[..., -1]).float().mean()
    assert abs(float(flipped) - 0.5) < 4 * math.sqrt(0.25 / 2000)


def test_a_quarter_keeps_its_light() -> None:
    flat = torch.full((4000, 1, 4, 4), 0.5)  # contrast leaves the middle grey as it is
    same = (fastai_transform(flat, seeded(0))[:, 0, 0, 0] - 0.5).abs() < 1e-6
    assert abs(float(same.float().mean()) - 0.25) < 4 * math.sqrt(0.1875 / 4000)


def test_light_stays_within_its_bounds() -> None:
    flat = torch.full((2000, 1, 4, 4), 0.5)
    out = fastai_transform(flat, seeded(0))
    assert 1 / (1 + (0.6 / 0.4) ** 1.25) - 1e-6 <= float(out.min()) < 0.42
    assert 0.58 < float(out.max()) <= 1 / (1 + (0.4 / 0.6) ** 1.25) + 1e-6


def test_output_is_finite_and_in_range() -> None:
    extreme = pixels(n=16)
    extreme[:8] = (extreme[:8] > 127) * 255
    out = augmentation.build(Recipe(), 0, CPU)(extreme)
    assert out.dtype == torch.float32
    assert out.shape == extreme.shape
    assert torch.isfinite(out).all()
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def built(*steps: dict[str, dict[str, Any]]) -> augmentation.Augmentation:
    return augmentation.build(Recipe(augmentation=steps), 5, CPU)


@pytest.mark.parametrize("channels", [1, 3])
def test_albumentations_work_on_grey_and_colour(channels: int) -> None:
    out = built(
        {"Affine": {"rotate": [-10, 10], "p": 1.0}},
        {"RandomBrightnessContrast": {"p": 1.0}},
        {"GaussNoise": {"p": 0.5}},
    )(pixels(channels=channels))
    assert out.shape == (8, channels, 32, 32)
    assert out.dtype == torch.float32
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_albumentations_that_always_flip() -> None:
    batch = pixels(channels=3)
    assert torch.equal(built({"HorizontalFlip": {"p": 1.0}})(batch), to_unit(batch.flip(3)))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            {"HorizontalFlipp": {}},
            "no transform `HorizontalFlipp`, did you mean `HorizontalFlip`?",
        ),
        ({"Compose": {}}, "no transform `Compose`"),
        ({"BasicTransform": {}}, "no transform `BasicTransform`"),
        ({"HorizontalFlip": {"p": 5}}, "`p`: Input should be less than or equal to 1"),
        ({"HorizontalFlip": {"prob": 0.5}}, "'prob'"),
        ({"Resize": {}}, "`height`: Field required; `width`: Field required"),
    ],
)
def test_bad_steps_are_refused(step: dict[str, dict[str, Any]], said: str) -> None:
    with pytest.raises(GridError, match="1 problem") as caught:
        built(step)
    assert said in caught.value.problems[0]


def test_all_bad_steps_are_named_at_once() -> None:
    with pytest.raises(GridError) as caught:
        built({"Nonsense": {}}, {"HorizontalFlip": {"p": 2}}, {"VerticalFlip": {}})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "step",
    [
        {"Resize": {"height": 16, "width": 16}},
        {"RandomScale": {"p": 1.0}},  # another size each image
        {"Normalize": {}},  # floats, which would be divided by 255 again
        {"ToFloat": {}},
    ],
)
def test_steps_that_change_size_or_type_are_refused(step: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(GridError, match="must keep the image size and uint8 pixels"):
        built(step)(pixels())


WITHOUT_NETWORK = """
import socket

def refuse(*_, **__):
    print("the network was asked")
    raise OSError("no network")

socket.getaddrinfo = socket.socket.connect = refuse
from fgaug.training.pytorch.augmentation import pipeline

pipeline(({"VerticalFlip": {}},), 0)
"""


def test_no_import_asks_the_network() -> None:
    # albumentations asks for its newest version when first imported, unless told not to
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "InvertImg", "CLAHE"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_left_as_they_were(name: str, channels: int) -> None:
    # AutoContrast writes into images [H, W]
    batch = pixels(channels=channels) // 3 + 60  # low contrast
    before = batch.clone()
    built({name: {"p": 1.0}})(batch)
    assert torch.equal(batch, before)
