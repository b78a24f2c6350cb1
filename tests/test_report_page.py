"""The report's page and files, of a run made by hand: what is told, escaped, capped, explained."""

from __future__ import annotations

import dataclasses
import json
import re
from html import unescape
from pathlib import Path

import made_report
import pandas as pd
import pytest
from made_report import BEST, made_analysis, made_material, made_rows
from PIL import Image

from fgaug.analysis.format import MINUS
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.contents import MOST_TABLE_ROWS, sections
from fgaug.analysis.report.files import Drawn, draw_all, write_files
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.page import render
from fgaug.analysis.report.parts import Picture, Plot, Section, Table, Text
from fgaug.runs.environment import DatasetRecord, Environment

SCRIPT = "<script>alert('x')</script>"
ORDER = (
    "verdict",
    "tables",
    "ratio",
    "forest",
    "heat",
    "curves",
    "predictions",
    "strata",
    "answers",
    "filters",
    "sheets",
    "scores",
    "measures",
    "copies",
    "prints",
    "predictors",
    "absent",
    "plan",
    "provenance",
    "checklist",
)


@pytest.fixture(scope="module")
def whole() -> tuple[tuple[Section, ...], dict[str, Drawn]]:
    chapters = sections(made_material())
    return chapters, draw_all(chapters)


@pytest.fixture(scope="module")
def page(whole: tuple[tuple[Section, ...], dict[str, Drawn]]) -> str:
    chapters, drawn = whole
    return render(name="made", sections=chapters, drawn=drawn)


def words(page: str) -> str:
    """Return what a reader sees, in one line."""
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S)).split())


def undrawn(material: Material) -> tuple[Section, ...]:
    """Return a report's sections without its figures, which take the time."""
    return tuple(
        dataclasses.replace(s, parts=tuple(p for p in s.parts if not isinstance(p, Plot)))
        for s in sections(material)
    )


def text_of(material: Material) -> str:
    return words(render(name="made", sections=undrawn(material), drawn={}))


def test_sections_stand_in_their_order_and_none_is_empty(page: str) -> None:
    assert tuple(re.findall(r'<section id="(\w+)">', page)) == ORDER
    assert tuple(re.findall(r'<a href="#(\w+)">', page)) == ORDER
    assert not re.findall(r"</h2>\s*</section>", page)


def test_the_first_paragraph_says_it_all(page: str) -> None:
    lead = words(page.split('<p class="lead">')[1].split("</p>")[0])
    assert (
        "4 arms with fakes, evaluated by AUC on the validation set: 1 better and 3 not shown."
        in lead
    )
    assert "augmentation psi 0.5 ratio 2 (better): +2.0 points against the baseline" in lead
    assert "simultaneous confidence interval +0.1 to +3.9" in lead
    assert "p = 0.046 (adjusted for all arms; E2: this recipe, on new patients)" in lead
    assert "Corrected for its selection as the best arm, the gain is +1.3 points" in lead
    assert "cheapest alternative, repeating the real images to the same size: +1.6 points" in lead
    told = words(page)
    assert "What would change this verdict: Twice as many patients." in told
    assert "better The whole interval is above 0. Twice as many patients." in told
    assert "1 point is 0.01" in told
    assert "<code>fgaug confirm</code> evaluates a few arms with fresh seeds" in page
    assert "40 steps: every arm takes the same number of optimiser steps" in told


def test_every_p_has_its_level_beside_it(page: str) -> None:
    told = words(page)
    for found in re.finditer(r"\bp (= 0|<0)\.\d+", told):
        assert re.match(r"[^)]*E[012]: this", told[found.end() :]), told[found.start() :][:80]
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", page)
    of_p = [head for head in heads if re.search(r"(^|\s)p(\s|$)", head)]
    assert len(of_p) >= 6
    assert [head for head in of_p if not re.search(r"\(E[012]\)", head)] == []


def test_a_large_p_is_never_told_as_sameness(page: str) -> None:
    sameness = r"\b(same (proportion|accuracy|performance)|no difference between|equal to)\b"
    assert not re.search(sameness, words(page))


def test_undefined_has_its_reason(page: str) -> None:
    told = words(page)
    assert "1 arm without an estimated effect" in told
    assert "no finished seed of it" in told
    assert "No exchange rate: it requires arms with fewer real images" in told
    assert "80% 30% to unbounded" in told  # Fieller's interval with one end
    assert "No contact sheet of fakes: the bank has not been read." in told
    assert "NaN" not in told
    assert not re.search(r"\bnan\b", told)
    assert "None" not in told.replace("None:", "")


def test_the_page_tells_the_rest(page: str) -> None:
    told = words(page)
    assert "0 failed, 3 pruned, 0 missing" in told
    assert "stopped at rung 1" in told
    assert "augmentation psi 0.40 1 47 0.53 0.31 psi does not matter here." in told
    assert "Seeds are few." in told
    assert "Worst machine:" in told
    assert "No look is on record: the test set is still sealed." in told
    assert "scored on 60 images of 20 patients: 30 dbp and 30 trv" in told
    assert "4 arms with fakes, 7 arms in total" in told
    assert "fgaug 0.1.0, torch 2.9.0" in told


def test_the_page_fetches_nothing_and_escapes_everything() -> None:
    rows = made_rows()
    rows = rows.rename(columns={"n_fake_trv": f"n_fake_{SCRIPT}"})
    rows["filter"] = '"><img src=x onerror=alert(1)> $\\frac$'
    rows.loc[0, ["status", "error"]] = ["failed", SCRIPT]
    strata = made_material().strata
    assert strata is not None
    material = made_material(
        rows=rows,
        name=SCRIPT,
        space={"dataset": SCRIPT, "bank": "</pre>" + SCRIPT, "budget": {"unit": SCRIPT}},
        environment=Environment(
            versions={SCRIPT: SCRIPT}, dataset=DatasetRecord(labels=(SCRIPT,))
        ),
        missing=2,
        strata=strata.rename(columns={"machine": SCRIPT}),
        deviations=(SCRIPT,),
        sheets=(Picture(name="x", title=SCRIPT, caption=SCRIPT, png=b"\x89PNG"),),
    )
    chapters = sections(material)
    page = render(name=SCRIPT, sections=chapters, drawn=draw_all(chapters, png=False))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"https?://|<link|@import|url\(", page)
    addresses = re.findall(r'<[^>]*\s(?:src|srcset)="([^"]*)"', page)
    assert len(addresses) > 10
    assert all(re.match("data:image/(svg.xml|png);base64,", address) for address in addresses)
    assert re.findall(r'href="(?!#)', page) == []


def test_the_same_pieces_are_files(
    whole: tuple[tuple[Section, ...], dict[str, Drawn]], tmp_path: Path
) -> None:
    chapters, drawn = whole
    old = tmp_path / "tables" / "of_an_arm_that_is_gone.csv"
    old.parent.mkdir()
    old.touch()
    write_files(tmp_path, chapters, drawn)
    assert not old.exists()
    verdicts = pd.read_csv(tmp_path / "tables" / "verdicts.csv").set_index("arm_id")
    assert verdicts.loc[BEST, "effect"] == pytest.approx(0.02)
    assert verdicts.loc[BEST, "twin_effect"] == pytest.approx(0.016)
    assert verdicts.loc[BEST, "verdict"] == "better"
    table = pd.read_csv(tmp_path / "tables" / "table_1_augmentation_psi_0.5.csv")
    assert list(table["ratio"]) == ["bl", "1.0", "2.0", "1.0", "2.0"]
    assert table["auc_effect"].to_list()[1:3] == pytest.approx([0.01, 0.02])
    assert table["auc_std"][0] == pytest.approx(0.001 * (2 / 3) ** 0.5)
    assert table["auc_sd_sample"][0] == pytest.approx(0.001)
    for name in ("forest", "roc", "confusion", "losses", "rungs", "heat_1_augmentation"):
        assert (tmp_path / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert image.size[0] == pytest.approx(7.1 * 300, abs=2)  # 180 mm at 300 dpi
    paper = (tmp_path / "tables" / "table_1_augmentation_psi_0.5.tex").read_text(encoding="utf-8")
    assert r"\toprule" in paper
    assert "augmentation & 2 & 100 & 100 & 0.721 & 0.001 & 0.722 & 0.720 & 0.821" in paper
    shown = (tmp_path / "tables" / "all.tex").read_text(encoding="utf-8")
    assert r"\input{verdicts.tex}" in shown
    taken = re.findall(r"\\input\{(.*?)\}", shown)
    assert all((tmp_path / "tables" / name).is_file() for name in taken)
    names = [part.name for s in chapters for part in s.parts if isinstance(part, Table | Plot)]
    assert len(set(names)) == len(names)


def test_what_is_gone_is_told() -> None:
    told = text_of(
        made_material(
            analysis=None, evidence=None, no_analysis="the predictions are gone",
            strata=None, no_strata="the dataset cannot be read (it is gone)", missing=3,
        )
    )  # fmt: skip
    assert "No verdict: the predictions are gone." in told
    assert "No results by stratum: the dataset cannot be read (it is gone)." in told
    assert "No finished trial has predictions." in told
    assert "3 cells of the grid have no result yet" in told
    assert "no significance test has been performed" in told


def test_a_changed_plan_is_told_at_the_top_and_with_the_plan() -> None:
    plan = {
        "date": "2030-01-01",
        "digest": "abcdef0123456789",
        "arms": ["a"] * 4,
        "seeds": 3,
        "baseline_seeds": 6,
        "sizes": {},
        "confirmation": None,
        "analysis": {"metric": "auc", "contrast": "baseline", "alpha": 0.05, "margin": 0.01},
    }
    look = {
        "number": 1,
        "date": "2030-01-02",
        "arms": ("a",),
        "cells": (),
        "purpose": "report",
        "planned": False,
        "allowed": 0,
    }
    told = text_of(made_material(plan=plan, deviations=("`analysis.margin`",), looks=(look,)))
    assert (
        told.count("Deviations from the plan (results that depend on them are exploratory)") == 2
    )
    assert "2030-01-01, digest abcdef012345" in told
    assert "4 arms with 3 seeds each; baseline: 6 seeds" in told
    assert "frozen with digest abcdef012345" in told
    assert "1 2030-01-02 report 1 no" in told


def test_a_plan_against_the_controls_is_told_so() -> None:
    analysis = made_analysis(made_rows())
    plan = analysis.plan.model_copy(update={"contrast": "twin"})
    told = text_of(made_material(analysis=dataclasses.replace(analysis, plan=plan)))
    assert "evaluated by AUC over the oversample controls on the validation set" in told


def test_a_dataset_without_a_test_set_is_told_so() -> None:
    without = Environment(dataset=DatasetRecord(n_images={"test": 0}))
    told = text_of(made_material(environment=without))
    assert "the dataset has no test set to confirm them on" in told
    assert "The dataset has no test set." in told
    assert "sealed" not in told.replace("Looks at the sealed test set", "")


def test_a_second_stage_is_told_with_its_level() -> None:
    row = {
        "arm": "augmentation psi 0.5",
        "against": "twin",
        "n_seeds": 20,
        "n_seeds_against": 35,
        "metric": "auc",
        "effect": 0.011,
        "ci_low": 0.002,
        "ci_high": 0.02,
        "p_value": 0.02,
        "verdict": "better",
        "reason": None,
    }
    head = "Second stage of 2030-01-03: look 1 of 1 planned."
    told = text_of(made_material(confirmed=((head, pd.DataFrame([row])),)))
    assert head in told
    assert "p adjusted (E2)" in told
    assert "oversample control 20 / 35 +1.1 +0.2 to +2.0 0.020 better" in told
    assert "fgaug confirm evaluates" not in told


def test_a_loss_is_better_when_it_is_smaller() -> None:
    rows = made_rows()
    analysis = made_analysis(rows)
    analysis = dataclasses.replace(
        analysis,
        plan=analysis.plan.model_copy(update={"metric": "brier"}),
        comparisons=analysis.comparisons.assign(metric="brier"),
        best=analysis.best.assign(metric="brier"),
    )
    told = text_of(made_material(analysis=analysis))
    assert "+0.020 against the baseline" in told  # no points
    assert f"Corrected for its selection as the best arm, the gain is {MINUS}0.013" in told
    assert "Negative is better." in told
    order = re.findall(r"augmentation psi [\d.]+ ratio \d 3 / 3 (\S[\d.]+)", told)
    assert order == [f"{MINUS}0.010", "+0.010", "+0.020"]


@pytest.mark.parametrize("columns", [[], ["cell_id", "arm_id", "mode", "status", "seed"]])
def test_a_run_that_has_just_begun_has_a_page(columns: list[str]) -> None:
    rows = pd.DataFrame(columns=columns or ["cell_id", "arm_id", "mode", "status", "seed"])
    material = Material(name="new", rows=rows, arms=by_arm(rows), space={}, missing=10)
    told = text_of(material)
    assert "There are no results yet." in told
    assert "10 cells" in told


@pytest.mark.slow
def test_a_page_of_very_many_arms_is_capped_and_says_so() -> None:
    few = made_rows(seeds=1)
    tried = few[few["mode"].eq("augmentation") & few["status"].eq("ok")]
    parts = [few[few["mode"].eq("baseline")]]
    for n in range(100):
        psi = tried["psi"] + n / 1000
        arm = tried["arm_id"] + f"#{n}"
        parts.append(tried.assign(psi=psi, arm_id=arm, cell_id=arm))
    rows = pd.concat(parts, ignore_index=True)
    material = made_material(rows=rows, analysis=None, evidence=None)
    chapters = undrawn(material)
    page = render(name="many", sections=chapters, drawn={})
    assert page.count("<tr") < MOST_TABLE_ROWS + 300
    assert re.search(r"See tables/arms\.csv for \d+ more tables", page)
    assert len(page) < 1_500_000
    (table,) = [p for s in chapters for p in s.parts
                if isinstance(p, Table) and p.name == "arms"]  # fmt: skip
    assert table.frame["mode"].eq("augmentation").sum() == 300


def test_material_is_plain_enough_to_tell(whole: tuple[tuple[Section, ...], object]) -> None:
    """A note in a table is never a number's repr; a paragraph never a Python value."""
    texts = [p.text for s in whole[0] for p in s.parts if isinstance(p, Text)]
    assert texts
    assert not [t for t in texts if re.search(r"array\(|dtype|<class|\{'", t)]
    assert json.dumps(texts)


def test_the_made_run_has_what_the_tests_look_for() -> None:
    assert made_report.BEST in set(made_rows()["arm_id"])
