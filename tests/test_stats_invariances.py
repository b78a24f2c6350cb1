"""What must not change an answer, and what must: order, swaps, transforms, repeats."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fgaug import stats

few = settings(max_examples=40)


@st.composite
def models(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels that both occur, two score vectors with ties, patients with several images."""
    size = draw(st.integers(6, 30))
    y = draw(arrays(np.int64, size, elements=st.integers(0, 1)))
    y[:4] = [0, 0, 1, 1]
    a, b = (draw(arrays(np.int64, size, elements=st.integers(0, 6))) / 6 for _ in range(2))
    patient = draw(arrays(np.int64, size, elements=st.integers(0, 9)))
    patient[:4] = [0, 1, 0, 1]
    return y, a, b, patient


def frame(seed: int, counts: tuple[int, ...] = (4, 3, 3), images: int = 60) -> dict[str, Any]:
    """Return labels, patients, probabilities of all runs, and the arm of each."""
    rng = np.random.default_rng(seed)
    y, patient = rng.integers(0, 2, images), rng.integers(0, images // 2, images)
    arm = np.repeat(np.arange(len(counts)), counts)
    common = y + rng.normal(size=images) + rng.normal(size=images)[patient]
    logits = common + 0.3 * arm[:, None] * y + 0.8 * rng.normal(size=(arm.size, images)) - 0.5
    return {"y": y, "patient": patient, "p": 1 / (1 + np.exp(-logits)), "arm": arm}


def max_t(f: dict[str, Any], metric: str = "auc") -> stats.MaxT:
    influence = stats.influence_of(metric, f["y"], f["p"], group=f["patient"])
    return stats.or_max_t(stats.arms_of(influence, f["arm"]))


def assert_same(one: Any, other: Any) -> None:
    """Compare two results field by field, up to rounding."""
    for f in fields(one):
        left, right = getattr(one, f.name), getattr(other, f.name)
        if f.name == "test":
            assert_same(left, right)
        elif f.name == "reason":
            assert left == right
        else:
            np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12, err_msg=f.name)


@few
@given(models(), st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(both: tuple[np.ndarray, ...], random: Any) -> None:
    y, a, b, patient = both
    order = list(range(y.size))
    random.shuffle(order)
    turned = stats.delong(y[order], a[order], b[order], group=patient[order])
    assert_same(stats.delong(y, a, b, group=patient), turned)
    right = [stats.called_right(y, p) for p in (a, b)]
    means = [
        stats.mean_difference(right[0][index], right[1][index], patient[index])
        for index in (slice(None), order)
    ]
    assert_same(*means)


@pytest.mark.parametrize("metric", stats.METRICS)
def test_order_of_images_seeds_and_arms_does_not_matter(metric: str) -> None:
    f = frame(1)
    rng = np.random.default_rng(2)
    images, seeds = rng.permutation(60), rng.permutation(10)
    turned = {
        "y": f["y"][images],
        "patient": f["patient"][images],
        "p": f["p"][seeds][:, images],
        "arm": f["arm"][seeds],
    }
    one, other = max_t(f, metric), max_t(turned, metric)
    assert_same(one, other)
    swapped = max_t({**f, "arm": np.array([0, 2, 1])[f["arm"]]}, metric)
    np.testing.assert_allclose(swapped.difference[::-1], one.difference)
    np.testing.assert_allclose(swapped.p_value[::-1], one.p_value, atol=1e-4)


@few
@given(models())
def test_swapping_the_models_turns_the_sign_alone(both: tuple[np.ndarray, ...]) -> None:
    y, a, b, patient = both
    for group in (None, patient):
        one, other = stats.delong(y, a, b, group=group), stats.delong(y, b, a, group=group)
        assert one.difference == -other.difference
        np.testing.assert_array_equal(one.p_value, other.p_value)
        np.testing.assert_allclose([one.ci_low, one.ci_high], [-other.ci_high, -other.ci_low])
    right = [stats.called_right(y, p) for p in (a, b)]
    table = stats.agreement(*right)
    one_mcnemar, other_mcnemar = stats.mcnemar(table), stats.mcnemar(table.T)
    assert one_mcnemar.difference == -other_mcnemar.difference
    assert one_mcnemar.p_mid == other_mcnemar.p_mid
    means = [stats.mean_difference(*pair, patient).test for pair in (right, right[::-1])]
    assert means[0].difference == -means[1].difference
    np.testing.assert_array_equal(means[0].p_value, means[1].p_value)
    net = stats.net_right(*right, patient)
    assert stats.sign_flip(net) == stats.sign_flip(-net)


@few
@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=6),
    st.lists(st.integers(0, 8), min_size=1, max_size=6),
)
def test_swapping_two_arms_of_seeds_turns_the_sign_alone(a: list[int], b: list[int]) -> None:
    for test in (stats.welch, stats.student):
        one, other = test(a, b), test(b, a)
        assert one.difference == -other.difference
        np.testing.assert_allclose(one.p_value, other.p_value, rtol=1e-12)
    assert stats.rank_sum(a, b) == pytest.approx(stats.rank_sum(b, a))
    assert stats.prob_greater(a, b) == pytest.approx(1 - stats.prob_greater(b, a))


def test_swapping_two_arms_over_seeds_and_patients_turns_the_sign_alone() -> None:
    f = frame(3, (4, 4))
    pair = [
        stats.influence_of("auc", f["y"], f["p"][f["arm"] == k], group=f["patient"])
        for k in (0, 1)
    ]
    for test in (stats.nested, stats.factorial):
        one, other = test(*pair).test, test(*pair[::-1]).test
        assert one.difference == -other.difference
        assert one.p_value == pytest.approx(other.p_value, rel=1e-12)
        assert one.ci_low == pytest.approx(-other.ci_high, rel=1e-12)


@few
@given(models())
def test_monotone_scores_have_the_same_auc(both: tuple[np.ndarray, ...]) -> None:
    y, a, b, patient = both
    plain = stats.delong(y, a, b, group=patient)
    assert_same(plain, stats.delong(y, np.exp(3 * a) - 7, 1e-3 * b**3, group=patient))
    falling = stats.delong(y, -a, b, group=patient)
    assert falling.auc_a == pytest.approx(1 - plain.auc_a)  # the direction never flips by itself
    np.testing.assert_allclose(falling.var_a, plain.var_a, atol=1e-15)


@few
@given(models())
def test_one_image_a_patient_is_plain(both: tuple[np.ndarray, ...]) -> None:
    y, a, b, _ = both
    names = [f"patient {i}" for i in range(y.size)]
    assert_same(stats.delong(y, a, b), stats.delong(y, a, b, group=names))
    one, other = stats.mean_difference(a, b), stats.mean_difference(a, b, names)
    assert_same(one, other)
    np.testing.assert_allclose(one.test.se, one.se_naive, atol=1e-15)


@pytest.mark.parametrize("metric", stats.METRICS)
def test_repeated_images_do_not_shrink_errors_by_patient(metric: str) -> None:
    f = frame(4)
    twice = {**f, **{key: np.tile(f[key], 2) for key in ("y", "patient")}, "p": np.tile(f["p"], 2)}
    one, other = max_t(f, metric), max_t(twice, metric)
    assert_same(one, other)
    blind = {**twice, "patient": None}  # as if each copy were a patient of its own
    assert (
        max_t(blind, metric).case_part < 0.7 * max_t({**f, "patient": None}, metric).case_part
    ).all()


def test_repeated_images_do_not_shrink_the_test_of_two_models() -> None:
    f = frame(5)
    y, patient, (a, b) = f["y"], f["patient"], f["p"][[0, 9]]
    one, two = (
        stats.delong(np.tile(y, k), np.tile(a, k), np.tile(b, k), group=np.tile(patient, k))
        for k in (1, 2)
    )
    assert two.se == pytest.approx(one.se, rel=1e-9)
    assert two.p_value == pytest.approx(one.p_value, rel=1e-9)
    naive = [stats.delong(np.tile(y, k), np.tile(a, k), np.tile(b, k)).se for k in (1, 2)]
    assert naive[1] < 0.75 * naive[0]
    right = [stats.called_right(y, p) for p in (a, b)]
    nets = [stats.net_right(*(np.tile(r, k) for r in right), np.tile(patient, k)) for k in (1, 2)]
    assert stats.sign_flip(nets[0]) == pytest.approx(stats.sign_flip(nets[1]))
    assert stats.clustered_mcnemar(nets[0]) == stats.clustered_mcnemar(nets[1])


@pytest.mark.parametrize("metric", stats.METRICS)
@pytest.mark.parametrize("spread", [True, False])
def test_identical_runs_in_all_arms_are_p_1_without_nan(metric: str, spread: bool) -> None:
    f = frame(6, (3, 3, 3))
    block = f["p"][:3] if spread else np.repeat(f["p"][:1], 3, axis=0)
    r = max_t({**f, "p": np.tile(block, (3, 1))}, metric)
    np.testing.assert_array_equal(r.p_value, [1, 1])
    np.testing.assert_array_equal(r.p_raw, [1, 1])
    np.testing.assert_array_equal(r.difference, [0, 0])
    for f_of in fields(r):
        if f_of.name != "reason":
            assert np.isfinite(getattr(r, f_of.name)).all(), f_of.name
    assert r.reason is None


def test_identical_seeds_are_p_1_everywhere() -> None:
    values = [0.81, 0.8, 0.79]
    d = stats.dunnett(values, [values, values])
    np.testing.assert_allclose(d.p_value, 1, rtol=1e-12)
    for x in (values, [0.8, 0.8, 0.8]):
        assert stats.welch(x, x).p_value == 1
        assert stats.student(x, x).p_value == 1
        assert stats.paired_t(x, x).p_value == 1
        assert stats.rank_sum(x, x) == 1
        assert stats.signed_rank(x, x) == 1
        assert stats.paired_sign_flip(x, x) == 1
        assert stats.prob_greater(x, x) == 0.5
