"""A grid with filters end to end: banks filled and scored, trials, twins, a kill, a replay."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from small_grid import grid, phantom_dataset, write_grid

from fgaug.analysis.findings.arms import arm_table
from fgaug.bank import open_bank, read_scores
from fgaug.bank.scores import scorers_of
from fgaug.cli import show
from fgaug.grid.load import load_space, parse_space
from fgaug.runs import mix
from fgaug.runs.results import load_results
from fgaug.study import planner, replay, run
from fgaug.study import search as study_search
from fgaug.study.plan import Plan

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # the cascade does the same in the fast tests

FILTER = "agrees and realism>=0.5"
AXES = {"mode": ["augmentation"], "psi": [1.0], "ratio": [0.5], "seed": [1], "filter": [FILTER]}
CONTROLS = ["random_subset"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("it's filtered")
    phantom_dataset(root, images=60)
    return root


def drawn(plan: Plan) -> dict[str, dict[str, list[int]]]:
    """Return the z_seeds of every cell with fakes, by cell and label."""
    (needs,) = plan.needs
    screens = needs.source.screens(plan.space.pool)
    found = {}
    for cell in plan.cells:
        if cell.uses_fakes:
            screen, reals = screens[cell.split], plan.reals[cell.split]
            mixed = mix.plan(cell, reals, plan.space.pool, screen)
            found[cell.cell_id] = {k: z.tolist() for k, z in mixed.fakes.items()}
    return found


@pytest.fixture(scope="module")
def whole(root: Path) -> run.Run:
    """A search that nothing disturbed."""
    space = parse_space(grid(root, axes=AXES, controls=CONTROLS))
    return study_search.search(space, root / "run", dashboard=False)


def test_a_search_scores_filters_and_trains_each_arm_beside_its_random_subset(
    root: Path, whole: run.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (whole.ok, whole.failed, whole.missing) == (3, 0, 0)
    frame = whole.results()
    fakes = frame[frame["mode"] == "augmentation"].set_index("filter")
    assert set(fakes.index) == {FILTER, "none"}
    for label in ("dbp", "trv"):  # the same counts of each label
        assert fakes[f"n_fake_{label}"].nunique() == 1
    table = arm_table(frame).set_index("filter")
    assert table.loc[FILTER, "subset_id"] == table.loc["none", "arm_id"]

    plan = planner.plan(parse_space(grid(root, axes=AXES, controls=CONTROLS)), root / "run")
    assert not plan.todo
    store = open_bank(root / "bank").store
    scorers = {scorer.name: scorer for scorer in scorers_of(store)}
    assert set(scorers) == {"features", "classifier"}
    draws = drawn(plan)
    for label, z_seeds in draws[fakes.loc[FILTER, "cell_id"]].items():
        assert read_scores(store, scorers["classifier"], label, 1.0, z_seeds)["agrees"].all()
        realism = read_scores(store, scorers["features"], label, 1.0, z_seeds)["realism"]
        assert (realism >= 0.5).all()
    show.results(whole.root, "arm", "table")
    assert "agrees and" in capsys.readouterr().out
    again = replay.replay(whole.root, fakes.loc[FILTER, "cell_id"])
    assert again.same


def test_a_search_killed_while_it_scores_goes_on_to_the_same_cells_and_images(
    root: Path, whole: run.Run
) -> None:
    bank, run = root / "killed bank", root / "killed run"
    path = write_grid(root, axes=AXES, controls=CONTROLS, bank=str(bank))
    search = [sys.executable, "-m", "fgaug", "search", str(path), "--out", str(run)]
    process = subprocess.Popen([*search, "--no-dashboard"], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 300
        while not list(bank.glob("scores/*/*/*/*.parquet")):
            assert process.poll() is None, "the search ended early"
            assert time.monotonic() < until, "nothing was scored"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not list(run.glob("trials/*/result.json"))
    space = load_space(path)
    assert study_search.search(space, run, dashboard=False).exit_code == 0
    here = planner.plan(space, run)
    there = planner.plan(parse_space(grid(root, axes=AXES, controls=CONTROLS)), whole.root)
    assert drawn(here) == drawn(there)
    rows = [load_results(root).set_index("cell_id") for root in (whole.root, run)]
    columns = ["filter", "n_fake", "valid_loss", "valid_auc"]
    pd.testing.assert_frame_equal(*(each[columns].sort_index() for each in rows), rtol=1e-6)
