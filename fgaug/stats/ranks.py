"""Rank tests of two arms over seeds: P(A > B), exact rank sum and signed ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from fgaug.stats.arrays import NAN, Floats, Ints, missing, sample
from fgaug.stats.sign_flips import sign_flip

LARGEST_SAMPLE = 300  # runs in total for an exact rank sum
TIE_DIGITS = 10  # relative to the largest value: 0.82 - 0.81 and 0.81 - 0.80 are tied


def prob_greater(a: ArrayLike, b: ArrayLike) -> float:
    """Return P(A > B): the share of run pairs in which A is above B, ties half.

    "Meaningful" from 0.75 up in Bouthillier et al. 2021 (MLSys). Descriptive: five seeds per side
    allow little more. NaN without values or with non-finite ones.

    Args:
        a: float [S_A], one value per seed; b: float [S_B].
    """
    x, y = sample(a, "a"), sample(b, "b")
    if missing(a=x, b=y):
        return NAN
    order = np.sort(y)
    below, not_above = np.searchsorted(order, x, "left"), np.searchsorted(order, x, "right")
    return float((below + not_above).sum() / (2 * x.size * y.size))


def rank_sum(a: ArrayLike, b: ArrayLike) -> float:
    """Return the exact two-sided p of the rank sum (Wilcoxon, Mann-Whitney), ties midranked.

    All choices of S_A of the S_A + S_B midranks are equally likely; two-sided by distance from the
    expected sum. Computed run by run from the probabilities of each (number chosen, sum), without
    enumerating the choices. NaN without values or with non-finite ones, and beyond 300 runs.

    Args:
        a: float [S_A], one value per seed; b: float [S_B].
    """
    x, y = sample(a, "a"), sample(b, "b")
    if missing(a=x, b=y) or x.size + y.size > LARGEST_SAMPLE:
        return NAN
    ranks = _doubled_midranks(np.concatenate([x, y]))
    total = int(ranks.sum())
    chance = _sums(ranks, x.size)
    # compared in whole numbers: sum - expected, times the number of runs
    apart = np.abs(np.arange(chance.size) * ranks.size - total * x.size)
    observed = abs(int(ranks[: x.size].sum()) * ranks.size - total * x.size)
    return min(1.0, float(chance[apart >= observed].sum()))


def signed_rank(a: ArrayLike, b: ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed ranks over common seeds; exact up to 300.

    Drops pairs without a difference and uses midranks for ties; two-sided by distance from the
    expected sum. p = 1 without any difference. NaN without values or with non-finite ones.

    Args:
        a: float [S]; b: float [S], of the same seeds in the same order.
    """
    x, y = sample(a, "a"), sample(b, "b")
    if missing(a=x, b=y):
        return NAN
    differences = x - y
    differences = differences[differences != 0]
    if not differences.size:
        return 1.0
    return sign_flip(np.sign(differences) * _doubled_midranks(np.abs(differences)))


def _doubled_midranks(values: Floats) -> Ints:
    """Return twice the midranks, which are whole numbers."""
    largest = float(np.abs(values).max()) or 1.0
    rounded = np.round(values / largest, TIE_DIGITS)
    return np.asarray(2 * rankdata(rounded), dtype=np.int64)


def _sums(ranks: Ints, chosen: int) -> Floats:
    """Return the probability of each sum of `chosen` ranks drawn without replacement."""
    chance = np.zeros((chosen + 1, int(ranks.sum()) + 1))  # of (number chosen so far, their sum)
    chance[0, 0] = 1.0
    have = np.arange(chosen + 1)[:, None]
    for seen, rank in enumerate(ranks):
        taken = chance * ((chosen - have) / (ranks.size - seen))
        chance = chance - taken
        chance[1:, rank:] += taken[:-1, : chance.shape[1] - rank]
    return np.asarray(chance[chosen])
