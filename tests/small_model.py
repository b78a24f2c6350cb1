"""A classifier kept as a search keeps one, in a moment: drawn weights, a card of one's choice."""

from __future__ import annotations

from pathlib import Path

import torch

from fgaug.core.paths import TrialPaths
from fgaug.data import DatasetSpec
from fgaug.grid.recipe import Recipe
from fgaug.training import saved_model
from fgaug.training.pytorch import models
from fgaug.training.weights import SCRATCH


def kept_classifier(
    folder: Path,
    *,
    size: int = 32,
    labels: tuple[str, ...] = ("dbp", "trv"),
    cell: str = "baseline seed 1",
    dataset_digest: str = "cd" * 32,
    split: int | str = "dataset",
) -> Path:
    """Return the path of a kept classifier whose weights are as they were drawn."""
    recipe = Recipe(model="mobilenetv3_small_050", pretrained=False)
    torch.manual_seed(7)
    classifier = models.build(recipe, SCRATCH, len(labels))
    spec = DatasetSpec(
        labels=labels,
        size=size,
        channels=1,
        strata=(),
        source={},
        split={},
        crop=None,
        resize_filter="lanczos",
        sizes={},
        digest=dataset_digest,
    )
    row = {
        "cell_id": "ab" * 6,
        "dataset_digest": dataset_digest,
        "recipe_digest": "ef" * 6,
        "version": "0",
    }
    named = {**recipe.model_dump(), "weights": "scratch"}
    state = {name: value.numpy() for name, value in classifier.state_dict().items()}
    trial = TrialPaths(folder)
    saved_model.write(trial, saved_model.taken(state, spec, named, row, cell, split))
    return trial.model
