"""Replacement: assay sensitivity, retention, Fieller's interval, fixed margins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from fgaug import stats
from fgaug.errors import UserError
from fgaug.stats.non_inferiority import fieller

FULL, REPLACED, REMOVED = 0, 1, 2
ROLES = {"full": FULL, "replaced": REPLACED, "removed": REMOVED}


def arms(*gains: float, seed: int = 1, seeds: int = 5, patients: int = 200) -> stats.Arms:
    """Return arms whose runs separate the labels by these gains."""
    rng = np.random.default_rng(seed)
    y = np.arange(patients) % 2
    common = rng.normal(size=patients)
    arm = np.repeat(np.arange(len(gains)), seeds)
    runs = (
        np.asarray(gains)[arm][:, None] * y + common + 0.5 * rng.normal(size=(arm.size, patients))
    )
    return stats.arms_of(stats.influence_of("auc", y, runs), arm)


def test_the_steps_are_contrasts_of_the_three_arms() -> None:
    three = arms(2.0, 1.7, 1.0)
    r = stats.retention(three, **ROLES, fraction=0.6)
    assay, kept = stats.contrast(three, [1, 0, -1]), stats.contrast(three, [-0.6, 1, -0.4])
    assert r.assay.p_value == pytest.approx(assay.p_value)
    assert r.retention.statistic == pytest.approx(kept.statistic)
    for p, test in ((r.p_assay, assay), (r.p_retention, kept)):
        assert p == pytest.approx(scipy_stats.t.sf(test.statistic, test.df))
    mean = three.mean
    assert r.share == pytest.approx((mean[1] - mean[2]) / (mean[0] - mean[2]))
    assert r.sensitive
    assert r.retained == (r.p_retention <= 0.025)


@pytest.mark.parametrize(("fraction", "weights"), [(0.0, [0, 1, -1]), (1.0, [-1, 1, 0])])
def test_retention_of_nothing_and_of_all(fraction: float, weights: list[float]) -> None:
    three = arms(2.0, 1.7, 1.0)
    r = stats.retention(three, **ROLES, fraction=fraction)
    expected = stats.contrast(three, weights)
    assert r.retention.statistic == pytest.approx(expected.statistic)
    assert r.retention.df == pytest.approx(expected.df)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(1.0, 2.2), st.sampled_from([0.9, 0.95]))
def test_fieller_s_interval_holds_the_fractions_that_are_not_rejected(
    seed: int, gain: float, level: float
) -> None:
    three = arms(2.0, gain, 1.0, seed=seed)
    r = stats.retention(three, **ROLES, level=level)
    lost = stats.retention(three, **ROLES, fraction=0.0).retention  # replaced - removed
    critical = scipy_stats.t.ppf(0.5 + level / 2, min(lost.df, r.assay.df))
    assert r.share_low < r.share < r.share_high
    for fraction in np.linspace(0, 1, 11):
        test = stats.retention(three, **ROLES, fraction=fraction).retention
        inside = r.share_low <= fraction <= r.share_high
        assert inside == (abs(test.statistic) <= critical)


@given(
    st.floats(-3, 3), st.floats(0.5, 3), st.floats(0.01, 0.05), st.floats(0.01, 0.05),
    st.floats(-0.9, 0.9),
)  # fmt: skip
def test_fieller_s_interval_holds_all_ratios_not_rejected(
    above: float, below: float, sd_above: float, sd_below: float, correlation: float
) -> None:
    parts = (sd_above**2, sd_below**2, correlation * sd_above * sd_below)
    low, high = fieller(above, below, parts, 2.0)
    for ratio in np.linspace(low - 1, high + 1, 41):
        variance = parts[0] - 2 * ratio * parts[2] + ratio**2 * parts[1]
        accepted = (above - ratio * below) ** 2 <= 4 * variance
        inside = low <= ratio <= high
        assert accepted == inside or min(abs(ratio - low), abs(ratio - high)) < 1e-6
    turned = fieller(-above, below, (parts[0], parts[1], -parts[2]), 2.0)
    assert turned == pytest.approx((-high, -low), abs=1e-12)


def test_fieller_without_a_denominator_bounds_nothing() -> None:
    assert fieller(0.1, 0.01, (1e-4, 1e-4, 0.0), 2.0) == (-np.inf, np.inf)
    assert np.isnan(fieller(np.nan, 1.0, (1e-4, 1e-4, 0.0), 2.0)).all()


def test_reals_that_bring_nothing_cannot_be_replaced() -> None:
    r = stats.retention(arms(1.0, 2.0, 1.0), **ROLES)
    assert r.p_retention < 0.025  # would pass alone
    assert not r.sensitive
    assert not r.retained
    assert r.reason == (
        "the removed reals bring no measurable gain here, so replacement cannot be tested"
    )


def test_equal_arms_are_neither_better_nor_worse() -> None:
    y, runs = np.arange(40) % 2, np.random.default_rng(1).normal(size=(3, 40))
    three = stats.arms_of(
        stats.influence_of("auc", y, np.tile(runs, (3, 1))), [0] * 3 + [1] * 3 + [2] * 3
    )
    r = stats.retention(three, **ROLES)
    assert (r.p_assay, r.p_retention) == (0.5, 0.5)
    assert not r.retained
    assert np.isnan(r.share)


def test_fixed_margins_shift_the_test() -> None:
    three = arms(2.0, 1.9, 1.0)
    test = stats.contrast(three, [-1, 1, 0])
    for margin in (0.0, 0.01, 0.05):
        r = stats.non_inferiority(three, arm=REPLACED, reference=FULL, margin=margin)
        lower = scipy_stats.t.sf((test.difference + margin) / test.se, test.df)
        upper = scipy_stats.t.cdf((test.difference - margin) / test.se, test.df)
        assert (r.p_noninferior, r.p_upper) == pytest.approx((lower, upper))
        assert r.p_value == max(r.p_lower, r.p_upper)
        assert (r.ci_low > -margin) == (r.p_noninferior < 0.05)
    with pytest.raises(UserError, match="two different arms"):
        stats.non_inferiority(three, arm=FULL, reference=FULL, margin=0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({**ROLES, "fraction": 1.5}, r"within 0\.\.1, got 1\.5"),
        ({**ROLES, "removed": FULL}, "three different arms"),
    ],
)
def test_tests_without_sense_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        stats.retention(arms(2.0, 1.5, 1.0), **arguments)


@pytest.mark.parametrize("margin", [-0.01, float("nan")])
def test_a_margin_below_0_is_refused(margin: float) -> None:
    with pytest.raises(UserError, match="`margin` must be 0 or more"):
        stats.non_inferiority(arms(2.0, 1.5, 1.0), arm=1, reference=0, margin=margin)
