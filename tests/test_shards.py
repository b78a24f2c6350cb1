"""One grid on several machines: shards without a head node, and a Ray cluster of two nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_grid import grid, phantom_dataset, write_grid

from fgaug.core.cluster import started
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError, RunError, UserError
from fgaug.grid.load import parse_space
from fgaug.runs import run_lock
from fgaug.runs.results import load_results
from fgaug.study import planner, search
from fgaug.study.plan import Shard

AXES = {"mode": ["augmentation"], "psi": [1.0], "ratio": [0.5, 1], "seed": [1, 2, 3, 4]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    phantom_dataset(root)
    return root


class TestShards:
    def test_each_cell_is_in_one(self, root: Path) -> None:
        space = parse_space(grid(root, axes=AXES))
        whole = planner.plan(space, root / "run")
        parts = [planner.plan(space, root / "run", Shard(number, 3)) for number in (1, 2, 3)]
        ids = [cell.cell_id for part in parts for cell in part.cells]
        assert sorted(ids) == sorted(cell.cell_id for cell in whole.cells)
        assert all(part.grid_cells == whole.cells for part in parts)

    def test_other_cells_do_not_move_one(self, root: Path) -> None:
        small = planner.plan(parse_space(grid(root)), root / "run", Shard(2, 5)).cells
        large = planner.plan(parse_space(grid(root, axes=AXES)), root / "run", Shard(2, 5)).cells
        assert {cell.cell_id for cell in small} <= {cell.cell_id for cell in large}

    @pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/2/3"])
    def test_what_is_no_shard(self, text: str) -> None:
        with pytest.raises(UserError, match="--shard must be K/N"):
            Shard.parse(text)
        assert Shard.parse("3/16") == Shard(3, 16)

    def test_a_scheduler_needs_all_seeds(self, root: Path) -> None:
        space = parse_space(grid(root, axes=AXES, scheduler={"type": "arm_asha"}))
        with pytest.raises(GridError, match="a shard does not see"):
            planner.plan(space, root / "run", Shard(1, 2))

    def test_locks(self, root: Path) -> None:
        run = RunPaths(root / "locked")
        with run_lock.held(run, "1-of-2"):
            with run_lock.held(run, "2-of-2"):
                pass
            for other in ("1-of-2", None):
                with pytest.raises(RunError, match="in use by another"), run_lock.held(run, other):
                    pass
        with run_lock.held(run), pytest.raises(RunError), run_lock.held(run, "1-of-2"):
            pass

    @pytest.mark.ray
    @pytest.mark.slow
    def test_two_at_once_into_one_run(self, root: Path) -> None:
        path = write_grid(root, axes=AXES)
        command = [sys.executable, "-m", "fgaug", "search", str(path), "--out", str(root / "both")]
        running = [
            subprocess.Popen(
                [*command, "--no-dashboard", "--shard", f"{number}/2"],
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in (1, 2)
        ]
        for process in running:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
        frame = load_results(root / "both")
        assert len(frame) == 12
        assert (frame["status"] == "ok").all()
        whole = planner.plan(parse_space(grid(root, axes=AXES)), root / "both")
        assert whole.todo == ()


TWO_NODES = """
import os, sys

os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
from ray.cluster_utils import Cluster

from fgaug import study

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
run = study.search(sys.argv[1], sys.argv[2], address=cluster.address)
print(run.ok, run.failed, run.missing)
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_of_two_nodes(root: Path) -> None:
    """Joined, not started; the numbers are those of one machine."""
    path = write_grid(root, axes=AXES)
    script = [sys.executable, "-c", TWO_NODES, str(path), str(root / "cluster")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.split() == ["12", "0", "0"], done.stderr
    with started(cpus=2, gpus=0, dashboard=False):
        alone = search.search(path, root / "alone")
    columns = ["cell_id", "valid_loss", "valid_auc"]
    one, two = (
        load_results(each)[columns].sort_values("cell_id", ignore_index=True)
        for each in (root / "cluster", alone.root)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.ray
def test_no_such_cluster() -> None:
    with pytest.raises(UserError, match="No Ray cluster"), started(address="127.0.0.1:1"):
        pass
