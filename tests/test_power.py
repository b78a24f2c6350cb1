"""`fgaug power`: against the published figures of the method, a pilot run, and what it refuses."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_run import Arm, World, write_run

from fgaug import stats
from fgaug.analysis.power.assumptions import assumed, patient_variance
from fgaug.analysis.power.designs import MOST_SEEDS, StudyDesign, TwoStage, outlook, stage_plans
from fgaug.analysis.power.pilot import after_pilot, pilot_of
from fgaug.errors import UserError
from fgaug.stats.power import selected

SD = 0.0068  # between seeds, of the published accuracies
THESIS = StudyDesign(
    metric="accuracy", arms=36, seed_sd=SD, patient_variance=0, patients=None, expected=None
)


def plan(arms: int, seeds: int, baseline: int, **more: Any) -> stats.Plan:
    return stats.Plan(arms=arms, seeds=seeds, baseline_seeds=baseline, seed_sd=SD, **more)


@pytest.mark.parametrize(
    ("arms", "seeds", "baseline", "power"),
    [
        (36, 5, 5, [0.03, 0.09, 0.22, 0.65]),
        (36, 5, 30, [0.05, 0.18, 0.43, 0.91]),
        (36, 10, 60, [0.15, 0.51, 0.86, 1.0]),
        (36, 20, 20, [0.23, 0.66, 0.94, 1.0]),
        (3, 10, 17, [0.28, 0.62, 0.89, 1.0]),
        (3, 20, 34, [0.58, 0.93, 0.997, 1.0]),
        (1, 20, 20, [0.62, 0.92, 0.995, 1.0]),
    ],
)
def test_power_of_one_stage(arms: int, seeds: int, baseline: int, power: list[float]) -> None:
    found = [
        stats.power(plan(arms, seeds, baseline), gain) for gain in (0.005, 0.0075, 0.01, 0.015)
    ]
    assert found == pytest.approx(power, abs=0.0055)


def test_power_of_two_stages_is_that_of_the_simulations() -> None:
    """One arm of 36 one point better: .85 and .96 simulated, one stage of 10 + 10 .58."""
    confirm = plan(3, 20, 30)
    assert stats.two_stage_power(plan(36, 3, 6), confirm, 0.01) == pytest.approx(0.85, abs=0.01)
    assert stats.two_stage_power(plan(36, 5, 10), confirm, 0.01) == pytest.approx(0.96, abs=0.01)
    assert stats.power(plan(36, 10, 10), 0.01) == pytest.approx(0.58, abs=0.01)
    # 280 runs against 370
    assert 36 * 5 + 10 + 3 * 20 + 30 == 280


@pytest.mark.parametrize(("variance", "top"), [(0.0, 1), (0.0, 3), (4e-5, 3)])
def test_an_arm_is_chosen_as_often_as_in_a_simulation(variance: float, top: int) -> None:
    screen = plan(12, 4, 4, case_variance=variance)
    rng = np.random.default_rng(6)
    sd = math.sqrt(SD**2 / 4 + variance / 2)
    means = rng.normal(scale=sd, size=(20_000, 12))
    means[:, 0] += 0.006
    chosen = np.mean((means[:, 1:] > means[:, :1]).sum(axis=1) < top)
    assert selected(screen, top, 0.006) == pytest.approx(chosen, abs=0.012)
    assert selected(screen, top, 0.0) == pytest.approx(top / 12, abs=1e-6)
    assert selected(screen, 12, 0.0) == 1


def test_two_stages_of_all_arms_are_one_stage() -> None:
    confirm = plan(4, 10, 20)
    for gain in (0.005, 0.01):
        assert stats.two_stage_power(plan(4, 5, 10), confirm, gain) == stats.power(confirm, gain)
    assert stats.smallest_two_stage_gain(plan(4, 5, 10), confirm) == stats.smallest_gain(confirm)


def test_the_smallest_gain_has_the_power_it_promises() -> None:
    screen, confirm = plan(36, 3, 6, case_variance=2e-5), plan(3, 20, 35, case_variance=2e-5)
    gain = stats.smallest_two_stage_gain(screen, confirm)
    assert stats.two_stage_power(screen, confirm, gain) == pytest.approx(0.8)
    assert math.isnan(stats.smallest_two_stage_gain(screen, plan(3, 1, 1)))


def test_designs_runs_and_ceiling() -> None:
    given = StudyDesign(
        metric="accuracy", arms=36, seed_sd=SD, patient_variance=2e-5, patients=200, expected=None
    )
    found = outlook(
        given, seeds=[5, 20], baseline_seeds=None, gains=[0.02],
        stages=TwoStage(screen=5, confirm=20, top=3),
    )  # fmt: skip
    rows = found.designs
    assert found.level == "E2"
    assert rows["seeds"].tolist() == [
        "5 + 5",
        "5 + 30",
        "20 + 20",
        "20 + 120",
        "5 + 30, then 20 + 35",
        "unlimited",
        "unlimited",
    ]
    assert rows["runs"].tolist()[:5] == [185, 210, 740, 840, 305]
    assert rows["runs"].isna().tolist()[5:] == [True, True]
    one, two = rows.iloc[5], rows.iloc[6]
    assert (rows["smallest_gain"][:4] > one["smallest_gain"]).all()
    assert rows["smallest_gain"][4] > two["smallest_gain"]
    assert (rows["power_0.02"][:4] < one["power_0.02"]).all()
    assert one["power_0.02"] == pytest.approx(
        stats.ceiling(given.plan(36, MOST_SEEDS, MOST_SEEDS), 0.02)
    )
    fixed = outlook(given, seeds=[5], baseline_seeds=8)
    assert fixed.designs["seeds"].tolist() == ["5 + 8", "unlimited"]


def warned(
    given: StudyDesign = THESIS, seeds: int = 5, baseline: int | None = None, **more: Any
) -> str:
    return "\n".join(outlook(given, seeds=[seeds], baseline_seeds=baseline, **more).warnings)


def test_plans_that_cannot_reach_significance_are_warned_about() -> None:
    ranks = "rank or permutation tests over seeds with Holm cannot reach 0.05 over 36 arms"
    text = warned(baseline=5)
    assert ranks in text
    assert "their smallest possible p is 0.29, and they need 7 seeds" in text
    assert "they need 11 seeds" in text  # sign flips by Holm
    assert "their smallest possible p is 0.062, and they need 6 seeds" in text  # joint sign flips
    assert ranks not in warned(seeds=7, baseline=7)
    assert "36 arms cost power" in text
    one = StudyDesign(**{**_fields(THESIS), "arms": 1})
    assert warned(one, seeds=20) == ""
    assert "no test of recipes can be significant, whatever the results" in warned(
        seeds=1, baseline=1
    )
    assert "one seed per arm" in warned(seeds=1, baseline=10)
    high = StudyDesign(**{**_fields(THESIS), "expected": 0.99})
    assert "even a perfect arm would not be detected" in warned(high)


def test_what_a_gain_needs() -> None:
    assert "a gain of 0.01 needs 9 seeds per arm and 54 for the baseline" in warned(gains=[0.01])
    assert stats.power(plan(36, 9, 54), 0.01) >= 0.8 > stats.power(plan(36, 8, 48), 0.01)
    assert "a gain of" not in warned(seeds=9, gains=[0.01])
    assert "a gain of" not in warned()  # none is hoped for
    few = StudyDesign(**{**_fields(THESIS), "arms": 1, "patient_variance": 1e-4, "patients": 100})
    text = warned(few, gains=[0.01])
    assert "with 100 patients and any number of seeds; it needs about" in text
    patients = int(text.split("about ")[1].split()[0])
    at = stats.Plan(
        arms=1, seeds=5, baseline_seeds=5, seed_sd=SD, case_variance=1e-2 / patients,
        patients=patients,
    )  # fmt: skip
    assert stats.ceiling(at, 0.01) == pytest.approx(0.8, abs=0.001)


def _fields(given: StudyDesign) -> dict[str, Any]:
    return {name: getattr(given, name) for name in given.__dataclass_fields__}


def test_the_assumed_patients_part() -> None:
    one = patient_variance("accuracy", 400, expected=0.8, correlation=0)
    assert one == pytest.approx(2 * 0.16 / 400)
    assert patient_variance("accuracy", 400, expected=0.8, correlation=0.9) == pytest.approx(
        one / 10
    )
    even = patient_variance("balanced_accuracy", 400, expected=0.8, correlation=0)
    assert even == pytest.approx(one)
    # the published range of its standard error, 0.003 to 0.005, near 1,400 images
    assert 0.003 < math.sqrt(patient_variance("accuracy", 1400, expected=0.8)) < 0.005


def test_the_assumed_variance_of_an_auc_is_about_that_of_drawn_scores() -> None:
    """Hanley and McNeil's is for negative exponential scores: draw those."""
    rng = np.random.default_rng(8)
    p = 0.85
    rate = p / (1 - p)  # P(positive above negative) of exponentials
    y = np.repeat([0, 1], [60, 40])
    scores = rng.exponential(size=(4000, 100)) * np.where(y == 1, rate, 1)
    drawn = stats.auc(y, scores).var()
    found = patient_variance("auc", 100, expected=p, correlation=0, positives=0.4) / 2
    assert found == pytest.approx(drawn, rel=0.1)


def test_assumptions_are_named() -> None:
    given, notes = assumed("auc", 3, 300)
    text = "\n".join(notes)
    assert given.patient_variance > 0
    for words in ("sd between seeds 0.0055", "a baseline of 0.85", "correlation of 0.9"):
        assert words in text
    given, notes = assumed("brier", 3, None, seed_sd=0.004)
    assert (given.seed_sd, given.patient_variance) == (0.004, 0)
    assert "patients are ignored" in notes[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms = [
        Arm(seeds=6),
        Arm(mode="augmentation", psi=0.5, ratio=1, n_fake=400),
        Arm(mode="augmentation", psi=1.0, ratio=1, n_fake=400, failed=1),
        Arm(mode="oversample", ratio=1),
    ]
    return write_run(tmp_path_factory.mktemp("pilot") / "it's", arms, World(patients=50))


def test_a_pilot_tells_sd_patients_and_arms(run: Path) -> None:
    from fgaug.analysis.findings.evidence import load_evidence

    found = pilot_of(run)
    assert (found.metric, found.arms, found.seeds) == ("auc", 2, 3)
    assert (found.n_images, found.n_patients, found.seed_df) == (100, 50, 5 + 3 + 2 + 3)
    evidence = load_evidence(run)
    rows = evidence.rows[evidence.rows["status"].eq("ok")]
    by = rows.groupby("arm_id")["valid_auc"]
    pooled = math.sqrt((by.var() * (by.count() - 1)).sum() / found.seed_df)
    assert found.seed_sd == pytest.approx(pooled, rel=1e-6)
    assert found.expected == pytest.approx(rows[rows["mode"].eq("baseline")]["valid_auc"].mean())
    # the patients' part by or_max_t on the arms of the grid
    images = evidence.images["dataset"]
    used = rows[rows["mode"].ne("oversample")].sort_values(["mode", "arm_id"], ascending=False)
    codes, _ = pd.factorize(used["arm_id"])
    p = np.stack([evidence.probability[cell] for cell in used["cell_id"]]).astype(float)
    influence = stats.influence_of("auc", images["y"], p, group=images["group"])
    arms = stats.or_max_t(stats.arms_of(influence, codes))
    assert found.patient_variance == pytest.approx(arms.case_part.mean(), rel=1e-6)
    assert "1 failed" in found.notes[0]


def test_a_pilot_scales_to_other_patients(run: Path) -> None:
    pilot = pilot_of(run, "brier")
    same, _ = after_pilot(pilot)
    more, notes = after_pilot(pilot, patients=500, arms=7, seed_sd=0.01)
    assert (same.patients, same.arms, same.expected) == (50, 2, None)
    assert more.patient_variance == pytest.approx(same.patient_variance / 10)
    assert (more.arms, more.seed_sd) == (7, 0.01)
    assert any("scaled from 50 to 500" in note for note in notes)


def test_a_pilot_of_one_seed_tells_no_sd(tmp_path: Path, fgaug: Any) -> None:
    arms = [Arm(seeds=1), Arm(mode="augmentation", psi=0.5, ratio=1, seeds=1, n_fake=4)]
    root = write_run(tmp_path / "run", arms, World(patients=20))
    code, _, err = fgaug("power", "--run", root)
    assert code == 2
    assert "one seed" in err
    code, out, _ = fgaug("power", "--run", root, "--seed-sd", "0.01")
    assert code == 0
    assert "arms with one seed inflate the variance over patients" in out


def test_a_pilot_without_arms(tmp_path: Path, fgaug: Any) -> None:
    root = write_run(tmp_path / "run", [Arm()], World(patients=20))
    code, _, err = fgaug("power", "--run", root)
    assert code == 2
    assert "no arm and baseline" in err
    code, _, err = fgaug("power", "--run", tmp_path / "gone")
    assert code == 2


def test_the_command_prints_the_published_table(fgaug: Any) -> None:
    options = ("--arms", 36, "--metric", "accuracy", "--two-stage", "5,20,3")
    code, out, err = fgaug("power", *options)
    assert (code, err) == (0, "")
    for text in (
        "5 + 30",
        "0.43",
        "0.91",
        "305",
        "0.0134",
        "level E1",
        "warning: sign-flip tests",
    ):
        assert text in out
    code, out, _ = fgaug("power", *options, "--seeds", "5", "--gain", "0.01", "--format", "csv")
    frame = pd.read_csv(io.StringIO(out))
    assert frame["power_0.01"].round(2).tolist() == [0.22, 0.43, 0.96]
    assert set(frame["level"]) == {"E1"}
    code, out, _ = fgaug("power", *options, "--patients", "400", "--format", "json")
    found = json.loads(out)
    assert found["level"] == "E2"
    assert found["designs"][-1]["runs"] is None
    assert found["warnings"]
    assert found["notes"]


def test_the_command_reads_a_pilot(run: Path, fgaug: Any) -> None:
    code, out, err = fgaug("power", "--run", run, "--gain", "0.02", "--baseline-seeds", "9")
    assert (code, err) == (0, "")
    assert "3 + 9" in out
    assert "pilot: 2 arms, 100 images of 50 patients" in out
    assert "level E2" in out


def test_stage_plans_keep_the_square_root_rule() -> None:
    screen, confirm = stage_plans(THESIS, TwoStage(screen=5, confirm=20, top=4), None)
    assert (screen.seeds, screen.baseline_seeds, screen.arms) == (5, 30, 36)
    assert (confirm.seeds, confirm.baseline_seeds, confirm.arms) == (20, 40, 4)
    with pytest.raises(UserError, match="cannot confirm 37 of 36 arms"):
        stage_plans(THESIS, TwoStage(screen=5, confirm=20, top=37), None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seeds", "0"), "--seeds must be a number above 0"),
        (("--seeds", "3,x"), "--seeds must be a number above 0"),
        (("--seeds", "2.5"), "whole numbers"),
        (("--seeds", ""), "--seeds must be a number above 0"),
        (("--seeds", "nan"), "--seeds must be a number above 0"),
        (("--arms", "0"), "--arms must be at least 1"),
        (("--baseline-seeds", "-3"), "--baseline-seeds must be auto"),
        (("--patients", "1"), "Each label needs at least 2 patients"),
        (("--images", "3"), "Each label needs at least 2 patients"),
        (("--patients", "9", "--images", "9"), "give one"),
        (("--seed-sd", "-1"), "--seed-sd must be 0 or more"),
        (("--seed-sd", "nan"), "--seed-sd must be 0 or more"),
        (("--seed-sd", "0"), "any gain would be detectable"),
        (("--gain", "-0.01"), "--gain must be a number above 0"),
        (("--metric", "f2"), "--metric must be one of"),
        (("--metric", "brier"), "The sd of brier between seeds is unknown"),
        (("--metric", "brier", "--seed-sd", "0.01", "--patients", "90"), "Give --run"),
        (("--patients", "90", "--expected", "1.2"), "--expected must lie between 0 and 1"),
        (("--patients", "90", "--correlation", "1"), "--correlation must be"),
        (("--two-stage", "5,20"), "--two-stage must be screening"),
        (("--two-stage", "5,20,3"), "cannot confirm 3 of 1 arms"),
        (("--run", "x", "--expected", "0.9"), "drop them"),
        (("--format", "xml"), "--format must be table, csv or json"),
    ],
)
def test_mistakes_in_options(fgaug: Any, options: tuple[str, ...], words: str) -> None:
    code, out, err = fgaug("power", *options)
    assert (code, out) == (2, "")
    assert words in err
