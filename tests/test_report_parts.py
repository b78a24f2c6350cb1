"""The report's own numbers: per label, confusion, ROC, strata, wording; and what figures hold."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_report import BASELINE, BEST, TWIN, made_evidence, made_material, made_rows
from sklearn.metrics import confusion_matrix, roc_auc_score

from fgaug import stats
from fgaug.analysis import format
from fgaug.analysis.format import DASH, MINUS
from fgaug.analysis.report.chapters.forest import MOST_ARMS, forest
from fgaug.analysis.report.chapters.heat_map import heat_maps
from fgaug.analysis.report.chapters.learning_curves import stops_figure
from fgaug.analysis.report.chapters.per_label import per_label
from fgaug.analysis.report.chapters.predictions import FPR, confusion, roc, scored
from fgaug.analysis.report.chapters.strata import strata_parts
from fgaug.analysis.report.drawing import LIGHT
from fgaug.analysis.report.material import picks
from fgaug.analysis.report.parts import Table, Text


def test_numbers_in_words() -> None:
    assert format.number(0.12349) == "0.123"
    assert format.number(math.nan) == format.count(None) == format.p_value(math.nan) == DASH
    assert format.number(0.0) == format.number(-0.0001) == "0.000"
    assert format.effect("auc", 0.0123) == "+1.2"
    assert format.effect("accuracy", -0.0123, with_unit=True) == f"{MINUS}1.2 points"
    assert format.effect("log_loss", -0.0123, with_unit=True) == f"{MINUS}0.012 nats"
    assert format.effect("auc", -0.0001) == "0.0"
    assert format.interval("auc", -0.003, 0.027) == f"{MINUS}0.3 to +2.7"
    assert format.interval("auc", math.nan, 0.027) == DASH
    assert [format.p_value(p) for p in (0, 0.0004, 0.01234, 0.2345, 1.0)] == [
        "<0.001",
        "<0.001",
        "0.012",
        "0.23",
        "1.00",
    ]
    assert format.listed(["a", "b", "c"]) == "a, b and c"
    assert (format.listed(["a"]), format.listed([])) == ("a", "")


def test_f1_is_of_each_trial_and_then_averaged() -> None:
    rows = made_rows()
    mine = rows["arm_id"].eq(BEST)
    rows.loc[mine, "precision_dbp"] = [0.5, 1.0, 0.8]
    rows.loc[mine, "recall_dbp"] = [0.5, 0.5, math.nan]
    found = per_label(made_material(rows=rows)).set_index(["arm_id", "label"])
    dbp = found.loc[(BEST, "dbp")]
    # 2 x 0.5 x 0.5 / 1 = 0.5 and 2 x 1 x 0.5 / 1.5 = 2/3; the third is undefined
    assert dbp["f1-score_mean"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert dbp["f1-score_std"] == pytest.approx((2 / 3 - 0.5) / 2)  # population sd of two
    assert dbp["precision_mean"] == pytest.approx(2.3 / 3)
    assert (dbp["support_mean"], dbp["support_std"]) == (30, 0)
    assert found.loc[(BEST, "trv"), "f1-score_mean"] == 0  # precision and recall are 0
    assert BASELINE in found.index.get_level_values("arm_id")


def test_one_seed_has_no_spread_per_label() -> None:
    found = per_label(made_material(rows=made_rows(seeds=1)))
    assert found["precision_std"].isna().all()
    assert found["precision_mean"].notna().all()


@pytest.mark.parametrize("labels", [2, 3])
def test_confusion_and_roc_agree_with_scikit_learn(labels: int) -> None:
    rng = np.random.default_rng(19)
    y = np.arange(60) % labels
    p = rng.dirichlet(np.ones(labels), 60).round(1) + 1e-3  # with ties
    p /= p.sum(axis=1, keepdims=True)
    called = (p[:, 1] >= 0.5).astype(int) if labels == 2 else p.argmax(axis=1)
    assert confusion(y, p).tolist() == confusion_matrix(y, called).tolist()
    curve, area = roc(y, p)
    score = p[:, 1] if labels == 2 else p
    assert area == pytest.approx(roc_auc_score(y, score, multi_class="ovr"))
    assert (np.diff(curve) >= 0).all()
    assert (curve[0], curve[-1]) == (0, 1)
    assert curve.shape == FPR.shape
    # the mean height of a fine curve is its area, but for the grid's steps
    assert np.trapezoid(curve, FPR) == pytest.approx(area, abs=0.02)


def test_roc_of_one_class_is_undefined_and_of_a_perfect_score_is_one() -> None:
    p = np.stack([np.linspace(1, 0, 10), np.linspace(0, 1, 10)], axis=1)
    curve, area = roc(np.zeros(10, int), p)
    assert math.isnan(area)
    assert np.isnan(curve).all()
    curve, area = roc((p[:, 1] > 0.5).astype(int), p)
    assert area == 1
    assert (curve[1:] == 1).all()


def test_an_arm_is_scored_over_its_finished_seeds() -> None:
    rows = made_rows()
    evidence = made_evidence(rows)
    found = scored(evidence, BEST)
    assert found is not None
    assert found.confusion.shape == (3, 2, 2)
    assert found.confusion.sum(axis=(1, 2)).tolist() == [60, 60, 60]
    y = evidence.images["dataset"]["y"]
    first = evidence.probability[f"{BEST}-0"]
    assert found.auc[0] == pytest.approx(stats.auc(y, first[:, 1].astype(float)))
    assert scored(evidence, "augmentation-1.0-2.0") is None  # pruned


def test_strata_name_the_worst_and_their_gain_is_a_contrast() -> None:
    material = made_material()
    note, worst, table = strata_parts(material)
    assert isinstance(note, Text)
    assert "No test across strata was planned" in note.text
    assert isinstance(table, Table)
    frame = table.frame.set_index("stratum")
    assert frame["images"].to_dict() == {"all": 60, "A": 40, "B": 20}
    assert frame.loc["B", "patients"] == 7
    evidence = material.evidence
    assert evidence is not None
    assert material.strata is not None
    inside = material.strata["machine"].eq("B").to_numpy()
    images = evidence.images["dataset"][inside]
    arms = (BASELINE, TWIN, BEST)
    p = np.stack([evidence.probability[f"{arm}-{s}"][inside] for arm in arms for s in range(3)])
    influence = stats.influence_of("auc", images["y"], p, group=images["group"])
    test = stats.contrast(stats.arms_of(influence, np.repeat([0, 1, 2], 3)), [-1, 0, 1])
    assert frame.loc["B", "gain"] == pytest.approx(test.difference)
    assert frame.loc["B", "ci_low"] == pytest.approx(test.ci_low)
    low = frame.loc[["A", "B"], "auc, best arm"].idxmin()
    assert isinstance(worst, Text)
    assert worst.text.startswith(f"Worst machine: {low}, where the best arm has AUC")


def test_a_stratum_with_one_label_is_undefined_with_a_reason() -> None:
    material = made_material()
    assert material.strata is not None
    assert material.evidence is not None
    y = material.evidence.images["dataset"]["y"]
    strata = material.strata.assign(machine=["even" if label == 0 else "odd" for label in y])
    table = strata_parts(made_material(strata=strata))[-1]
    assert isinstance(table, Table)
    odd = table.frame.set_index("stratum").loc["odd"]
    assert math.isnan(odd["gain"])
    assert odd["reason"]
    assert table.text["note"].iloc[-1] == odd["reason"]


def test_without_an_analysis_the_pick_is_the_highest_mean() -> None:
    found = picks(made_material(analysis=None))
    assert (found.best, found.control, found.baseline) == (BEST, None, BASELINE)
    found = picks(made_material())
    assert (found.best, found.control, found.baseline) == (BEST, TWIN, BASELINE)


def test_the_forest_has_each_arm_with_an_effect_once() -> None:
    material = made_material()
    plot = forest(material)
    assert plot is not None
    assert "1 arm without an estimated effect" in plot.caption
    assert "level E2" in plot.caption
    axes = plot.draw(LIGHT).axes
    assert len(axes) == 2  # baseline and twin: nothing was dropped
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    assert names == [
        f"augmentation psi {p} ratio {r}" for p, r in (("0.5", 1), ("0.5", 2), ("1", 1))
    ]
    told = [text.get_text() for text in axes[0].texts]
    assert told == ["+1.0  p 0.046", "+2.0  p 0.046", f"{MINUS}1.0  p 0.046"]
    filled = [line for line in axes[0].lines if line.get_markerfacecolor() == LIGHT.arm]
    assert [list(line.get_xdata()) for line in filled if len(line.get_xdata())] == [
        pytest.approx([2.0])  # its interval alone excludes 0
    ]


def test_a_forest_of_very_many_arms_shows_the_ends() -> None:
    rows = made_rows(seeds=1)
    tried = rows[rows["arm_id"].eq(BEST)]
    many = [tried.assign(arm_id=f"{BEST}#{n}", cell_id=f"{n}", psi=n / 100) for n in range(1, 91)]
    material = made_material(rows=pd.concat([rows, *many], ignore_index=True))
    assert material.analysis is not None
    one = material.analysis.comparisons.iloc[[0]]
    comparisons = pd.concat(
        [one.assign(arm_id=f"{BEST}#{n}", effect=n / 1000, metric="auc") for n in range(1, 91)]
    )
    object.__setattr__(material.analysis, "comparisons", comparisons)
    plot = forest(material)
    assert plot is not None
    assert f"Only the {MOST_ARMS} arms with the largest effects" in plot.caption
    names = [t.get_text() for t in plot.draw(LIGHT).axes[0].get_yticklabels()]
    assert len(names) == MOST_ARMS
    assert names[0].startswith("augmentation psi 0.01")
    assert names[-1].startswith("augmentation psi 0.9")


def test_the_heat_map_is_symmetric_about_no_gain_and_marks_what_is_sure() -> None:
    (plot,) = heat_maps(made_material())
    axes = plot.draw(LIGHT).axes[0]
    (mesh,) = axes.collections
    assert mesh.get_clim() == pytest.approx((-2.0, 2.0))
    told = {text.get_text(): text.get_position() for text in axes.texts}
    assert told == {
        "+1.0": (0.5, 0.5),  # psi 0.5, ratio 1
        "+2.0 *": (1.5, 0.5),
        f"{MINUS}1.0": (0.5, 1.5),  # psi 1, ratio 1; ratio 2 was pruned
    }


def test_rungs_are_where_pruned_curves_end() -> None:
    plot = stops_figure(made_material())
    assert plot is not None
    assert "1 arm of 7" in plot.caption
    axes = plot.draw(LIGHT).axes[0]
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [20]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[20]]
    rows = made_rows()
    assert stops_figure(made_material(rows=rows[rows["status"].eq("ok")])) is None
