"""Searches with folds by shards, with a time budget, or killed give the run of one search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from folded_dataset import folded_dataset
from same_frames import assert_same
from small_grid import grid, write_grid

from fgaug.analysis.findings.evidence import load_evidence
from fgaug.core.cluster import started
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.study import search
from fgaug.study.plan import Shard

pytestmark = pytest.mark.ray
AXES = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1], "fold": "all"}
BUDGET = {"unit": "steps", "max": 12, "evaluations": 12}
CELLS = 2 * 3  # two arms, three folds


def space_of(root: Path, **changes: Any) -> Space:
    return parse_space(grid(root, axes=AXES, budget=BUDGET, **changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folds in parts")
    folded_dataset(root, images=60)
    return root


@pytest.fixture(scope="module")
def whole(root: Path) -> Iterator[Path]:
    """A search in one go; its cluster stays for the tests of this module."""
    with started(cpus=2, gpus=0, dashboard=False):
        assert search.search(space_of(root), root / "whole").ok == CELLS
        yield root / "whole"


def test_shards_complete_the_folds_of_a_seed_together(whole: Path, root: Path, fgaug: Any) -> None:
    run = root / "shards"
    first = search.search(space_of(root), run, shard=Shard(1, 2))
    assert 0 < first.ok < CELLS
    assert (first.missing, first.exit_code) == (0, 0)  # of the shard
    for by in ("seed", "arm"):
        code, out, err = fgaug("results", run, "--by", by)
        assert (code, out) == (2, "")
        assert "no seed of any arm has finished all of its folds yet" in err
    assert search.search(space_of(root), run, shard=Shard(2, 2)).ok == CELLS - first.ok
    assert_same(run, whole)
    pooled = [load_evidence(each).rows.set_index("cell_id") for each in (run, whole)]
    pd.testing.assert_series_equal(*(rows["valid_auc"].sort_index() for rows in pooled))


@pytest.mark.slow
def test_a_time_budget_pauses_cells_and_each_search_gets_further(whole: Path, root: Path) -> None:
    """A tenth of a second is less than a worker takes to start."""
    run, steps = root / "timed", []
    for _ in range(2):
        found = search.search(space_of(root, time_budget=0.1), run)
        assert (found.ok, found.missing, found.exit_code) == (0, CELLS, 3)
        curves = [len(pd.read_parquet(path)) for path in run.glob("trials/*/curve.parquet")]
        steps.append(sum(curves))
    assert 0 < steps[0] < steps[1]
    assert search.search(space_of(root), run).ok == CELLS
    assert_same(run, whole)


@pytest.mark.slow
def test_killed_among_its_folds(whole: Path, root: Path, fgaug: Any) -> None:
    run = root / "killed"
    path = write_grid(root, axes=AXES, budget=BUDGET)
    command = [sys.executable, "-m", "fgaug", "search", str(path), "--out", str(run)]
    with subprocess.Popen(
        [*command, "--no-dashboard", "--log", "json"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert any('"event": "ok"' in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGKILL)
    kept = {path: path.read_bytes() for path in run.glob("trials/*/result.json")}
    assert 0 < len(kept) < CELLS
    assert fgaug("status", run)[0] == 0
    assert search.search(space_of(root), run).ok == CELLS
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert_same(run, whole)
