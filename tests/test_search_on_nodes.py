"""Searches on nodes that share no folder: the numbers are those of one machine, whatever dies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from nodes import need_nodes
from nodes_search import (
    CELLS,
    GRID_OF_RUN,
    WORK,
    assert_brought,
    nodes_with_store,
    write_inputs,
)

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


def test_equal_to_one_machine(undisturbed: Path, work: Path, tmp_path: Path) -> None:
    """Dataset and grid are on the driver's node alone; fakes are made on all nodes."""
    with nodes_with_store() as nodes:
        driver, _ = nodes.join_with(work, "driver", "other")
        with nodes.search(driver, f"{WORK}/grid.yaml") as job:
            assert job.wait(SEARCH_S) == 0, job.output()
        nodes.bring(nodes.network.add("reader"), tmp_path / "frames")
        assert set(pd.read_pickle(tmp_path / "frames" / "load_results.pickle")["host"]) == {
            "driver",
            "other",
        }
    assert_brought(tmp_path / "frames", undisturbed)


def test_a_node_and_the_driver_die(undisturbed: Path, work: Path, tmp_path: Path) -> None:
    """A node is switched off in mid-search, then the driver's; a new one goes on with the run."""
    with nodes_with_store() as nodes:
        driver, victim = nodes.join_with(work, "driver", "victim")
        with nodes.search(driver, f"{WORK}/grid.yaml") as job:
            nodes.wait_for_rows(4, job, SEARCH_S)
            victim.kill()
            nodes.wait_for_rows(8, job, SEARCH_S)
            driver.kill()
        finished = nodes.finished()
        assert finished < CELLS, "the driver died too late to test anything"
        heir, late = nodes.join("heir"), nodes.network.add("late")
        with nodes.search(heir, GRID_OF_RUN) as job:
            nodes.wait_for_rows(finished + 1, job, SEARCH_S)
            nodes.ray.join(late)
            assert job.wait(SEARCH_S) == 0, job.output()
        nodes.bring(nodes.network.add("reader"), tmp_path / "frames")
    assert_brought(tmp_path / "frames", undisturbed)
    rows = pd.read_pickle(tmp_path / "frames" / "load_results.pickle")
    assert {"driver", "heir", "late"} <= set(rows["host"])
