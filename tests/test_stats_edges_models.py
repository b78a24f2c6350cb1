"""Edges of the comparisons of two trained models (E0), against independent numbers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from golden_module import agrees
from scipy import integrate
from scipy import stats as scipy_stats

from fgaug import stats
from fgaug.errors import UserError

NAN = float("nan")


def kernel(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return 1, 1/2 or 0 for each pair of a positive and a negative, [m, n]."""
    pos, neg = scores[y == 1][:, None], scores[y == 0][None, :]
    return (pos > neg) + 0.5 * (pos == neg)


def delong_by_pairs(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return DeLong's covariances from all pairs: DeLong et al. 1988, equations 4 to 6."""
    pairs = [kernel(y, scores) for scores in (a, b)]
    v10 = np.cov([k.mean(axis=1) for k in pairs]) / (y == 1).sum()
    v01 = np.cov([k.mean(axis=0) for k in pairs]) / (y == 0).sum()
    cov = v10 + v01
    se = (cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]) ** 0.5
    z = (pairs[0].mean() - pairs[1].mean()) / se
    return {
        "auc_a": pairs[0].mean(),
        "auc_b": pairs[1].mean(),
        "var_a": cov[0, 0],
        "var_b": cov[1, 1],
        "cov_ab": cov[0, 1],
        "se_diff": se,
        "z": z,
        "p_two_sided": 2 * scipy_stats.norm.sf(abs(z)),
    }


def test_delong_with_ties_and_an_auc_below_one_half() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], [40, 5])
    a, b = rng.integers(0, 4, 45) / 4 - 0.5 * y, rng.normal(size=45) + y
    expected = delong_by_pairs(y, a, b)
    assert expected["auc_a"] < 0.5
    inputs = {"y": y.tolist(), "score_a": a.tolist(), "score_b": b.tolist()}
    agrees("delong", inputs, expected)


def test_delong_both_perfect_is_p_1() -> None:
    inputs = {"y": [0, 0, 1, 1], "score_a": [1, 2, 3, 4], "score_b": [0.1, 0.0, 0.9, 0.8]}
    expected = {"diff": 0, "var_a": 0, "se_diff": 0, "z": 0, "p_two_sided": 1}
    agrees("delong", inputs, expected | {"diff_ci95": [0, 0], "ci_auc_a": [1, 1]})


def test_delong_both_constant_is_p_1() -> None:
    inputs = {"y": [0, 0, 1, 1, 1], "score_a": [3] * 5, "score_b": [0.2] * 5}
    agrees("delong", inputs, {"auc_a": 0.5, "auc_b": 0.5, "diff": 0, "z": 0, "p_two_sided": 1})


def test_delong_perfect_against_constant_has_no_p() -> None:
    inputs = {"y": [0, 0, 1, 1], "score_a": [1, 2, 3, 4], "score_b": [1] * 4}
    expected = {"diff": 0.5, "se_diff": 0, "z": None, "p_two_sided": None, "diff_ci95": None}
    agrees("delong", inputs, expected)
    r = stats.delong(inputs["y"], inputs["score_a"], inputs["score_b"])
    assert r.reason == "the standard error is 0 while the difference is not"


@pytest.mark.parametrize("positives", [0, 1])
def test_delong_with_few_of_a_class_keeps_what_is_defined(positives: int) -> None:
    y = [0, 0, 0, 0, *[1] * positives]
    a, b = [1, 4, 2, 3, *[3.5] * positives], [1, 2, 3, 4, *[5] * positives]
    areas = {"auc_a": 0.75, "auc_b": 1.0, "diff": -0.25}
    expected: dict[str, Any] = areas if positives else dict.fromkeys(areas)
    rest = ("var_a", "var_b", "cov_ab", "se_diff", "z", "p_two_sided", "diff_ci95", "ci_auc_a")
    agrees("delong", {"y": y, "score_a": a, "score_b": b}, {**expected, **dict.fromkeys(rest)})
    assert stats.delong(y, a, b).reason == (
        "only one patient has images of class 1" if positives else "no image of class 1"
    )


def test_delong_with_a_score_that_is_no_number() -> None:
    y, a, b = [0, 1, 0, 1, 1], [0.1, None, 0.3, 0.4, 0.9], [0.2, 0.6, 0.1, 0.4, 0.3]
    expected = {"auc_a": None, "auc_b": 1.0, "diff": None, "p_two_sided": None}
    agrees("delong", {"y": y, "score_a": a, "score_b": b}, expected)


def test_clustered_auc_by_loops() -> None:
    rng = np.random.default_rng(5)
    patient = rng.integers(0, 9, 40)
    y = rng.integers(0, 2, 40)
    scores = [rng.integers(0, 6, 40) + y for _ in range(2)]
    m, n = int((y == 1).sum()), int((y == 0).sum())
    patients = np.unique(patient)
    u, w = np.zeros((2, 9)), np.zeros((2, 9))
    for r, pairs in enumerate(kernel(y, s) for s in scores):
        v10, v01 = pairs.mean(axis=1), pairs.mean(axis=0)
        for g in patients:
            u[r, g] = (v10 - v10.mean())[patient[y == 1] == g].sum()
            w[r, g] = (v01 - v01.mean())[patient[y == 0] == g].sum()
    i10, i01 = np.unique(patient[y == 1]).size, np.unique(patient[y == 0]).size
    i = patients.size
    cov = (
        i10 / ((i10 - 1) * m**2) * u @ u.T
        + i01 / ((i01 - 1) * n**2) * w @ w.T
        + i / ((i - 1) * m * n) * (u @ w.T + w @ u.T)
    )
    agrees(
        "clustered_auc",
        {
            "y": y.tolist(),
            "score_a": scores[0].tolist(),
            "score_b": scores[1].tolist(),
            "patient": [f"patient {g}" for g in patient],
        },
        {
            "var_a": cov[0, 0],
            "var_b": cov[1, 1],
            "cov_ab": cov[0, 1],
            "n_patients": i,
            "n_patients_with_pos": i10,
            "n_patients_with_neg": i01,
        },
    )


def test_clustered_auc_with_one_patient_in_a_class() -> None:
    inputs = {"y": [0, 0, 0, 1, 1], "patient": ["a", "b", "c", "d", "d"]}
    inputs |= {"score_a": [1, 2, 3, 4, 0], "score_b": [1, 3, 2, 5, 6]}
    expected = {"auc_a": 0.5, "auc_b": 1, "var_a": None, "se_diff": None, "p_two_sided": None}
    agrees("clustered_auc", inputs, expected | {"n_patients_with_pos": 1, "n_patients": 4})


@pytest.mark.parametrize(
    ("both", "b", "c", "neither"),
    [(50, 7, 7, 3), (0, 1, 0, 0), (1, 0, 0, 0), (2, 0, 5, 1), (0, 4, 0, 0), (900, 260, 310, 40)],
)
def test_mcnemar_by_the_binomial(both: int, b: int, c: int, neither: int) -> None:
    inputs = {"both_correct": both, "only_a_correct": b, "only_b_correct": c}
    n, m = both + b + c + neither, b + c
    exact = scipy_stats.binomtest(b, m).pvalue if m else 1.0
    least = min(b, c)
    mid = 1.0 if b == c else exact - scipy_stats.binom.pmf(least, m, 0.5)
    chi2 = (b - c) ** 2 / m if m else None
    yates = max(abs(b - c) - 1, 0) ** 2 / m if m else None
    wald = ((m - (b - c) ** 2 / n) / n**2) ** 0.5 * scipy_stats.norm.ppf(0.975)
    expected = {
        "n": n,
        "discordant": m,
        "acc_a": (both + b) / n,
        "diff": (b - c) / n,
        "p_exact": exact,
        "p_mid": mid,
        "chi2_uncorrected": chi2,
        "p_uncorrected": None if chi2 is None else scipy_stats.chi2.sf(chi2, 1),
        "chi2_yates": yates,
        "p_yates": None if yates is None else scipy_stats.chi2.sf(yates, 1),
        "wald_ci95": [(b - c) / n - wald, (b - c) / n + wald],
    }
    agrees("mcnemar", {**inputs, "both_wrong": neither}, expected)


def melded_cdf(limit: float, b: int, c: int, n: int) -> float:
    """Return P(share * (2 favour - 1) <= limit) of the lower limits, by adaptive quadrature."""
    favour = scipy_stats.beta(b, c + 1)

    def inner(f: float) -> float:
        product_at = 2 * f - 1
        m = b + c
        if product_at > 0:
            share = scipy_stats.beta.cdf(limit / product_at, m, n - m + 1) if limit > 0 else 0.0
        else:
            below = limit / product_at if product_at else 2.0
            share = scipy_stats.beta.sf(below, m + 1, n - m) if limit < 0 else 1.0
        return float(share * favour.pdf(f))

    kinks = sorted({0.5, (1 + limit) / 2})
    return float(integrate.quad(inner, 0, 1, points=kinks, limit=200)[0])


@pytest.mark.parametrize(("b", "c", "n"), [(7, 7, 60), (1, 0, 5), (3, 9, 30), (12, 2, 15)])
def test_exact_interval_of_mcnemar_by_another_quadrature(b: int, c: int, n: int) -> None:
    table = [[n - b - c, b], [c, 0]]
    low, high = stats.mcnemar(table).fay_lumbard
    assert melded_cdf(low, b, c, n) == pytest.approx(0.025, abs=1e-6)
    back = stats.mcnemar([[n - b - c, c], [b, 0]]).fay_lumbard
    assert (low, high) == pytest.approx((-back[1], -back[0]), abs=1e-8)


def test_exact_interval_of_mcnemar_leaves_out_0_where_p_is_below_5_percent() -> None:
    for b, c in [(0, 0), (3, 3), (0, 5), (0, 6), (6, 0), (1, 7), (1, 8), (8, 1), (2, 9), (2, 10)]:
        r = stats.mcnemar([[20, b], [c, 5]])
        assert (r.fay_lumbard[0] > 0 or r.fay_lumbard[1] < 0) == (r.p_exact < 0.05), (b, c)


def test_an_image_without_an_answer_is_refused() -> None:
    for function in (stats.agreement, lambda a, b: stats.net_right(a, b, None)):
        with pytest.raises(UserError, match=r"none \(NaN\) for 1 of 3"):
            function([1.0, 0.0, NAN], [1.0, 1.0, 0.0])
    with pytest.raises(UserError, match="the same images, got 2 and 1 answers"):
        stats.agreement([True, False], [True])
    inputs = {"y": [1, 0, 1], "prob_a": [0.9, None, 0.4], "prob_b": [0.6, 0.2, 0.7]}
    agrees("mcnemar", inputs, {"p_exact": None, "wald_ci95": [None, None]})


@pytest.mark.parametrize("size", [1, 4, 9])
def test_sign_flips_by_enumeration(size: int) -> None:
    net = np.random.default_rng(size).integers(-3, 4, size)
    sums = [abs(np.dot(net, signs)) for signs in product((1, -1), repeat=size)]
    p = float(np.mean(np.array(sums) >= abs(net.sum())))
    agrees("patient_signflip", {"net": net.tolist()}, {"p_exact": p})
    scaled = stats.sign_flip(net * 0.3)  # no whole numbers: another way of counting
    assert scaled == pytest.approx(p)


def test_sign_flips_of_nothing_and_of_many() -> None:
    agrees("patient_signflip", {"net": [0, 0, 0]}, {"p_exact": 1})
    agrees("patient_signflip", {"net": [1, None]}, {"p_exact": None})
    agrees("patient_signflip", {"net": [1] * 40}, {"p_exact": 2**-39})
    values = np.random.default_rng(2).normal(0.2, 1, 60)
    z = values.sum() / np.linalg.norm(values)
    p = stats.sign_flip(values)
    assert p == stats.sign_flip(values)
    assert p == pytest.approx(2 * scipy_stats.norm.sf(abs(z)), abs=0.02)


def test_mean_difference_of_equal_models_is_p_1() -> None:
    inputs = {"y": [0, 1, 1, 0], "prob_a": [0.2, 0.6, 0.4, 0.1], "patient": [1, 1, 2, 3]}
    same = {"diff": 0, "se_cluster": 0, "se_naive": 0, "z": 0, "p_t": 1, "ci95_t": [0, 0]}
    expected = {"accuracy": same, "brier": same, "score_z": 0, "score_p": 1}
    agrees("clustered_mean_diff", {**inputs, "prob_b": inputs["prob_a"]}, expected)


def test_mean_difference_of_one_patient_has_no_error() -> None:
    inputs = {"y": [0, 1], "prob_a": [0.2, 0.6], "prob_b": [0.2, 0.4], "patient": ["x", "x"]}
    expected = {"diff": 0.5, "se_cluster": None, "p_t": None, "ci95_t": None, "patients": 1}
    agrees("clustered_mean_diff", inputs, {"accuracy": expected})


def test_mean_difference_of_single_images_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(8)
    y, a, b = rng.integers(0, 2, 30), rng.random(30), rng.random(30)
    reference = scipy_stats.ttest_rel((a - y) ** 2, (b - y) ** 2)
    expected = {"z": reference.statistic, "p_t": reference.pvalue, "patients": 30}
    inputs = {"y": y.tolist(), "prob_a": a.tolist(), "prob_b": b.tolist()}
    agrees("clustered_mean_diff", inputs, {"brier": expected})
