"""Non-inferiority: the three-arm retention test, and fixed margins.

Arms: `full` has all real images, `replaced` has reals removed and fakes added, `removed` has the
same reals removed and nothing added. "No difference" of two arms proves nothing without the third.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fgaug.errors import UserError
from fgaug.stats.arms import Arms, case_of_differences, contrast
from fgaug.stats.arrays import NAN
from fgaug.stats.inference import TTest, quantile, upper_tail
from fgaug.stats.seeds import Equivalence, equivalence


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The hierarchical test that fakes retain a share of the gain from the removed reals."""

    assay: TTest  # full - removed: do these reals bring a measurable gain?
    p_assay: float  # one-sided
    sensitive: bool  # p_assay <= alpha; without it replacement cannot be tested
    retention: TTest  # replaced - f full - (1 - f) removed
    p_retention: float  # one-sided
    retained: bool  # sensitive and p_retention <= alpha
    share: float  # (replaced - removed) / (full - removed)
    share_low: float  # Fieller; infinite if unbounded
    share_high: float
    reason: str | None


def retention(
    arms: Arms,
    *,
    full: int,
    replaced: int,
    removed: int,
    fraction: float = 0.5,
    alpha: float = 0.025,
    level: float = 0.95,
) -> Retention:
    """Return the three-arm non-inferiority test over seeds and patients.

    Step 1, assay sensitivity: full - removed > 0. Step 2, only if step 1 succeeds: L = replaced -
    f full - (1 - f) removed > 0. Both use t tests by `contrast`, with all variances from one
    covariance of the differences without negative eigenvalues, as in `or_max_t`. Both are
    one-sided at `alpha`, which the fixed order controls (Pigeot, Schaefer, Roehmel and Hauschke
    2003, Statistics in Medicine 22:883; fixed margins Hida and Tango 2011, 30:224).

    Args:
        arms: the result of `arms_of`.
        full, replaced, removed: indices of the three arms.
        fraction: f, the share of the gain to be retained, within 0..1.
        alpha: one-sided level of both steps.
        level: confidence level of the intervals.

    Raises:
        UserError: the fraction is outside 0..1, or the three arms are not different.
    """
    if not 0 <= fraction <= 1:
        raise UserError(f"`fraction` must lie within 0..1, got {fraction:g}. Give 0.5.")
    if len({full, replaced, removed}) < 3:
        raise UserError("Retention needs three different arms: full, replaced and removed.")

    order = [removed, full, replaced]
    case = np.zeros_like(arms.case)  # of differences to `removed`: every contrast here is one
    case[np.ix_(order[1:], order[1:])] = case_of_differences(arms.case[np.ix_(order, order)])
    arms = replace(arms, case=case)

    def weights(f: float, t: float, p: float) -> list[float]:
        row = [0.0] * arms.mean.size
        row[full], row[replaced], row[removed] = f, t, p
        return row

    assay = contrast(arms, weights(1, 0, -1), level=level)
    kept = contrast(arms, weights(-fraction, 1, fraction - 1), level=level)
    gain = contrast(arms, weights(0, 1, -1), level=level)
    p_assay, p_kept = _one_sided(assay), _one_sided(kept)
    sensitive = p_assay <= alpha
    # Var(T - P) + Var(R - P) - Var(T - R) is twice their covariance
    apart = contrast(arms, weights(-1, 1, 0), level=level)
    cov = (gain.se**2 + assay.se**2 - apart.se**2) / 2
    low, high = fieller(
        gain.difference,
        assay.difference,
        (gain.se**2, assay.se**2, cov),
        quantile(0.5 + level / 2, min(gain.df, assay.df)),
    )
    return Retention(
        assay=assay,
        p_assay=p_assay,
        sensitive=sensitive,
        retention=kept,
        p_retention=p_kept,
        retained=sensitive and p_kept <= alpha,
        share=gain.difference / assay.difference if assay.difference else NAN,
        share_low=low,
        share_high=high,
        reason=assay.reason or kept.reason or _no_assay(sensitive),
    )


def non_inferiority(
    arms: Arms, *, arm: int, reference: int, margin: float, alpha: float = 0.05
) -> Equivalence:
    """Return the test of arm against reference over seeds and patients, with a fixed margin.

    `p_noninferior` = P(t_df > (d + margin) / se); `p_value` is that of two one-sided tests, with
    an interval at 1 - 2 alpha. For several arms, use `adjust(..., "holm")` on p_noninferior.
    Adding nothing passes a margin as large as the whole gain from the removed reals; half of it is
    the most to allow.

    Args:
        arms: the result of `arms_of`.
        arm: index of the tested arm; reference: index of the arm it is to replace.
        margin: at least 0, in units of the metric.
        alpha: one-sided level.

    Raises:
        UserError: the margin is negative, or the two arms are the same.
    """
    if arm == reference:
        raise UserError("Non-inferiority needs two different arms, got one twice.")
    weights = [0.0] * arms.mean.size
    weights[arm], weights[reference] = 1.0, -1.0
    return equivalence(contrast(arms, weights), margin, alpha=alpha)


def fieller(
    above: float, below: float, covariance: tuple[float, float, float], critical: float
) -> tuple[float, float]:
    """Return Fieller's interval of above / below (Fieller 1954, JRSS B 16:175).

    All ratios r with (above - r below)^2 <= critical^2 Var(above - r below). If the denominator is
    not significantly different from 0, they are not an interval and the result is (-inf, inf). NaN
    stays NaN.

    Args:
        above, below: estimates of numerator and denominator.
        covariance: their variances and covariance.
        critical: quantile of the t distribution.
    """
    var_above, var_below, cov = (critical**2 * part for part in covariance)
    a = below**2 - var_below
    b = above * below - cov
    c = above**2 - var_above
    if a != a or b != b or c != c:
        return NAN, NAN
    if a <= 0:
        return float("-inf"), float("inf")
    root = max(0.0, b * b - a * c) ** 0.5
    return (b - root) / a, (b + root) / a


def _one_sided(test: TTest) -> float:
    """Return P(T >= statistic), which is one half for equal arms."""
    return upper_tail(test.statistic, test.df)


def _no_assay(sensitive: bool) -> str | None:
    if sensitive:
        return None
    return "the removed reals bring no measurable gain here, so replacement cannot be tested"
