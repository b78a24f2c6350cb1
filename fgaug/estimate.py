"""What a grid will take: its recipe measured for a second on this machine.

plan -> [estimate] -> the time of a dry run, packing
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from fgaug import mix
from fgaug.axes import Split
from fgaug.cells import Cell
from fgaug.data import Dataset
from fgaug.recipe import Budget, Recipe
from fgaug.training.backends import open_learner
from fgaug.training.budgets import frozen_epochs, total_steps
from fgaug.training.images import Images

CUDA_BYTES = 1 << 30  # at most, that CUDA itself takes of a GPU for each process


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a few steps and looks of a recipe took."""

    train_per_s: float  # images
    valid_per_s: float  # images
    memory_bytes: int  # of the process at its peak; what other processes share with it left out
    gpu_bytes: int | None  # the same of the GPU, with what CUDA itself takes; None on cores


def trial_seconds(cells: Sequence[Cell], dataset: Dataset, pool: int, threads: int) -> float:
    """Return how many seconds all `cells` take one after the other, patience left out of account.

    Each model is run for a few steps on `threads` threads; the rates are this machine's, now.
    """
    sides: dict[Split, tuple[mix.Reals, int]] = {}  # of each split, and how many images validate
    for split in dict.fromkeys(cell.split for cell in cells):
        manifest = dataset.with_split(split).manifest
        n_valid = int((manifest["split"] == "valid").sum())
        sides[split] = mix.Reals(manifest, dataset.spec.labels), n_valid
    rates: dict[str, Measured] = {}  # a recipe with a pipeline has no hash
    total = 0.0
    for cell in cells:
        name = cell.recipe.model_dump_json()
        if name not in rates:
            rates[name] = measure(cell.recipe, dataset, threads)
        rate = rates[name]
        reals, n_valid = sides[cell.split]
        plan = mix.sizes(cell, reals, pool)
        count = plan.n_real + plan.n_fake
        steps = total_steps(cell.budget, count, cell.recipe.batch_size, frozen_epochs(cell.recipe))
        batch = min(cell.recipe.batch_size, count)
        seconds = steps * batch / rate.train_per_s
        seconds += _looks(cell.budget, cell.recipe) * n_valid / rate.valid_per_s
        total += (cell.last_round - cell.round + 1) * seconds  # each round has a budget
    return total


def measure(recipe: Recipe, dataset: Dataset, threads: int) -> Measured:
    """Return what a recipe takes on a few batches, on a GPU where this process sees one.

    The peaks are those of a trial only in a process that has done nothing else.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measure(recipe, dataset)
    finally:
        torch.set_num_threads(before)


def _measure(recipe: Recipe, dataset: Dataset) -> Measured:
    process = psutil.Process()
    own, resident = process.memory_full_info().uss, process.memory_info().rss
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = dataset.spec.labels
    count = 4 * recipe.batch_size
    places = np.resize(np.arange(len(dataset)), count)
    images = Images(
        sources=[dataset.pixels()],
        source=np.zeros(count, np.int64),
        row=places,
        label=np.arange(count) % len(labels),
    )
    learner = open_learner(recipe, labels, 0, device.type)
    budget = Budget(unit="steps", max=4, evaluations=2)
    running = iter(learner.train(images, images, budget, seed=0))
    warm = next(running)
    started = time.perf_counter()
    last = next(running)
    both = time.perf_counter() - started
    train_s = last.train_s - warm.train_s
    trained = last.images_seen - warm.images_seen
    peaks = learner.peaks()
    learner.close()
    gpu_bytes = _gpu_peak() if device.type == "cuda" else None
    if recipe.backend == "keras":
        gpu_bytes = None if peaks.gpu_bytes is None else peaks.gpu_bytes + CUDA_BYTES
    return Measured(
        train_per_s=trained / max(train_s, 1e-6),
        valid_per_s=count / max(both - train_s, 1e-6),
        memory_bytes=own + max(0, peaks.memory_bytes - resident),
        gpu_bytes=gpu_bytes,
    )


def _gpu_peak() -> int:
    """Return the bytes of the GPU that this process held at its peak.

    What CUDA takes for itself torch does not know: it is what is missing on the GPU now beside
    torch's own, or less, where other processes hold some of that.
    """
    free, total = torch.cuda.mem_get_info()
    beside = total - free - torch.cuda.memory_reserved()
    return torch.cuda.max_memory_reserved() + min(max(0, beside), CUDA_BYTES)


def _looks(budget: Budget, recipe: Recipe) -> int:
    if budget.unit == "steps":
        return budget.evaluations or 1
    return budget.max + frozen_epochs(recipe)
