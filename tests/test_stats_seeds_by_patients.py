"""Arms over seeds and patients (E2), against the formulas written out over all pairs of runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_module import agrees
from scipy import stats as scipy_stats

from fgaug import stats
from fgaug.errors import UserError

PATIENTS, IMAGES = 25, 80


def images(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and patients; many patients have both labels."""
    rng = np.random.default_rng(seed)
    patient = np.concatenate([np.arange(PATIENTS), rng.integers(0, PATIENTS, IMAGES - PATIENTS)])
    return rng.integers(0, 2, IMAGES), patient


def runs(seed: int, count: int, gain: float = 1.0) -> np.ndarray:
    """Return scores of runs that share what is hard about an image, [count, IMAGES]."""
    y, patient = images(0)
    rng, common = np.random.default_rng(seed), np.random.default_rng(99)
    shared = gain * y + common.normal(size=PATIENTS)[patient] + common.normal(size=IMAGES)
    return shared + 0.7 * rng.normal(size=(count, IMAGES)) + 0.1 * rng.normal(size=(count, 1)) * y


def covariance(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return AUCs and Obuchowski's covariance of all runs, from all pairs of images."""
    y, patient = images(0)
    above = scores[:, y == 1][:, :, None] - scores[:, y == 0][:, None, :]
    kernel = (above > 0) + 0.5 * (above == 0)
    area = kernel.mean(axis=(1, 2))
    m, n = int((y == 1).sum()), int((y == 0).sum())
    u, w = np.zeros((2, len(scores), PATIENTS))
    np.add.at(u.T, patient[y == 1], (kernel.mean(axis=2) - area[:, None]).T)
    np.add.at(w.T, patient[y == 0], (kernel.mean(axis=1) - area[:, None]).T)
    i10, i01 = np.unique(patient[y == 1]).size, np.unique(patient[y == 0]).size
    return area, (
        i10 / ((i10 - 1) * m**2) * u @ u.T
        + i01 / ((i01 - 1) * n**2) * w @ w.T
        + PATIENTS / ((PATIENTS - 1) * m * n) * (u @ w.T + w @ u.T)
    )


def apart(block: np.ndarray) -> float:
    """Return the mean over pairs of different runs of one arm."""
    size = len(block)
    return float((block.sum() - np.trace(block)) / (size * (size - 1)))


def case_of(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    y, patient = images(0)
    return {"y": y, "patient": patient, "scores_a": a.T, "scores_b": b.T}


@pytest.mark.parametrize(("first", "second"), [(3, 5), (2, 2)])
def test_nested_over_all_pairs_of_runs(first: int, second: int) -> None:
    a, b = runs(1, first, 1.3), runs(2, second)
    area, c = covariance(np.concatenate([a, b]))
    parts = [area[:first].var(ddof=1) / first, area[first:].var(ddof=1) / second]
    case = apart(c[:first, :first]) + apart(c[first:, first:]) - 2 * c[:first, first:].mean()
    case = max(case, 0.0)
    v, d = sum(parts) + case, area[:first].mean() - area[first:].mean()
    df = v**2 / (parts[0] ** 2 / (first - 1) + parts[1] ** 2 / (second - 1))
    p = 2 * scipy_stats.t.sf(abs(d) / v**0.5, df)
    half = scipy_stats.t.ppf(0.975, df) * v**0.5
    expected: dict[str, Any] = {
        "auc_a": area[:first],
        "auc_b": area[first:],
        "error_var": np.diag(c).mean(),
        "cov2_a": apart(c[:first, :first]),
        "cov2_b": apart(c[first:, first:]),
        "cov3_all_pairs": c[:first, first:].mean(),
        "nested": {
            "seed_part": sum(parts),
            "case_part": case,
            "se": v**0.5,
            "t": d / v**0.5,
            "df": df,
            "p": p,
            "ci95": [d - half, d + half],
        },
        "seeds_only_welch_p": scipy_stats.ttest_ind(
            area[:first], area[first:], equal_var=False
        ).pvalue,
        "n_patients": PATIENTS,
    }
    if first != second:
        block = dict.fromkeys(("ms_t", "ms_tr", "F", "ddf", "p", "se", "ci95"))
        expected |= {"cov1": None, "cov3": None, "factorial": block, "mrmcaov": None}
    agrees("or_seeds_by_cases", case_of(a, b), expected)


def test_one_seed_leaves_what_needs_two_undefined() -> None:
    a, b = runs(1, 1), runs(2, 1)
    area, c = covariance(np.concatenate([a, b]))
    expected = {
        "diff": area[0] - area[1],
        "error_var": np.trace(c) / 2,
        "cov1": c[0, 1],
        "cov2": None,
        "cov3": None,
        "cov3_all_pairs": c[0, 1],
        "nested": dict.fromkeys(("seed_part", "case_part", "se", "t", "df", "p", "ci95")),
        "factorial": dict.fromkeys(("ms_tr", "F", "ddf", "p", "se", "ci95")),
        "seeds_only_welch_p": None,
        "ensemble_delong_p": 2 * scipy_stats.norm.sf(
            abs(area[0] - area[1]) / (c[0, 0] + c[1, 1] - 2 * c[0, 1]) ** 0.5
        ),
    }  # fmt: skip
    agrees("or_seeds_by_cases", case_of(a, b), expected)
    influence = [stats.influence_of("auc", *images(0)[:1], run) for run in (a, b)]
    assert stats.nested(*influence).test.reason == "an arm has one seed"


def test_identical_arms_are_p_1() -> None:
    a = runs(1, 4)
    same = {"t": 0, "p": 1}
    agrees("or_seeds_by_cases", case_of(a, a), {"diff": 0, "nested": same, "factorial": same})
    still = np.repeat(a[:1], 3, axis=0)  # every seed the same network
    expected = {"nested": same | {"se": 0, "ci95": [0, 0]}, "factorial": same | {"F": 0}}
    agrees("or_seeds_by_cases", case_of(still, still), expected)


def arms(*counts: int, gain: float = 1.0) -> dict[str, np.ndarray]:
    names = ["baseline", *(f"cell{k}" for k in range(1, len(counts)))]
    groups = (runs(10 + k, n, gain + 0.2 * k).T for k, n in enumerate(counts))
    return dict(zip(names, groups, strict=True))


@pytest.mark.parametrize("counts", [(4, 3, 2), (5, 1, 3), (2, 2)])
def test_max_t_by_the_formulas(counts: tuple[int, ...]) -> None:
    scores = arms(*counts)
    area, c = covariance(np.concatenate([part.T for part in scores.values()]))
    arm = np.repeat(np.arange(len(counts)), counts)
    means = np.array([area[arm == k].mean() for k in range(len(counts))])
    seed_df = len(area) - len(counts)
    s2 = sum(((area[arm == k] - means[k]) ** 2).sum() for k in range(len(counts))) / seed_df
    member = (arm == np.arange(len(counts))[:, None]) / np.array(counts)[:, None]
    blocks = member @ c @ member.T
    for k, n in enumerate(counts):
        own = c[np.ix_(arm == k, arm == k)]
        blocks[k, k] = apart(own) if n > 1 else own[0, 0]
    contrast = np.column_stack([-np.ones(len(counts) - 1), np.eye(len(counts) - 1)])
    q = contrast @ blocks @ contrast.T
    values, vectors = np.linalg.eigh(q)
    q = vectors @ np.diag(np.maximum(values, 0)) @ vectors.T
    seed = s2 / np.array(counts[1:]) + s2 / counts[0]
    v = seed + np.diag(q)
    df = v**2 / (seed**2 / seed_df + np.diag(q) ** 2 / (PATIENTS - 1))
    t = (means[1:] - means[0]) / v**0.5
    sigma = np.diag(s2 / np.array(counts[1:])) + s2 / counts[0] + q
    law = scipy_stats.multivariate_t(shape=sigma / np.outer(v, v) ** 0.5, df=df.min(), seed=1)
    k = len(t)
    p_raw = 2 * scipy_stats.t.sf(np.abs(t), df)
    joint = [1 - law.cdf(np.full(k, abs(x)), lower_limit=np.full(k, -abs(x))) for x in t]
    y, patient = images(0)
    agrees(
        "or_maxt",
        {"y": y, "patient": patient, "scores": scores},
        {
            "mean_auc": means,
            "seed_var_pooled": s2,
            "seed_df": seed_df,
            "case_part": np.diag(q),
            "t": t,
            "df": df,
            "corr": sigma / np.outer(v, v) ** 0.5,
            "p_raw": p_raw,
            "p_maxt": joint if k > 1 else p_raw,
        },
        p_maxt=3e-3 if k > 1 else 1e-9,
    )


def test_max_t_without_pooling_leaves_out_the_arm_with_one_seed() -> None:
    y, patient = images(0)
    scores = arms(5, 1, 3)
    runs_of = np.concatenate([part.T for part in scores.values()])
    influence = stats.influence_of("auc", y, runs_of, group=patient)
    both = stats.arms_of(influence, np.repeat([0, 1, 2], [5, 1, 3]))
    r = stats.or_max_t(both, pool=False)
    assert np.isnan([r.statistic[0], r.p_raw[0], r.p_value[0], r.ci_low[0], r.ci_high[0]]).all()
    pair = [
        stats.influence_of("auc", y, scores[k].T, group=patient) for k in ("cell2", "baseline")
    ]
    # clipping the joint covariance of the patients can only widen the single test's error
    assert r.statistic[1] == pytest.approx(stats.nested(*pair).test.statistic, rel=0.05)
    assert r.p_value[1] == r.p_raw[1]  # a family of one is left
    assert r.reason == "an arm has one seed, and variances are not pooled"
    alone = stats.or_max_t(stats.arms_of(influence, np.repeat([1, 0, 2], [5, 1, 3])), pool=False)
    assert np.isnan(alone.p_value).all()
    assert np.isnan(alone.critical)


def test_max_t_of_single_seeds_has_no_seed_variance() -> None:
    y, patient = images(0)
    undefined = dict.fromkeys(("seed_var_pooled", "seed_part", "se", "t", "p_raw", "p_maxt"))
    inputs = {"y": y, "patient": patient, "scores": arms(1, 1, 1)}
    agrees("or_maxt", inputs, {"seed_df": 0, **undefined, "crit95": None})


def test_max_t_of_arms_that_never_differ_from_theirs() -> None:
    y, patient = images(0)
    run = runs(1, 1)
    shift = np.where(y == 1, 5.0, 0.0)  # a perfect network, always the same
    scores = {"baseline": np.repeat(run, 3, 0).T, "same": np.repeat(run, 2, 0).T}
    inputs = {"y": y, "patient": patient, "scores": scores}
    expected = {"t": [0], "p_raw": [1], "p_maxt": [1], "ci95_simultaneous": [[0, 0]]}
    agrees("or_maxt", inputs, expected)
    perfect = {"baseline": np.repeat(shift[None] * 0, 3, 0).T, "b": np.repeat(shift[None], 2, 0).T}
    undefined = {"diff": [0.5], "t": [None], "p_maxt": [None], "ci95_simultaneous": [[None] * 2]}
    agrees("or_maxt", {"y": y, "patient": patient, "scores": perfect}, undefined)


def test_a_run_without_numbers_is_named() -> None:
    y, patient = images(0)
    scores = runs(3, 6)
    scores[4, 7] = np.nan
    influence = stats.influence_of("auc", y, scores, group=patient)
    r = stats.or_max_t(stats.arms_of(influence, [0, 0, 1, 1, 2, 2]))
    assert r.reason == "1 of 6 runs have scores that are not finite"
    assert np.isnan(r.p_value).all()


@pytest.mark.parametrize("arm", [[0, 0, 2, 2], [-1, 0, 0, 1], [0.0, 0.0, 1.0, 1.0], [0, 1]])
def test_arms_without_a_run_are_refused(arm: list[float]) -> None:
    influence = stats.influence_of("auc", images(0)[0], runs(1, 4))
    with pytest.raises(UserError, match=r"[Aa]rm"):
        stats.arms_of(influence, arm)
