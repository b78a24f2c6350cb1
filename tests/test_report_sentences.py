"""What a report says is true of the run it is about, whatever its shape: no number is made up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from simulated_run import Arm, World, grid_of, write_run

from fgaug.analysis.findings.notes import seen_removals
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.chapters.plan_and_absent import plan_parts
from fgaug.analysis.report.chapters.provenance import checklist_parts
from fgaug.analysis.report.chapters.summary import leakage
from fgaug.analysis.report.collect import material
from fgaug.analysis.report.contents import sections
from fgaug.analysis.report.files import Drawn
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.page import render
from fgaug.analysis.report.parts import Facts, Part, Plot
from fgaug.core.paths import RunPaths
from fgaug.grid.analysis_plan import AnalysisPlan, Confirmation
from fgaug.runs.environment import from_json
from fgaug.runs.preregistration import Preregistration, to_dict

TWO = World(patients=30, seeds=2)
ONE = World(patients=30, seeds=1)


def arm(ratio: float, **lost: int) -> Arm:
    return replace(Arm(mode="synthetic", psi=0.7, ratio=ratio, n_fake=100), **lost)


RUNS: dict[str, tuple[list[Arm], World]] = {
    "one arm": (grid_of([1.0], [1]), TWO),
    "one arm of one seed": (grid_of([1.0], [1], twin=1.2), ONE),
    "one seed failed": ([Arm(), arm(1.0, failed=1)], TWO),
    "pruned": ([Arm(), arm(1.0, pruned=1), arm(2.0, pruned=2)], TWO),
    "missing": ([Arm(), arm(1.0, missing=1), arm(2.0, missing=2)], TWO),
    "nothing finished": ([Arm(failed=2), arm(1.0, failed=2)], TWO),
    "a baseline alone": ([Arm()], ONE),
    "three labels": (grid_of([1.0]), replace(TWO, labels=("a", "b", "c"))),
    "another split": ([replace(arm, split="7") for arm in grid_of([1.0], [1])], TWO),
    "an image a patient": (grid_of([1.0]), World(patients=12, images=1, seeds=2)),
}  # fmt: skip
# What a number or a missing value looks like where nobody thought of it
BAD = re.compile(
    r"\bnan\b|NaN|<NA>|\b(?:of|by|to|best|is|are) None\b|\bNone (?:of|seeds|screening)\b"
    r"|\b1 (?:arm|cell|seed|image|patient|pair|trial|round|split|epoch|channel|look)s\b"
)


def words(found: Material) -> str:
    chapters = sections(found)
    plots = (part for chapter in chapters for part in chapter.parts if isinstance(part, Plot))
    drawn = {plot.name: Drawn(light=b"", dark=b"", png=b"") for plot in plots}
    page = render(name=found.name, sections=chapters, drawn=drawn)
    bare = re.sub(r"<style>.*?</style>|<pre.*?</pre>|<[^>]*>", " ", page, flags=re.S)
    return " ".join(unescape(bare).split())


@pytest.mark.parametrize("name", RUNS)
def test_pages_of_odd_runs_have_no_number_that_nobody_thought_of(
    name: str, tmp_path: Path
) -> None:
    found = material(write_run(tmp_path / "run", *RUNS[name]))
    assert BAD.findall(words(found)) == []


def fact(parts: list[Part], name: str) -> str:
    return next(
        value
        for part in parts
        if isinstance(part, Facts)
        for key, value in part.pairs
        if key == name
    )


def made(rows: pd.DataFrame, **changes: Any) -> Material:
    given: dict[str, Any] = {"space": {}, **changes}
    return Material(name="x", rows=rows, arms=by_arm(rows), **given)


def rows_of(**columns: Any) -> pd.DataFrame:
    longest = max(len(values) for values in columns.values())
    usual: Mapping[str, Any] = {
        "cell_id": [f"c{number}" for number in range(longest)],
        "arm_id": [f"a{number}" for number in range(longest)],
        "mode": ["augmentation"] * longest,
        "status": ["ok"] * longest,
        "seed": [1] * longest,
        "valid_auc": [0.5] * longest,
        "valid_acc": [0.5] * longest,
        "valid_loss": [0.5] * longest,
    }
    return pd.DataFrame({**usual, **columns})


@pytest.mark.parametrize(
    ("confirmation", "seeds", "arms", "said"),
    [
        ({"top": 3}, 5, 8, "the best 3 arms, ranked by 5 screening seeds, retrained with 20"),
        ({"top": 1, "screen_seeds": 4}, 4, 8, "the best arm, ranked by 4 screening"),
        ({"top": 2, "confirm_seeds": 2}, 1, 9, "the best 2 arms, ranked by 1 screening"),
        ({"top": 4}, 5, 3, "3 arms (every arm in the grid), ranked by 5 screening seeds"),
        (None, 5, 8, "none planned"),
    ],
)
def test_the_second_stage_of_a_plan_in_words(
    confirmation: dict[str, int] | None, seeds: int, arms: int, said: str
) -> None:
    plan = Preregistration(
        analysis=AnalysisPlan(),
        confirmation=Confirmation(**confirmation) if confirmation else None,  # type: ignore[arg-type]  # ints
        arms=tuple(f"a{number}" for number in range(arms)),
        seeds=seeds,
        baseline_seeds=seeds,
        sizes={"valid": {"images": 1, "patients": 1}},
        dataset_digest="0" * 64,
    )
    parts = plan_parts(made(rows_of(seed=[1]), plan=to_dict(plan)))
    assert said in fact(parts, "Second stage")
    assert fact(parts, "Images") == "valid 1 image of 1 patient"


@pytest.mark.parametrize(
    ("split", "said", "unsaid"),
    [
        (None, "Split: as prepared with the dataset", "drawn"),
        (["dataset", "dataset"], "Split: as prepared with the dataset", "drawn"),
        (["3", "4"], "Split: 2 random splits into training and validation", "the dataset. Also"),
        (["dataset", "9"], "as prepared with the dataset. Also 1 random split into", "splits"),
    ],
)
def test_the_split_is_told_as_it_was(split: list[str] | None, said: str, unsaid: str) -> None:
    rows = rows_of(seed=[1, 1], **({} if split is None else {"split": split}))
    told = fact(checklist_parts(made(rows)), "Partitions")
    assert said in told
    assert unsaid not in told


def test_patients_are_on_one_side_only_where_patients_are_known(tmp_path: Path) -> None:
    found = material(write_run(tmp_path / "run", grid_of([1.0], [1]), TWO))
    assert "no patient is in two sets" in fact(checklist_parts(found), "Partitions")
    assert found.evidence is not None
    alone = {
        split: images.assign(group=images["image_id"])
        for split, images in found.evidence.images.items()
    }
    single = replace(found, evidence=replace(found.evidence, images=alone))
    told = fact(checklist_parts(single), "Partitions")
    assert "has no patient identifiers" in told
    assert "no patient is in two sets" not in told


@pytest.mark.parametrize(
    ("environment", "said", "unsaid"),
    [
        ({"fgaug": "1", "torch": "2", "scipy": "3"}, "fgaug 1, torch 2, scipy 3", "keras"),
        ({"fgaug": "1", "tensorflow": "2.2", "keras": "3"}, "tensorflow 2.2, keras 3", "ray"),
        ({"fgaug": "1", "pillow": "13", "git_commit": "abc", "host": "h", "command": "x y"},
         "fgaug 1, pillow 13, commit abc", "x y"),
        ({"fgaug": "1", "computing": {"numpy blas": "x 0.3"}}, "numpy blas x 0.3", "{"),
        ({}, "not recorded", "None"),
    ],
)  # fmt: skip
def test_software_is_all_that_was_recorded(
    environment: dict[str, Any], said: str, unsaid: str
) -> None:
    told = fact(
        checklist_parts(made(rows_of(seed=[1]), environment=from_json(environment))), "Software"
    )
    assert said in told
    assert unsaid not in told


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"budget": {"unit": "epochs", "max": 3}}, "weights of lowest loss on the validation set"),
        ({"budget": {"unit": "steps"}}, "out of the same number of evaluations"),
        ({"recipe": {"keras": {"restore_best": False}}}, "Each trial is scored with its final"),
    ],
)
def test_which_weights_are_scored(space: dict[str, Any], said: str) -> None:
    assert said in fact(checklist_parts(made(rows_of(seed=[1]), space=space)), "Early stopping")


@pytest.mark.parametrize(
    ("modes", "states", "said"),
    [
        (
            ["baseline", "augmentation"],
            ["none", "unknown"],
            "unknown: the networks' training images",
        ),
        (["baseline", "augmentation"], ["none", "none"], "none found"),
        (["baseline", "baseline"], ["none", "none"], "none: no cell uses fakes"),
        (
            ["synthetic", "augmentation"],
            ["none", "unknown"],
            "in 1 cell none found: no",
        ),
        (["baseline", "augmentation"], ["by_choice", "unknown"], "in 1 cell by choice"),
    ],
)
def test_leakage_is_said_of_cells_with_fakes(
    modes: list[str], states: list[str], said: str
) -> None:
    assert leakage(rows_of(mode=modes, leakage=states)).startswith(said)


@pytest.mark.parametrize(
    ("seen", "state", "known", "unknown"),
    [
        ([True, False], "none", "In 1 cell the networks were", None),
        ([True, True], "none", "In 2 cells the networks were", None),
        ([None, None], "unknown", None, "In 2 cells the networks may"),
        ([True, True], "unknown", None, "In 2 cells the networks may"),  # of an earlier version
        ([True, None], "none", "In 1 cell the networks were", "In 1 cell the networks may"),
        ([False, np.nan], "none", None, "In 1 cell the networks may"),
        ([False, False], "unknown", None, None),
    ],
)
def test_what_the_networks_saw_of_removed_images_is_said_where_it_is_known(
    seen: list[Any], state: str, known: str | None, unknown: str | None
) -> None:
    rows = rows_of(gan_saw_removed=seen, leakage=[state] * 2, n_dropped=[3, 3])
    told = list(seen_removals(rows))
    heads = [head for head in (known, unknown) if head is not None]
    assert len(told) == len(heads)
    assert all(text.startswith(head) for text, head in zip(told, heads, strict=True))
    real = rows.assign(mode="drop", gan_saw_removed=None)
    assert list(seen_removals(real)) == [], "arms without fakes have no network"


def test_a_page_says_no_sentence_of_removals_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grid_of([1.0], [1], mode="replacement", remove="x=1"), TWO)
    found = material(run)
    rows = found.rows.assign(
        gan_saw_removed=found.rows["mode"].eq("replacement"), leakage="none", n_dropped=3
    )
    assert found.analysis is not None
    noted = replace(found.analysis, notes=(*found.analysis.notes, *seen_removals(rows)))
    told = words(replace(found, rows=rows, analysis=noted))
    assert told.count("In 2 cells the networks were trained on patients whose real images") == 1


def test_planned_alpha_is_the_level_of_every_interval(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grid_of([1.0]), TWO)
    space = yaml.safe_load(RunPaths(run).space.read_text(encoding="utf-8"))
    space["analysis"] = {"alpha": 0.01}
    RunPaths(run).space.write_text(yaml.safe_dump(space), encoding="utf-8")
    told = words(material(run))
    assert "thick lines are unadjusted 99%" in told
    assert "unadjusted 95%;" not in told
