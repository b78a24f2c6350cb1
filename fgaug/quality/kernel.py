"""Kernel distance between two sets of features.

Binkowski et al. 2018 (arXiv:1801.01401): KID is the squared maximum mean discrepancy under the
kernel k(x, y) = (x.y / D + 1)^3, estimated without bias: pairs of an image with itself are left
out, so values below 0 are possible, and the mean does not depend on the sizes of the sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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
    size: int  # images per subset from each set


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

    `sd` is the spread of a single subset's value about the mean. It is not a standard error of
    `kid` or of `mean`: subsets overlap, and a set of no more than `size` images is used whole each
    time.

    Args:
        features_a: [N, D].
        features_b: [M, D].
        subsets: number of subsets.
        size: images drawn from each set without replacement; all of a smaller set.
        seed: random seed of the draws, which equal torch-fidelity's.
    """
    a, b = checked_pair(features_a, features_b, _NAMES)
    if subsets < 1 or size < 2:
        raise UserError(
            f"KID needs at least 1 subset of at least 2 images, got {subsets} of {size}. "
            "Published values use 100 of 1000."
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


def kid_error(real: ArrayLike, fake: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Return the jackknife standard error of `kid`, leaving out whole patients of the reals.

    Leaves out each fake and each patient in turn; the variance of a two-sample statistic is the
    sum of both parts (Arvesen 1969, doi:10.1214/aoms/1177697287). All values come from one pass
    over the kernel. For similar sets it is too large rather than too small.

    Args:
        real: [N, D].
        fake: [M, D].
        groups: patient of each real, [N]; None if every image is its own patient.

    Raises:
        UserError: a set has fewer than 3 images, or the reals fewer than 3 patients.
    """
    a, b = checked_pair(real, fake, ("real", "fake"), least=3)
    codes = np.arange(len(a)) if groups is None else pd.factorize(np.asarray(groups))[0]
    sizes = np.bincount(codes)
    if len(sizes) < 3:
        raise UserError(
            f"The standard error of KID needs reals of at least 3 patients, got {len(sizes)}."
        )
    cross_a, cross_b = np.zeros(len(a)), np.zeros(len(b))
    for start, base in _bases(a, b):
        values = base**3
        cross_a[start : start + len(base)] = values.sum(axis=1)
        cross_b += values.sum(axis=0)
    pairs_a, without_a = _within_without(a, codes)
    pairs_b, without_b = _within_without(b, np.arange(len(b)))
    total, left = cross_a.sum(), len(a) - sizes
    cross_a = (total - np.bincount(codes, cross_a)) / (left * len(b))
    cross_b = (total - cross_b) / (len(a) * (len(b) - 1))
    of_patients = _jackknife(without_a + pairs_b - 2 * cross_a)
    return math.sqrt(of_patients + _jackknife(without_b + pairs_a - 2 * cross_b))


def _within_without(x: Features, codes: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Return `_within` of a set, and of the set without each of its patients."""
    count = int(codes.max()) + 1
    rows, blocks = np.zeros(count), np.zeros(count)  # sums of g with all others, of g within g
    for start, base in _bases(x, x):
        values, here = base**3, codes[start : start + len(base)]
        rows += np.bincount(here, values.sum(axis=1), minlength=count)
        same = np.where(here[:, None] == codes, values, 0).sum(axis=1)
        blocks += np.bincount(here, same, minlength=count)
    own = np.bincount(codes, (np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3, minlength=count)
    rows, blocks = rows - own, blocks - own
    left = len(x) - np.bincount(codes)
    # pairs with g are counted twice in the sum; pairs within g are then subtracted once too often
    without = (rows.sum() - 2 * rows + blocks) / (left * (left - 1))
    return float(rows.sum() / (len(x) * (len(x) - 1))), without


def _jackknife(values: NDArray[np.float64]) -> float:
    """Return the variance of a statistic from its values without each of its units."""
    count = len(values)
    return float((count - 1) / count * np.square(values - values.mean()).sum())


def _mmd(a: Features, b: Features) -> float:
    cross = _kernel_sum(a, b) / (len(a) * len(b))
    return _within(a) + _within(b) - 2 * cross


def _within(x: Features) -> float:
    """Return the mean kernel value over pairs of different images of one set."""
    of_itself = (np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3
    return (_kernel_sum(x, x) - float(of_itself.sum())) / (len(x) * (len(x) - 1))


def _kernel_sum(a: Features, b: Features) -> float:
    """Return the sum of the kernel over all pairs."""
    return sum(float(np.vdot(base * base, base)) for _, base in _bases(a, b))


def _bases(a: Features, b: Features) -> Iterator[tuple[int, Features]]:
    """Yield (number of the first row, x.y / D + 1 of some rows of a with all of b)."""
    rows = max(1, _BLOCK // len(b))
    for start in range(0, len(a), rows):
        base = a[start : start + rows] @ b.T
        base /= a.shape[1]
        base += 1
        yield start, base
