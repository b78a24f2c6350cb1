"""Kernel distance between two sets of features.  features -> [kernel] -> floors, study

Binkowski et al. 2018 (arXiv:1801.01401): KID is the squared maximum mean discrepancy under the
kernel k(x, y) = (x.y / D + 1)^3, estimated without bias: pairs of an image with itself are left
out, so a value below 0 is possible, and the mean does not depend on the sizes of the sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.quality.arrays import Features, checked_pair

_BLOCK = 2**23  # kernel values held at a time: 64 MB
_NAMES = ("features_a", "features_b")


@dataclass(frozen=True, slots=True, kw_only=True)
class KidSubsets:
    """KID as published: the mean over random subsets."""

    mean: float
    sd: float  # population sd over the subsets: the spread of *one* subset's value
    subsets: int
    size: int  # images of a subset, of each set


def kid(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Return the unbiased KID over all pairs of images; symmetric."""
    return _mmd(*checked_pair(features_a, features_b, _NAMES))


def kid_subsets(
    features_a: ArrayLike,
    features_b: ArrayLike,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> KidSubsets:
    """Return the mean and spread of the KID over random subsets, as it is usually published.

    `sd` says how far one subset's value lies from the mean. It is no standard error of `kid` or of
    `mean`: subsets overlap, and where a set has no more than `size` images all of them are taken
    each time.

    Args:
        features_a: [N, D].
        features_b: [M, D].
        subsets: how many.
        size: images drawn from each set without replacement; all where a set has fewer.
        seed: of the draws, which are torch-fidelity's.
    """
    a, b = checked_pair(features_a, features_b, _NAMES)
    if subsets < 1 or size < 2:
        raise UserError(
            "KID needs at least 1 subset of at least 2 images, "
            f"got {subsets} of {size}. Published are 100 of 1000."
        )
    size = min(size, len(a), len(b))
    random = np.random.RandomState(seed)
    values = np.empty(subsets)
    for index in range(subsets):
        first = random.choice(len(a), size, replace=False)
        second = random.choice(len(b), size, replace=False)
        values[index] = _mmd(a[first], b[second])
    return KidSubsets(
        mean=float(values.mean()), sd=float(values.std()), subsets=subsets, size=size
    )


def _mmd(a: Features, b: Features) -> float:
    cross = _kernel_sum(a, b) / (len(a) * len(b))
    return _within(a) + _within(b) - 2 * cross


def _within(x: Features) -> float:
    """Return the mean kernel value over pairs of different images of one set."""
    of_itself = (np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3
    return (_kernel_sum(x, x) - float(of_itself.sum())) / (len(x) * (len(x) - 1))


def _kernel_sum(a: Features, b: Features) -> float:
    """Return the sum of the kernel over all pairs, a block of rows at a time."""
    rows, total = max(1, _BLOCK // len(b)), 0.0
    for start in range(0, len(a), rows):
        base = a[start : start + rows] @ b.T
        base /= a.shape[1]
        base += 1
        total += float(np.vdot(base * base, base))
    return total
