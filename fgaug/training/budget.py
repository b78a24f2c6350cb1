"""Convert a budget to optimiser steps and evaluation points, for both backends."""

from __future__ import annotations

from fgaug.grid.recipe import Budget, Recipe


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the batches per epoch over `count` images; an incomplete last batch is dropped."""
    return max(1, count // batch_size)


def frozen_epochs(recipe: Recipe) -> int:
    """Return the number of frozen epochs, which the budget does not count."""
    return 1 if recipe.backend == "torch" else 0


def total_steps(budget: Budget, count: int, batch_size: int, frozen: int = 1) -> int:
    """Return the maximum number of optimiser steps of a budget on `count` images.

    Args:
        frozen: frozen epochs, which the budget does not count.
    """
    if budget.unit == "steps":
        return budget.max
    return (frozen + budget.max) * steps_per_epoch(count, batch_size)


def evaluation_steps(
    budget: Budget, count: int, batch_size: int, frozen: int = 1
) -> frozenset[int]:
    """Return the steps after which the model is evaluated."""
    total = total_steps(budget, count, batch_size, frozen)
    if budget.unit == "epochs":
        each = steps_per_epoch(count, batch_size)
        return frozenset(range(each, total + 1, each))
    evaluations = budget.evaluations or 1
    return frozenset(round(i * total / evaluations) for i in range(1, evaluations + 1))
