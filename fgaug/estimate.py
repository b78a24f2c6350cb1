"""What a grid will take: its recipe measured for a second on this machine.  plan -> [estimate]"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from fgaug import mix
from fgaug.cells import Cell
from fgaug.data import Dataset
from fgaug.recipe import Budget, Recipe
from fgaug.training import fit, models, transforms
from fgaug.training import weights as weight_files
from fgaug.training.images import Images


def trial_seconds(cells: Sequence[Cell], dataset: Dataset, pool: int, threads: int) -> float:
    """Return how many seconds all `cells` take one after the other, patience left out of account.

    Each model is run for a few steps on `threads` threads; the rates are this machine's, now.
    """
    reals = mix.Reals(dataset.manifest, dataset.spec.labels)
    n_valid = int((dataset.manifest["split"] == "valid").sum())
    rates: dict[str, tuple[float, float]] = {}  # a recipe with a pipeline has no hash
    total = 0.0
    for cell in cells:
        name = cell.recipe.model_dump_json()
        if name not in rates:
            rates[name] = measure(cell.recipe, dataset, threads)
        train_rate, valid_rate = rates[name]
        plan = mix.plan(cell, reals, pool)
        count = plan.n_real + plan.n_fake
        steps = fit.total_steps(cell.budget, count, cell.recipe.batch_size)
        batch = min(cell.recipe.batch_size, count)
        total += steps * batch / train_rate + _looks(cell.budget) * n_valid / valid_rate
    return total


def measure(recipe: Recipe, dataset: Dataset, threads: int) -> tuple[float, float]:
    """Return (training, validation) images a second of a recipe on a few batches."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measure(recipe, dataset)
    finally:
        torch.set_num_threads(before)


def _measure(recipe: Recipe, dataset: Dataset) -> tuple[float, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = dataset.spec.labels
    count = 4 * recipe.batch_size
    rows = np.resize(np.arange(len(dataset)), count)
    images = Images(
        sources=[dataset.pixels()],
        source=np.zeros(count, np.int64),
        row=rows,
        label=np.arange(count) % len(labels),
    )
    model = models.build(recipe, weight_files.find(recipe), len(labels)).to(device)
    training = fit.FineTuning(
        model,
        images,
        images,
        labels,
        recipe=recipe,
        budget=Budget(unit="steps", max=4, evaluations=2),
        augment=transforms.build(recipe, 0, device),
        seed=0,
        device=device,
    )
    running = iter(training)
    warm = next(running)
    started = time.perf_counter()
    last = next(running)
    both = time.perf_counter() - started
    train_s = last.train_s - warm.train_s
    trained = last.images_seen - warm.images_seen
    return trained / max(train_s, 1e-6), count / max(both - train_s, 1e-6)


def _looks(budget: Budget) -> int:
    return (budget.evaluations or 1) if budget.unit == "steps" else budget.max + 1
