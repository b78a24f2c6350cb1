"""Our formulas against statsmodels and scikit-learn, which fgaug itself does not need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics
from statsmodels.api import GLM, add_constant, families
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from fgaug import stats
from fgaug.errors import UserError

NAMES = {"bonferroni": "bonferroni", "holm": "holm", "hochberg": "simes-hochberg", "bh": "fdr_bh"}


@settings(max_examples=50)
@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)), st.sampled_from([*NAMES]))
def test_adjusted_p_values(p: np.ndarray, method: str) -> None:
    ours = stats.adjust(p, method)
    np.testing.assert_allclose(ours, multipletests(p, method=NAMES[method])[1], atol=1e-14)
    with_gap = stats.adjust([*p, np.nan], method)
    np.testing.assert_array_equal(with_gap, [*ours, np.nan])
    assert (ours >= p).all()


def test_adjusting_refuses_what_is_no_p_value() -> None:
    with pytest.raises(UserError, match=r"within 0\.\.1"):
        stats.adjust([0.2, 1.2])
    with pytest.raises(UserError, match="bonferroni, holm"):
        stats.adjust([0.2], "tukey")


@settings(max_examples=50)
@given(arrays(np.int64, (2, 2), elements=st.integers(0, 40)), st.booleans())
def test_mcnemar(table: np.ndarray, exact: bool) -> None:
    assume(table[0, 1] + table[1, 0] > 0)
    reference = mcnemar(table, exact=exact, correction=table[0, 1] != table[1, 0])
    ours = stats.mcnemar(table, exact=exact)
    assert ours.p_value == pytest.approx(min(1, reference.pvalue))
    assert ours.statistic == pytest.approx(reference.statistic)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(2, 8), st.floats(0, 0.05))
def test_equivalence(seed: int, first: int, second: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.81, 0.01, first), rng.normal(0.8, 0.02, second)
    p, lower, upper = ttost_ind(a, b, -margin, margin, usevar="unequal")
    ours = stats.equivalence(stats.welch(a, b), margin)
    assert (ours.p_value, ours.p_lower, ours.p_upper) == pytest.approx((p, lower[1], upper[1]))
    # the 90% interval decides as the two tests do
    assert (max(-ours.ci_low, ours.ci_high) < margin) == (ours.p_value < 0.05)
    if first == second:
        p = ttost_paired(a, b, -margin, margin)[0]
        assert stats.equivalence(stats.paired_t(a, b), margin).p_value == pytest.approx(p)


@settings(max_examples=40)
@given(*[arrays(np.int64, st.integers(3, 9), elements=st.integers(0, 6))] * 2)
def test_share_of_run_pairs(a: np.ndarray, b: np.ndarray) -> None:
    assume(a.std() > 0 and b.std() > 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # its z where all of a lies above b
        reference = rank_compare_2indep(a, b).prob1
    assert stats.prob_greater(a, b) == pytest.approx(reference)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.2, 3), st.floats(-2, 2))
def test_calibration_by_logistic_regression(seed: int, slope: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, 80)
    y = (rng.random(80) < 1 / (1 + np.exp(-slope * logit - shift))).astype(int)
    assume(5 < y.sum() < 75)
    p = 1 / (1 + np.exp(-logit))
    r = stats.calibration_of(y, p)
    fit = GLM(y, add_constant(logit), family=families.Binomial()).fit(tol=1e-12)
    large = GLM(y, np.ones(80), family=families.Binomial(), offset=logit).fit(tol=1e-12)
    assert r.slope == pytest.approx(fit.params[1], rel=1e-6)
    assert r.intercept_in_the_large == pytest.approx(large.params[0], rel=1e-6, abs=1e-8)
    assert r.brier == pytest.approx(metrics.brier_score_loss(y, p))
    assert r.log_loss == pytest.approx(metrics.log_loss(y, p))


@pytest.mark.parametrize("labels", [3, 5])
def test_metrics_of_several_labels(labels: int) -> None:
    rng = np.random.default_rng(labels)
    y = np.concatenate([np.arange(labels), rng.integers(0, labels, 60)])
    p = rng.dirichlet(np.ones(labels), (2, y.size)) + 0.3 * np.eye(labels)[y]
    p /= p.sum(axis=2, keepdims=True)
    onehot = np.eye(labels)[y]
    expected = {
        "auc": lambda q: metrics.roc_auc_score(y, q, multi_class="ovr", average="macro"),
        "accuracy": lambda q: metrics.accuracy_score(y, q.argmax(axis=1)),
        "balanced_accuracy": lambda q: metrics.balanced_accuracy_score(y, q.argmax(axis=1)),
        "brier": lambda q: ((q - onehot) ** 2).sum(axis=1).mean() / 2,
        "log_loss": lambda q: metrics.log_loss(y, q),
        "f1_macro": lambda q: metrics.f1_score(y, q.argmax(axis=1), average="macro"),
    }
    assert set(expected) == set(stats.METRICS)
    for metric, reference in expected.items():
        ours = stats.influence_of(metric, y, p).estimate
        np.testing.assert_allclose(ours, [reference(q) for q in p], err_msg=metric)


@pytest.mark.parametrize("metric", stats.METRICS)
def test_two_labels_given_as_two_columns(metric: str) -> None:
    rng = np.random.default_rng(3)
    y, p = rng.integers(0, 2, 30), rng.random((3, 30))
    one, both = (stats.influence_of(metric, y, q) for q in (p, np.stack([1 - p, p], axis=2)))
    np.testing.assert_allclose(one.estimate, both.estimate)
    np.testing.assert_allclose(one.covariance(), both.covariance())


@pytest.mark.parametrize("labels", [2, 3])
def test_the_influence_on_f1_is_its_derivative_by_an_image_s_weight(labels: int) -> None:
    """The infinitesimal jackknife by finite differences, from scikit-learn's weighted F1."""
    rng = np.random.default_rng(labels)
    y = rng.integers(0, labels, 90)
    p = rng.dirichlet(np.ones(labels), 90) + 0.3 * np.eye(labels)[y]
    p /= p.sum(axis=1, keepdims=True)
    called = (p[:, 1] >= 0.5).astype(int) if labels == 2 else p.argmax(axis=1)

    def f1(weight: np.ndarray) -> float:
        return float(metrics.f1_score(y, called, average="macro", sample_weight=weight))

    step = 1e-5
    moved = [f1(np.ones(90) + step * np.eye(90)[image]) - f1(np.ones(90)) for image in range(90)]
    found = stats.influence_of("f1_macro", y, p[None])
    assert found.estimate[0] == pytest.approx(f1(np.ones(90)))
    own = found.factors[0] / np.sqrt(90 / 89)  # one stratum: the factors are the influences
    np.testing.assert_allclose(own, np.array(moved) / step, rtol=1e-3, atol=1e-7)


def test_f1_of_a_label_that_neither_occurs_nor_is_called_is_undefined() -> None:
    y, p = np.array([0, 1, 0, 1]), np.array([[[0.6, 0.3, 0.1]] * 4, [[0.2, 0.3, 0.5]] * 4])
    found = stats.influence_of("f1_macro", y, p)
    assert np.isnan(found.estimate[0])
    assert found.estimate[1] == 0, "label 2 is called, and wrong"


@pytest.mark.parametrize("metric", stats.METRICS)
@pytest.mark.parametrize("labels", [2, 3])
def test_covariances_are_the_jackknife_s(metric: str, labels: int) -> None:
    """Leaving out a patient at a time is another way to the same variance, to order 1 / G."""
    rng = np.random.default_rng(labels)
    y, patient = rng.integers(0, labels, 600), rng.integers(0, 240, 600)
    p = rng.dirichlet(np.ones(labels), (2, 600)) + 0.4 * np.eye(labels)[y]
    p /= p.sum(axis=2, keepdims=True)
    whole = stats.influence_of(metric, y, p, group=patient)
    names = np.unique(patient)
    left_out = np.array(
        [stats.influence_of(metric, y[k], p[:, k]).estimate for k in (patient != g for g in names)]
    )
    spread = left_out - left_out.mean(axis=0)
    jackknife = spread.T @ spread * (names.size - 1) / names.size
    np.testing.assert_allclose(whole.covariance(), jackknife, rtol=0.03, atol=2e-6)


def test_one_missing_probability_is_not_a_wrong_answer() -> None:
    y = [0, 1, 2, 0, 1, 2]
    p = np.full((2, 6, 3), 1 / 3)
    p[0, 3] = [0.5, np.nan, 0.5]  # the own label's is there, another's is not
    for metric in ("accuracy", "balanced_accuracy", "brier", "auc", "f1_macro"):
        found = stats.influence_of(metric, y, p)
        np.testing.assert_array_equal(np.isnan(found.estimate), [True, False], err_msg=metric)
        assert found.reason == "1 of 2 runs have scores that are not finite"
