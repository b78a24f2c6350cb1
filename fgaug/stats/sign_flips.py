"""Sign-flip tests: under the null hypothesis, every difference could have the opposite sign.

For one comparison, and for many arms against one baseline over common seeds (max-T, level E1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints, missing, sample

ENUMERATED = 16  # differences up to which all 2^16 sign vectors are enumerated
FLIPS = 100_000  # sign vectors drawn beyond that
BLOCK = 4_000_000  # signs drawn at a time: some 32 MB
SEED = 20  # of those draws, so that p values are reproducible
LARGEST_SUM = 100_000  # up to which sums of whole numbers are counted exactly
TIE = 1e-10  # sums closer than this, relative to the largest possible, are equal


def sign_flip(values: ArrayLike) -> float:
    """Return the two-sided p of the sum of differences under flips of their signs.

    Exact for whole numbers (such as net right answers per patient), from the distribution of their
    signed sum, and for up to 16 nonzero differences, by enumerating all 2^n; otherwise from
    100,000 fixed draws, (1 + hits) / (1 + draws). p = 1 if all are 0. NaN without values or with
    non-finite ones.

    Args:
        values: float [n], one independent difference (A minus B) per patient or seed.
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
        count: number of differences.
    """
    if count <= ENUMERATED:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return np.asarray(1.0 - 2.0 * bits)
    draws = np.random.default_rng(SEED).integers(0, 2, size=(FLIPS, count), dtype=np.int8)
    return np.asarray(1.0 - 2.0 * draws)


def _whole_numbers(sizes: Ints, observed: int) -> float:
    """Return P(|signed sum| >= observed), adding one number at a time."""
    chance = np.ones(1)  # probability of each sum, shifted by the total so far
    for size in sizes:
        grown = np.zeros(chance.size + 2 * size)
        grown[: chance.size] += chance / 2
        grown[2 * size :] += chance / 2
        chance = grown
    total = int(sizes.sum())
    return min(1.0, float(chance[np.abs(np.arange(-total, total + 1)) >= observed].sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlipMaxT:
    """K arms over S common seeds; arrays are float [K] in the order of the arms."""

    statistic: Floats  # paired t; infinite if all seeds differ by the same amount
    p_raw: Floats  # two-sided sign-flip p, unadjusted
    p_single_step: Floats  # adjusted for all K by the largest |t|
    p_step_down: Floats  # adjusted by step-down: never larger
    n_flips: int  # number of sign vectors: 2^S, or 100,000 drawn
    reason: str | None


def sign_flip_max_t(differences: ArrayLike) -> SignFlipMaxT:
    """Return joint tests of arms against the baseline, flipping the signs of whole seeds.

    Westfall and Young 1993 (algorithms 2.5 and 2.8): without an effect, all differences of a seed
    could have the opposite sign. The largest |t| of each flip is compared with the observed one.
    Uses all 2^S flips up to 16 seeds, otherwise 100,000 fixed draws and the identity. An arm with
    NaN is NaN and ignored; an arm equal to the baseline has t 0 and p 1.

    Args:
        differences: arm minus baseline, float [S, K], one row per common seed.

    Raises:
        UserError: the shape is wrong.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not d.shape[1]:
        raise UserError(f"`differences` must be [seeds, arms], got shape {d.shape}.")
    seeds, count = d.shape
    known = np.isfinite(d).all(axis=0) & (seeds > 0)
    flips = signs(seeds)
    exact = len(flips) == 2**seeds
    squares = (d**2).sum(axis=0)
    # |sum| / sqrt(S sum d^2) increases with |t|, and flips do not change its denominator
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.abs(flips @ np.where(known, d, 0.0)) / np.sqrt(seeds * squares)
        observed = np.abs(d.sum(axis=0)) / np.sqrt(seeds * squares)
    zero = squares == 0
    share[:, zero], observed = 0.0, np.where(zero, 0.0, observed)

    def p_of(largest: Floats, value: float) -> float:
        hits = int((largest >= value - TIE).sum())
        return hits / len(flips) if exact else (1 + hits) / (1 + len(flips))

    raw, single, down = (np.full(count, NAN) for _ in range(3))
    left = np.full(len(flips), -1.0)  # largest share among the arms stepped over so far
    if seeds > 1:
        order = np.flatnonzero(known)[np.argsort(observed[known], kind="stable")]
        for arm in order:
            left = np.maximum(left, share[:, arm])
            down[arm] = p_of(left, observed[arm])
            raw[arm] = p_of(share[:, arm], observed[arm])
        for arm in order:
            single[arm] = p_of(left, observed[arm])
        down[order[::-1]] = np.maximum.accumulate(down[order[::-1]])
    return SignFlipMaxT(
        statistic=_paired_t(d, known),
        p_raw=raw,
        p_single_step=single,
        p_step_down=down,
        n_flips=len(flips),
        reason=_reason(known, seeds),
    )


def _paired_t(d: Floats, known: np.ndarray) -> Floats:
    seeds = len(d)
    if seeds < 2:
        return np.full(d.shape[1], NAN)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, d.mean(axis=0), NAN)
        sd = d.std(axis=0, ddof=1)
        sd = np.where(sd <= 1e-14 * np.abs(d).max(axis=0), 0.0, sd)
        return np.where(mean == 0, 0.0, mean / (sd / np.sqrt(seeds)))


def _reason(known: np.ndarray, seeds: int) -> str | None:
    if seeds < 2:
        return "fewer than two seeds have no variance"
    missing = int((~known).sum())
    return f"{missing} of {known.size} arms have values that are not finite" if missing else None
