"""The GPU paths against the CPU's: run by `make test-all` where there is a CUDA device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gan_worker
from fgaug.grid.recipe import Budget, Recipe
from fgaug.training.images import Images
from fgaug.training.pytorch import fine_tuning, models
from fgaug.training.pytorch.augmentation import build
from fgaug.training.weights import SCRATCH

pytestmark = pytest.mark.gpu
NETWORK = Path(__file__).parent / "data" / "stylegan2" / "c.pkl"


def test_a_network_makes_the_same_images_on_the_gpu() -> None:
    cpu = gan_worker.load_generator(NETWORK, device="cpu")
    gpu = gan_worker.load_generator(NETWORK, device="cuda")
    one, two = (g.generate([0, 1, 2, 7], psi=0.7, label=1).astype(int) for g in (cpu, gpu))
    assert np.abs(one - two).max() <= 1
    assert np.mean(one != two) <= 1e-3


def losses(device: torch.device, augmentation: str) -> list[float]:
    """Train a small network for six steps without dropout; return its validation losses."""
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 255, (96, 32, 32, 1), dtype=np.uint8)
    images = Images(
        sources=[pixels],
        source=np.zeros(96, np.int64),
        row=np.arange(96),
        label=np.arange(96) % 2,
    )
    recipe = Recipe(model="resnet10t", pretrained=False, dropout=0, augmentation=augmentation)
    torch.manual_seed(0)
    model = models.build(recipe, SCRATCH, 2).to(device)
    running = fine_tuning.FineTuning(
        model,
        images,
        images,
        ("a", "b"),
        recipe=recipe,
        budget=Budget(unit="steps", max=6, evaluations=3),
        augment=build(recipe, 0, device),
        seed=0,
        device=device,
    )
    return [point.valid["loss"] for point in running]


def test_training_gives_the_same_losses_on_the_gpu() -> None:
    cpu, gpu = (losses(torch.device(name), "none") for name in ("cpu", "cuda"))
    assert np.allclose(cpu, gpu, atol=1e-2)


def test_augmentation_and_schedule_run_on_the_gpu() -> None:
    assert np.isfinite(losses(torch.device("cuda"), "fastai")).all()
