"""The sealed test set: every look is on record before anything is read, and is counted."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fgaug import load_results
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.runs.looks import load_sealed, looks_of, open_test
from fgaug.runs.preregistration import Preregistration, freeze
from fgaug.runs.results import TrialResult, write_trial

ROOT = Path(__file__).parent.parent
ARMS = {"a1": "arm a", "a2": "arm a", "b1": "arm b"}


def frozen(run: RunPaths, looks: int = 1) -> None:
    plan = Preregistration(
        analysis=AnalysisPlan(looks=looks),
        confirmation=None,
        arms=("arm a", "arm b"),
        seeds=2,
        baseline_seeds=2,
        sizes={},
        dataset_digest="d",
    )
    freeze(run, plan)


def trained(run: RunPaths) -> RunPaths:
    """Leave three trials of two arms, each with test predictions of its own."""
    for number, (cell, arm) in enumerate(ARMS.items()):
        images = {"image_id": ["x", "y"], "group": [1, 2], "label": ["dbp", "trv"]}
        sealed = pd.DataFrame({**images, "p_dbp": number / 10, "p_trv": 1 - number / 10})
        row: dict[str, Any] = {"cell_id": cell, "arm_id": arm, "status": "ok", "seed": number}
        result = TrialResult(row=row, curve=sealed, predictions=sealed, sealed=sealed)
        write_trial(run.trial(cell), result)
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    run = RunPaths(tmp_path / "run")
    run.root.mkdir()
    frozen(run)
    return trained(run)


def test_nothing_is_read_before_a_look_is_on_record(run: RunPaths) -> None:
    with pytest.raises(RunError, match=r"of 2 of 2 cells .* are sealed \(a1, b1\)"):
        load_sealed(run, ["a1", "b1"])
    open_test(run, ["arm a"], "report")
    found = load_sealed(run, ["a2", "a1"])
    assert found["cell_id"].tolist() == ["a2", "a2", "a1", "a1"]
    assert found["p_dbp"].tolist() == [0.1, 0.1, 0.0, 0.0]
    with pytest.raises(RunError, match=r"of 1 of 2 cells .* are sealed \(b1\)"):
        load_sealed(run, ["a1", "b1"])


def test_of_a_cell_with_rounds_the_last_one_is_read(run: RunPaths) -> None:
    sealed = pd.read_parquet(run.trial("a1").sealed)
    parts = [sealed.assign(round=number, p_dbp=number / 10) for number in (1, 5, 3)]
    pd.concat(parts).astype({"round": "Int64"}).to_parquet(run.trial("a1").sealed, index=False)
    open_test(run, ["arm a"], "report")
    found = load_sealed(run, ["a1", "a2"])
    assert found.groupby("cell_id")["p_dbp"].apply(list).to_dict() == {
        "a1": [0.5, 0.5],
        "a2": [0.1, 0.1],
    }


def test_a_look_at_named_cells_leaves_the_rest_of_their_arms_sealed(run: RunPaths) -> None:
    open_test(run, ["arm a"], "confirmation", ["a2"])
    assert len(load_sealed(run, ["a2"])) == 2
    with pytest.raises(RunError, match="a1"):
        load_sealed(run, ["a1", "a2"])


def test_looks_are_kept_in_order_and_counted(run: RunPaths) -> None:
    assert looks_of(run) == ()
    made = [open_test(run, arms, "report") for arms in (["arm a"], ["arm b", "arm b"], ["arm a"])]
    assert looks_of(run) == tuple(made)
    assert [look.number for look in made] == [1, 2, 3]
    assert [look.planned for look in made] == [True, False, False]
    assert made[1].arms == ("arm b",)
    assert made[0].counted == "look 1 of 1 planned"
    assert made[2].counted.startswith("look 3 of 1 planned: not planned")
    assert all(look.date for look in made)
    assert not list(run.root.glob("*.tmp"))


def test_planned_looks_are_those_of_the_plan_that_was_frozen(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    frozen(run, looks=2)
    trained(run)
    assert [open_test(run, ["arm a"], "x").planned for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("late", [True, False])
def test_without_a_plan_before_the_first_result_no_look_was_planned(
    tmp_path: Path, late: bool
) -> None:
    run = trained(RunPaths(tmp_path))
    if late:
        frozen(run)
    look = open_test(run, ["arm a"], "report")
    assert not look.planned
    assert look.counted == "look 1, no looks were planned before the first result"


def test_looks_from_two_sides_at_once_are_all_kept(run: RunPaths) -> None:
    sides = [
        threading.Thread(target=lambda: [open_test(run, ["arm a"], "x") for _ in range(10)])
        for _ in range(4)
    ]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert [look.number for look in looks_of(run)] == list(range(1, 41))


@pytest.mark.parametrize("text", ["{}", "[]", "torn", '{"schema": 9, "looks": []}'])
def test_a_damaged_record_is_refused_and_left(run: RunPaths, text: str) -> None:
    files.write_text(run.looks, text)
    for call in (lambda: looks_of(run), lambda: open_test(run, ["arm a"], "report")):
        with pytest.raises(RunError, match=r"looks\.json"):
            call()
    assert run.looks.read_text() == text


def test_rows_and_their_table_are_there_without_the_test_set(run: RunPaths, fgaug: Any) -> None:
    for cell in ARMS:
        run.trial(cell).sealed.write_bytes(b"sealed")
    assert len(load_results(run.root)) == 3
    assert fgaug("results", run.root, "--format", "csv")[0] == 0
    assert not run.looks.exists()


def test_few_modules_know_where_the_test_predictions_lie() -> None:
    """A module that is added here opens them after a look is on record, or only writes them."""
    # what has a field of that name, and is no trial's paths
    others = {"self", "material", "result", "outcome", "each", "of"}
    found = set()
    for path in (ROOT / "fgaug").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "sealed":
                known = isinstance(node.value, ast.Name) and node.value.id in others
                found |= set() if known else {path.relative_to(ROOT / "fgaug").as_posix()}
            if isinstance(node, ast.Constant) and node.value == "sealed.parquet":
                found.add(path.relative_to(ROOT / "fgaug").as_posix())
    assert found == {
        "core/paths.py",  # names the file
        "runs/results.py",  # writes it
        "runs/looks.py",  # reads it, where a look covers the cells
        "analysis/findings/evidence.py",  # the same
        "analysis/compare/compare.py",  # reads it, once it has written the look
        "analysis/report/collect.py",  # asks whether there is one
    }
