"""Searches that stop arms: the same arms whatever was killed, nothing trained twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_grid import grid, phantom_dataset, write_grid

from fgaug.core.cluster import started
from fgaug.errors import GridError
from fgaug.grid.cells import Cell
from fgaug.grid.load import parse_space
from fgaug.grid.recipe import Budget
from fgaug.grid.space import Scheduler
from fgaug.runs.results import load_curves, load_results
from fgaug.study import planner, search
from fgaug.study.tune import history
from fgaug.study.tune.history import best_so_far

AXES = {"mode": ["augmentation"], "psi": [0.5, 0.7, 1.0], "ratio": [0.5, 1, 2], "seed": [1, 2]}
BUDGET = {"unit": "steps", "max": 18, "evaluations": 18}
HALVING = {"type": "arm_asha", "metric": "loss"}


def halving_grid(root: Path, **changes: Any) -> dict[str, Any]:
    return grid(root, axes=AXES, budget=BUDGET, scheduler=HALVING, **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stopping")
    phantom_dataset(root)
    return root


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with started(cpus=2, gpus=0, dashboard=False):
        yield


@pytest.fixture(scope="module")
def whole(cluster: None, root: Path) -> Path:
    """A search that ran undisturbed: 9 arms, of which 3 and then 1 go on."""
    run = search.search(parse_space(halving_grid(root)), root / "whole")
    assert (run.ok, run.pruned, run.failed, run.missing) == (4, 16, 0, 0)
    return root / "whole"


def outcome(run: Path) -> pd.DataFrame:
    """Return what must not depend on how a search went."""
    columns = ["cell_id", "status", "rung", "budget_used", "valid_loss", "valid_auc", "best_step"]
    return load_results(run)[columns].sort_values("cell_id", ignore_index=True)


@pytest.mark.slow
@pytest.mark.ray
class TestHalving:
    def test_arms_stop_with_all_their_seeds(self, whole: Path) -> None:
        frame = load_results(whole)
        stopped = frame[frame["status"] == "pruned"]
        assert set(stopped["stopped_by"]) == {"scheduler"}
        assert sorted(stopped.groupby("arm_id")["rung"].first()) == [0.0] * 6 + [1.0] * 2
        assert (stopped.groupby("arm_id").size() == 2).all()
        assert stopped.groupby("rung")["budget_used"].unique().map(list).to_dict() == {
            0.0: [2],  # 18 / 9, the first evaluation at or after
            1.0: [6],
        }
        ok = frame[frame["status"] == "ok"]
        assert sorted(ok["mode"]) == ["augmentation"] * 2 + ["baseline"] * 2
        assert set(ok["budget_used"]) == {18}

    def test_the_decision_is_that_of_the_curves(self, whole: Path) -> None:
        """Worked out here from the curves: means of the best loss so far, the best third go on."""
        frame = load_results(whole).set_index("cell_id")
        curves = load_curves(whole).set_index("cell_id")
        arms = frame[frame["mode"] == "augmentation"].groupby("arm_id").groups
        inside = set(arms)

        def loss(arm: str, steps: int) -> float:
            looks = curves[curves["step"] <= steps]["valid_loss"]
            return sum(looks[cell].min() for cell in arms[arm])

        for steps, places in ((2, 3), (6, 1)):
            ranked = sorted((loss(arm, steps), arm) for arm in inside)
            inside = {arm for _, arm in ranked[:places]}
        ok = frame[(frame["status"] == "ok") & (frame["mode"] == "augmentation")]
        assert set(ok["arm_id"]) == inside

    def test_again_trains_nothing(self, whole: Path, cluster: None, root: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.glob("trials/*/*")}
        run = search.search(parse_space(halving_grid(root)), whole)
        assert (run.ok, run.pruned) == (4, 16)
        assert {path: path.stat().st_mtime_ns for path in whole.glob("trials/*/*")} == before

    def test_checkpoints_are_kept_for_pruned_cells_alone(self, whole: Path) -> None:
        for folder in (whole / "trials").iterdir():
            status = json.loads((folder / "result.json").read_text())["rows"][0]["status"]
            assert (folder / "checkpoint").exists() == (status == "pruned")

    @pytest.mark.slow
    def test_without_scheduler_the_pruned_go_on(
        self, whole: Path, cluster: None, root: Path
    ) -> None:
        """From their checkpoints, to the numbers of a search that never stopped them."""
        whole_grid = halving_grid(root) | {"scheduler": {"type": "none"}}
        plain = search.search(parse_space(whole_grid), root / "plain")
        assert (plain.ok, plain.pruned) == (20, 0)
        copy = root / "copy"
        subprocess.run(["cp", "-a", str(whole), str(copy)], check=True)
        steps_before = load_curves(copy).groupby("cell_id").size()
        gone_on = search.search(parse_space(whole_grid), copy)
        assert (gone_on.ok, gone_on.pruned) == (20, 0)
        columns = ["cell_id", "valid_loss", "valid_auc", "budget_used"]
        one, two = (
            load_results(run)[columns].sort_values("cell_id", ignore_index=True)
            for run in (root / "plain", copy)
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        assert (load_curves(copy).groupby("cell_id").size() >= steps_before).all()

    @pytest.mark.slow
    def test_a_grown_grid_decides_anew(self, whole: Path, cluster: None, root: Path) -> None:
        """18 arms: 6 and then 2 go on; what a smaller search stopped goes on if it is wanted."""
        copy = root / "grown"
        subprocess.run(["cp", "-a", str(whole), str(copy)], check=True)
        axes = {**AXES, "ratio": [0.5, 1, 2, 0.25, 0.75, 1.5]}
        run = search.search(parse_space(halving_grid(root) | {"axes": axes}), copy)
        assert (run.ok, run.pruned, run.missing) == (6, 32, 0)


@pytest.mark.ray
@pytest.mark.slow
def test_killed_and_started_again_decides_the_same(whole: Path, root: Path) -> None:
    """kill -9 of the driver twice, at other places."""
    own = root / "own"
    own.mkdir()
    path = write_grid(root, axes=AXES, budget=BUDGET, scheduler=HALVING)
    command = [sys.executable, "-m", "fgaug", "search", str(path), "--out", str(own / "run")]
    for files in (5, 17):
        process = subprocess.Popen([*command, "--no-dashboard"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while len(list(own.glob("run/trials/*/paused.json"))) < files:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.kill()
        process.wait()
    done = subprocess.run(
        [*command, "--no-dashboard"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "4 ok, 16 pruned, 0 failed, 0 missing" in done.stderr
    pd.testing.assert_frame_equal(outcome(own / "run"), outcome(whole), check_exact=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_race(cluster: None, root: Path) -> None:
    axes = {**AXES, "ratio": [1], "seed": [1, 2, 3, 4]}
    space = grid(root, axes=axes, budget=BUDGET, scheduler={"type": "race", "min_seeds": 2})
    run = search.search(parse_space(space), root / "race")
    frame = load_results(run.root)
    assert (run.failed, run.missing) == (0, 0)
    assert run.ok + run.pruned == 16
    assert (frame.query("mode == 'baseline'")["status"] == "ok").all()
    assert set(frame.query("status == 'ok'")["budget_used"]) == {18}
    assert set(frame.query("status == 'pruned'")["budget_used"]) <= {0}


@pytest.mark.ray
@pytest.mark.slow
def test_a_time_budget_pauses_and_the_next_search_goes_on(cluster: None, root: Path) -> None:
    budget = {"unit": "steps", "max": 60, "evaluations": 60}
    space = grid(root, budget=budget, time_budget=1.0)
    run = search.search(parse_space(space), root / "timed")
    assert run.missing > 0
    assert run.exit_code == 3
    waiting = list((root / "timed").glob("trials/*/checkpoint"))
    assert waiting
    looks = {
        path.parent.name: len(pd.read_parquet(path.with_name("curve.parquet"))) for path in waiting
    }
    again = search.search(parse_space(grid(root, budget={**budget})), root / "timed")
    assert (again.ok, again.missing) == (4, 0)
    curves = load_curves(root / "timed").groupby("cell_id").size()
    assert all(curves[cell] == 60 > evaluations > 0 for cell, evaluations in looks.items())


def test_too_few_seeds_for_the_scheduler(root: Path) -> None:
    space = parse_space(halving_grid(root) | {"scheduler": {**HALVING, "min_seeds": 3}})
    with pytest.raises(GridError, match=r"`scheduler`: `min_seeds` is 3, but an arm has 2 seeds"):
        planner.plan(space, root / "nothing")


class TestCurves:
    def curve(self, **columns: list[Any]) -> pd.DataFrame:
        return pd.DataFrame(columns)

    def test_the_best_look_so_far_counts(self) -> None:
        curve = self.curve(
            step=[2, 4, 6],
            epoch=[None] * 3,
            frozen=[True, False, False],
            valid_loss=[0.6, 0.5, 0.7],
            valid_auc=[0.8, 0.7, 0.9],
        )
        budget = Budget(unit="steps", max=6, evaluations=3)
        assert best_so_far(curve, budget, "auc") == ((2 / 6, 0.8), (4 / 6, 0.7), (1.0, 0.7))
        assert [value for _, value in best_so_far(curve, budget, "loss")] == [-0.6, -0.5, -0.5]

    def test_the_frozen_epoch_does_not_compete(self) -> None:
        curve = self.curve(
            step=[5, 10, 15],
            epoch=[0, 1, 2],
            frozen=[True, False, False],
            valid_loss=[0.1, 0.5, 0.4],
            valid_acc=[0.9, 0.6, 0.7],
        )
        found = best_so_far(curve, Budget(max=4), "acc")
        assert found == ((0.2, 0.9), (0.4, 0.6), (0.6, 0.7))

    def test_policies_by_name(self, root: Path) -> None:
        cells: tuple[Cell, ...] = planner.plan(parse_space(halving_grid(root)), root / "no").cells
        made = {
            kind: type(history.policy_of(Scheduler(type=kind, min_seeds=2), cells)).__name__
            for kind in ("none", "arm_asha", "race")
        }
        assert made == {"none": "WholeCells", "arm_asha": "ArmHalving", "race": "SeedRace"}
