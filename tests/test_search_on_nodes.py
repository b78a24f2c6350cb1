"""Searches on nodes that share no folder: the numbers are those of one machine, whatever dies."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest
from nodes import Job, need_nodes
from nodes_search import CELLS, GRID_OF_RUN, WORK, Nodes, nodes_with_store, write_inputs
from same_frames import assert_same_frames

from fgaug.runs.results import load_curves, load_predictions, load_results
from fgaug.study import search

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
SEARCH_S = 600.0
STEPS = 120


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the same grid on one machine, in a folder."""
    need_nodes()
    root = tmp_path_factory.mktemp("one machine")
    grid = write_inputs(root, root, max_steps=STEPS)
    assert search.search(grid, root / "run", dashboard=False).ok == CELLS
    return root / "run"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset and grid as the driver's node has them."""
    root = tmp_path_factory.mktemp("work")
    write_inputs(root, WORK, max_steps=STEPS)
    return root


def assert_equal(folder: Path, undisturbed: Path) -> None:
    for load in (load_results, load_curves, load_predictions):
        assert_same_frames(pd.read_pickle(folder / f"{load.__name__}.pickle"), load(undisturbed))


def test_equal_to_one_machine(undisturbed: Path, work: Path, tmp_path: Path) -> None:
    """Dataset and grid are on the driver's node alone; fakes are made on all nodes."""
    with nodes_with_store() as nodes:
        driver, other = nodes.network.add("driver"), nodes.network.add("other")
        nodes.ray.join(driver, other)
        driver.put(work, WORK)
        with nodes.search(driver, f"{WORK}/grid.yaml") as job:
            assert job.wait(SEARCH_S) == 0, job.output()
        nodes.bring(nodes.network.add("reader"), tmp_path / "frames")
        assert set(pd.read_pickle(tmp_path / "frames" / "load_results.pickle")["host"]) == {
            "driver",
            "other",
        }
    assert_equal(tmp_path / "frames", undisturbed)


def test_a_node_and_the_driver_die(undisturbed: Path, work: Path, tmp_path: Path) -> None:
    """A node is switched off in mid-search, then the driver's; a new one goes on with the run."""
    with nodes_with_store() as nodes:
        driver, victim = nodes.network.add("driver"), nodes.network.add("victim")
        nodes.ray.join(driver, victim)
        driver.put(work, WORK)
        with nodes.search(driver, f"{WORK}/grid.yaml") as job:
            wait_for_rows(nodes, 4, job)
            victim.kill()
            wait_for_rows(nodes, 8, job)
            driver.kill()
        finished = nodes.finished()
        assert finished < CELLS, "the driver died too late to test anything"
        heir, late = nodes.join("heir"), nodes.network.add("late")
        with nodes.search(heir, GRID_OF_RUN) as job:
            wait_for_rows(nodes, finished + 1, job)
            nodes.ray.join(late)
            assert job.wait(SEARCH_S) == 0, job.output()
        nodes.bring(nodes.network.add("reader"), tmp_path / "frames")
    assert_equal(tmp_path / "frames", undisturbed)
    rows = pd.read_pickle(tmp_path / "frames" / "load_results.pickle")
    assert {"driver", "heir", "late"} <= set(rows["host"])


def wait_for_rows(nodes: Nodes, rows: int, job: Job) -> None:
    """Wait until the store has so many rows while the search goes on."""
    end = time.monotonic() + SEARCH_S
    while nodes.finished() < rows:
        assert job.poll() is None, job.output()
        assert time.monotonic() < end, f"not {rows} rows within {SEARCH_S:.0f} s:\n{job.output()}"
        time.sleep(3)  # to look costs a process
