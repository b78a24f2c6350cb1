"""`fgaug report` on folders of runs: whole, thin, torn; and with the sealed test set opened."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from simulated_run import Arm, World, grid_of, write_run

from fgaug.analysis.report import files
from fgaug.analysis.report.collect import material
from fgaug.analysis.report.contents import sections
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.runs import looks, results
from fgaug.training.metrics import evaluate

SMALL = World(patients=30, seeds=3)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures empty: drawing them is what takes the time."""
    monkeypatch.setattr(files, "encoded", lambda figure, fmt: b"<?xml version='1.0'?><svg/>")


def grid() -> list[Arm]:
    arms = grid_of(worth={(1.0, 2): 3.0}, twin=1.2)
    arms[2] = replace(arms[2], failed=1)
    arms[3] = replace(arms[3], pruned=3)
    arms[4] = replace(arms[4], missing=1)
    return arms


def words(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.S)).split())


@pytest.mark.slow
def test_a_report_of_a_run_with_losses_tells_each(fgaug: Any, odd_root: Path) -> None:
    run = write_run(odd_root / "run", grid(), SMALL)
    code, out, err = fgaug("report", run)
    assert (code, err) == (0, "")
    page = Path(out.strip())
    assert page == run / "report" / "index.html"
    assert looks.looks_of(RunPaths(run)) == ()
    told = words(page)
    assert "1 failed, 3 pruned, 1 missing" in told
    assert "RuntimeError: out of patience" in told
    assert "The arm that looks best is augmentation psi 1 ratio 2 (better)" in told
    assert "No results by stratum: the dataset cannot be read" in told
    assert "No contact sheet of fakes: the grid names no bank." in told
    verdicts = pd.read_csv(run / "report" / "tables" / "verdicts.csv")
    assert len(verdicts) == 4
    assert (verdicts["verdict"] == "better").sum() == 1


@pytest.mark.usefixtures("undrawn")
def test_an_opened_test_set_is_a_look_and_its_scores_are_of_the_test_images(
    fgaug: Any, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", grid(), SMALL)
    code, out, _ = fgaug("report", run, "--open-test")
    assert code == 0
    page = Path(out.strip())
    assert page == run / "report" / "test" / "index.html"
    (look,) = looks.looks_of(RunPaths(run))
    assert look.purpose == "report"
    told = words(page)
    assert "evaluated by AUC on the sealed test set" in told
    assert "evaluated by AUC on the validation set" not in told
    assert f"These scores are from the sealed test set: {look.counted}." in told
    assert f"1 {look.date} report" in told
    assert "No look is on record" not in told
    frame = results.load_results(run)
    baseline = frame[frame["mode"].eq("baseline")]["cell_id"]
    scores = []
    for cell in baseline:
        sealed = pd.read_parquet(RunPaths(run).trial(cell).sealed)
        y = sealed["label"].eq("malignant").astype(int).to_numpy()
        p = sealed[["p_benign", "p_malignant"]].to_numpy("float32").astype(float)
        scores.append(evaluate(y, p, ("benign", "malignant"))["auc"])
    (table,) = (run / "report" / "test" / "tables").glob("table_1_*psi_0.5.csv")
    assert pd.read_csv(table)["auc_mean"][0] == pytest.approx(sum(scores) / 3)


def test_planned_looks_at_the_test_set_share_the_error_rate(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grid_of(), SMALL)
    space = yaml.safe_load(RunPaths(run).space.read_text(encoding="utf-8"))
    space["analysis"] = {"looks": 4, "alpha": 0.04}
    RunPaths(run).space.write_text(yaml.safe_dump(space), encoding="utf-8")
    closed, opened = material(run).analysis, material(run, open_test=True).analysis
    assert closed is not None
    assert opened is not None
    assert (closed.plan.alpha, opened.plan.alpha) == (0.04, 0.01)


def test_a_run_without_a_test_set_has_none_to_open(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grid_of(), SMALL)
    for path in run.glob("trials/*/sealed.parquet"):
        path.unlink()
    with pytest.raises(RunError, match="no test predictions to open"):
        material(run, open_test=True)
    assert looks.looks_of(RunPaths(run)) == ()  # nothing was seen, nothing is counted


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_predictions_are_gone_has_a_report(fgaug: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grid_of(), SMALL)
    next(run.glob("trials/*/predictions.parquet")).unlink()
    code, out, _ = fgaug("report", run)
    assert code == 0
    told = words(Path(out.strip()))
    assert "No verdict: the predictions cannot be read" in told
    assert "selected out of 4 arms" in told


THIN = {
    "one seed": (grid_of(twin=1.2), World(patients=30, seeds=1)),
    "no baseline": (grid_of()[1:], SMALL),
    "a baseline alone": (grid_of()[:1], SMALL),
    "nothing finished": ([replace(arm, failed=3) for arm in grid_of()], SMALL),
    "three labels": (grid_of(psi=[1.0]), World(patients=30, seeds=2, labels=("a", "b", "c"))),
    "two splits": (
        [
            replace(arm, split=split)
            for split in ("dataset", "7")
            for arm in grid_of(psi=[1.0], ratio=[1])
        ],
        SMALL,
    ),
    "a further axis": (
        [Arm(**_) for model in "xy" for _ in (
            {"axes": {"recipe.model": model}},
            {"mode": "synthetic", "psi": 0.5, "ratio": 1.0, "axes": {"recipe.model": model}},
        )],
        SMALL,
    ),
    "replaced": (
        [
            Arm(), Arm(mode="drop", remove="dbp=0.5", n_real=200, worth=0.6),
            *grid_of(mode="replacement", remove="dbp=0.5", n_real=200)[1:],
        ],
        SMALL,
    ),
    "two patients": (grid_of(), World(patients=2, seeds=2)),
}  # fmt: skip


@pytest.mark.parametrize("name", THIN)
def test_odd_runs_have_every_section(tmp_path: Path, name: str) -> None:
    arms, world = THIN[name]
    run = write_run(tmp_path / "run", arms, world)
    chapters = sections(material(run))
    assert len(chapters) == (15 if name == "a baseline alone" else 20)  # five are of fakes
    assert all(chapter.parts for chapter in chapters)


def test_the_plan_of_the_grid_is_what_a_run_is_judged_by(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grid_of(twin=1.2), SMALL)
    path = RunPaths(run).space
    space = yaml.safe_load(path.read_text(encoding="utf-8"))
    space["analysis"] = {"metric": "accuracy", "alpha": 0.1}
    path.write_text(yaml.safe_dump(space), encoding="utf-8")
    found = material(run)
    assert found.metric == "accuracy"
    assert found.analysis is not None
    assert found.analysis.plan.alpha == 0.1
    assert found.environment.dataset is not None
    assert found.environment.dataset.labels
    assert "arms" not in json.dumps(found.environment.software())
