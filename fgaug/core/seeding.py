"""Seeded permutations and seeds of random streams, stable across versions.

Permutations come from NumPy's RandomState, whose streams are frozen. Every draw is a prefix of one
permutation, so a small draw is part of a larger one with the same seed.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import lru_cache

import numpy as np


class Stream(StrEnum):
    """The random streams of trials and GANs, with distinct names, so that all are independent.

    The names determine every number drawn from a seed, so they must never change.
    """

    FAKES = "fakes"  # z_seeds, by label; with rounds, one stream per round
    REPEATS = "repeats"  # reals repeated by the twin
    REMOVED = "removed"  # reals removed by `replacement`, by image
    REMOVED_GROUPS = "removed-groups"  # the same by patient
    REAL_FRACTION = "real-fraction"  # patients kept by a real fraction
    WEIGHTS = "weights"  # initial weights of the head, and dropout
    AUGMENTATION = "augmentation"
    ORDER = "order"  # of the training images; with rounds, one stream per round
    FOLD = "fold"  # of training images monitored by early stopping
    GAN_PATIENTS = "gan-patients"  # whose images a GAN is trained on, by label

    def of_round(self, number: int) -> str:
        """Return the name of this stream in one round."""
        return f"{self} of round {number}"


@lru_cache(maxsize=4)  # cells with one seed are adjacent; a pool of 10 million takes 80 MB
def permutation(seed: int, purpose: str, label: str, count: int) -> np.ndarray:
    """Return the read-only permutation of range(count) for (seed, purpose, label)."""
    digest = hashlib.sha256(f"{purpose}\n{label}\n{seed}".encode()).digest()
    order: np.ndarray = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(count)
    order.flags.writeable = False
    return order


def stream_seed(seed: int, purpose: str) -> int:
    """Return the 32-bit seed of one of a trial's random streams."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\n{seed}".encode()).digest()[:4], "big")
