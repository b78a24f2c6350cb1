"""Two arms by one value per seed: t tests, equivalence, sign flips (level E1: these patients)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, missing, sample
from fgaug.stats.inference import TTest, t_test, upper_tail
from fgaug.stats.sign_flips import sign_flip


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and standard deviations of one arm's seeds."""

    n: int
    mean: float
    sd_sample: float  # divided by n - 1; NaN for one seed
    sd_population: float  # divided by n, as numpy's std and the thesis's tables
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """Two one-sided t tests against a margin (Schuirmann 1987)."""

    margin: float
    p_lower: float  # of "A is below B by the margin or more"
    p_upper: float  # of "A is above B by the margin or more"
    p_value: float  # the larger: equivalence
    p_noninferior: float  # p_lower: non-inferiority if higher is better
    ci_low: float  # the interval that decides both: 1 - 2 alpha, 90% by default
    ci_high: float
    reason: str | None


def spread(values: ArrayLike) -> Spread:
    """Return the mean and both standard deviations of one value per seed, float [S]."""
    x = sample(values, "values")
    if reason := missing(values=x):
        return Spread(n=x.size, mean=NAN, sd_sample=NAN, sd_population=NAN, reason=reason)
    return Spread(
        n=x.size,
        mean=float(x.mean()),
        sd_sample=float(x.std(ddof=1)) if x.size > 1 else NAN,
        sd_population=float(x.std()),
        reason="a single seed has no sample standard deviation" if x.size == 1 else None,
    )


def welch(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> TTest:
    """Return Welch's t test of two independent samples (Welch 1947, Biometrika 34:28).

    Args:
        a: float [S_A], one value per seed; b: float [S_B].
        level: confidence level of the interval.

    NaN with fewer than two seeds on a side; p = 1 if all values are equal.
    """
    x, y = sample(a, "a"), sample(b, "b")
    if reason := missing(a=x, b=y):
        return t_test(NAN, NAN, NAN, level=level, reason=reason)
    return welch_of(spread(x), spread(y), level=level)


def welch_of(a: Spread, b: Spread, *, level: float = 0.95) -> TTest:
    """Return Welch's t test from means, sample standard deviations and numbers of seeds."""
    part_a, part_b = a.sd_sample**2 / a.n, b.sd_sample**2 / b.n
    variance = part_a + part_b
    df = float(a.n + b.n - 2)
    if variance > 0:
        df = variance**2 / (part_a**2 / (a.n - 1) + part_b**2 / (b.n - 1))
    scale = max(abs(a.mean), abs(b.mean))
    reason = a.reason or b.reason
    return t_test(a.mean - b.mean, variance**0.5, df, level=level, scale=scale, reason=reason)


def student(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> TTest:
    """Return Student's t test with pooled variance; one side may have a single seed."""
    x, y = sample(a, "a"), sample(b, "b")
    reason = missing(a=x, b=y)
    df = x.size + y.size - 2
    if reason:
        return t_test(NAN, NAN, NAN, level=level, reason=reason)
    if df < 1:
        reason = "two seeds in total leave no degrees of freedom"
        return t_test(float(x[0] - y[0]), NAN, NAN, level=level, reason=reason)
    squares = ((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum()
    se = float(np.sqrt(squares / df * (1 / x.size + 1 / y.size)))
    scale = max(abs(x.mean()), abs(y.mean()))
    return t_test(float(x.mean() - y.mean()), se, df, level=level, scale=scale)


def paired_t(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> TTest:
    """Return the paired t test; only for arms that really share their seeds.

    Args:
        a: float [S]; b: float [S], of the same seeds in the same order.
        level: confidence level of the interval.

    Raises:
        UserError: the samples have different lengths.
    """
    x, y = _pairs(a, b)
    reason = missing(a=x, b=y) or (
        "a single seed gives no standard error" if x.size == 1 else None
    )
    if reason:
        difference = float((x - y).mean()) if x.size == 1 else NAN
        return t_test(difference, NAN, NAN, level=level, reason=reason)
    se = float(np.std(x - y, ddof=1) / np.sqrt(x.size))
    scale = float(max(np.abs(x).max(), np.abs(y).max()))
    return t_test(float((x - y).mean()), se, x.size - 1, level=level, scale=scale)


def paired_sign_flip(a: ArrayLike, b: ArrayLike) -> float:
    """Return the sign-flip p over common seeds; arguments and errors as in `paired_t`."""
    x, y = _pairs(a, b)
    return sign_flip(x - y)


def equivalence(test: TTest, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Return two one-sided tests of |difference| < margin, from any t test of the difference.

    "Not significant" does not mean equal; this is the test of equivalence (Schuirmann 1987).

    Args:
        test: the result of `welch`, `paired_t`, or a test over seeds and patients.
        margin: at least 0, in units of the metric; specified before the runs.
        alpha: one-sided level; the interval is 1 - 2 alpha.

    Raises:
        UserError: the margin is negative.
    """
    if not margin >= 0:
        raise UserError(f"`margin` must be 0 or more, got {margin:g}. Give 0.01 for one point.")
    inner = t_test(test.difference, test.se, test.df, level=1 - 2 * alpha, reason=test.reason)
    p_lower, p_upper = NAN, NAN
    if test.se > 0 and test.df > 0:
        p_lower = upper_tail((test.difference + margin) / test.se, test.df)
        p_upper = upper_tail((margin - test.difference) / test.se, test.df)
    elif test.se == 0:
        inner = t_test(NAN, NAN, NAN, reason="no variance between seeds: the standard error is 0")
    return Equivalence(
        margin=margin,
        p_lower=p_lower,
        p_upper=p_upper,
        p_value=float(np.maximum(p_lower, p_upper)),
        p_noninferior=p_lower,
        ci_low=inner.ci_low,
        ci_high=inner.ci_high,
        reason=inner.reason,
    )


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    x, y = sample(a, "a"), sample(b, "b")
    if x.size != y.size:
        raise UserError(
            f"Paired seeds need one value on each side, got {x.size} and {y.size}. "
            "Keep the common seeds, or compare unpaired."
        )
    return x, y
