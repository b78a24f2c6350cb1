"""Many arms against one baseline: adjusted p values and intervals that agree with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgaug import stats
from fgaug.stats.dunnett import MaxOfArms
from fgaug.stats.inference import two_sided
from fgaug.stats.max_t import JointT


def influence(
    seed: int, counts: list[int], patients: int = 40, gain: float = 0.0
) -> tuple[stats.Influence, np.ndarray]:
    """Return the AUC of runs of arms that get better one by one, and each run's arm."""
    rng = np.random.default_rng(seed)
    arm = np.repeat(np.arange(len(counts)), counts)
    y = np.arange(patients) % 2
    common = y + rng.normal(size=patients)
    noise = 0.8 * rng.normal(size=(arm.size, patients))
    return stats.influence_of("auc", y, common + gain * arm[:, None] * y + noise), arm


def of(seed: int, counts: list[int], gain: float = 0.0, **options: float) -> stats.MaxT:
    found, arm = influence(seed, counts, gain=gain)
    return stats.or_max_t(stats.arms_of(found, arm), **options)


def test_deterministic_to_the_last_digit() -> None:
    one, two = of(1, [6, 4, 4, 4]), of(1, [6, 4, 4, 4])
    np.testing.assert_array_equal(one.p_value, two.p_value)
    assert one.critical == two.critical


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(2, 5), min_size=2, max_size=6),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.8, 0.95]),
)
def test_adjusted_p_and_intervals_agree(
    seed: int, counts: list[int], gain: float, level: float
) -> None:
    r = of(seed, counts, gain, level=level)
    k = len(counts) - 1
    assert (r.p_value >= r.p_raw).all()
    most = k * two_sided(r.statistic, r.df.min())  # Bonferroni, with the df that all share
    assert (r.p_value <= np.maximum(r.p_raw, most + 1e-12)).all()
    outside = (r.ci_low > 0) | (r.ci_high < 0)
    np.testing.assert_array_equal(outside, r.p_value < 1 - level)
    np.testing.assert_allclose(r.seed_part + r.case_part, r.se**2)
    order = np.argsort(-np.abs(r.statistic))
    assert (np.diff(r.p_value[order]) >= -1e-12).all()


@pytest.mark.parametrize("counts", [[5, 5], [3, 7], [2, 1]])
def test_one_arm_is_the_single_test(counts: list[int]) -> None:
    found, arm = influence(2, counts, gain=0.5)
    arms = stats.arms_of(found, arm)
    r, single = stats.or_max_t(arms), stats.contrast(arms, [-1, 1])
    assert r.p_value[0] == r.p_raw[0] == pytest.approx(single.p_value, rel=1e-12)
    assert (r.ci_low[0], r.ci_high[0]) == pytest.approx((single.ci_low, single.ci_high), rel=1e-9)


def test_one_arm_of_dunnett_is_student() -> None:
    a, b = [0.81, 0.83, 0.82, 0.8], [0.79, 0.8, 0.82]
    d, single = stats.dunnett(b, [a]), stats.student(a, b)
    assert d.p_value[0] == pytest.approx(single.p_value, rel=1e-12)
    assert (d.ci_low[0], d.ci_high[0]) == pytest.approx((single.ci_low, single.ci_high))


@pytest.mark.parametrize(("arms", "df"), [(2, 1.0), (12, 8.0), (36, 150.0), (36, np.inf)])
def test_drawn_directions_agree_with_dunnett_s_integral(arms: int, df: float) -> None:
    shares = np.linspace(0.2, 0.6, arms)
    sigma = np.sqrt(np.outer(shares, shares))
    np.fill_diagonal(sigma, 1)
    drawn, exact = JointT(sigma, df), MaxOfArms(shares, df)
    for value in (1.0, 2.5, 3.5, 6.0):
        assert drawn.tail(value) == pytest.approx(exact.tail(value), abs=1e-3)
    assert drawn.critical(0.05) == pytest.approx(exact.critical(0.05), rel=5e-3)


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=4),
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_dunnett_s_p_and_intervals_agree(baseline: list[int], arms: list[list[int]]) -> None:
    d = stats.dunnett(baseline, arms)
    known = ~np.isnan(d.p_value)
    assert (d.p_value[known] >= d.p_raw[known] - 1e-9).all()
    outside = (d.ci_low > 0) | (d.ci_high < 0)
    np.testing.assert_array_equal(outside, d.p_value < 0.05)
    np.testing.assert_array_equal(np.isnan(d.ci_low), ~known)
    assert known.all() or d.reason


def test_nothing_spreads_and_something_differs_shows_nothing() -> None:
    d = stats.dunnett([0.8, 0.8], [[0.9, 0.9], [0.8, 0.8]])
    np.testing.assert_array_equal(np.isnan(d.p_value), [True, False])
    assert np.isnan([d.ci_low[0], d.ci_high[0]]).all()
    assert d.p_value[1] == pytest.approx(1)
    assert d.reason == "no variance between seeds: the pooled sd is 0"
    for test in (stats.welch, stats.student, stats.paired_t):
        r = test([0.9, 0.9], [0.8, 0.8])
        assert np.isnan([r.statistic, r.p_value, r.ci_low, r.ci_high, r.df]).all()
        assert r.difference == pytest.approx(0.1)
        assert r.reason


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 4))
def test_sign_flips_of_whole_seeds(seed: int, seeds: int, arms: int) -> None:
    d = np.round(np.random.default_rng(seed).normal(0.5, 1, (seeds, arms)), 1)
    r, turned = stats.sign_flip_max_t(d), stats.sign_flip_max_t(-d[::-1])
    assert r.n_flips == 2**seeds
    assert (r.p_raw <= r.p_step_down).all()
    assert (r.p_step_down <= r.p_single_step).all()
    np.testing.assert_allclose(turned.p_single_step, r.p_single_step)
    np.testing.assert_allclose(r.p_raw, [stats.sign_flip(column) for column in d.T])
    assert (r.p_raw >= 2.0 ** (1 - seeds)).all()


def test_sign_flips_of_more_seeds_than_are_enumerated() -> None:
    d = np.random.default_rng(1).normal(0.4, 1, (20, 3))
    one, two = stats.sign_flip_max_t(d), stats.sign_flip_max_t(d)
    assert one.n_flips == 100_000
    np.testing.assert_array_equal(one.p_single_step, two.p_single_step)
    np.testing.assert_allclose(one.p_raw, [stats.sign_flip(column) for column in d.T], atol=0.005)


def test_level_over_seeds_and_patients_and_over_seeds_alone() -> None:
    """A small check that can fail; `make calibrate` is the large one.

    Both arms are equally good on patients in general, each a little better on some of them.
    """
    rng, claims = np.random.default_rng(7), []
    y = np.arange(120) % 2
    for _ in range(300):
        cases = y * 1.6 + rng.normal(size=120)
        pair = []
        for _ in range(2):
            own = cases + 0.6 * rng.normal(size=120)
            runs = own + 0.6 * rng.normal(size=(5, 120)) + 0.1 * rng.normal(size=(5, 1)) * y
            pair.append(stats.influence_of("auc", y, runs))
        new_patients = stats.nested(*pair).test.p_value
        these_patients = stats.welch(*(arm.estimate for arm in pair)).p_value
        claims.append([new_patients < 0.05, these_patients < 0.05])
    e2, e1 = np.mean(claims, axis=0)
    assert 0.015 < e2 < 0.09  # 0.05 and three Monte Carlo errors
    assert e1 > 0.15  # right about these patients, and no answer about new ones
