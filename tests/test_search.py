"""A search end to end: Ray starts, trials train, processes are killed, no cell is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score
from small_grid import grid, phantom_dataset, write_grid

import fgaug
from fgaug.core.paths import RunPaths
from fgaug.errors import UserError
from fgaug.grid.load import parse_space
from fgaug.runs import run_lock
from fgaug.runs.results import columns, write_row
from fgaug.study import planner, search

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster with two logical GPUs for the tests of this module."""
    import ray

    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    ray.init(
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared dataset that has a sealed test set."""
    root = tmp_path_factory.mktemp("it's a search")
    phantom_dataset(root, images=80, test=0.2)
    return root


def result_times(run: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in sorted(run.glob("trials/*/result.json"))}


def test_a_grid_trains_whole_and_again_trains_nothing(cluster: None, root: Path) -> None:
    axes = {"mode": ["augmentation", "synthetic"], "psi": [0.5, 1], "ratio": [1], "seed": [1, 2]}
    space = parse_space(grid(root, axes=axes, controls=["oversample"]))
    run = search.search(space, root / "run")
    # baseline, oversample and 2 modes x 2 psis, each with 2 seeds
    assert (run.ok, run.failed, run.missing, run.exit_code) == (12, 0, 0, 0)
    frame = fgaug.load_results(run.root)
    assert len(frame) == 12
    assert set(columns(["dbp", "trv"])) <= set(frame.columns)
    assert set(frame["mode"]) == {"baseline", "augmentation", "synthetic", "oversample"}
    assert (frame["status"] == "ok").all()
    assert frame.loc[frame["mode"] == "oversample", "psi"].isna().all()
    assert (frame["leakage"] == "none").all()
    same_size = frame[frame["mode"].isin(["augmentation", "oversample"])]
    assert (same_size["n_real"] + same_size["n_fake"]).nunique() == 1
    assert_predictions_recompute(frame, run.predictions())
    times = result_times(run.root)
    seeds = frame.set_index("cell_id")["seed"]
    first = sorted(times, key=times.__getitem__)[:5]
    assert (seeds[first] == 1).all(), "seeds are outermost, with two trials at once"
    assert search.search(space, root / "run").ok == 12
    assert result_times(run.root) == times
    larger = parse_space(grid(root, axes={**axes, "seed": [1, 2, 3]}, controls=["oversample"]))
    grown = search.search(larger, root / "run")
    assert (grown.ok, grown.missing) == (18, 0)
    after = result_times(run.root)
    assert {cell: after[cell] for cell in times} == times
    assert (run.root / "space.resolved.1.yaml").is_file()  # the smaller grid's


def assert_predictions_recompute(frame: pd.DataFrame, predictions: pd.DataFrame) -> None:
    for row in frame.itertuples():
        own = predictions[predictions["cell_id"] == row.cell_id]
        truth = (own["label"] == "trv").to_numpy()
        called = own["p_trv"].to_numpy() > own["p_dbp"].to_numpy()
        assert abs(accuracy_score(truth, called) - row.valid_acc) < 1e-6
        assert abs(roc_auc_score(truth, own["p_trv"]) - row.valid_auc) < 1e-6


def test_test_predictions_are_sealed(cluster: None, root: Path) -> None:
    run = search.search(parse_space(grid(root)), root / "sealed")
    sealed = pd.read_parquet(next(run.root.glob("trials/*/sealed.parquet")))
    test = fgaug.open_dataset(root / "dataset").manifest.query("split == 'test'")
    assert set(sealed["image_id"]) == set(test["image_id"])
    assert not [name for name in run.results() if str(name).startswith("test_")]


@pytest.mark.slow
def test_the_same_cell_on_fractions_of_a_logical_gpu(cluster: None, root: Path) -> None:
    shared = parse_space(grid(root, resources={"cpu": 0.5, "gpu": 0.25}))
    alone = parse_space(grid(root))
    one = search.search(shared, root / "quarter").predictions()
    two = search.search(alone, root / "whole").predictions()
    pd.testing.assert_frame_equal(one, two)  # resources are no part of a cell


def test_more_gpus_than_there_are_is_said_before_anything_starts(
    cluster: None, root: Path
) -> None:
    space = parse_space(grid(root, resources={"cpu": 1, "gpu": 3}))
    with pytest.raises(UserError, match="needs 3 GPUs, but there are 2"):
        search.search(space, root / "many")


def test_a_failing_cell_leaves_a_row_and_is_tried_again(cluster: None, root: Path) -> None:
    recipe = {**grid(root)["recipe"], "learning_rate": 1e30}
    axes = {"mode": ["baseline"], "seed": [1]}
    space = parse_space(grid(root, recipe=recipe, axes=axes))
    run = search.search(space, root / "nan")
    assert (run.ok, run.failed, run.exit_code) == (0, 1, 1)
    row = run.results().iloc[0]
    assert row["status"] == "failed"
    assert "loss" in row["error"]
    assert np.isnan(row["valid_auc"])
    before = result_times(run.root)
    assert search.search(space, root / "nan").failed == 1
    assert result_times(run.root) != before


def test_a_killed_trial_process_is_replaced(cluster: None, root: Path) -> None:
    """Kill the first trial that reports; its cell is trained by another process."""
    space = parse_space(grid(root, budget={"unit": "steps", "max": 60, "evaluations": 20}))
    killer = subprocess.Popen([sys.executable, "-c", KILL_ONE_TRIAL, str(os.getpid())])
    run = search.search(space, root / "killed")
    assert killer.wait(timeout=60) == 0, "no trial process was found to kill"
    assert (run.ok, run.failed, run.missing) == (4, 0, 0)


KILL_ONE_TRIAL = """
import psutil, sys, time
parent = psutil.Process(int(sys.argv[1]))
until = time.monotonic() + 50
while time.monotonic() < until:
    for process in parent.children(recursive=True):
        try:
            if process.cmdline()[0].startswith("ray::augmentation "):  # its cell, while it trains
                process.kill()
                sys.exit(0)
        except (psutil.Error, IndexError):
            pass
    time.sleep(0.02)
sys.exit(1)
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fgaug", *map(str, arguments)]


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    phantom_dataset(tmp_path)
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2, 3, 4]}
    write_grid(tmp_path, axes=axes, budget={"unit": "steps", "max": 16, "evaluations": 4})
    return tmp_path


def wait_for(condition: object, process: subprocess.Popen[str], seconds: float = 120) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the search ended early"
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a running command; it does not outlive the block."""
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listening_addresses(process: psutil.Process) -> list[str]:
    """Return every address that a process or one below it listens on."""
    return [
        connection.laddr.ip
        for member in [process, *process.children(recursive=True)]
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


@pytest.mark.slow
def test_a_driver_killed_half_way_loses_no_finished_cell(own_root: Path) -> None:
    """kill -9 of the driver; the same command again trains only what is missing."""
    run = own_root / "run"
    search = command("search", own_root / "grid.yaml", "--out", run, "--no-dashboard")
    with started(search) as first:
        wait_for(lambda: len(result_times(run)) >= 3, first)
        first.kill()
    before = result_times(run)
    assert 3 <= len(before) < 8
    again = subprocess.run(search, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr
    after = result_times(run)
    assert len(after) == 8
    assert {cell: after[cell] for cell in before} == before
    assert len(fgaug.load_results(run)) == 8
    assert "8 ok" in again.stderr.splitlines()[-1]


def test_ctrl_c_ends_with_one_message_and_everything_listens_on_loopback(own_root: Path) -> None:
    run = own_root / "run"
    search = command("search", own_root / "grid.yaml", "--out", run)
    with started(search) as process:
        wait_for(lambda: len(result_times(run)) >= 1, process)
        listening = listening_addresses(psutil.Process(process.pid))
        assert listening, "Ray listens somewhere"
        assert all(address.removeprefix("::ffff:").startswith("127.") for address in listening)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert "missing" in errors.splitlines()[-1] or "Interrupted" in errors.splitlines()[-1]
    assert all(pd.read_json(p, typ="series")["schema"] == 1 for p in run.glob("trials/*/*.json"))


def test_a_run_folder_has_one_search_at_a_time(own_root: Path) -> None:
    planned = planner.plan(own_root / "grid.yaml", own_root / "run")
    with run_lock.held(planned.run), pytest.raises(UserError, match="in use by another search"):
        search.search(own_root / "grid.yaml", own_root / "run")


def test_half_written_files_of_killed_writers_are_swept(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trial = run.trial("0123456789ab")
    write_row(trial, {"cell_id": "0123456789ab", "status": "ok"})
    halves = [trial.root / ".checkpoint.d4v7.tmp", tmp_path / ".results.parquet.x1.tmp"]
    for half in halves:
        half.write_bytes(b"half")
    with run_lock.held(run, "1-of-2"):
        assert all(half.exists() for half in halves)  # another shard may be at work
    with run_lock.held(run):
        assert not any(half.exists() for half in halves)
    assert trial.result.is_file()


@pytest.mark.slow
def test_experiments_of_a_few_trials_follow_each_other(
    cluster: None, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune's memory grows with its trials: a large grid is several experiments, with one end."""
    from fgaug.study.tune import runner

    experiments = []
    fit = runner._fit
    monkeypatch.setattr(runner, "LEGS", 1)
    monkeypatch.setattr(runner, "LEGS_A_PLACE", 1)
    monkeypatch.setattr(runner, "_fit", lambda *given: (experiments.append(1), fit(*given)))
    cut = search.search(parse_space(grid(root)), root / "cut")
    assert (cut.ok, cut.exit_code) == (4, 0)
    assert len(experiments) == 2  # of two trials each
    one, two = (
        cut.predictions(),
        search.search(parse_space(grid(root)), root / "one").predictions(),
    )
    pd.testing.assert_frame_equal(one, two)
