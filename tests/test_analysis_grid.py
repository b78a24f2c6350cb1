"""Known answers on a whole grid: replacement, exchange rate, surface, the best arm."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special
from simulated_run import Arm, World, evidence_of, grid_of

from fgaug import stats
from fgaug.analysis.findings.analysis import analyse as analyse_fully
from fgaug.analysis.findings.arms import arm_table, compared
from fgaug.analysis.findings.best_arm import best_of
from fgaug.analysis.findings.comparisons import compare_metric
from fgaug.analysis.findings.contrasts import wald
from fgaug.analysis.findings.evidence import Evidence
from fgaug.analysis.findings.exchange_rate import exchange_of
from fgaug.analysis.findings.metric_values import Measured, measure, runs_of
from fgaug.analysis.findings.replacement import replacement_of
from fgaug.analysis.findings.resampled_metrics import scorer
from fgaug.analysis.findings.response_surface import surface_of
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.stats.selection import patient_rows

analyse = partial(analyse_fully, resamples=20)
WORLD = World(patients=150, seeds=5, seed_sd=0.03)


def of(evidence: Evidence, metric: str = "auc") -> tuple[dict[str, Measured], pd.DataFrame]:
    """Return what the parts of an analysis start from."""
    measured = {split: measure(runs, metric) for split, runs in runs_of(evidence).items()}
    return measured, arm_table(evidence.rows, evidence.missing)


def replacing(kept: float, *, removed: float = 0.9, full: float = 1.6, **fields: Any) -> list[Arm]:
    """Return a baseline, its reals removed, and an arm of fakes in their place."""
    return [
        Arm(worth=full),
        Arm(mode="drop", remove="b=100", n_real=100, worth=removed),
        Arm(
            mode="replacement", psi=1.0, ratio=1, remove="b=100", n_real=100, n_fake=100,
            worth=kept, **fields,
        ),
    ]  # fmt: skip


def one(arms: list[Arm], plan: AnalysisPlan | None = None, world: World = WORLD) -> pd.Series[Any]:
    plan = plan or AnalysisPlan()
    found = replacement_of(*of(evidence_of(arms, world), plan.metric), plan)
    assert len(found) == 1
    return found.iloc[0]


def test_fakes_as_good_as_the_removed_reals_are_not_inferior() -> None:
    found = one(replacing(1.6))
    assert found["sensitive"]
    assert found["verdict"] == "not inferior by the plan's margin"
    assert found["fieller_low"] < found["retained_share"] < found["fieller_high"]
    assert found["fieller_low"] < 1 < found["fieller_high"]
    assert found["margin"] == pytest.approx(found["assay_gain"] / 2)
    assert found["margin_source"] == "0.5 of the gain from the removed reals in this run"
    assert found["p_non_inferior"] == pytest.approx(found["retention_p"])
    assert found["ci90_low"] > -found["margin"]


def test_fakes_that_bring_nothing_are_not_called_as_good() -> None:
    found = one(replacing(0.9))
    assert found["sensitive"]
    assert found["verdict"] == "not shown"
    assert found["p_non_inferior"] > 0.5
    assert abs(found["retained_share"]) < 0.3


def test_reals_that_bring_nothing_cannot_be_replaced() -> None:
    found = one(replacing(1.6, removed=1.6))
    assert not found["sensitive"]
    assert found["verdict"] == "not shown"
    assert "replacement cannot be tested" in found["reason"]


def test_the_share_to_be_kept_is_the_plans() -> None:
    arms = replacing(1.4)
    half, most = (one(arms, AnalysisPlan(retention=share)) for share in (0.5, 0.9))
    assert half["verdict"] == "not inferior by the plan's margin"
    assert most["verdict"] == "not shown"
    assert most["retention_p"] > 0.3 > half["retention_p"]
    assert most["margin"] == pytest.approx(most["assay_gain"] / 10)
    assert most["margin_source"].startswith("0.1 of")


def test_the_plans_margin_is_the_one_that_counts() -> None:
    arms = replacing(1.5)
    wide, narrow = (one(arms, AnalysisPlan(margin=margin)) for margin in (0.06, 0.001))
    assert wide["margin_source"] == narrow["margin_source"] == "from the plan"
    assert wide["verdict"] == "not inferior by the plan's margin"
    assert narrow["verdict"] == "not shown"
    whole = one(arms, AnalysisPlan(margin=0.4))
    assert whole["verdict"] == "not shown"
    assert "adding nothing would pass" in whole["reason"]


def test_a_loss_is_turned_round() -> None:
    found = one(replacing(1.6), AnalysisPlan(metric="brier"))
    assert found["assay_gain"] > 0
    assert found["verdict"] == "not inferior by the plan's margin"


def test_holm_counts_every_replacement_arm() -> None:
    arms = replacing(1.6)
    arms += [replace(arms[2], psi=psi, failed=failed) for psi, failed in ((0.5, 0), (0.3, 5))]
    found = replacement_of(*of(evidence_of(arms, WORLD)), AnalysisPlan())
    smallest = found["p_non_inferior"].min()
    assert found["p_non_inferior_holm"].min() == pytest.approx(3 * smallest)
    lost = found[found["p_non_inferior"].isna()].iloc[0]
    assert lost["reason"] == "this arm has no result"
    assert np.isnan(lost["p_non_inferior_holm"])


def test_without_the_drop_arm_no_claim_is_made() -> None:
    arms = replacing(1.6)
    found = one([arms[0], arms[2]])
    assert "`drop`" in found["reason"]
    assert found["verdict"] == "not shown"
    full = analyse(evidence_of([arms[0], arms[2]], WORLD), AnalysisPlan())
    assert full.verdicts["verdict"].tolist() == ["not shown"]


STEADY = World(patients=600, seeds=6, seed_sd=0.01, arm_sd=0.05, run_sd=0.05)


def worth_of(auc: float) -> float:
    """Return the worth that gives this AUC in STEADY: AUC = Phi(worth / sd of a score)."""
    return float(special.ndtri(auc)) * (1 + 0.05**2 + 0.05**2) ** 0.5


def fractions() -> list[Arm]:
    """Return baselines at 100 to 800 reals whose AUC rises by 0.04 a doubling."""
    return [
        Arm(worth=worth_of(0.7 + 0.04 * n), n_real=100 * 2**n, real_fraction=2.0 ** (n - 3))
        for n in range(4)
    ]


def test_the_exchange_rate_is_found() -> None:
    own = {"ratio": 2.0, "n_real": 200, "n_fake": 400, "real_fraction": 0.25}
    arms = fractions()
    arms += [
        # as good as 400 reals with 200 of its own: 400 fakes stand for 200 reals
        Arm(mode="augmentation", psi=1.0, worth=worth_of(0.78), **own),
        Arm(mode="augmentation", psi=0.5, worth=worth_of(0.74), **own),
        # as good as 400 reals without any
        Arm(mode="synthetic", psi=1.0, ratio=2, n_real=0, n_fake=800, worth=worth_of(0.78)),
    ]
    world = STEADY
    found = exchange_of(*of(evidence_of(arms, world)), AnalysisPlan())
    assert found["reason"].isna().all()
    assert found["from"].iloc[0] == "mean of 2 augmentation arms"
    truth = {arms[4].arm_id: 500.0, arms[5].arm_id: 0.0, arms[6].arm_id: 500.0}
    for arm_id, worth in truth.items():
        row = found[found["arm_id"].eq(arm_id)].iloc[0]
        assert row["ci_low"] < worth < row["ci_high"], row["from"]
        assert row["estimate"] == pytest.approx(worth, abs=150)
        assert row["patients"] == pytest.approx(row["estimate"] / world.images)
        assert row["note"] == ""
    assert found["sizes"].eq("4 numbers of reals, 100 to 800").all()


def test_drop_arms_give_a_second_number_of_reals() -> None:
    found = exchange_of(*of(evidence_of(replacing(1.4), WORLD)), AnalysisPlan()).iloc[0]
    assert found["reason"] is None
    assert found["sizes"] == "2 numbers of reals, 100 to 400"
    kept = one(replacing(1.4))
    shares = {"estimate": "retained_share", "ci_low": "fieller_low", "ci_high": "fieller_high"}
    for name, share in shares.items():  # from 100 to 400 reals are two doublings
        assert found[name] == pytest.approx((100 * 4 ** kept[share] - 100) * 10, rel=1e-6), name


def test_no_exchange_rate_without_a_slope_or_a_second_number() -> None:
    plan = AnalysisPlan()
    lone = exchange_of(*of(evidence_of(grid_of((1.0,), (1,)), WORLD)), plan)
    assert lone["estimate"].isna().all()
    assert lone["reason"].str.contains("the same number of reals").all()
    flat = replacing(1.6, removed=1.6)
    found = exchange_of(*of(evidence_of(flat, WORLD)), plan)
    assert found["estimate"].isna().all()
    assert found["reason"].str.contains("not shown to help").all()
    worse = replacing(1.6, removed=2.2)
    found = exchange_of(*of(evidence_of(worse, WORLD)), plan)
    assert found["estimate"].isna().all()


def surface(worth: Any, world: World = WORLD, **fields: Any) -> pd.DataFrame:
    arms = grid_of((0.3, 0.6, 1.0), (0.5, 1, 2, 4), worth=worth, **fields)
    measured, table = of(evidence_of(arms, world))
    rows = compare_metric("auc", measured, compared(table), AnalysisPlan())
    found = surface_of(measured, table, rows, AnalysisPlan())
    return found.set_index(["term", "level"])


def test_a_surface_tells_ratio_from_psi() -> None:
    worth = {(p, r): 1.2 + 0.15 * np.log2(1 + r) for p in (0.3, 0.6, 1.0) for r in (0.5, 1, 2, 4)}
    found = surface(worth, replace(WORLD, arm_sd=0.1))
    assert found.loc[("ratio", "E2"), "p"] < 1e-4
    assert found.loc[("trend ratio", "E2"), "p"] < 1e-4
    assert "+" in found.loc[("trend ratio", "E2"), "sentence"]
    assert found.loc[("psi", "E2"), "p"] > 0.05
    assert "No effect of ψ is shown" in found.loc[("psi", "E2"), "sentence"]
    assert "up to" in found.loc[("psi", "E2"), "sentence"]
    assert "No interaction" in found.loc[("psi x ratio", "E2"), "sentence"]
    assert found.loc[("any effect", "E2"), "p"] < 0.05
    assert found.loc[("psi", "E2"), "df"] == 2
    assert found.loc[("psi x ratio", "E2"), "df"] == 6


def test_an_interaction_is_seen() -> None:
    worth = {(1.0, 4): 1.9, (0.3, 0.5): 1.9}
    assert surface(worth).loc[("psi x ratio", "E2"), "p"] < 1e-3


def test_the_surface_over_seeds_alone_is_the_two_way_analysis_of_variance() -> None:
    arms = grid_of((0.3, 0.6), (0.5, 1, 2), worth=1.3)
    measured, table = of(evidence_of(arms, WORLD))
    rows = compare_metric("auc", measured, compared(table), AnalysisPlan())
    found = surface_of(measured, table, rows, AnalysisPlan()).set_index(["term", "level"])
    metric, seeds = measured["dataset"], WORLD.seeds
    values = np.array([metric.values(arm.arm_id) for arm in arms[1:]]).reshape(2, 3, seeds)
    error = np.concatenate(
        [v - v.mean() for v in [*values.reshape(6, seeds), metric.values(arms[0].arm_id)]]
    )
    within = (error**2).sum() / (7 * (seeds - 1))
    rows_mean, columns_mean = values.mean(axis=(1, 2)), values.mean(axis=(0, 2))
    for term, squares, df in (
        ("psi", 3 * seeds * ((rows_mean - values.mean()) ** 2).sum(), 1),
        ("ratio", 2 * seeds * ((columns_mean - values.mean()) ** 2).sum(), 2),
    ):
        expected = squares / df / within
        assert found.loc[(term, "E1"), "statistic"] == pytest.approx(expected)
        p = special.fdtrc(df, 7 * (seeds - 1), expected)
        assert found.loc[(term, "E1"), "p"] == pytest.approx(p)


@pytest.mark.slow
def test_a_grid_with_a_hole_still_has_a_surface() -> None:
    arms = grid_of((0.3, 1.0), (1, 2, 4), worth=1.3)
    whole, holed = (
        analyse(evidence_of(each, WORLD), AnalysisPlan()).surface.set_index(["term", "level"])
        for each in (arms, [*arms[:-1], replace(arms[-1], failed=5)])
    )
    assert whole.loc[("psi x ratio", "E2"), "df"] == 2
    assert holed.loc[("psi x ratio", "E2"), "df"] == 1
    assert np.isfinite(holed.loc[("ratio", "E2"), "p"])


def arms_drawn(rng: np.random.Generator, seeds: int, patients: int, share: float) -> stats.Arms:
    """Return five arms without effect, patients' part of the variance being `share`."""
    own = rng.standard_normal((5, patients)) * np.sqrt(share * patients)
    runs = (1 - share) * seeds
    values = own.mean(axis=1)[:, None] + np.sqrt(runs) * rng.standard_normal((5, seeds))
    return stats.Arms(
        mean=values.mean(axis=1),
        n_seeds=np.full(5, seeds),
        seed_variance=values.var(axis=1, ddof=1),
        case=np.cov(own) / patients,
        n_patients=patients,
        reason=None,
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_test_of_a_surface_keeps_its_level(share: float) -> None:
    rng, repetitions = np.random.default_rng(4), 3000
    weights = np.insert(np.eye(4), 0, -1, axis=1)
    hits = 0
    for _ in range(repetitions):
        arms = arms_drawn(rng, 4, 25, share)
        if share == 0:
            arms = replace(arms, case=np.zeros((5, 5)))
        hits += wald(arms, weights, patients=True).p <= 0.05
    assert hits / repetitions == pytest.approx(0.05, abs=0.014)


def test_too_few_patients_for_a_surface_is_said() -> None:
    arms = arms_drawn(np.random.default_rng(1), 4, 4, 1.0)
    found = wald(arms, np.insert(np.eye(4), 0, -1, axis=1), patients=True)
    assert np.isnan(found.p)
    assert found.reason is not None


@pytest.mark.parametrize("metric", stats.METRICS)
@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c")])
def test_resampled_metrics_are_those_of_influence(metric: str, labels: tuple[str, ...]) -> None:
    evidence = evidence_of(grid_of((1.0,), (1,)), World(patients=20, labels=labels, seeds=3))
    # probabilities of two digits are full of ties
    rounded = {
        cell: np.round(p, 1 + (n % 2)) for n, (cell, p) in enumerate(evidence.probability.items())
    }
    (runs,) = runs_of(replace(evidence, probability=rounded)).values()
    chosen = np.array([4, 0, 3])
    score = scorer(metric, runs, chosen)
    rows = np.random.default_rng(3).integers(runs.n_images, size=runs.n_images)
    p = np.concatenate(list(runs.blocks()))[chosen][:, rows]
    expected = stats.influence_of(metric, runs.y[rows], p).estimate
    wanted = np.array([[True, False, True], [True, True, False]])
    found = score([rows[:3], rows], wanted)[1]
    np.testing.assert_allclose(found[:2], expected[:2], rtol=2e-6)


def test_of_useless_arms_the_best_loses_its_gain_when_corrected() -> None:
    naive, corrected = [], []
    for number in range(4):
        world = World(patients=60, seeds=5, arm_sd=0.4, seed_sd=0.1, rng=number)
        evidence = evidence_of(grid_of((0.2, 0.4, 0.6, 0.8), (1, 2, 4)), world)
        measured, table = of(evidence)
        rows = compare_metric("auc", measured, compared(table), AnalysisPlan())
        found = best_of(measured, compared(table), rows, resamples=100).iloc[0]
        naive.append(found["naive_gain"])
        corrected.append(found["corrected_gain"])
        assert found["ci_low"] < 0
    assert np.mean(naive) > 0.01
    assert np.mean(corrected) < 0.4 * np.mean(naive)


def test_the_best_by_a_loss_is_the_one_of_the_smallest() -> None:
    arms = grid_of((0.5, 1.0), (1,), worth={(1.0, 1): 1.7})
    whole = analyse(evidence_of(arms, WORLD), AnalysisPlan(metric="log_loss"))
    found = whole.best.iloc[0]
    words = whole.verdicts.set_index("arm_id")
    assert words.loc[arms[2].arm_id, "verdict"] == "better"
    assert words.loc[arms[2].arm_id, "sentence"].startswith("Log loss -0.")
    assert (found["metric"], found["arm_id"]) == ("log_loss", arms[2].arm_id)
    assert found["corrected_gain"] > 0
    assert 0 < found["ci_low"] < found["naive_gain"] < found["ci_high"]


def test_images_of_a_patient_stay_together_when_resampled() -> None:
    (runs,) = runs_of(evidence_of(grid_of((1.0,), (1,)), WORLD)).values()
    assert len(patient_rows(runs.group, runs.n_images)) == runs.n_patients == WORLD.patients
