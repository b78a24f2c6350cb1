"""A grid with rounds end to end: its baseline scores, rounds are filled and dropped, a kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_grid import grid, phantom_dataset, write_grid

from fgaug.analysis.findings.analysis import analyse
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.bank import open_bank
from fgaug.cli import show
from fgaug.core.paths import RunPaths
from fgaug.errors import BankError, GridError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.load import parse_space
from fgaug.grid.rounds import block
from fgaug.grid.space import Space
from fgaug.runs.results import load_predictions, load_results
from fgaug.study import dry_run, planner, replay, run
from fgaug.study import search as study_search

pytestmark = pytest.mark.ray

ROUNDS = {"size": 12, "count": 2, "report_at": [1], "keep_shards": False}
CHANGES: dict[str, Any] = {
    "axes": {"mode": ["synthetic"], "psi": [1.6], "filter": ["agrees"], "seed": [1]},
    "rounds": ROUNDS,
    "controls": ["random_subset"],
    "scorers": {"classifier": "baseline"},
    "pool": 60,
    "budget": {"unit": "steps", "max": 12, "evaluations": 2},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cascade")
    phantom_dataset(root, images=60, test=0.2)
    return root


def space(root: Path, **changes: Any) -> Space:
    return parse_space(grid(root, **{**CHANGES, **changes}))


@pytest.fixture(scope="module")
def whole(root: Path) -> run.Run:
    """A search that nothing disturbed."""
    return study_search.search(space(root), root / "run", dashboard=False)


def test_a_dry_run_says_what_the_rounds_need(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show.plan(dry_run.sampled(planner.plan(space(root, bank=str(root / "none")), root / "no run")))
    out = capsys.readouterr().out
    assert re.search(r"synthetic +2 rounds +12 +12 +0 +0\n", out)
    assert "rounds: 2 left for 2 cells; each trains on 6 fakes per label from its own 30" in out
    assert "60 z_seeds per label in total" in out
    assert "for one round; `keep_shards: false` drops the others" in out
    assert "until the search has trained the baseline that scores the fakes" in out


def test_rounds_are_filled_scored_trained_and_dropped_one_after_the_other(
    root: Path, whole: run.Run
) -> None:
    assert (whole.ok, whole.failed, whole.missing) == (3, 0, 0)
    frame = whole.results()
    fakes = frame[frame["mode"] == "synthetic"]
    assert {tuple(rounds) for _, rounds in fakes.groupby("cell_id")["round"]} == {(1, 2)}
    assert set(fakes.loc[fakes["round"] == 2, "n_fake"]) == {24}
    assert frame.loc[frame["mode"] == "baseline", "round"].isna().all()
    arms = by_arm(frame)
    assert arms.loc[arms["mode"] == "synthetic", "round"].tolist() == [1, 2, 1, 2]
    found = analyse(load_evidence(whole.root), AnalysisPlan(), resamples=10)
    assert any("after 2 budgets" in note for note in found.notes)
    assert load_predictions(whole.root)["round"].dropna().unique().tolist() == [1, 2]
    bank = open_bank(root / "bank")
    assert bank.index().empty  # each round's shards went when all its cells were through
    assert not list((root / "bank" / "shards").rglob("*.parquet"))
    scored = bank.scores("classifier")
    for number in (1, 2):
        here = scored["z_seed"].isin(block(60, 2, number))
        assert here.groupby(scored["label"]).sum().ge(6).all()


def test_the_baseline_that_scores_is_the_first_and_its_model_is_kept(
    root: Path, whole: run.Run
) -> None:
    plan = planner.plan(space(root), whole.root)
    assert not plan.todo
    (scoring,) = plan.scoring.values()
    first = next(cell for cell in plan.cells if cell.mode == "baseline")
    assert (scoring, first.seed) == (first.cell_id, 1)
    models = [path.parent.name for path in (whole.root / "trials").glob("*/model.safetensors")]
    assert models == [scoring]
    RunPaths(whole.root).trial(scoring).model.rename(root / "model")
    try:
        with pytest.raises(GridError, match=f"needs the model of cell {scoring}"):
            planner.plan(space(root), whole.root)
    finally:
        (root / "model").rename(RunPaths(whole.root).trial(scoring).model)


def test_a_replay_without_the_shards_says_what_it_lacks(root: Path, whole: run.Run) -> None:
    frame = whole.results()
    cell = frame.loc[frame["mode"] == "synthetic", "cell_id"].iloc[0]
    with pytest.raises((BankError, GridError), match="fakes"):
        replay.replay(whole.root, cell)


@pytest.mark.parametrize(
    "changes",
    [{"scorers": {"classifier": "baseline"}}, {"rounds": ROUNDS, "scorers": None}],
    ids=["scorer", "keep_shards"],
)
def test_cells_that_wait_for_each_other_are_not_searched_by_shards(
    root: Path, changes: dict[str, Any]
) -> None:
    from fgaug.study.plan import Shard

    with pytest.raises(GridError, match="which shards cannot"):
        planner.plan(space(root, **changes), root / "no run", Shard(1, 2))


KERAS = {
    "backend": "keras",
    "model": "MobileNetV3Small",
    "pretrained": False,
    "batch_size": 16,
    "keras": {"hidden": 8, "norm_momentum": 0.9},
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_a_search_killed_in_its_second_round_ends_with_the_same_numbers(
    root: Path, whole: run.Run, backend: str
) -> None:
    bank, run = root / f"killed {backend} bank", root / f"killed {backend} run"
    changes = {**CHANGES, "bank": str(bank)}
    undisturbed = whole.root
    if backend == "keras":  # its baseline calls fakes by chance: some of each label must pass
        changes |= {"recipe": KERAS, "axes": {**CHANGES["axes"], "filter": ["none"]}}
        changes |= {"scorers": None, "controls": []}
        undisturbed = root / "whole keras run"
        other = space(root, **{**changes, "bank": str(root / "whole keras bank")})
        assert study_search.search(other, undisturbed, dashboard=False).exit_code == 0
    path = write_grid(root, **changes)
    here = space(root, **changes)
    cells = sum(cell.rounds is not None for cell in planner.plan(here, run).cells)
    search = [sys.executable, "-m", "fgaug", "search", str(path), "--out", str(run)]
    process = subprocess.Popen(
        [*search, "--no-dashboard"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = time.monotonic() + 300
        while len(list(run.glob("trials/*/paused.json"))) < cells or not _in_round(bank, 2):
            assert process.poll() is None, "the search ended early"
            assert time.monotonic() < until, "no second round"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert planner.plan(here, run).cells[-1].round == 2
    assert study_search.search(here, run, dashboard=False).exit_code == 0
    rows = [
        load_results(each).set_index(["cell_id", "round"]).sort_index()
        for each in (undisturbed, run)
    ]
    columns = ["filter", "n_fake", "valid_loss", "valid_auc", "best_step", "images_seen"]
    pd.testing.assert_frame_equal(*(each[columns] for each in rows))
    seen = [load_predictions(each).drop(columns="group") for each in (undisturbed, run)]
    pd.testing.assert_frame_equal(*seen)


def _in_round(bank: Path, number: int) -> bool:
    drawn = block(60, 2, number)
    files = bank.glob("shards/*/*/*.parquet")
    return any(int(path.stem.partition("-")[0]) in drawn for path in files)
