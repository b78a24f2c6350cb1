"""Nearest-neighbour measures: do fakes lie among reals, and reals among fakes?

Every image of a set has a ball whose radius is the distance to its k-th nearest neighbour in that
set, not counting itself. Kynkaanniemi et al. 2019 (arXiv:1904.06991) define precision, recall and
realism with closed balls; Naeem et al. 2020 (arXiv:2002.09797) define density and coverage with
open balls. The two differ only for ties, which copies cause: a fake that copies a real lies
exactly on the balls of the images whose k-th neighbour it copies.

Distances are computed in float64, in blocks by scikit-learn. Rounding does not matter: distances
within one part in 10^9 are ties, and vectors that differ by less than the resolution of float32
features are copies at distance 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fgaug.errors import UserError
from fgaug.quality.arrays import Features, checked_pair

_BLOCK_MB = 64
TIE = 1e-9  # relative to a distance; rounding errors are about 1e-14
COPY = 3e-7  # relative to the largest distance from the mean; float32 resolves 6e-8
_NAMES = ("real", "fake")


def precision_recall(real: ArrayLike, fake: ArrayLike, k: int = 3) -> tuple[float, float]:
    """Return the share of fakes in the ball of any real, and of reals in the ball of any fake.

    Kynkaanniemi et al. 2019, equations 1 and 2; they use k = 3.
    """
    reals, fakes, copy = _centred(real, fake, k)
    of_real = radii_of(reals, k, copy) * (1 + TIE)
    of_fake = radii_of(fakes, k, copy) * (1 + TIE)
    precise, recalled = 0, np.zeros(len(reals), bool)
    for start, distance in blocks(fakes, reals, copy):
        precise += int((distance <= of_real).any(axis=1).sum())
        own = of_fake[start : start + len(distance), None]
        recalled |= (distance <= own).any(axis=0)
    return precise / len(fakes), float(recalled.mean())


def density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> tuple[float, float]:
    """Return density, reals' balls per fake over k, and coverage, the share of balls with a fake.

    Naeem et al. 2020, equations 3 and 4; they use k = 5. Density can exceed 1.
    """
    reals, fakes, copy = _centred(real, fake, k)
    of_real = radii_of(reals, k, copy) * (1 - TIE)
    held, nearest = 0, np.full(len(reals), np.inf)
    for _, distance in blocks(fakes, reals, copy):
        held += int((distance < of_real).sum())
        np.minimum(nearest, distance.min(axis=0), out=nearest)
    return held / (k * len(fakes)), float((nearest < of_real).mean())


def realism(
    real: ArrayLike, fake: ArrayLike, k: int = 3, prune_median: bool = False
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return each fake's realism [N]: the largest over the reals of radius / distance.

    Kynkaanniemi et al. 2019, equation 5. From 1 up the fake lies in the ball of a real; a copy of
    a real has infinite realism.

    Args:
        real: [N, D].
        fake: [M, D].
        k: the neighbour that sets the radius of a real's ball.
        prune_median: leave out reals with a radius above the median, as in the paper: the balls of
            isolated reals are so large that anything near them would look real.
    """
    reals, fakes, copy = _centred(real, fake, k)
    radii = radii_of(reals, k, copy)
    if prune_median:
        kept = within_median(radii)
        reals, radii = reals[kept], radii[kept]
    result = np.empty(len(fakes))
    for start, distance in blocks(fakes, reals, copy):
        result[start : start + len(distance)] = realism_from(radii, distance)
    return result


def realism_from(radii: Features, distance: Features) -> NDArray[np.float64]:
    """Return realism [M] from the reals' radii [N] and the distances [M, N] to them."""
    ratio = np.full_like(distance, np.inf)
    np.divide(radii, distance, out=ratio, where=distance > 0)
    found: NDArray[np.float64] = ratio.max(axis=1)
    return found


def within_median(radii: Features) -> NDArray[np.bool_]:
    """Return which reals keep their ball, as in the paper."""
    kept: NDArray[np.bool_] = radii <= np.median(radii) * (1 + TIE)  # neighbours share theirs
    return kept


def _centred(real: ArrayLike, fake: ArrayLike, k: int) -> tuple[Features, Features, float]:
    """Return both sets centred at the reals' mean, and the distance below which images are copies.

    Centring keeps distances and minimises the cancellation in |x|^2 - 2 x.y + |y|^2.
    """
    if k < 1:
        raise UserError(f"k must be at least 1, got {k}. Published values use 3 and 5.")
    first, second = checked_pair(real, fake, _NAMES, least=k + 1)
    mean = first.mean(axis=0)
    first, second = first - mean, second - mean
    largest = max(np.square(each).sum(axis=1).max() for each in (first, second))
    return first, second, COPY * float(np.sqrt(largest))


def radii_of(features: Features, k: int, copy: float) -> NDArray[np.float64]:
    """Return the distance of each image to its k-th nearest neighbour in its own set."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features)
    radii: NDArray[np.float64] = search.kneighbors()[0][:, -1]
    radii[radii < copy] = 0
    return radii


def blocks(rows: Features, columns: Features, copy: float) -> Iterator[tuple[int, Features]]:
    """Yield (index of the first row, distances [some rows, all columns])."""
    from sklearn.metrics import pairwise_distances_chunked

    start = 0
    for distance in pairwise_distances_chunked(rows, columns, working_memory=_BLOCK_MB):
        distance[distance < copy] = 0
        yield start, distance
        start += len(distance)
