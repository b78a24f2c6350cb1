"""`fgaug compare RUN:CELL@5`: one round of cells that were trained round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_run import Arm, World, write_run

from fgaug.analysis.compare.compare import compare
from fgaug.cli.app import app
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import UserError
from fgaug.runs.looks import looks_of
from fgaug.runs.results import SCHEMA, load_results, read_rows

REPORTED = (1, 5, 10)
SYNTHETIC = Arm(mode="synthetic", psi=1.0, ratio=2, worth=2.4, n_fake=800)
OTHER = Arm(mode="synthetic", psi=0.5, ratio=2, worth=2.2, n_fake=800, failed=1)
PLAIN = Arm()
AUC = {1: 0.6, 5: 0.95, 10: 0.7}  # of the rows of SYNTHETIC; of OTHER 0.8 in every round


def with_rounds(run: RunPaths, cell_id: str, best: bool) -> None:
    """Give a finished cell the rows and the predictions of several rounds."""
    trial = run.trial(cell_id)
    (row,) = read_rows(trial)
    rows = [
        {**row, "round": number, "valid_auc": AUC[number] if best else 0.8} for number in REPORTED
    ]
    if row["status"] != "ok":
        return
    files.write_json(trial.result, {"schema": SCHEMA, "rows": rows})
    frame = pd.read_parquet(trial.predictions)
    parts = []
    for number in REPORTED:
        share = number / REPORTED[-1]  # round 10 as it was, the earlier ones nearer to a half
        shrunk = {
            name: 0.5 + share * (frame[name] - 0.5) for name in frame if name.startswith("p_")
        }
        parts.append(frame.assign(**shrunk, round=number))
    whole = pd.concat(parts, ignore_index=True).astype({"round": "Int64"})
    whole.to_parquet(trial.predictions, index=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("me@home") / "a@run"
    write_run(root, [PLAIN, SYNTHETIC, OTHER], World(patients=30))
    for arm_id, cell_id in load_results(root)[["arm_id", "cell_id"]].to_numpy():
        if arm_id != PLAIN.arm_id:
            with_rounds(RunPaths(root), cell_id, arm_id == SYNTHETIC.arm_id)
    return root


def cell(run: Path, arm: Arm) -> str:
    return str(load_results(run).query(f"arm_id == '{arm.arm_id}'")["cell_id"].iloc[0])


def brier(run: Path, cell_id: str, number: int | None = None) -> float:
    frame = pd.read_parquet(RunPaths(run).trial(cell_id).predictions)
    frame = frame if number is None else frame[frame["round"] == number]
    return float(np.mean((frame["p_malignant"] - frame["label"].eq("malignant")) ** 2))


def test_a_round_of_a_cell_and_the_last_without_one(run: Path) -> None:
    own = cell(run, SYNTHETIC)
    found = compare(f"{run}:{own[:8]}@5", f"{run}:{own}")
    row = found.scores[found.scores["quantity"].eq("brier")].iloc[0]
    assert row["a"] == pytest.approx(brier(run, own, 5))
    assert row["b"] == pytest.approx(brier(run, own, 10))
    notes = "\n".join(found.notes)
    assert "A: round 5, one of 3" in notes
    assert "B: round 10, the last of 3" in notes


def test_a_round_of_a_file(run: Path, tmp_path: Path) -> None:
    path = RunPaths(run).trial(cell(run, SYNTHETIC)).predictions
    found = compare(f"{path}@1", f"{run}:{cell(run, SYNTHETIC)}@1")
    assert (found.tests["difference"] == 0).all()
    table = tmp_path / "rounds.csv"
    pd.read_parquet(path).to_csv(table, index=False)
    again = compare(f"{table}@1", f"{path}@5")
    row = again.scores[again.scores["quantity"].eq("brier")].iloc[0]
    assert row["a"] == pytest.approx(brier(run, cell(run, SYNTHETIC), 1))
    with pytest.raises(UserError, match=r"has no round 2. It has 1, 5, 10: give one of these"):
        compare(f"{table}@2", str(table))


def test_a_round_of_an_arm_keeps_what_is_said_of_its_seeds(run: Path) -> None:
    found = compare(f"{run}:{OTHER.arm_id}@5", f"{run}:baseline")
    assert found.level == "E2"
    assert found.n_runs == (3, 4)
    notes = "\n".join(found.notes)
    assert "left out because not finished" in notes
    assert "round 5, one of 3" in notes


def test_the_best_of_a_round_is_that_rounds(run: Path) -> None:
    assert OTHER.arm_id in compare(f"{run}:best", f"{run}:baseline").names[0]
    assert SYNTHETIC.arm_id in compare(f"{run}:best@5", f"{run}:baseline").names[0]


def test_a_seed_that_did_not_come_so_far_is_told(run: Path, tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", [PLAIN, SYNTHETIC], World(patients=30))
    own = load_results(root).query(f"arm_id == '{SYNTHETIC.arm_id}'")["cell_id"].tolist()
    for cell_id in own[1:]:
        with_rounds(RunPaths(root), cell_id, best=True)
    found = compare(f"{root}:{SYNTHETIC.arm_id}@5", f"{root}:baseline")
    assert found.n_runs == (3, 4)
    assert any("left out, seed 11" in note and "has no rounds" in note for note in found.notes)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("{cell}@7", "has no round 7. It has 1, 5, 10: give one of these after @"),
        ("synthetic_arm@0", "has no round 0. It has 1, 5, 10"),
        ("best@11", "has no round 11. It has 1, 5, 10"),
        ("baseline@5", "has no rounds: leave out @5"),
        ("{cell}@last", "none matches"),
        ("gone@5", "`gone` must be an arm_id"),
    ],
)
def test_rounds_that_are_none(run: Path, fgaug: Any, selector: str, words: str) -> None:
    named = selector.format(cell=cell(run, SYNTHETIC))
    named = named.replace("synthetic_arm", SYNTHETIC.arm_id)
    code, out, err = fgaug("compare", f"{run}:{named}", f"{run}:baseline")
    assert (code, out) == (2, "")
    assert words in err


def test_one_seed_of_an_arm(run: Path) -> None:
    rows = load_results(run)
    arm = rows[rows["arm_id"].eq(SYNTHETIC.arm_id) & rows["round"].eq(10)]
    seed, cell_id = int(arm["seed"].iloc[0]), str(arm["cell_id"].iloc[0])
    found = compare(f"{run}:best#{seed}@5", f"{run}:baseline#{seed}")
    assert found.level == "E0"
    assert cell_id in found.names[0]
    with pytest.raises(UserError, match="no trial of that arm has seed 77; its seeds are"):
        compare(f"{run}:baseline#77", f"{run}:best")
    with pytest.raises(UserError, match="a seed after # must be"):
        compare(f"{run}:baseline#x", f"{run}:best")


def test_the_sealed_test_is_compared_after_one_look_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_run(tmp_path / "run", [PLAIN, SYNTHETIC], World(patients=30))
    rows = load_results(root)
    for cell_id in rows["cell_id"]:
        RunPaths(root).trial(cell_id).sealed.unlink(missing_ok=True)
    with pytest.raises(UserError, match="has no test predictions"):
        compare(f"{root}:best", f"{root}:baseline", open_test=True)
    assert not looks_of(RunPaths(root))  # nothing was looked at
    for cell_id in rows.loc[rows["status"].eq("ok"), "cell_id"]:
        trial = RunPaths(root).trial(cell_id)
        tested = pd.read_parquet(trial.predictions)
        tested["image_id"] = "test " + tested["image_id"]
        tested.to_parquet(trial.sealed, index=False)
    assert not looks_of(RunPaths(root))
    found = compare(f"{root}:best", f"{root}:baseline", open_test=True)
    assert found.level == "E2"
    (look,) = looks_of(RunPaths(root))
    assert look.purpose == "compare"
    assert set(look.arms) == {PLAIN.arm_id, SYNTHETIC.arm_id}
    assert set(look.cells) == set(rows["cell_id"])
    assert any("test images (look 1" in note for note in found.notes)
    assert not any("selected on these" in str(text) for text in (found.verdict, *found.notes))
    command = ["compare", f"{root}:best", f"{root}:baseline", "--open-test"]
    app(command, standalone_mode=False)
    assert "look 2" in capsys.readouterr().out
    assert len(looks_of(RunPaths(root))) == 2
    file = RunPaths(root).trial(str(rows["cell_id"].iloc[0])).predictions
    with pytest.raises(UserError, match="no side is a run"):
        compare(str(file), str(file), open_test=True)
