"""A worker that trains one cell after another: a failure of one leaves the other's files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_grid import grid, phantom_dataset

from fgaug.core.paths import RunPaths
from fgaug.errors import UserError
from fgaug.grid.cells import to_dict
from fgaug.grid.load import parse_space
from fgaug.study import planner
from fgaug.study.tune.settings import SearchSettings
from fgaug.study.tune.worker import CellTrainable


def test_without_a_place_for_its_files_a_cell_touches_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a node whose cache becomes unusable after the first cell."""
    phantom_dataset(tmp_path, images=24)
    axes = {"mode": ["baseline"], "seed": [1, 2]}
    planned = planner.plan(parse_space(grid(tmp_path, axes=axes)), tmp_path / "run")
    first, second = planned.cells
    settings = SearchSettings(
        run=planned.run.root,
        cells={cell.cell_id: to_dict(cell) for cell in planned.cells},
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
    worker.setup({"cell_id": first.cell_id, "until": 1.0}, settings)
    while not (report := worker.step())["done"]:
        pass
    assert report["status"] == "ok"
    written = planned.run.trial(first.cell_id).result.read_bytes()

    def unusable(self: RunPaths, cell_id: str) -> None:
        raise UserError("/cache cannot be used as the cache of node-2")

    worker.reset_config({"cell_id": second.cell_id, "until": 1.0})
    monkeypatch.setattr(RunPaths, "trial", unusable)
    with pytest.raises(UserError, match="cannot be used"):
        worker.step()
    monkeypatch.undo()
    assert planned.run.trial(first.cell_id).result.read_bytes() == written
    assert not planned.run.trial(second.cell_id).root.exists()
