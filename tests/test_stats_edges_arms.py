"""Edges of the comparisons of arms (E1, E2, selection, calibration), with independent numbers."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from golden_module import agrees
from scipy import integrate, special
from scipy import stats as scipy_stats

from fgaug import stats

T_KEYS = ("t", "df", "p", "ci95")
TOST_KEYS = ("p_lower", "p_upper", "p_tost", "p_noninferior", "ci90")


def rank_sum_by_choices(a: list[float], b: list[float]) -> float:
    """Return the share of choices whose midrank sum is as far from its expectation."""
    ranks = scipy_stats.rankdata([*a, *b])
    expected = ranks.mean() * len(a)
    sums = np.array([sum(part) for part in combinations(ranks, len(a))])
    return float(np.mean(np.abs(sums - expected) >= abs(ranks[: len(a)].sum() - expected) - 1e-9))


# scipy's warning of a side that is constant on purpose
@pytest.mark.filterwarnings("ignore:Precision loss occurred:RuntimeWarning")
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0.81, 0.80, 0.83], [0.79, 0.80, 0.80, 0.81, 0.78, 0.80]),  # unequal seeds, ties
        ([0.8, 0.8, 0.8, 0.8], [0.79, 0.81, 0.8]),  # one side without a spread
        ([0.7, 0.9], [0.9, 0.7]),
    ],
)
def test_two_samples_by_scipy(a: list[float], b: list[float]) -> None:
    welch, student = (scipy_stats.ttest_ind(a, b, equal_var=equal) for equal in (False, True))
    pairs = [(x > y) + 0.5 * (x == y) for x in a for y in b]
    expected: dict[str, Any] = {
        "diff": np.mean(a) - np.mean(b),
        "welch": {
            "t": welch.statistic,
            "df": welch.df,
            "p": welch.pvalue,
            "ci95": list(welch.confidence_interval()),
        },
        "student": {"t": student.statistic, "df": student.df, "p": student.pvalue},
        "ranksum_exact_p": rank_sum_by_choices(a, b),
        "prob_a_gt_b": np.mean(pairs),
        "sd_population": [np.std(a), np.std(b)],
        "sd_sample": [np.std(a, ddof=1), np.std(b, ddof=1)],
    }
    lower = scipy_stats.ttest_ind(np.add(a, 0.01), b, equal_var=False, alternative="greater")
    upper = scipy_stats.ttest_ind(np.subtract(a, 0.01), b, equal_var=False, alternative="less")
    p = [lower.pvalue, upper.pvalue]
    expected["tost_welch"] = {
        **dict(
            zip(TOST_KEYS, [*p, max(p), p[0], list(welch.confidence_interval(0.9))], strict=True)
        )
    }
    agrees("seeds_two_sample", {"a": a, "b": b, "margin": 0.01}, expected)


def test_one_seed_has_a_difference_and_no_error() -> None:
    expected = {
        "diff": 0.015,
        "welch": dict.fromkeys(T_KEYS),
        "student": {"df": 1, "t": 0.015 / (0.005 * 2**0.5 * (1 + 1 / 2) ** 0.5)},
        "tost_welch": dict.fromkeys(TOST_KEYS),
        "ranksum_exact_p": rank_sum_by_choices([0.8], [0.79, 0.78]),
        "prob_a_gt_b": 1,
        "sd_population": [0, 0.005],
        "sd_sample": [None, 0.005 * 2**0.5],
    }
    agrees("seeds_two_sample", {"a": 0.8, "b": [0.79, 0.78], "margin": 0.01}, expected)


def test_seeds_without_a_spread() -> None:
    same = {"t": 0, "p": 1, "ci95": [0, 0]}
    equal = {"diff": 0, "welch": same, "student": same, "ranksum_exact_p": 1, "prob_a_gt_b": 0.5}
    agrees("seeds_two_sample", {"a": [0.8] * 4, "b": [0.8] * 3, "margin": 0.01}, equal)
    undefined = dict.fromkeys(T_KEYS)
    other = {"diff": 0.1, "welch": undefined, "student": undefined, "prob_a_gt_b": 1}
    tost = {"tost_welch": dict.fromkeys(TOST_KEYS)}
    agrees("seeds_two_sample", {"a": [0.9] * 4, "b": [0.8] * 3, "margin": 0.01}, other | tost)


def test_a_failed_seed_is_not_dropped_in_silence() -> None:
    inputs = {"a": [0.8, None, 0.82], "b": [0.79, 0.78], "margin": 0.01}
    expected = {"welch": dict.fromkeys(T_KEYS), "ranksum_exact_p": None, "prob_a_gt_b": None}
    agrees("seeds_two_sample", inputs, expected)
    assert stats.welch([0.8, np.nan, 0.82], [0.79, 0.78]).reason == (
        "1 of 3 values of a are not finite"
    )


def test_paired_seeds_with_ties_and_zeros() -> None:
    a, b = [0.82, 0.81, 0.80, 0.83, 0.80, 0.79], [0.81, 0.80, 0.80, 0.80, 0.81, 0.80]
    d = np.round(np.subtract(a, b), 6)
    reference = scipy_stats.ttest_rel(a, b)
    flips = [abs(np.dot(d, s)) for s in product((1, -1), repeat=d.size)]
    ranks = np.sign(d[d != 0]) * scipy_stats.rankdata(np.abs(d[d != 0]))
    signed = [abs(np.dot(np.abs(ranks), s)) for s in product((1, -1), repeat=ranks.size)]
    expected = {
        "t": reference.statistic,
        "df": 5,
        "p": reference.pvalue,
        "ci95": list(reference.confidence_interval()),
        "signflip_exact_p": np.mean(np.array(flips) >= abs(d.sum()) - 1e-12),
        "wilcoxon_signed_exact_p": np.mean(np.array(signed) >= abs(ranks.sum()) - 1e-12),
    }
    agrees("seeds_paired", {"a": a, "b": b, "margin": 0.0}, expected)


def test_paired_seeds_that_all_differ_by_the_same() -> None:
    inputs = {"a": [0.81, 0.82, 0.83], "b": [0.80, 0.81, 0.82], "margin": 0.02}
    expected = {"diff": 0.01, "signflip_exact_p": 0.25, "wilcoxon_signed_exact_p": 0.25}
    undefined = dict.fromkeys((*T_KEYS, *TOST_KEYS))
    agrees("seeds_paired", inputs, expected | undefined)


@pytest.mark.parametrize(
    ("d", "p"), [([0.0, 0.0, 0.0], 1), ([0.01, 0.01, 0.01], None), ([0.2], None)]
)
def test_resplits_without_a_spread(d: list[float], p: int | None) -> None:
    inputs = {"diff": d, "n_train": 80, "n_test": 20, "rope": 0.01}
    agrees("nadeau_bengio", inputs, {"diff": d[0], "p": p, "p_uncorrected": p})


def test_dunnett_of_unequal_arms_by_scipy() -> None:
    rng = np.random.default_rng(3)
    sizes = [9, 1, 4, 5, 2, 5]
    groups = [rng.normal(0.8 + 0.01 * (k == 4), 0.01, n) for k, n in enumerate(sizes)]
    names = ["baseline", "c1", "c10", "c11", "c2", "c3"]
    reference = scipy_stats.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(1))
    pooled = sum(((g - g.mean()) ** 2).sum() for g in groups) / (sum(sizes) - 6)
    expected = {
        "cells": names[1:],
        "t": reference.statistic,
        "df": sum(sizes) - 6,
        "pooled_sd": pooled**0.5,
        "p_dunnett_two_sided": reference.pvalue,
    }
    inputs = {"cell": np.repeat(names, sizes), "value": np.concatenate(groups)}
    agrees("dunnett", inputs, expected, p_dunnett_two_sided=5e-4)


def dunnett_p_of(t: float, shares: np.ndarray, df: int) -> float:
    """Return 1 - P(all |T_k| < t) by adaptive quadrature of Dunnett's double integral."""

    def given(s: float) -> float:
        def inside(z: float) -> float:
            shift, width = np.sqrt(shares) * z, np.sqrt(1 - shares)
            upper, lower = (special.ndtr((x - shift) / width) for x in (t * s, -t * s))
            return float(np.prod(upper - lower) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi))

        chi = scipy_stats.chi.pdf(s * df**0.5, df) * df**0.5
        return float(chi * integrate.quad(inside, -8, 8)[0])

    return 1 - float(integrate.quad(given, 0, 8)[0])


@pytest.mark.parametrize("arms", [2, 36])
def test_dunnett_of_unequal_arms_by_another_quadrature(arms: int) -> None:
    rng = np.random.default_rng(arms)
    sizes = np.array([6, *rng.integers(1, 5, arms)])
    groups = [rng.normal(0.8 - 0.02 * (k == 1), 0.01, n) for k, n in enumerate(sizes)]
    r = stats.dunnett(groups[0], groups[1:])
    expected = dunnett_p_of(abs(r.statistic[0]), sizes[1:] / (sizes[1:] + 6), int(r.df))
    assert r.p_value[0] == pytest.approx(expected, abs=1e-8)
    assert 1e-9 < expected < 0.9


def test_dunnett_of_one_arm_is_student() -> None:
    a, b = [0.82, 0.81, 0.84], [0.79, 0.80, 0.78, 0.80]
    test = scipy_stats.ttest_ind(a, b)
    greater = scipy_stats.ttest_ind(a, b, alternative="greater").pvalue
    interval = list(test.confidence_interval())
    expected = {"p_raw_pooled": test.pvalue, "p_dunnett_two_sided": test.pvalue, "df": 5}
    expected |= {"p_dunnett_greater": greater, "ci95_simultaneous": [interval]}
    agrees("dunnett", {"cell": ["baseline"] * 4 + ["c"] * 3, "value": b + a}, expected)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([0.8] * 4, [1, 1]),
        ([0.8, 0.8, 0.8, 0.9], [1, None]),
        ([0.8, None, 0.8, 0.9], [None, None]),
    ],
)
def test_dunnett_without_a_spread_or_a_value(values: list[Any], p: list[Any]) -> None:
    inputs = {"cell": ["baseline", "baseline", "x", "y"], "value": values}
    ci = [[0, 0] if one else [None, None] for one in p]
    agrees("dunnett", inputs, {"p_dunnett_two_sided": p, "ci95_simultaneous": ci})


def test_adjusted_p_values_with_gaps() -> None:
    p = [0.01, None, 0.04, 0.03, "NA", 1.0, 0.0]
    expected = {
        "bonferroni": [0.05, None, 0.2, 0.15, None, 1, 0],
        "holm": [0.04, None, 0.09, 0.09, None, 1, 0],
        "hochberg": [0.04, None, 0.08, 0.08, None, 1, 0],
        "bh": [0.025, None, 0.05, 0.05, None, 1, 0],
    }
    agrees("p_adjust", {"p": p}, expected)
    agrees("p_adjust", {"p": [None]}, {"holm": [None], "bh": [None]})
    agrees("p_adjust", {"p": 0.2}, {"holm": 0.2, "bonferroni": [0.2]})


def test_sign_flip_max_t_by_enumeration() -> None:
    rng = np.random.default_rng(4)
    d = np.round(rng.normal(0.3, 1, (6, 3)), 2)
    d[:, 1] = 0  # an arm equal to the baseline

    def t_of(flipped: np.ndarray) -> np.ndarray:
        sd = flipped.std(axis=0, ddof=1)
        return np.abs(flipped.mean(axis=0)) / np.where(sd > 0, sd, 1) * 6**0.5

    observed = t_of(d)
    flipped = np.array([t_of(d * np.array(s)[:, None]) for s in product((1, -1), repeat=6)])
    single = (flipped.max(axis=1)[:, None] >= observed - 1e-9).mean(axis=0)
    raw = (flipped >= observed - 1e-9).mean(axis=0)
    expected = {"t": t_of(d) * np.sign(d.mean(axis=0)), "p_maxt_single_step": single}
    agrees(
        "maxt_signflip",
        {"diff_seed_by_cell": d.tolist()},
        {k: v.tolist() for k, v in (expected | {"p_raw": raw}).items()} | {"n_flips": 64},
    )
    one = {"p_raw": raw[0], "p_maxt_single_step": raw[0], "p_maxt_step_down": raw[0]}
    agrees("maxt_signflip", {"diff_seed_by_cell": d[:, 0].tolist()}, one)


def test_bbc_skips_a_draw_that_leaves_nothing_out() -> None:
    correct = [[1, 0], [0, 1], [1, 1], [0, 1]]
    # row 0 thrice: the baseline wins in-bag and has 1 of 3 outside; the other has 3 of 3
    inputs = {"correct": correct, "boot_index": [[0, 1, 2, 3], [0, 0, 0, 0]]}
    expected = {"naive_best": 0.75, "best_config": 1, "naive_gain": 0.25}
    agrees("bbc", inputs, expected | {"bbc_estimate": 1 / 3, "bbc_gain": 0})
    none = {"correct": correct, "boot_index": [[0, 1, 2, 3]]}
    agrees("bbc", none, {"naive_gain": 0.25, "bbc_estimate": None, "bbc_gain": None})


def test_bbc_takes_the_first_of_equals() -> None:
    inputs = {"correct": [[1, 1, 0], [0, 0, 1], [1, 1, 0]], "boot_index": [[0, 0, 1]]}
    expected = {"best_config": 0, "naive_best": 2 / 3, "naive_gain": 0, "bbc_estimate": 1}
    agrees("bbc", inputs, expected | {"bbc_gain": 0})


def test_crossed_bootstrap_by_hand() -> None:
    inputs = {
        "y": [1, 0, 1, 0],
        "patient": ["b", "b", "a", "c"],
        "scores_a": [[0.9, 0.4], [0.5, 0.1], [0.7, 0.8], [0.2, 0.6]],
        "scores_b": [[0.9, 0.9], [0.9, 0.1], [0.1, 0.8], [0.2, 0.2]],
        "seed_index": [[0, 0], [0, 1], [1, 1]],
        "patient_index": [[0, 0, 1], [1, 2, 2], [0, 1, 2]],
    }
    # right answers, seeds x images: A 1011, 0110; B 1001, 1111
    values = [3 / 5 - 2 / 5, 4 / 6 - 5 / 6, 2 / 4 - 4 / 4]
    expected = {"point": 5 / 8 - 6 / 8, "boot_values": values, "boot_se": np.std(values, ddof=1)}
    agrees("crossed_bootstrap", inputs, expected)


@pytest.mark.parametrize(
    ("p", "slope", "large"),
    [
        ([0.0, 1.0, 0.4, 0.0, 0.6, 1.0], True, True),
        ([0.3] * 6, False, True),
        ([0.1, 0.9, 0.2, 0.6, 0.7, 0.8], False, True),  # separates the labels
        ([0.2, 0.4, None, 0.1, 0.3, 0.9], False, False),
    ],
)
def test_calibration_where_the_slope_ends(p: list[Any], slope: bool, large: bool) -> None:
    y = np.array([0, 1, 0, 1, 1, 1])
    r = stats.calibration_of(y, p, bins=3)
    assert np.isfinite(r.slope) == slope
    assert np.isfinite(r.intercept_in_the_large) == large
    assert (r.reason is None) == slope
    if None not in p:
        x = np.clip(np.array(p, float), 1e-15, 1 - 1e-15)
        loss = -np.mean(np.log(np.where(y == 1, x, 1 - x)))
        brier = np.mean((np.array(p) - y) ** 2)
        expected = {"brier": brier, "log_loss": loss, "brier_skill": 1 - brier / (2 / 9)}
        agrees("calibration", {"y": y.tolist(), "p": p, "bins": 3}, expected)


def test_calibration_of_one_class() -> None:
    inputs = {"y": [1, 1, 1], "p": [0.5, 1.0, 0.9], "bins": 2}
    expected = {"brier": 0.26 / 3, "brier_skill": None, "calibration_slope": None}
    # equal width: all three in the upper bin; equal mass: ranks 0 1 | 2
    expected |= {"ece_equal_width": 0.2, "ece_equal_mass": 0.2}
    agrees("calibration", inputs, expected | {"calibration_intercept_large": None})


@pytest.mark.parametrize("ddof", [0, 1])
def test_summaries_of_unequal_seeds_by_scipy(ddof: int) -> None:
    up = [(n / (n - 1)) ** 0.5 if ddof == 0 else 1.0 for n in (3, 10)]
    sds = [0.01 * up[0], 0.02 * up[1]]
    reference = scipy_stats.ttest_ind_from_stats(0.82, sds[0], 3, 0.8, sds[1], 10, equal_var=False)
    inputs = {"mean_a": 0.82, "std_a": 0.01, "n_a": 3, "mean_b": 0.8, "std_b": 0.02, "n_b": 10}
    greater = scipy_stats.norm.cdf(0.02 / np.hypot(*sds))
    expected = {"t": reference.statistic, "p": reference.pvalue, "p_gt_normal": greater}
    agrees("summary_stats", {**inputs, "ddof": ddof}, expected)


def test_summaries_without_a_spread_or_with_one_seed() -> None:
    inputs = {"mean_a": 0.82, "std_a": 0, "mean_b": 0.8, "std_b": 0, "n": 5, "ddof": 0}
    undefined = dict.fromkeys(("t", "p", "ci95", "p_noninferior"))
    agrees("summary_stats", inputs | {"margin": 0.01}, undefined | {"diff": 0.02})
    agrees("summary_stats", {**inputs, "n": 1}, undefined | {"diff": 0.02, "p_gt_normal": None})
    agrees("summary_stats", {**inputs, "mean_a": 0.8}, {"t": 0, "p": 1, "p_gt_normal": 0.5})
