"""A node that is told to stop: its trial saves a checkpoint, and goes on elsewhere from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_grid import grid, phantom_dataset

from fgaug.grid.cells import to_dict
from fgaug.grid.load import parse_space
from fgaug.study import planner
from fgaug.study.tune.settings import SearchSettings
from fgaug.study.tune.worker import CellTrainable


@pytest.fixture
def started(tmp_path: Path) -> Callable[[], CellTrainable]:
    """Return a function that starts a cell of 8 evaluations, as a worker does."""
    phantom_dataset(tmp_path, images=24)
    axes = {"mode": ["baseline"], "seed": [1]}
    budget = {"unit": "steps", "max": 8, "evaluations": 8}
    planned = planner.plan(parse_space(grid(tmp_path, axes=axes, budget=budget)), tmp_path / "run")
    (cell,) = planned.cells

    def begun() -> CellTrainable:
        settings = SearchSettings(
            run=planned.run.root,
            cells={cell.cell_id: to_dict(cell)},
            sources=dict(planned.sources),
            cpu=1,
            gpu=0,
            deadline=None,
            stop_name=".stop",
            keep_models="none",
            keep=frozenset(),
            levels=(),
        )
        worker = CellTrainable.__new__(CellTrainable)  # without Ray
        worker.setup({"cell_id": cell.cell_id, "until": 1.0}, settings)
        return worker

    return begun


@pytest.fixture
def handler() -> Iterator[list[int]]:
    """Stand in for the handler that a worker process has, and note its calls."""
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_a_checkpoint_is_saved_first(
    started: Callable[[], CellTrainable], handler: list[int]
) -> None:
    worker = started()
    assert [worker.step()["step"] for _ in range(3)] == [1, 2, 3]
    assert not worker.paths.checkpoint.exists()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit, match="was told to stop"):
        worker.step()
    assert worker.paths.checkpoint.exists()
    assert handler == [], "the process ends after it has saved"
    elsewhere = started()
    assert elsewhere.step()["step"] == 5


def test_a_worker_without_a_trial_ends_at_once(
    started: Callable[[], CellTrainable], handler: list[int]
) -> None:
    started()
    os.kill(os.getpid(), signal.SIGTERM)
    assert handler == [signal.SIGTERM]
