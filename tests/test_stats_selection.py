"""The best of many arms without its luck, and the resampling of patients and seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fgaug import stats
from fgaug.errors import UserError
from fgaug.stats.selection import Draw, Score, Selection


def gains(
    count: int, truth: float, *, arms: int = 8, seeds: int = 5, repetitions: int = 40
) -> Iterator[Selection]:
    """Yield the gain of the best arm on new data; arm 1 alone is truly better, by `truth`."""
    rng = np.random.default_rng(count)
    arm = np.repeat(np.arange(arms), seeds)
    better = np.where(arm == 1, truth, 0.0)[:, None]
    for seed in range(repetitions):
        hard = rng.normal(size=60)
        noise = 0.6 * rng.normal(size=(arms, 60))[arm] + 0.6 * rng.normal(size=(arm.size, 60))
        right = (hard + noise + better > -0.8).astype(float)
        draws = stats.crossed_draws(arm, None, images=60, count=count, seed=seed)
        yield stats.selected_gain(means_of(right), arm, draws, images=60)


def means_of(right: np.ndarray) -> Score:
    return lambda rows: right[:, rows].mean(axis=1)


def test_useless_arms_are_not_credited_with_their_luck() -> None:
    found = list(gains(60, 0.0))
    naive, corrected = (
        np.mean([getattr(f, k) for f in found]) for k in ("naive_gain", "corrected_gain")
    )
    assert naive > 0.03  # what the best of seven useless arms shows
    assert abs(corrected) < 0.4 * naive


def test_a_better_arm_keeps_its_gain() -> None:
    found = list(gains(60, 0.8, repetitions=20))
    assert np.mean([f.best == 1 for f in found]) > 0.9
    # its true gain in accuracy, from a large sample of the same model
    rng = np.random.default_rng(1)
    z = rng.normal(size=400_000) * (1 + 2 * 0.36) ** 0.5
    truth = np.mean(z > -1.6) - np.mean(z > -0.8)
    assert np.mean([f.corrected_gain for f in found]) == pytest.approx(truth, abs=0.025)


def test_equal_arms_have_no_gain() -> None:
    right = np.tile(np.random.default_rng(1).integers(0, 2, (5, 40)), (4, 1)).astype(float)
    arm = np.repeat(np.arange(4), 5)
    draws = list(stats.crossed_draws(arm, None, images=40, count=20, common_seeds=True))
    r = stats.selected_gain(means_of(right), arm, draws, images=40)
    assert (r.best, r.naive_gain, r.corrected_gain) == (0, 0, 0)


def test_an_undefined_metric_selects_nothing() -> None:
    right = np.ones((2, 5))
    right[1, 2] = np.nan
    draws = stats.crossed_draws([0, 1], None, images=5, count=3)
    r = stats.selected_gain(means_of(right), [0, 1], draws, images=5)
    assert (r.best, r.n_draws, r.reason) == (-1, 0, "the metric is undefined for some runs")
    assert np.isnan([r.naive_gain, r.corrected_gain]).all()
    none = stats.selected_gain(means_of(np.ones((2, 5))), [0, 1], [], images=5)
    assert none.reason == "no draw leaves images and runs out"
    assert none.naive_gain == 0


GROUP = ["b", "a", "b", "c", "d", "d", "e", "b"]


def drawn(arm: list[int], **options: bool) -> list[Draw]:
    return list(stats.crossed_draws(arm, GROUP, images=8, count=50, **options))


def test_patients_are_drawn_whole() -> None:
    group = np.array(GROUP)
    for draw in drawn([0] * 5 + [1] * 4):
        inside, outside = set(group[draw.rows]), set(group[draw.rows_out])
        assert not inside & outside
        assert inside | outside == set(GROUP)
        for name in inside:
            times = [np.sum(draw.rows == row) for row in np.flatnonzero(group == name)]
            assert len(set(times)) == 1
        assert not set(draw.runs) & set(draw.runs_out)
        np.testing.assert_array_equal(np.bincount(np.repeat([0, 1], [5, 4])[draw.runs]), [5, 4])


def test_few_seeds_are_not_drawn() -> None:
    for draw in drawn([0, 0, 0, 1, 1, 1, 1, 1]):
        np.testing.assert_array_equal(draw.runs, range(8))
        np.testing.assert_array_equal(draw.runs_out, range(8))


def test_common_seeds_are_drawn_together() -> None:
    draws = drawn([0] * 4 + [1] * 4, common_seeds=True)
    for draw in draws:
        np.testing.assert_array_equal(draw.runs[:4] + 4, draw.runs[4:])
    again = drawn([0] * 4 + [1] * 4, common_seeds=True)
    np.testing.assert_array_equal(draws[7].rows, again[7].rows)  # a fixed seed
    assert len({tuple(draw.rows) for draw in draws}) > 40


def test_bootstrap_of_a_difference() -> None:
    rng = np.random.default_rng(2)
    arm = np.repeat([0, 1], 6)
    right = (rng.random((12, 200)) < np.where(arm == 0, 0.8, 0.7)[:, None]).astype(float)
    draws = list(stats.crossed_draws(arm, None, images=200, count=300))
    r = stats.crossed_bootstrap(means_of(right), arm, draws, images=200)
    turned = stats.crossed_bootstrap(means_of(right), 1 - arm, draws, images=200)
    assert (turned.difference, turned.se) == pytest.approx((-r.difference, r.se))
    assert (turned.ci_low, turned.ci_high) == pytest.approx((-r.ci_high, -r.ci_low))
    assert r.ci_low < r.difference < r.ci_high
    per_run = right.mean(axis=1)
    assert r.difference == pytest.approx(per_run[:6].mean() - per_run[6:].mean())


def test_bootstrap_says_how_many_draws_are_undefined() -> None:
    values = np.array([[1.0, np.nan], [0.0, 0.0]])
    draws = [
        stats.draw_of(stats.patient_rows(None, 2), patients, [0, 1], 2)
        for patients in ([0, 0], [1, 1], [0, 0])
    ]
    r = stats.crossed_bootstrap(means_of(values), [0, 1], draws, images=2)
    assert r.reason == "1 of 3 draws have no defined metric"
    assert (r.ci_low, r.ci_high) == (1, 1)


@pytest.mark.parametrize("arm", [[], [0, 2], [-1, 0], [0.0, 1.0], [[0, 1]]])
def test_arms_without_runs_are_refused(arm: list[int]) -> None:
    with pytest.raises(UserError, match="`arm` must give the arm of each run"):
        next(stats.crossed_draws(arm, None, images=3))
