"""Dry runs of the shipped grids that state their image counts, without images or networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgaug.grid.load import load_space
from fgaug.study import dry_run

CLONE = Path(__file__).parent.parent
GRIDS = sorted((CLONE / "search_spaces").glob("*.yaml"))
COUNTED = [path for path in GRIDS if load_space(path).counts is not None]


@pytest.mark.parametrize("path", COUNTED, ids=lambda path: path.stem)
def test_a_dry_run_plans_every_cell(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # none of the grid's paths is there
    planned = dry_run.dry_plan(path)
    space = load_space(path)
    assert len(planned.cells) == space.cells
    assert {cell.snapshot for cell in planned.cells} == {
        None,
        *(entry.name for entry in space.axes.snapshot or ()),
    }
    assert planned.needs
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["stylegan2_or_ada", "gan_images"])
def test_arms_differ_in_their_networks_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = dry_run.dry_plan(CLONE / "search_spaces" / f"{name}.yaml")
    arms = [cell for cell in planned.cells if cell.mode == "augmentation"]
    of_kind = {
        kind: {(cell.psi, cell.ratio, cell.seed) for cell in arms if cell.snapshot == kind}
        for kind in {cell.snapshot for cell in arms}
    }
    assert len(of_kind) == (2 if name == "stylegan2_or_ada" else 4)
    assert len({frozenset(points) for points in of_kind.values()}) == 1
    files = [
        file.file
        for entry in planned.space.axes.snapshot
        for file in entry.generator.snapshots.values()
    ]
    assert len(set(files)) == len(files) == 2 * len(of_kind)
    assert {needs.demand.count for needs in planned.needs} == {planned.needs[0].demand.count}
