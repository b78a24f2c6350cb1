"""What a budget comes to: steps and looks, of either backend."""

from __future__ import annotations

from fgaug.grid.recipe import Budget, Recipe


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the batches of one pass over `count` images; an incomplete last one is left out."""
    return max(1, count // batch_size)


def frozen_epochs(recipe: Recipe) -> int:
    """Return how many epochs come before those that a budget counts."""
    return 1 if recipe.backend == "torch" else 0


def total_steps(budget: Budget, count: int, batch_size: int, frozen: int = 1) -> int:
    """Return the most optimiser steps a budget allows on `count` images.

    Args:
        frozen: epochs before those that the budget counts.
    """
    if budget.unit == "steps":
        return budget.max
    return (frozen + budget.max) * steps_per_epoch(count, batch_size)


def look_steps(budget: Budget, count: int, batch_size: int, frozen: int = 1) -> frozenset[int]:
    """Return the steps after which a training is evaluated."""
    total = total_steps(budget, count, batch_size, frozen)
    if budget.unit == "epochs":
        each = steps_per_epoch(count, batch_size)
        return frozenset(range(each, total + 1, each))
    looks = budget.evaluations or 1
    return frozenset(round(i * total / looks) for i in range(1, looks + 1))
