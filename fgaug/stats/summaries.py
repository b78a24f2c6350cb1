"""Comparing arms from printed means, standard deviations and numbers of seeds (level E1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fgaug.errors import UserError
from fgaug.stats.adjust import adjust
from fgaug.stats.arrays import NAN, Floats
from fgaug.stats.dunnett import Dunnett, dunnett_of
from fgaug.stats.inference import TTest, upper_tail
from fgaug.stats.seeds import Spread, welch_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryTest:
    """A comparison of two arms from their summaries."""

    test: TTest  # Welch
    p_greater: float  # P(A > B) of single runs, both normal
    p_noninferior: float  # one-sided, of "A is below B by the margin or more"; NaN without margin


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryTable:
    """K arms against a baseline from their summaries; arrays are float [K]."""

    welch: tuple[TTest, ...]
    p_welch: Floats
    p_holm: Floats
    p_bh: Floats
    dunnett: Dunnett


def summary(mean: float, sd: float, n: int, *, ddof: int) -> Spread:
    """Return an arm's spread from its printed mean and standard deviation.

    Args:
        mean: mean over n seeds.
        sd: standard deviation, at least 0.
        n: number of seeds, at least 1.
        ddof: 1 if `sd` was divided by n - 1, 0 if by n: then the sample sd is larger by
            sqrt(n / (n - 1)). numpy's std, and so many printed tables, have 0.

    Raises:
        UserError: `ddof` is not 0 or 1, or the numbers are impossible.
    """
    if ddof not in (0, 1):
        raise UserError(f"`ddof` must be 0 or 1, got {ddof}. numpy's std has 0.")
    if n < 1 or sd < 0:
        raise UserError(f"`n` must be 1 or more and `sd` 0 or more, got {n} and {sd:g}.")
    up = (n / (n - 1)) ** 0.5 if n > 1 else NAN
    return Spread(
        n=n,
        mean=mean,
        sd_sample=sd * (up if ddof == 0 else 1.0) if n > 1 else NAN,
        sd_population=sd if ddof == 0 else sd / up,
        reason="one seed has no sample standard deviation" if n == 1 else None,
    )


def compare_summaries(
    a: Spread, b: Spread, *, margin: float = NAN, level: float = 0.95
) -> SummaryTest:
    """Return A against B by Welch's test, P(A > B) of normal runs, and non-inferiority.

    Args:
        a: summary of arm A, from `summary` or `spread`; b: of arm B.
        margin: at least 0, in units of the metric; NaN for none.
        level: confidence level of the interval.

    Raises:
        UserError: the margin is negative.
    """
    if margin < 0:
        raise UserError(f"`margin` must be 0 or more, got {margin:g}. Give 0.01 for one point.")
    test = welch_of(a, b, level=level)
    noninferior = NAN
    if test.se > 0:
        noninferior = upper_tail((test.difference + margin) / test.se, test.df)
    spread_of_runs = (a.sd_sample**2 + b.sd_sample**2) ** 0.5
    if spread_of_runs:
        greater = float(special.ndtr((a.mean - b.mean) / spread_of_runs))
    else:  # both arms are points
        greater = float(np.sign(test.difference) + 1) / 2
    return SummaryTest(test=test, p_greater=greater, p_noninferior=noninferior)


def compare_table(
    baseline: Spread, arms: Sequence[Spread], *, level: float = 0.95
) -> SummaryTable:
    """Return each arm against the baseline: Welch with Holm and BH, and Dunnett's test.

    Args:
        baseline: summary of the baseline, from `summary`; arms: K summaries.
        level: confidence level of the intervals.

    Raises:
        UserError: there is no arm.
    """
    tests = tuple(welch_of(arm, baseline, level=level) for arm in arms)
    p = np.array([test.p_value for test in tests])
    groups = [baseline, *arms]
    squares = [g.sd_population**2 * g.n if g.n > 1 else 0.0 for g in groups]
    return SummaryTable(
        welch=tests,
        p_welch=p,
        p_holm=adjust(p, "holm"),
        p_bh=adjust(p, "bh"),
        dunnett=dunnett_of(
            np.array([g.mean for g in groups]),
            np.array(squares),
            np.array([g.n for g in groups]),
            level=level,
        ),
    )
