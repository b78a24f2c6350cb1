"""The comparators of an arm: the grid makes them, a second stage and the report find the same."""

from __future__ import annotations

import pandas as pd
import pytest
from small_grid import grid, phantom_dataset

from fgaug.analysis.findings.arms import arm_table
from fgaug.grid.cells import Cell
from fgaug.grid.load import parse_space
from fgaug.study import planner
from fgaug.study.confirmation.design import candidates

AXES = {
    "mode": ["augmentation", "replacement", "synthetic"],
    "psi": [0.5, 1.0],
    "ratio": [0.5, 1],
    "seed": [1, 2],
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, ...]:
    root = tmp_path_factory.mktemp("twins")
    phantom_dataset(root)
    space = grid(root, axes=AXES, controls=["oversample", "drop"], remove={"dbp": 3, "trv": 0.5})
    return planner.plan(parse_space(space), root / "run").cells


def test_every_arm_has_the_comparators_of_its_mode(cells: tuple[Cell, ...]) -> None:
    modes = {cell.arm_id: cell for cell in cells}
    for arm in candidates(cells):
        own = modes[arm.arm_id]
        assert arm.baseline is not None
        assert modes[arm.baseline].mode == "baseline"
        wanted = {
            "augmentation": {"oversample"},
            "replacement": {"oversample", "drop"},
            "synthetic": set(),  # nothing to repeat or to remove
        }[own.mode]
        assert set(arm.twins) == wanted
        for control, arm_id in arm.twins.items():
            twin = modes[arm_id]
            assert (twin.mode, twin.psi) == (control, None)
            assert twin.remove == own.remove
            assert twin.ratio == (own.ratio if control == "oversample" else None)


def test_the_report_finds_those_of_a_second_stage(cells: tuple[Cell, ...]) -> None:
    rows = pd.DataFrame(
        [
            {
                "arm_id": cell.arm_id,
                "mode": cell.mode,
                "psi": cell.psi,
                "ratio": cell.ratio,
                "filter": cell.filter,
                "remove": cell.remove or None,
                "status": "ok",
            }
            for cell in cells
        ]
    )
    table = arm_table(rows).set_index("arm_id")
    for arm in candidates(cells):
        found = table.loc[arm.arm_id]
        assert found["baseline_id"] == arm.baseline
        assert found["twin_id"] == arm.twins.get("oversample")
        assert found["drop_id"] == arm.twins.get("drop")
