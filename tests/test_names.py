"""Trials and generators are called by what they do where Ray lists them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_grid import grid

from fgaug.core.cache_lookups import count_lookup, lookups
from fgaug.grid.cells import Cell, Context, cells_of, recipes_of
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.study.tune import names
from fgaug.study.tune.names import LONG_S, Names, TrialResources
from fgaug.study.tune.trial_metrics import TrialMetrics
from fgaug.study.tune.worker import CellTrainable
from gan_worker.filling import actor

REQUEST = TrialResources(cpu=1, gpu=0.25)


@pytest.fixture
def cells(tmp_path: Any) -> tuple[Cell, ...]:
    space = parse_space(grid(tmp_path))
    weights = {recipe.model_dump_json(): "scratch" for recipe in recipes_of(expand(space))}
    context = Context(dataset_digest="d", generator={}, pool=100, weights=weights)
    return cells_of(space, expand(space), {None: context})


class Handle:
    """Stands for Ray's handle of an actor, whose methods are not in its `__dict__`."""

    def __getattr__(self, name: str) -> Any:
        if name != "train":
            raise AttributeError(name)
        return SimpleNamespace(options=lambda **given: given)


def trial(cell: Cell, handle: Handle) -> Any:
    config = {"cell_id": cell.cell_id, "until": 1.0, "alone": False}
    state = SimpleNamespace(ray_actor=handle)
    return SimpleNamespace(trial_id=cell.cell_id, config=config, temporary_state=state)


def test_the_tasks_of_a_reused_actor_are_named_by_the_cell_of_the_moment(
    cells: tuple[Cell, ...],
) -> None:
    told, handle = Names(cells), Handle()
    for cell in cells:
        told.on_trial_start(0, [], trial(cell, handle))
        assert vars(handle)["train"] == {"name": cell.described}
    assert "psi 1 ratio 1 seed 2" in cells[-1].described


def test_only_long_segments_pay_for_a_process_of_their_own(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(names, "time", SimpleNamespace(monotonic=lambda: now[0]))
    told = Names(cells)
    assert not told.long(), "nothing is known yet"
    for seconds, long in ((LONG_S, True), (LONG_S - 1, False), *[(LONG_S + 1, False)] * 3):
        one = trial(cells[0], Handle())
        told.on_trial_start(0, [], one)
        now[0] += seconds
        told.on_trial_complete(0, [], one)
        assert told.long() == long
    one = trial(cells[0], Handle())
    told.on_trial_start(0, [], one)
    told.on_trial_error(0, [], one)
    told.on_trial_complete(0, [], one)
    told.on_trial_start(0, [], one)
    now[0] += LONG_S
    told.on_trial_complete(0, [], one)
    assert told.long(), "four long ones in a row; a death is none of them"


def test_equal_requests_share_an_actor_and_those_alone_do_not() -> None:
    shared = [REQUEST({"cell_id": cell, "alone": False}) for cell in "ab"]
    alone = [REQUEST({"cell_id": cell, "alone": True}) for cell in "ab"]
    assert shared[0] == shared[1]
    assert len({shared[0], *alone}) == 3
    assert all(each.bundles == [{"CPU": 1.0, "GPU": 0.25}] for each in (*shared, *alone))


def test_an_actor_that_may_train_later_cells_says_so(cells: tuple[Cell, ...]) -> None:
    trainable = CellTrainable.__new__(CellTrainable)
    assert repr(trainable) == "trial and later cells", "a failed setup must not hide its error"
    trainable.title = cells[0].described
    assert repr(trainable) == f"{cells[0].described} and later cells"
    trainable.reused = True  # Ray asks again for the message of an error
    assert repr(trainable) == cells[0].described
    trainable.reused, trainable.alone = False, True
    assert repr(trainable) == cells[0].described


@pytest.mark.parametrize(
    ("wanted", "titles"),
    [
        ([("benign", 0.7)] * 3, ["benign psi 0.7"] * 2),
        ([("benign", 0.7), ("benign", 1.0)], ["benign psi 0.7", "benign psi 1"]),
        (
            [("benign", 0.7), ("malignant", 1.0), ("malignant", 0.5)],
            ["benign psi 0.7 and later fakes", "malignant psi 1 and later fakes"],
        ),
    ],
)
def test_generators_are_named_by_label_and_psi(
    wanted: list[tuple[str, float]], titles: list[str]
) -> None:
    made: list[str] = []
    pieces = [(label, psi, np.arange(3)) for label, psi in wanted]
    actor._Pool(made.append, 2, pieces, lambda count: None)
    assert made == titles
    assert repr(actor.GanWorker.__new__(actor.GanWorker)) == "fakes", "also if it fails to start"


def test_lookups_are_exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told, before = TrialMetrics(), lookups()
    added: list[tuple[float, dict[str, str]]] = []
    monkeypatch.setattr(told, "lookups", SimpleNamespace(inc=lambda *what: added.append(what)))
    told.exported = before
    for hit in (True, True, False):
        count_lookup("decoded", hit)
    for _ in range(2):
        told.export()
    assert sorted(added, key=str) == [
        (1, {"cache": "decoded", "outcome": "miss"}),
        (2, {"cache": "decoded", "outcome": "hit"}),
    ]
