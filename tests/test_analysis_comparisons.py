"""Known answers of a run's comparisons: what is there is found, what is not is not claimed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_run import Arm, World, evidence_of, grid_of

from fgaug import stats
from fgaug.analysis.findings.analysis import Analysis
from fgaug.analysis.findings.analysis import analyse as analyse_fully
from fgaug.analysis.findings.arms import arm_table, compared
from fgaug.analysis.findings.comparisons import compare_metric
from fgaug.analysis.findings.contrasts import together
from fgaug.analysis.findings.evidence import Evidence
from fgaug.analysis.findings.metric_values import measure, runs_of
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.stats.max_t import JointT

PLAN = AnalysisPlan()
WORLD = World(patients=80, seeds=4)


analyse = partial(analyse_fully, resamples=20)


def auc_alone(evidence: Evidence) -> pd.DataFrame:
    """Return the comparisons of the primary metric, without the rest of an analysis."""
    arms = arm_table(evidence.rows, evidence.missing)
    measured = {split: measure(runs, "auc") for split, runs in runs_of(evidence).items()}
    return compare_metric("auc", measured, compared(arms), PLAN)


def verdict(found: Analysis, arm: Arm) -> str:
    return str(found.verdicts.set_index("arm_id").loc[arm.arm_id, "verdict"])


def sentence(found: Analysis, arm: Arm) -> str:
    return str(found.verdicts.set_index("arm_id").loc[arm.arm_id, "sentence"])


def row(
    found: Analysis, arm: Arm, against: str = "baseline", metric: str = "auc"
) -> pd.Series[Any]:
    table = found.comparisons
    own = (
        table["arm_id"].eq(arm.arm_id) & table["against"].eq(against) & table["metric"].eq(metric)
    )
    (chosen,) = np.flatnonzero(own)
    return table.iloc[chosen]


def test_a_true_gain_is_found_and_harm_is_called_harm() -> None:
    baseline, twin, good, nothing = grid_of((1.0, 0.5), (2,), twin=1.2, worth={(1.0, 2): 1.8})
    bad = Arm(mode="augmentation", psi=0.1, ratio=2, n_fake=800, shuffled=True)
    found = analyse(evidence_of([baseline, twin, good, nothing, bad], WORLD), PLAN)
    assert [verdict(found, arm) for arm in (good, nothing, bad)] == [
        "better",
        "not shown",
        "worse",
    ]
    assert row(found, good)["ci_low"] > 0
    assert row(found, bad)["ci_high"] < 0
    loss = row(found, good, metric="brier")
    assert loss["effect"] < 0
    assert loss["p_value"] < 0.05
    assert "E2, new patients" in sentence(found, good)
    assert "does not mean that there is none" in sentence(found, nothing)
    best = found.best.iloc[0]
    assert (best["arm_id"], best["metric"]) == (good.arm_id, "auc")
    assert best["naive_gain"] == pytest.approx(row(found, good)["effect"])
    assert best["ci_low"] <= best["naive_gain"] <= best["ci_high"]


def test_nothing_is_claimed_where_there_is_nothing() -> None:
    claims = 0
    for number in range(15):
        world = World(patients=60, seeds=3, rng=number, seed_sd=0.1)
        found = auc_alone(evidence_of(grid_of(), world))
        claims += int((found["p_value"] <= 0.05).any())
        assert (found["p_value"] >= found["p_raw"]).all()
    assert claims <= 2


def test_a_gain_that_repeated_reals_bring_too_is_said_to_be_theirs() -> None:
    baseline, twin, arm = grid_of((1.0,), (2,), twin=1.8, worth=1.8)
    evidence = evidence_of([baseline, twin, arm], WORLD)
    found = analyse(evidence, PLAN)
    assert verdict(found, arm) == "better"
    assert row(found, arm, "twin")["p_value"] > 0.05
    assert "oversample control" in sentence(found, arm)
    by_twin = analyse(evidence, AnalysisPlan(contrast="twin"))
    assert verdict(by_twin, arm) == "not shown"
    assert by_twin.comparisons.loc[by_twin.comparisons["primary"], "against"].eq("twin").all()


def test_a_gain_on_these_patients_alone_is_called_that() -> None:
    world = World(patients=16, images=1, seeds=8, seed_sd=0.02, arm_sd=0.8, run_sd=0.02, rng=3)
    arms = grid_of((1.0,), (2,), worth=1.5)
    found = analyse(evidence_of(arms, world), PLAN)
    assert verdict(found, arms[1]) == "better on these patients only"
    assert "E1, these patients" in sentence(found, arms[1])
    change = str(found.verdicts["would_change_it"].iloc[0])
    assert change.startswith("More patients")
    assert row(found, arms[1])["patient_share"] > 0.9


def test_one_family_is_what_max_t_says() -> None:
    evidence = evidence_of(grid_of((0.5, 1.0), (1, 2, 4)), WORLD)
    found = analyse(evidence, PLAN)
    (runs,) = runs_of(evidence).values()
    measured = measure(runs, "auc")
    rows = found.comparisons[found.comparisons["metric"].eq("auc")]
    names = [found.arms["arm_id"].iloc[0], *rows["arm_id"]]
    expected = stats.or_max_t(measured.of(names))
    for column, values in {
        "effect": expected.difference,
        "p_value": expected.p_value,
        "ci_low": expected.ci_low,
        "df": expected.df,
        "case_part": expected.case_part,
    }.items():
        np.testing.assert_allclose(rows[column], values, rtol=1e-12)
    values = [measured.values(name) for name in names]
    np.testing.assert_allclose(rows["p_patients"], stats.dunnett(values[0], values[1:]).p_value)
    single = stats.contrast(measured.of(names), [-1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rows["ci_low_single"].iloc[0], single.ci_low, rtol=1e-12)
    assert (rows["seed_share"] + rows["patient_share"]).to_numpy() == pytest.approx(1)


def test_contrasts_with_one_baseline_are_max_t() -> None:
    (runs,) = runs_of(evidence_of(grid_of((0.5, 1.0), (1, 2, 4)), WORLD)).values()
    arms = measure(runs, "accuracy").arms
    weights = np.insert(np.eye(6), 3, -1, axis=1)
    ours, theirs = together(arms, weights, level=0.9), stats.or_max_t(arms, 3, level=0.9)
    np.testing.assert_allclose(ours.estimate, theirs.difference, atol=1e-14)
    for name in ("se", "df", "p_raw", "p_value", "ci_low", "ci_high", "seed_part", "case_part"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)


def test_p_values_of_many_arms_are_interpolated_without_harm() -> None:
    shared = 0.5 + 0.5 * np.eye(260)
    joint = JointT(shared, 40.0)
    values = np.abs(np.random.default_rng(0).standard_normal(260)) * 2
    values[3] = np.nan
    found = joint.tails(values)
    some = np.array([0, 1, 2, *np.argsort(-values)[1:9]])
    np.testing.assert_allclose(
        found[some], [joint.tail(float(v)) for v in values[some]], rtol=1e-3
    )
    assert np.isnan(found[3])
    assert (found[~np.isnan(found)] <= 1).all()


def test_a_lone_pair_with_its_twin_is_a_contrast() -> None:
    baseline, twin, arm = grid_of((1.0,), (2,), twin=1.3, worth=1.5)
    evidence = evidence_of([baseline, twin, arm], WORLD)
    found = row(analyse(evidence, PLAN), arm, "twin")
    (runs,) = runs_of(evidence).values()
    expected = stats.contrast(measure(runs, "auc").of([arm.arm_id, twin.arm_id]), [1, -1])
    assert found["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
    assert found["ci_low"] == pytest.approx(expected.ci_low, rel=1e-9)
    assert found["p_value"] == pytest.approx(found["p_raw"])


@pytest.mark.slow
def test_families_share_the_error_rate() -> None:
    one = grid_of((0.5, 1.0), (1,), worth=1.5)
    other = grid_of((0.5, 1.0), (1,), worth=1.5, axes={"recipe.model": "b"})
    one = [replace(arm, axes={"recipe.model": "a"}) for arm in one]
    alone, both = (analyse(evidence_of(arms, WORLD), PLAN) for arms in (one, one + other))
    for arm in one[1:]:
        a, b = row(alone, arm), row(both, arm)
        assert b["p_value"] == pytest.approx(min(1, 2 * a["p_value"]))
        assert b["p_patients"] == pytest.approx(min(1, 2 * a["p_patients"]))
        assert b["ci_low"] < a["ci_low"] < a["ci_low_single"] == pytest.approx(b["ci_low_single"])
    assert any("2 families" in note for note in both.notes)
    assert not any("families" in note for note in alone.notes)
    assert both.best.loc[both.best["metric"].eq("auc"), "family"].nunique() == 2


@pytest.mark.slow
def test_an_arm_that_was_tried_stays_in_the_count() -> None:
    arms = grid_of((0.5, 1.0), (1, 2), worth=1.4)
    stopped = [*arms[:-1], replace(arms[-1], pruned=4)]
    missing = [*arms[:-1], replace(arms[-1], missing=4)]
    evidence = evidence_of(arms, WORLD)
    kept = replace(evidence, rows=evidence.rows[evidence.rows["arm_id"].ne(arms[-1].arm_id)])
    without, pruned, lost = (
        analyse(each, PLAN)
        for each in (kept, evidence_of(stopped, WORLD), evidence_of(missing, WORLD))
    )
    for found in (pruned, lost):
        assert row(found, arms[1])["p_value"] == pytest.approx(
            min(1, 4 / 3 * row(without, arms[1])["p_value"])
        )
        assert row(found, arms[1])["ci_high"] > row(without, arms[1])["ci_high"]
        assert np.isnan(row(found, arms[-1])["p_value"])
        assert verdict(found, arms[-1]) == "not shown"
        assert len(found.absent) == 4
    assert "4 pruned" in str(row(pruned, arms[-1])["reason"])
    assert pruned.absent["why"].eq("pruned by the scheduler at rung 1").all()
    assert lost.absent["why"].eq("not trained yet").all()
    assert "No test of AUC" in sentence(pruned, arms[-1])


def test_one_seed_is_judged_by_the_spread_of_the_others() -> None:
    arms = grid_of((0.5, 1.0), (1,), worth=1.5)
    arms[1] = replace(arms[1], seeds=1)
    found = analyse(evidence_of(arms, WORLD), PLAN)
    single = row(found, arms[1])
    assert single["n_seeds"] == 1
    assert np.isfinite(single[["p_value", "ci_low", "p_patients"]].to_numpy(float)).all()
    assert any("With one finished seed: 1 arm;" in note for note in found.notes)
    nobody = analyse(evidence_of(grid_of((1.0,), (1,)), replace(WORLD, seeds=1)), PLAN)
    assert nobody.comparisons["p_value"].isna().all()
    assert nobody.comparisons["reason"].str.contains("one seed").all()
    assert nobody.verdicts["verdict"].tolist() == ["not shown"]


def test_without_a_baseline_nothing_is_compared_and_that_is_said() -> None:
    arms = grid_of((1.0,), (1,))
    arms[0] = replace(arms[0], failed=4)
    found = analyse(evidence_of(arms, WORLD), PLAN)
    assert (
        found.comparisons["reason"]
        .str.contains("no finished seed of the arm it is compared")
        .all()
    )
    assert found.best["reason"].notna().all()
    none = analyse(evidence_of(arms[1:], WORLD), PLAN)
    assert none.comparisons.empty
    assert none.verdicts["verdict"].tolist() == ["not shown"]
    assert any(note.startswith("Not compared, because the run lacks") for note in none.notes)


def test_a_run_without_one_finished_trial_is_analysed_all_the_same() -> None:
    arms = [replace(arm, failed=4) for arm in grid_of(twin=1.2)]
    found = analyse(evidence_of(arms, WORLD), PLAN)
    assert found.comparisons["metric"].nunique() == 4
    assert found.comparisons["reason"].str.contains("no finished seed of this arm").all()
    assert found.verdicts["verdict"].eq("not shown").all()
    assert len(found.absent) == 7 * 4
    assert found.best.empty
    assert found.surface.empty


def identical(arms: list[Arm], world: World) -> Evidence:
    """Return evidence in which every trial says the same."""
    evidence = evidence_of(arms, world)
    first = next(iter(evidence.probability.values()))
    return replace(evidence, probability=dict.fromkeys(evidence.probability, first))


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c")])
def test_identical_runs_are_no_different_and_nothing_is_undefined(labels: tuple[str, ...]) -> None:
    arms = grid_of(twin=1.2)
    arms += [
        Arm(mode="drop", remove="b=9", n_real=100),
        Arm(mode="replacement", psi=1.0, ratio=1, remove="b=9", n_real=100, n_fake=100),
    ]
    found = analyse(identical(arms, replace(WORLD, labels=labels)), PLAN)
    for name in ("p_raw", "p_value", "p_patients"):
        assert found.comparisons[name].to_numpy() == pytest.approx(1), name
    assert found.comparisons["effect"].eq(0).all()
    assert found.comparisons["reason"].isna().all()
    assert found.verdicts["verdict"].eq("not shown").all()
    assert found.best["corrected_gain"].eq(0).all()
    assert found.surface["p"].eq(1).all()
    assert found.replacement["reason"].notna().all()
    assert found.exchange["reason"].notna().all()


@pytest.mark.slow
def test_the_order_of_trials_and_images_changes_nothing() -> None:
    evidence = evidence_of(grid_of(twin=1.25, worth=1.4), replace(WORLD, seeds=3))
    rng = np.random.default_rng(1)
    images = evidence.images["dataset"]
    order = rng.permutation(len(images))
    other = replace(
        evidence,
        rows=evidence.rows.sample(frac=1, random_state=2),
        images={"dataset": images.iloc[order].reset_index(drop=True)},
        probability={cell: p[order] for cell, p in evidence.probability.items()},
    )
    a, b = (analyse(each, PLAN) for each in (evidence, other))
    key = ["metric", "arm_id", "against"]
    left, right = (each.comparisons.sort_values(key, ignore_index=True) for each in (a, b))
    pd.testing.assert_frame_equal(left, right, rtol=1e-6, atol=1e-12)
    assert (
        a.verdicts.set_index("arm_id")["verdict"].to_dict()
        == b.verdicts.set_index("arm_id")["verdict"].to_dict()
    )


def test_labels_in_another_order_change_no_verdict() -> None:
    evidence = evidence_of(grid_of((0.5, 1.0), (1,), worth=1.5), WORLD)
    turned = replace(
        evidence,
        labels=evidence.labels[::-1],
        images={"dataset": evidence.images["dataset"].assign(y=lambda f: 1 - f["y"])},
        probability={cell: p[:, ::-1] for cell, p in evidence.probability.items()},
    )
    a, b = (analyse(each, PLAN).comparisons for each in (evidence, turned))
    kept = a["metric"].ne("accuracy")  # a probability of exactly one half is called label 1
    np.testing.assert_allclose(a.loc[kept, "p_value"], b.loc[kept, "p_value"], rtol=1e-5)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1_macro"])
def test_three_labels(metric: str) -> None:
    world = replace(WORLD, labels=("a", "b", "c"))
    arms = grid_of((1.0, 0.5), (2,), worth={(1.0, 2): 1.9})
    found = analyse(evidence_of(arms, world), AnalysisPlan(metric=metric))
    assert verdict(found, arms[1]) == "better"
    assert verdict(found, arms[2]) == "not shown"
    assert found.comparisons["metric"].unique().tolist() == [
        metric,
        "auc",
        "accuracy",
        "brier",
        "log_loss",
    ]
    assert found.best["corrected_gain"].notna().all()


def test_an_undefined_run_undoes_its_own_arm_alone() -> None:
    arms = grid_of((0.5, 1.0), (1,), worth=1.5)
    evidence = evidence_of(arms, WORLD)
    cell = evidence.rows.loc[evidence.rows["arm_id"].eq(arms[1].arm_id), "cell_id"].iloc[0]
    broken = replace(
        evidence, probability={**evidence.probability, cell: np.nan * evidence.probability[cell]}
    )
    found = analyse(broken, PLAN)
    assert "1 of 4 seeds of this arm" in str(row(found, arms[1])["reason"])
    assert np.isnan(row(found, arms[1])["p_value"])
    assert np.isfinite(row(found, arms[2])["p_value"])
    assert found.best["arm_id"].eq(arms[2].arm_id).all()


def test_patients_of_one_class_leave_a_reason() -> None:
    evidence = evidence_of(grid_of((1.0,), (1,)), WORLD)
    images = evidence.images["dataset"].assign(y=0)
    found = analyse(replace(evidence, images={"dataset": images}), PLAN)
    auc = found.comparisons[found.comparisons["metric"].eq("auc")]
    assert auc["reason"].str.contains("no image of class 1").all()
    assert any("AUC is undefined" in note for note in found.notes)
    others = found.comparisons[found.comparisons["metric"].eq("brier")]
    assert others["p_value"].notna().all()


@pytest.mark.slow
def test_splits_are_compared_on_their_own_images() -> None:
    arms = [
        replace(arm, split=split)
        for split in ("dataset", "1")
        for arm in grid_of((1.0,), (1,), worth=2.0)
    ]
    found = analyse(evidence_of(arms, WORLD), PLAN)
    rows = found.comparisons[found.comparisons["primary"]]
    assert rows["family"].tolist() == ["split 1", "split dataset"]
    assert rows["effect"].nunique() == 2
    assert found.verdicts["verdict"].eq("better").all()


def test_a_second_stage_is_left_to_its_own_judgement() -> None:
    evidence = evidence_of(grid_of((1.0,), (1,)), WORLD)
    stage = np.where(evidence.rows["seed"].ge(13), "confirm", "screen")
    found = analyse(replace(evidence, rows=evidence.rows.assign(stage=stage)), PLAN)
    assert found.comparisons["n_seeds"].eq(2).all()
    assert found.arms["ok"].eq(2).all()


@pytest.mark.slow
def test_what_differs_from_the_frozen_plan_is_listed() -> None:
    evidence = evidence_of(grid_of((1.0,), (1,)), WORLD)
    frozen = AnalysisPlan(margin=0.01)
    changed = analyse(evidence, AnalysisPlan(metric="accuracy", margin=0.02), frozen=frozen)
    assert changed.deviations == (
        "`analysis.metric`: auc in the plan, accuracy now",
        "`analysis.margin`: 0.01 in the plan, 0.02 now",
    )
    assert analyse(evidence, frozen, frozen=frozen).deviations == ()
    assert changed.comparisons.loc[changed.comparisons["primary"], "metric"].eq("accuracy").all()


def test_what_would_change_a_verdict_names_seeds_or_patients() -> None:
    by_seeds = World(patients=400, seeds=3, seed_sd=0.25, arm_sd=0.05, run_sd=0.05, rng=2)
    arms = grid_of((1.0,), (1,), worth=1.35)
    text = str(analyse(evidence_of(arms, by_seeds), PLAN).verdicts["would_change_it"].iloc[0])
    assert "seeds per arm would detect a gain" in text
    by_patients = World(patients=24, seeds=6, seed_sd=0.01, arm_sd=0.6, run_sd=0.05, rng=5)
    arms = grid_of((1.0,), (1,), worth=1.3)
    text = str(analyse(evidence_of(arms, by_patients), PLAN).verdicts["would_change_it"].iloc[0])
    assert "more patients" in text.lower()
