"""Choose the training backend that a recipe names."""

from __future__ import annotations

from fgaug.grid.recipe import Recipe
from fgaug.training.learner import Learner


def open_learner(
    recipe: Recipe, labels: tuple[str, ...], seed: int, device: str, gpu_share: float = 1.0
) -> Learner:
    """Return an untrained classifier for a recipe, in the library that the recipe names.

    Args:
        labels: label names; an image's label is an index into them.
        seed: seed of the cell; weights and augmentation use separate random streams.
        device: cpu or cuda.
        gpu_share: share of the device's memory that the learner may use.

    Raises:
        GridError: the weights are not on this machine, or the library has no such model.
        UserError: the weights cannot be read.
    """
    if recipe.backend == "keras":
        from fgaug.training.keras.learner import KerasLearner

        return KerasLearner(recipe, labels, seed, device, gpu_share)
    from fgaug.training.pytorch.learner import TorchLearner

    return TorchLearner(recipe, labels, seed, device, gpu_share)
