"""The settings of a search: they travel to a worker whole."""

from __future__ import annotations

import pickle

import pytest
from small_grid import grid, phantom_dataset

from fgaug.grid.cells import to_dict
from fgaug.grid.load import parse_space
from fgaug.study import planner
from fgaug.study.plan import Plan
from fgaug.study.tune.settings import SearchSettings


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    root = tmp_path_factory.mktemp("settings")
    phantom_dataset(root, images=24)
    return planner.plan(parse_space(grid(root)), root / "run")


def settings_of(planned: Plan, keep: frozenset[str] = frozenset()) -> SearchSettings:
    return SearchSettings(
        run=planned.run.root.resolve(),
        cells={cell.cell_id: to_dict(cell) for cell in planned.cells},
        sources=planned.sources,
        cpu=1,
        gpu=0,
        deadline=None,
        stop_name=".stop",
        keep_models="best",
        keep=keep,
        levels=(0.5,),
    )


def test_a_copy_in_another_process_is_equal_and_gives_the_same_cells(planned: Plan) -> None:
    settings = settings_of(planned)
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert [copy.cell(cell.cell_id) for cell in planned.cells] == list(planned.cells)
    assert copy.paths.root == planned.run.root.resolve()


def test_models_are_pruned_within_an_arm_and_those_to_keep_are_left_out(planned: Plan) -> None:
    one, two = (cell for cell in planned.cells if cell.mode == "augmentation")
    assert settings_of(planned).arm_of(one) == (one.cell_id, two.cell_id)
    keep = frozenset({one.cell_id})
    assert settings_of(planned, keep).arm_of(two) == (two.cell_id,)
