"""Many arms against one baseline over seeds only: Dunnett's test by quadrature (level E1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, ROUNDING, Floats, missing, sample
from fgaug.stats.inference import check_level, quantile, two_sided, upper_tail

NODES = 240  # in each direction of the quadrature
FAR = 1e-15  # tail probability of both distributions outside the quadrature


@dataclass(frozen=True, slots=True, kw_only=True)
class Dunnett:
    """K arms against a baseline; arrays are float [K] in the order of the arms."""

    difference: Floats  # arm minus baseline
    se: Floats
    statistic: Floats
    df: float
    pooled_sd: float
    p_raw: Floats  # two-sided, unadjusted
    p_value: Floats  # two-sided, adjusted for all K
    p_greater: Floats  # one-sided (better), adjusted
    critical: float  # of max |t|, two-sided
    ci_low: Floats  # simultaneous over all K
    ci_high: Floats
    reason: str | None


def dunnett(baseline: ArrayLike, arms: Sequence[ArrayLike], *, level: float = 0.95) -> Dunnett:
    """Return each arm's mean against the baseline's, with jointly adjusted p values and intervals.

    Dunnett 1955 (JASA 50:1096) for any numbers of seeds: the variance is pooled over all groups
    and his integral computed by Gauss-Legendre quadrature, so p values are deterministic. A group
    may have one seed. If all values are equal, p = 1. NaN if no group has two seeds, and for arms
    that differ from the baseline if no group has any variance.

    Args:
        baseline: float [S_0], one value per seed.
        arms: K times float [S_k].
        level: confidence level of the simultaneous intervals.

    Raises:
        UserError: there is no arm.
    """
    groups = [sample(baseline, "baseline"), *(sample(arm, "arm") for arm in arms)]
    reasons = (missing(**{f"arm {i}" if i else "baseline": g}) for i, g in enumerate(groups))
    reason = next((found for found in reasons if found), None)
    n = np.array([group.size for group in groups], dtype=np.int64)
    if reason:
        nothing = np.full(len(groups), NAN)
        return dunnett_of(nothing, nothing, n, level=level, reason=reason)
    means = np.array([group.mean() for group in groups])
    spreads = np.array([((group - group.mean()) ** 2).sum() for group in groups])
    return dunnett_of(means, spreads, n, level=level)


def dunnett_of(
    means: Floats,
    squares: Floats,
    n: np.ndarray,
    *,
    level: float = 0.95,
    reason: str | None = None,
) -> Dunnett:
    """Return `dunnett` from summaries, the baseline first.

    Args:
        means: float [1 + K]; squares: sums of squared deviations, (n - 1) sd^2, [1 + K].
        n: seeds of each group, [1 + K].
        level: confidence level of the simultaneous intervals.
        reason: why the summaries are NaN.

    Raises:
        UserError: there is no arm.
    """
    check_level(level)
    if len(means) < 2:
        raise UserError("Dunnett's test needs a baseline and at least one arm, got no arm.")
    df = float(n.sum() - len(n))
    difference = means[1:] - means[0]
    sd = float(np.sqrt(squares.sum() / df)) if df > 0 else NAN
    if df <= 0:
        reason = reason or "no group has two seeds"
    scale = float(np.abs(means).max())
    if sd <= ROUNDING * scale:  # rounding errors of equal values
        sd, difference = 0.0, np.where(np.abs(difference) <= ROUNDING * scale, 0.0, difference)
        reason = None if not difference.any() else "no variance between seeds: the pooled sd is 0"
    se = sd * np.sqrt(1 / n[1:] + 1 / n[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(se > 0, difference / se, np.where(difference == 0, 0.0, NAN))
    t = np.where(np.isnan(sd), NAN, t)
    law = MaxOfArms(n[1:] / (n[1:] + n[0]), df)
    critical = law.critical(1 - level) if df > 0 and np.isfinite(sd) else NAN
    half = np.where(np.isnan(t), NAN, critical * se)
    return Dunnett(
        difference=difference,
        se=se,
        statistic=t,
        df=df,
        pooled_sd=sd,
        p_raw=two_sided(t, df),
        p_value=np.array([law.tail(abs(float(value))) for value in t]),
        p_greater=np.array([law.tail(float(value), sided=1) for value in t]),
        critical=critical,
        ci_low=difference - half,
        ci_high=difference + half,
        reason=reason,
    )


class MaxOfArms:
    """The largest of K t statistics that share a baseline and a variance estimate."""

    def __init__(self, shares: Floats, df: float) -> None:
        """Set the joint distribution of the statistics.

        Args:
            shares: float [K] within 0..1; statistics j and k have the correlation
                sqrt(share_j share_k), with n_k / (n_k + n_0) for means over n seeds.
            df: degrees of freedom of the variance; infinity if it is known.
        """
        self.shares, self.counts = np.unique(np.asarray(shares, float), return_counts=True)
        self.df = df

    def tail(self, value: float, sided: int = 2) -> float:
        """Return P(max |T_k| >= value), or P(max T_k >= value) with `sided` 1; NaN stays NaN.

        Given the error z of the baseline and the ratio s of the estimated to the true sd, the arms
        are independent: 1 - E prod_k (1 - q_k(z, s)), summed as logarithms so that tiny p stay
        exact. A single arm has Student's t.
        """
        if np.isnan(value) or np.isnan(self.df) or self.df <= 0:
            return NAN
        if self.counts.sum() == 1:
            return float(two_sided(value, self.df)) if sided == 2 else upper_tail(value, self.df)
        z, z_weight = normal_nodes()
        s, s_weight = scale_nodes(self.df)
        miss = np.zeros((s.size, z.size))  # log of P(no arm exceeds)
        with np.errstate(divide="ignore"):
            for share, count in zip(self.shares, self.counts, strict=True):
                shift, width = np.sqrt(share) * z, np.sqrt(1 - share)
                limit = value * s[:, None]
                above = special.ndtr((shift - limit) / width)
                below = special.ndtr((-shift - limit) / width) if sided == 2 else 0.0
                miss += count * np.log1p(-np.minimum(above + below, 1))
        return float(np.clip(s_weight @ -np.expm1(miss) @ z_weight, 0, 1))

    def critical(self, alpha: float) -> float:
        """Return the value that max |T_k| exceeds with probability `alpha`."""
        count = int(self.counts.sum())
        low, high = (quantile(1 - alpha / 2 / k, self.df) for k in (1, count))
        if count == 1:
            return low
        # the value for one arm is too small, Bonferroni's too large
        return float(
            optimize.brentq(lambda c: self.tail(c) - alpha, low * (1 - 1e-9), high * (1 + 1e-9))
        )


@lru_cache(maxsize=1)
def normal_nodes() -> tuple[Floats, Floats]:
    """Return nodes and weights of a standard normal, weights summing to 1."""
    x, weight = np.polynomial.legendre.leggauss(NODES)
    reach = -float(special.ndtri(FAR))
    weight = weight * np.exp(-((reach * x) ** 2) / 2)
    return reach * x, weight / weight.sum()


@lru_cache(maxsize=256)
def scale_nodes(df: float) -> tuple[Floats, Floats]:
    """Return nodes and weights of sqrt(chi-square(df) / df), weights summing to 1."""
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    low, high = (np.sqrt(x / df) for x in (stats.chi2.ppf(FAR, df), stats.chi2.isf(FAR, df)))
    x, weight = np.polynomial.legendre.leggauss(NODES)
    s = low + (high - low) * (x + 1) / 2
    logs = (df - 1) * np.log(s) - df * s**2 / 2
    weight = weight * np.exp(logs - logs.max())
    return s, weight / weight.sum()
