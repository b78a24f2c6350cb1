"""Sign-flip tests: every difference could as well have had the other sign.  [stats]"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fgaug.stats.arrays import NAN, Floats, Ints, missing, sample

ENUMERATED = 16  # differences whose 2^16 sign vectors are all tried
FLIPS = 100_000  # sign vectors drawn where there are more
BLOCK = 4_000_000  # signs drawn at a time: some 32 MB
SEED = 20  # of those draws, so that a p value is always the same one
LARGEST_SUM = 100_000  # of whole numbers counted exactly
TIE = 1e-10  # sums closer than this, relative to the largest possible, are equal


def sign_flip(values: ArrayLike) -> float:
    """Return the two-sided p of the sum of differences under flips of their signs.

    Exact for whole numbers (such as net counts of right answers a patient), by the distribution of
    their signed sum, and for up to 16 differences other than 0, by trying all 2^n; else by
    100,000 fixed draws, (1 + hits) / (1 + draws). All 0: p = 1. NaN for no or unusable values.

    Args:
        values: float [n], one independent difference (A minus B) a patient or seed.
    """
    differences = sample(values, "values")
    if missing(values=differences):
        return NAN
    sizes = np.abs(differences[differences != 0])  # a 0 adds nothing under either sign
    if not sizes.size:
        return 1.0
    observed = abs(float(differences.sum()))
    if (sizes == np.floor(sizes)).all() and sizes.sum() <= LARGEST_SUM:
        return _whole_numbers(sizes.astype(np.int64), round(observed))
    least = observed - TIE * float(sizes.sum())
    if sizes.size <= ENUMERATED:
        return float(np.mean(np.abs(signs(sizes.size) @ sizes) >= least))
    rng, hits = np.random.default_rng(SEED), 0
    rows = max(1, BLOCK // sizes.size)
    for start in range(0, FLIPS, rows):
        flips = rng.integers(0, 2, size=(min(rows, FLIPS - start), sizes.size), dtype=np.int8)
        hits += int(np.sum(np.abs(sizes.sum() - 2 * (flips @ sizes)) >= least))
    return (1 + hits) / (1 + FLIPS)


def signs(count: int) -> Floats:
    """Return all 2^count sign vectors, [2^count, count], the identity first; above 16 fixed draws.

    Args:
        count: how many differences have a sign.
    """
    if count <= ENUMERATED:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return np.asarray(1.0 - 2.0 * bits)
    draws = np.random.default_rng(SEED).integers(0, 2, size=(FLIPS, count), dtype=np.int8)
    return np.asarray(1.0 - 2.0 * draws)


def _whole_numbers(sizes: Ints, observed: int) -> float:
    """Return P(|signed sum| >= observed), by adding one number after another."""
    chance = np.ones(1)  # of each sum, shifted by the total so far
    for size in sizes:
        grown = np.zeros(chance.size + 2 * size)
        grown[: chance.size] += chance / 2
        grown[2 * size :] += chance / 2
        chance = grown
    total = int(sizes.sum())
    return min(1.0, float(chance[np.abs(np.arange(-total, total + 1)) >= observed].sum()))
