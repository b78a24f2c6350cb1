"""What a person sees of a search: counts, running and finished cells; a line a cell in a log."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from small_grid import grid

from fgaug.cells import Cell, Context, expand, recipes
from fgaug.search.progress import Progress
from fgaug.space import parse_space

pytestmark = pytest.mark.ray
RESULT = {"valid_acc": 0.8, "valid_auc": 0.9, "valid_loss": 0.5}


@pytest.fixture
def cells(tmp_path: Any) -> tuple[Cell, ...]:
    space = parse_space(grid(tmp_path))
    weights = {recipe.model_dump_json(): "scratch" for recipe, _ in recipes(space)}
    context = Context(dataset_digest="d", generator={}, pool=100, weights=weights)
    return expand(space, context)


def trial_of(cell: Cell) -> SimpleNamespace:
    return SimpleNamespace(config={"cell_id": cell.cell_id}, get_error=lambda: "it was killed")


def show(cells: tuple[Cell, ...], terminal: bool) -> str:
    """Let one cell finish, one fail, one run; return all that was printed."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=140, legacy_windows=False)
    with Progress(cells, 3, "http://127.0.0.1:1", console) as progress:
        for cell in cells[:3]:
            progress.on_trial_start(0, [], trial_of(cell))
        done = {**RESULT, "done": True, "status": "ok", "wall_s": 1.5}
        progress.on_trial_result(0, [], trial_of(cells[0]), done)
        progress.on_trial_error(0, [], trial_of(cells[1]))
        half = {**RESULT, "done": False, "step": 2, "epoch": -1}
        progress.on_trial_result(0, [], trial_of(cells[2]), half)
        assert (progress.ended, progress.failed, len(progress.running)) == (2, 1, 1)
    return out.getvalue()


def test_the_live_table_counts_and_shows_running_cells(cells: tuple[Cell, ...]) -> None:
    text = show(cells, terminal=True)
    assert "5 of 7 cells done, 1 running, 1 waiting, 1 failed" in text
    assert "step 2/4" in text
    assert "http://127.0.0.1:1" in text


def test_a_log_gets_one_line_for_each_finished_cell(cells: tuple[Cell, ...]) -> None:
    lines = show(cells, terminal=False).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[4/7] baseline seed 1: acc 0.800 auc 0.900 loss 0.500 in 1.5 s")
    assert lines[1].startswith("[5/7] ")
    assert "failed: its process died" in lines[1]


def test_an_unwritten_row_stops_the_search(cells: tuple[Cell, ...]) -> None:
    progress = Progress(cells, 0, None, Console(file=io.StringIO()))
    progress.on_trial_start(0, [], trial_of(cells[0]))
    unwritten = {"done": True, "status": "unwritten", "error": "No space left"}
    progress.on_trial_result(0, [], trial_of(cells[0]), unwritten)
    assert progress.full_disk == "No space left"
    assert progress.ended == 0
