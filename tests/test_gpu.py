"""The GPU paths against the CPU's: run by `make test-all` where there is a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import gan_worker
from fgaug.grid.recipe import Budget, Recipe
from fgaug.training.gpu_share import cap_memory
from fgaug.training.images import Images
from fgaug.training.pytorch import fine_tuning, models
from fgaug.training.pytorch.augmentation import build
from fgaug.training.pytorch.learner import TorchLearner
from fgaug.training.weights import SCRATCH

pytestmark = pytest.mark.gpu
NETWORK = Path(__file__).parent / "data" / "stylegan2" / "c.pkl"


def test_a_network_makes_the_same_images_on_the_gpu() -> None:
    cpu = gan_worker.load_generator(NETWORK, device="cpu")
    gpu = gan_worker.load_generator(NETWORK, device="cuda")
    one, two = (g.generate([0, 1, 2, 7], psi=0.7, label=1).astype(int) for g in (cpu, gpu))
    assert np.abs(one - two).max() <= 1
    assert np.mean(one != two) <= 1e-3


CUDA = torch.device("cuda")


@pytest.fixture
def share() -> Iterator[Callable[[float], int]]:
    """Cap this process at a share of the GPU and return it in bytes; lift the cap at the end."""

    def capped(share: float) -> int:
        torch.cuda.empty_cache()
        cap_memory(share, CUDA)
        return int(share * torch.cuda.get_device_properties(CUDA).total_memory)

    yield capped
    torch.cuda.empty_cache()
    cap_memory(1, CUDA)


def allocate(count: int) -> None:
    torch.empty(count, dtype=torch.uint8, device=CUDA)


def test_a_trial_gets_its_share_of_the_memory_and_no_more(share: Callable[[float], int]) -> None:
    cap = share(0.05)
    allocate(cap // 2)
    with pytest.raises(torch.OutOfMemoryError):
        allocate(cap + (64 << 20))
    allocate(cap // 2)  # the trial goes on below its cap
    higher = share(0.1)  # the next trial of the process
    allocate(cap + (64 << 20))
    with pytest.raises(torch.OutOfMemoryError):
        allocate(higher + (64 << 20))
    share(1)
    allocate(higher + (64 << 20))


@pytest.mark.usefixtures("share")
def test_a_batch_beyond_the_share_is_split() -> None:
    """Half a gigabyte: the batch needs more, a part of it does not."""
    total = torch.cuda.get_device_properties(CUDA).total_memory
    recipe = Recipe(model="resnet18", pretrained=False, augmentation="none", batch_size=256)
    pixels = np.random.RandomState(0).randint(0, 255, (512, 128, 128, 3), dtype=np.uint8)
    places = np.arange(512)
    some = Images(sources=[pixels], source=np.zeros(512, int), row=places, label=places % 2)
    torch.cuda.empty_cache()
    learner = TorchLearner(recipe, ("a", "b"), 0, "cuda", (512 << 20) / total)
    training = learner.train(some, some, Budget(unit="steps", max=2), 0)
    assert [point.step for point in training][-1] == 2
    result = training.finish()
    assert result.micro_batch < 256
    assert result.oom_events > 0
    assert torch.cuda.max_memory_reserved() <= 512 << 20


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
