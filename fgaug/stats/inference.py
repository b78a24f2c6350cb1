"""t statistic, p value and interval from a difference and its standard error.

All tests follow these conventions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, ROUNDING, Floats

NO_SPREAD = "the standard error is 0 while the difference is not"


@dataclass(frozen=True, slots=True, kw_only=True)
class TTest:
    """A difference with its t test, or z test if `df` is infinite. NaN where undefined."""

    difference: float  # A minus B, in units of the metric
    se: float  # standard error, same units
    statistic: float  # difference / se; 0 if both are 0
    df: float  # degrees of freedom
    p_value: float  # two-sided
    ci_low: float
    ci_high: float
    reason: str | None = None  # why something is NaN


def t_test(
    difference: float,
    se: float,
    df: float,
    *,
    level: float = 0.95,
    scale: float = 0.0,
    reason: str | None = None,
) -> TTest:
    """Return the two-sided t test of a difference and its interval at `level`.

    A standard error of 0 never gives p = 0. With a difference of 0 both sides are equal (statistic
    0, p 1, the convention of pROC). With any other difference the test is undefined (statistic, p,
    degrees of freedom and interval are NaN): an interval of width 0 would exclude 0 without
    evidence.

    Args:
        difference: A minus B.
        se: its standard error, at least 0; NaN if undefined.
        df: degrees of freedom above 0; infinity for a z test.
        level: confidence level of the interval, between 0 and 1.
        scale: magnitude of the subtracted numbers; rounding errors relative to it count as 0.
        reason: why `se` or `df` is NaN.

    Raises:
        UserError: `level` is outside 0..1.
    """
    check_level(level)
    noise = ROUNDING * abs(scale)
    difference = 0.0 if abs(difference) <= noise else difference
    se = 0.0 if se <= noise else se
    statistic, p_value, half = NAN, NAN, NAN
    if se == 0 and difference == 0:
        statistic, p_value, half = 0.0, 1.0, 0.0
    elif se == 0 and np.isfinite(difference):
        reason = reason or NO_SPREAD
    elif se > 0 and df > 0:
        statistic = difference / se
        p_value = float(two_sided(statistic, df))
        half = quantile(0.5 + level / 2, df) * se
    return TTest(
        difference=float(difference),
        se=float(se),
        statistic=float(statistic),
        df=NAN if np.isnan(statistic) else float(df),
        p_value=p_value,
        ci_low=float(difference - half),
        ci_high=float(difference + half),
        reason=reason,
    )


def two_sided(statistic: ArrayLike, df: ArrayLike) -> Floats:
    """Return P(|T| >= |statistic|) for Student's t (normal if df is infinite)."""
    t, nu = np.broadcast_arrays(np.abs(np.asarray(statistic, float)), np.asarray(df, float))
    safe = np.where(np.isinf(nu), 1.0, nu)
    # The regularised beta function keeps full precision in the tails, where 1 - cdf has none.
    student = special.betainc(safe / 2, 0.5, safe / (safe + t * t))
    return np.asarray(np.where(np.isinf(nu), 2 * special.ndtr(-t), student))


def upper_tail(statistic: float, df: float) -> float:
    """Return P(T >= statistic) for Student's t (normal if df is infinite)."""
    tail = float(two_sided(statistic, df)) / 2
    return tail if statistic >= 0 else 1 - tail


def quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t (normal if df is infinite)."""
    if np.isinf(df):
        return float(special.ndtri(probability))
    return float(special.stdtrit(df, probability))


def check_level(level: float) -> None:
    """Refuse a confidence level outside 0..1.

    Raises:
        UserError: names the level.
    """
    if not 0 < level < 1:
        raise UserError(f"`level` must lie between 0 and 1, got {level:g}. Give 0.95.")
