"""The GPU paths against the CPU's: run by `make test-all` where there is a CUDA device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gan_worker
from fgaug.recipe import Budget, Recipe
from fgaug.training import augment, fit, models
from fgaug.training.images import Images
from fgaug.training.weights import SCRATCH

pytestmark = pytest.mark.gpu
NETWORK = Path(__file__).parent / "data" / "stylegan2" / "c.pkl"


def test_a_network_makes_the_same_images_on_the_gpu() -> None:
    cpu = gan_worker.load_generator(NETWORK, device="cpu")
    gpu = gan_worker.load_generator(NETWORK, device="cuda")
    one, two = (g.generate([0, 1, 2, 7], psi=0.7, label=1).astype(int) for g in (cpu, gpu))
    assert np.abs(one - two).max() <= 1
    assert np.mean(one != two) <= 1e-3


def test_training_on_the_gpu_learns_what_the_cpu_learns() -> None:
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 200, (128, 32, 32, 1), dtype=np.uint8)
    label = np.arange(128) % 2
    pixels[label == 1, 8:24, 8:24] += 55
    images = Images(
        sources=[pixels], source=np.zeros(128, np.int64), row=np.arange(128), label=label
    )
    recipe = Recipe(model="resnet10t", pretrained=False, learning_rate=0.01, lr_mult=1)
    device = torch.device("cuda")
    torch.manual_seed(0)
    running = fit.fine_tune(
        models.build(recipe, SCRATCH, 2).to(device),
        images,
        images,
        ("a", "b"),
        recipe=recipe,
        budget=Budget(unit="steps", max=60, evaluations=3),
        augment=augment.build(recipe, 0, device),
        seed=0,
        device=device,
    )
    points = list(running)
    assert points[-1].valid["loss"] < points[0].valid["loss"]
    assert max(point.valid["auc"] for point in points) > 0.8
