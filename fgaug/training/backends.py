"""The training backend that a recipe names."""

from __future__ import annotations

from fgaug.grid.recipe import Recipe
from fgaug.training.learner import Learner


def open_learner(
    recipe: Recipe, labels: tuple[str, ...], seed: int, device: str, gpu_share: float = 1.0
) -> Learner:
    """Return a recipe's classifier before its first step, by the library that the recipe names.

    Args:
        labels: names of the labels, in the order of the images' indices.
        seed: of the cell; weights and augmentation draw from streams of their own.
        device: cpu or cuda.
        gpu_share: of the device's memory that is the learner's.

    Raises:
        GridError: weights that are not on this machine, or a model that the library does not have.
        UserError: weights that cannot be read.
    """
    if recipe.backend == "keras":
        from fgaug.training.keras.learner import KerasLearner

        return KerasLearner(recipe, labels, seed, device, gpu_share)
    from fgaug.training.pytorch.learner import TorchLearner

    return TorchLearner(recipe, labels, seed, device)
