"""Arms as means over seeds, with two sources of error: seeds and patients.

The model of Obuchowski and Rockette 1995 with seeds as readers, nested in arms. All claims about
new patients (level E2) are computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints
from fgaug.stats.inference import TTest, t_test
from fgaug.stats.influence import Influence

SMALL = 1e-13  # a variance below this share of its terms is a rounding error


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Means of A arms over their seeds, and the two parts of their covariance."""

    mean: Floats  # [A]
    n_seeds: Ints  # [A]
    seed_variance: Floats  # [A], between seeds, ddof 1; NaN for one seed
    case: Floats  # [A, A], covariance over patients of two different runs of these arms
    n_patients: int
    reason: str | None

    @property
    def seed_df(self) -> int:
        """Return the degrees of freedom of the pooled seed variance: sum of (seeds - 1)."""
        return int((self.n_seeds - 1).sum())

    @property
    def pooled_seed_variance(self) -> float:
        """Return the seed variance pooled over all arms; NaN if each has one seed."""
        if not self.seed_df:
            return NAN
        several = self.n_seeds > 1
        squares = self.seed_variance[several] * (self.n_seeds[several] - 1)
        return float(squares.sum() / self.seed_df)


def arms_of(influence: Influence, arm: ArrayLike) -> Arms:
    """Return the arms' means and covariances from the influence of their runs.

    The covariance of two arms over patients is the mean over their pairs of runs, and within an
    arm the mean over pairs of different runs. An arm with one seed has no such pair, so the
    variance of its run is used, which is too large rather than too small. Sums of vectors give
    these means without a matrix of run pairs.

    Args:
        influence: influence of R runs.
        arm: int [R], 0..A - 1: the arm of each run; every arm has a run.

    Raises:
        UserError: the length differs, or an arm has no run.
    """
    index = np.atleast_1d(np.asarray(arm))
    runs = len(influence.estimate)
    if index.shape != (runs,) or index.dtype.kind not in "iu" or (index < 0).any():
        raise UserError(f"`arm` must give the arm of each of {runs} runs, 0 to A - 1.")
    n = np.bincount(index) if runs else np.zeros(0, dtype=np.int64)
    if not n.size or not n.all():
        raise UserError(f"Every arm needs a run, got {n.tolist()} runs in arms 0, 1, ...")
    mean, variance = _seed_moments(influence.estimate, index, n)
    member = (index == np.arange(n.size)[:, None]).astype(np.float64)
    sums = member @ influence.factors
    squares = member @ (influence.factors**2).sum(axis=1)
    case = sums @ sums.T / np.outer(n, n)
    own = (np.diag(case) * n * n - squares) / np.maximum(n * (n - 1), 1)
    np.fill_diagonal(case, np.where(n > 1, own, squares))
    return Arms(
        mean=mean,
        n_seeds=n.astype(np.int64),
        seed_variance=variance,
        case=case,
        n_patients=influence.n_patients,
        reason=influence.reason,
    )


def _seed_moments(values: Floats, index: Ints, n: Ints) -> tuple[Floats, Floats]:
    """Return mean and sample variance of each arm's runs; equal runs have a variance of 0."""
    # relative to the arm's first run, so that equal runs have exactly that mean
    first = values[np.unique(index, return_index=True)[1]]
    apart = values - first[index]
    mean = np.bincount(index, weights=apart) / n
    squares = np.bincount(index, weights=(apart - mean[index]) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return first + mean, np.where(n > 1, squares / (n - 1), NAN)


def contrast(arms: Arms, weights: ArrayLike, *, level: float = 0.95) -> TTest:
    """Return the t test of a weighted sum of arms with pooled seed variance (level E2).

    V = sum_k a_k^2 s2 / S_k + max(0, a' C a), Satterthwaite's degrees of freedom
    V^2 / (seed^2 / sum(S - 1) + case^2 / (G - 1)) (Hillis 2007, Statistics in Medicine 26:596, for
    the model; statistics of the thesis-sized designs in `or_max_t`).

    Args:
        arms: the result of `arms_of`.
        weights: float [A], for example 1, -1 for a difference.
        level: confidence level of the interval.

    Raises:
        UserError: the number of weights differs from the number of arms.
    """
    a = np.asarray(weights, dtype=np.float64)
    if a.shape != arms.mean.shape:
        raise UserError(f"`weights` must hold one number for each of {arms.mean.size} arms.")
    seed = float((a**2 / arms.n_seeds).sum() * arms.pooled_seed_variance)
    case = not_negative(float(a @ arms.case @ a), float(np.abs(a) @ np.abs(arms.case) @ np.abs(a)))
    df = satterthwaite([(seed, arms.seed_df), (case, arms.n_patients - 1)])
    reason = arms.reason or (None if arms.seed_df else "every arm has one seed: no seed variance")
    scale = float(np.abs(arms.mean).max())
    estimate = float(a @ arms.mean)
    return t_test(estimate, (seed + case) ** 0.5, df, level=level, scale=scale, reason=reason)


def case_of_differences(case: Floats) -> Floats:
    """Return Q = A C A', the covariance over patients of the differences from arm 0, [K, K].

    Negative eigenvalues, which can result from averages over pairs of runs, become 0.

    Args:
        case: C of 1 + K arms, as in `Arms.case`.
    """
    q = case[1:, 1:] - case[1:, :1] - case[:1, 1:] + case[0, 0]
    if not np.isfinite(q).all():
        return np.full_like(q, NAN)
    values, vectors = np.linalg.eigh((q + q.T) / 2)
    values[values <= SMALL * np.abs(case).max()] = 0.0
    return np.asarray((vectors * values) @ vectors.T)


def satterthwaite(parts: list[tuple[float, int]]) -> float:
    """Return the degrees of freedom of a sum of variances (Satterthwaite 1946).

    Args:
        parts: (variance, its degrees of freedom); variances of 0 are ignored. If all are 0, the
            result is the sum of the degrees of freedom, as for a known 0.
    """
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return float(sum(df for _, df in parts))
    below = sum(variance**2 / df for variance, df in parts if variance and df)
    return float(total**2 / below) if below else float("inf")


def not_negative(variance: float, terms: float) -> float:
    """Return the variance, or 0 if it is negative or a rounding error; NaN stays NaN."""
    return 0.0 if variance <= SMALL * terms else variance
