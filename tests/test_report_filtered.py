"""What filters did: filtered arms against as many fakes that no filter chose."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from simulated_run import Arm, World, evidence_of

from fgaug.analysis.findings.analysis import analyse
from fgaug.analysis.findings.arms import arm_table
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.chapters.filters import filter_parts
from fgaug.analysis.report.chapters.forest import forest
from fgaug.analysis.report.chapters.summary import warnings_of
from fgaug.analysis.report.chapters.verdict import lead
from fgaug.analysis.report.chapters.whole_grid import surface_parts
from fgaug.analysis.report.material import Material, names_of
from fgaug.analysis.report.parts import Table, Text
from fgaug.grid.analysis_plan import AnalysisPlan

WORLD = World(patients=80, seeds=3, seed_sd=0.02, arm_sd=0.1)


def arm(text: str, worth: float, **fields: Any) -> Arm:
    usual: dict[str, Any] = {"mode": "augmentation", "psi": 1.0, "ratio": 1, "n_fake": 400}
    return Arm(worth=worth, axes={"filter": text}, **{**usual, **fields})


ARMS = [
    Arm(worth=1.2),
    arm("none", 1.2),
    arm("agrees", 2.2),
    arm("none", 1.2, psi=0.5),
    arm("copy==false", 1.2, psi=0.5),
    arm("agrees", 1.2, ratio=4, n_fake=1600),  # without an unfiltered arm of its size
]


@pytest.fixture(scope="module")
def material() -> Material:
    evidence = evidence_of(ARMS, WORLD)
    found = analyse(evidence, AnalysisPlan(), resamples=5)
    rows = evidence.rows
    return Material(name="f", rows=rows, arms=by_arm(rows), space={}, analysis=found)


def test_each_is_compared_with_the_arm_that_differs_in_the_filter_alone(
    material: Material,
) -> None:
    assert material.analysis is not None
    arms = material.analysis.arms.set_index("arm_id")
    linked = {a.arm_id: arms.loc[a.arm_id, "subset_id"] for a in ARMS}
    none, agrees, none_half, no_copy, alone = ARMS[1:]
    assert linked[agrees.arm_id] == none.arm_id
    assert linked[no_copy.arm_id] == none_half.arm_id
    for other in (ARMS[0], none, none_half, alone):
        assert linked[other.arm_id] is None
    compared = material.analysis.comparisons
    rows = compared[compared["against"].eq("subset") & compared["metric"].eq("auc")]
    assert set(rows["arm_id"]) == {agrees.arm_id, no_copy.arm_id}
    rows = rows.set_index("arm_id")
    assert rows.loc[agrees.arm_id, "effect"] > 0.05
    assert rows.loc[agrees.arm_id, "p_value"] < 0.01
    assert rows.loc[no_copy.arm_id, "p_value"] > 0.05
    assert not rows["primary"].any()
    assert (rows["ci_low"] < rows["effect"]).all()


def test_other_axes_and_removals_keep_arms_apart() -> None:
    fields: dict[str, Any] = {"mode": "replacement", "remove": "b=100"}
    first = [
        arm("none", 1.2, **fields),
        arm("agrees", 1.2, mode="replacement", remove="b=50"),
        arm("agrees", 1.2, **fields),
        dataclasses.replace(
            arm("agrees", 1.2), axes={"filter": "agrees", "recipe.model": "resnet50"}
        ),
    ]
    evidence = evidence_of([Arm(), *first], dataclasses.replace(WORLD, patients=20))
    table = arm_table(evidence.rows).set_index("arm_id")["subset_id"]
    assert [table[each.arm_id] for each in first] == [None, None, first[0].arm_id, None]


def test_the_report_tells_it_in_a_table_a_sentence_and_the_forest(material: Material) -> None:
    (table,) = filter_parts(material)
    assert isinstance(table, Table)
    assert table.text["arm"].tolist()[0] == "augmentation psi 1 ratio 1 filter agrees"
    assert len(table.text) == 2
    assert table.text["p (E2)"].str.len().gt(0).all()
    best = " ".join(lead(material))
    assert "filter agrees" in best
    assert "Effect of its filter, against the same number of unfiltered fakes: +" in best
    assert material.analysis is not None
    sentences = material.analysis.verdicts.set_index("arm_id")["sentence"]
    assert "The same number of unfiltered fakes: " in sentences[ARMS[2].arm_id]
    assert "unfiltered fakes" not in sentences[ARMS[1].arm_id]
    drawn = forest(material)
    assert drawn is not None
    assert names_of(material)[ARMS[1].arm_id] == "augmentation psi 1 ratio 1"


def test_what_is_missing_is_said(material: Material) -> None:
    plain = material.rows[material.rows["filter"].ne("agrees")]
    plain = plain[plain["filter"].ne("copy==false")]
    nothing = dataclasses.replace(material, rows=plain, arms=by_arm(plain), analysis=None)
    (text,) = filter_parts(nothing)
    assert isinstance(text, Text)
    assert text.text == "No arm in the grid uses a filter."
    (text,) = filter_parts(dataclasses.replace(material, analysis=None))
    assert isinstance(text, Text)
    assert "`controls: [random_subset]`" in text.text


def test_a_filter_that_knows_images_which_its_arm_lacks_is_told(material: Material) -> None:
    said = "leave out real images that were used to compute their filter's scores"
    rows = material.rows.assign(n_dropped=0)
    assert said not in " ".join(warnings_of(rows, {}, 0))
    unfiltered = rows["filter"].ne("agrees") & rows["filter"].ne("copy==false")
    assert said not in " ".join(warnings_of(rows.assign(n_dropped=5 * unfiltered), {}, 0))
    assert said in " ".join(warnings_of(rows.assign(n_dropped=5), {}, 0))


def test_each_filter_is_a_surface_of_its_own() -> None:
    """The same terms of two filters were told apart by nothing."""
    arms = [
        arm(text, 1.2, psi=psi, ratio=ratio, n_fake=400 * ratio)
        for text in ("none", "agrees")
        for psi in (0.5, 1.0)
        for ratio in (1, 2)
    ]
    evidence = evidence_of([Arm(), *arms], dataclasses.replace(WORLD, patients=30))
    found = analyse(evidence, AnalysisPlan(), resamples=2)
    tested = found.surface[found.surface["level"].eq("E2")]
    assert set(tested["mode"]) == {"", "augmentation, filter none", "augmentation, filter agrees"}
    assert not found.surface.duplicated(["family", "mode", "term", "level"]).any()
    rows = evidence.rows
    whole = Material(name="f", rows=rows, arms=by_arm(rows), space={}, analysis=found)
    (table,) = surface_parts(whole)
    assert isinstance(table, Table)
    assert table.text["arms"].str.contains("filter agrees").sum() == 5
