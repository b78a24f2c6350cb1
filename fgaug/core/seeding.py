"""Seeded streams that never change: permutations, and seeds of a trial's random streams.

Permutations come from NumPy's RandomState, whose streams are frozen. Every draw is a prefix of one
order, so a small draw is part of a larger one at the same seed.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import lru_cache

import numpy as np


class Stream(StrEnum):
    """The random streams of a trial; no two share a name, so none repeats another's numbers.

    The names are part of every number that a seed gives: none may change.
    """

    FAKES = "fakes"  # z_seeds, by label; with rounds, one stream a round
    REPEATS = "repeats"  # reals that the twin repeats
    REMOVED = "removed"  # reals that `replacement` removes, by image
    REMOVED_GROUPS = "removed-groups"  # the same by patient
    REAL_FRACTION = "real-fraction"  # patients that a share keeps
    WEIGHTS = "weights"  # initial weights of the head, and dropout
    AUGMENTATION = "augmentation"
    ORDER = "order"  # of the training images; with rounds, one stream a round
    FOLD = "fold"  # of training images that early stopping watches

    def of_round(self, number: int) -> str:
        """Return the name of this stream in one round."""
        return f"{self} of round {number}"


@lru_cache(maxsize=4)  # the cells of a seed follow one another; a pool of 10 million takes 80 MB
def permutation(seed: int, purpose: str, label: str, count: int) -> np.ndarray:
    """Return a permutation of range(count) named by (seed, purpose, label); it is read-only."""
    digest = hashlib.sha256(f"{purpose}\n{label}\n{seed}".encode()).digest()
    order: np.ndarray = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(count)
    order.flags.writeable = False
    return order


def stream_seed(seed: int, purpose: str) -> int:
    """Return a 32-bit seed of one stream of a trial's randomness."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\n{seed}".encode()).digest()[:4], "big")
