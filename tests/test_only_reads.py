"""Commands that only look leave a run, its bank and its dataset as they are, to the time stamp."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_grid import phantom_dataset, write_grid

from fgaug.core.paths import RunPaths
from fgaug.grid.load import load_space
from fgaug.runs import folder, results
from fgaug.runs.trial import run_trial
from fgaug.study import execute, generators, planner
from gan_worker.filling.fill import fill


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grid, its dataset, its bank and a run of four cells, made without Ray."""
    root = tmp_path_factory.mktemp("only-reads")
    phantom_dataset(root, images=40, test=0.2)
    planned = planner.plan(load_space(write_grid(root)), root / "run")
    (needs,) = planned.needs
    fill(
        needs.source.store,
        needs.source.spec,
        generators.label_sources(needs.source),
        needs.missing,
    )
    folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    for cell in planned.cells:
        trial = planned.run.trial(cell.cell_id)
        results.write_trial(trial, run_trial(cell, planned.sources[cell.snapshot]))
    results.compact(planned.run)
    return root


def state(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies below a folder: a temporary file that came and went shows in its folder."""
    paths = [*sorted(root.rglob("*")), root]
    return {
        str(path): (path.stat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in paths
    }


def damage(run: RunPaths, text: str) -> str:
    cell = sorted(run.trials.iterdir())[0].name
    run.trial(cell).result.write_text(text, encoding="utf-8")
    return cell


@pytest.mark.parametrize(
    "text", ["", '{"schema": 1, "rows": [', '{"schema": 9, "rows": []}', None]
)
def test_a_dry_run_and_status_change_nothing(text: str | None, made: Path, fgaug: Any) -> None:
    run = RunPaths(made / "run")
    kept = {path: path.read_bytes() for path in run.trials.glob("*/result.json")}
    cell = "" if text is None else damage(run, text)
    try:
        before = state(made)
        code, out, _ = fgaug("search", made / "grid.yaml", "--out", run.root, "--dry-run")
        assert code == 0
        assert ("damaged rows among these: 1" in out) == bool(cell)
        assert cell in out
        assert fgaug("status", run.root)[0] == 0
        code, _, err = fgaug("results", run.root)
        assert (code, "result.json" in err) == ((2, True) if cell else (0, False))
        assert state(made) == before
        assert not list(made.rglob("*.corrupt"))
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


def test_a_read_only_copy_is_looked_at(made: Path, fgaug: Any, tmp_path: Path) -> None:
    run = RunPaths(Path(shutil.copytree(made / "run", tmp_path / "copy" / "run")))
    everything = [*run.root.rglob("*"), run.root, run.root.parent]
    modes = {path: path.stat().st_mode for path in everything}
    lost, whole = (sorted(run.trials.iterdir())[place].name for place in (0, 1))
    run.trial(lost).result.write_text("{", encoding="utf-8")
    try:
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = state(run.root.parent)
        assert fgaug("search", made / "grid.yaml", "--out", run.root, "--dry-run")[0] == 0
        assert fgaug("status", run.root)[0] == 0
        code, out, _ = fgaug("replay", run.root, whole)
        assert (code, "same numbers" in out) == (0, True)
        code, _, err = fgaug("replay", run.root, lost)
        assert (code, "result.json" in err) == (2, True)
        assert state(run.root.parent) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_search_sets_damaged_rows_aside_and_says_so(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunPaths(Path(shutil.copytree(made / "run", tmp_path / "run")))
    cell = damage(run, "{")
    planned = planner.plan(load_space(made / "grid.yaml"), run.root)
    assert [each.cell_id for each in planned.todo] == [cell]
    execute.set_aside_damaged(planned)
    assert run.trial(cell).result.with_suffix(".json.corrupt").read_text() == "{"
    assert f"set aside 1 damaged row as result.json.corrupt ({cell})" in caplog.text
    execute.set_aside_damaged(planned)
    assert caplog.text.count("set aside") == 1


def test_the_environment_names_what_changes_pixels_and_numbers(made: Path) -> None:
    recorded = json.loads(RunPaths(made / "run").environment.read_text(encoding="utf-8"))
    for name in (
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "scipy",
        "scikit-learn",
        "pandas",
        "pyarrow",
        "pillow",
        "albumentations",
        "albucore",
    ):
        assert recorded[name][0].isdecimal(), name
    assert any(name.startswith("opencv") for name in recorded)
    assert "tensorflow" not in recorded, "no cell uses it"
    assert {"numpy blas", "scipy blas", "torch blas", "torch cpu"} <= set(recorded["computing"])
