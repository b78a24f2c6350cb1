"""Event files for TensorBoard hold each evaluation of a curve once, whatever happened to it."""

from __future__ import annotations

import json
import logging
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil
import pytest
from small_grid import grid, phantom_dataset
from tensorboardX.proto.event_pb2 import Event

from fgaug.core import files
from fgaug.core.cluster import started
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError
from fgaug.grid.cells import Cell, Context, cells_of, recipes_of
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.study import planner, search
from fgaug.study.tune.loggers import TensorBoard, folder_of, loggers_of
from fgaug.study.tune.tracker import SCALARS

pytestmark = pytest.mark.ray


def events(path: Path) -> Iterator[Event]:
    """Yield the records of an event file: length, its CRC, the record, its CRC."""
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        yield Event.FromString(raw[at + 12 : at + 12 + length])
        at += 16 + length


def scalars(folder: Path) -> pd.DataFrame:
    """Return what the event files of a folder hold, one row an event, in their order."""
    rows = [
        {"step": event.step, **{value.tag: value.simple_value for value in event.summary.value}}
        for path in sorted(folder.iterdir())
        for event in events(path)
        if event.summary.value
    ]
    return pd.DataFrame(rows)


def assert_is_curve(folder: Path, curve: Path) -> None:
    frame = pd.read_parquet(curve)
    expected = frame[["step", *SCALARS]].assign(
        images_per_s=frame["images_seen"] / frame["train_s"]
    )
    pd.testing.assert_frame_equal(scalars(folder), expected, check_dtype=False, rtol=1e-6)


def cells_in(root: Path) -> tuple[Cell, ...]:
    space = parse_space(grid(root))
    weights = {recipe.model_dump_json(): "scratch" for recipe in recipes_of(expand(space))}
    context = Context(dataset_digest="d", generator={}, pool=100, weights=weights)
    return cells_of(space, expand(space), {None: context})


def curve(steps: int) -> list[dict[str, Any]]:
    return [
        {
            **{name: 1 / (step + number) for number, name in enumerate(SCALARS)},
            "step": step,
            "images_seen": 64 * step,
            "train_s": 0.5 * step,
        }
        for step in range(1, steps + 1)
    ]


class Played:
    """A cell whose trial is played by hand."""

    def __init__(self, root: Path) -> None:
        self.run = RunPaths(root / "run")
        self.cell = cells_in(root)[-1]
        self.logger = TensorBoard(self.run, [self.cell])
        self.folder = self.run.tensorboard / folder_of(self.cell)

    def reports(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.logger.on_trial_result(0, [], self.trial(), {**row, "done": False})

    def ends(self, status: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            path = self.run.trial(self.cell.cell_id).curve
            files.write_table(path, pa_table(rows))
        self.logger.on_trial_complete(0, [], self.trial(status=status, done=True))

    def trial(self, **last: Any) -> SimpleNamespace:
        return SimpleNamespace(config={"cell_id": self.cell.cell_id}, last_result=last)


def pa_table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows)


@pytest.fixture
def played(odd_root: Path) -> Iterator[Played]:
    played = Played(odd_root)
    yield played
    played.logger.on_experiment_end([])


def steps(folder: Path) -> list[int]:
    return [int(step) for step in scalars(folder)["step"]]


def test_a_cell_is_seen_while_it_trains(played: Played) -> None:
    played.reports(curve(3))
    assert steps(played.folder) == [1, 2, 3]
    assert scalars(played.folder)["images_per_s"].tolist() == [128] * 3


def test_a_paused_cell_goes_on(played: Played) -> None:
    played.reports(curve(2))  # the last evaluation of a leg is told by its end alone
    played.ends("paused", curve(3))
    assert steps(played.folder) == [1, 2, 3]
    assert not played.logger.files
    played.reports(curve(5)[3:])
    assert steps(played.folder) == [1, 2, 3, 4, 5]
    played.ends("ok", curve(5))
    assert steps(played.folder) == [1, 2, 3, 4, 5]
    assert_is_curve(played.folder, played.run.trial(played.cell.cell_id).curve)


def test_a_killed_search_leaves_no_step_twice_in_the_next(played: Played) -> None:
    """Its checkpoint is older than what it reported last."""
    played.reports(curve(4))
    played.logger.on_experiment_end([])
    played.logger = TensorBoard(played.run, [played.cell])
    played.reports(curve(4)[2:])
    assert steps(played.folder) == [3, 4]
    played.ends("ok", curve(4))
    assert steps(played.folder) == [1, 2, 3, 4]


def test_a_failed_cell_keeps_what_it_reported(played: Played) -> None:
    nan = [{**row, "valid_auc": float("nan")} for row in curve(2)]
    played.reports(nan)
    played.ends("failed", [])
    assert steps(played.folder) == [1, 2]
    assert "valid_auc" not in scalars(played.folder)
    assert not played.logger.files
    played.ends("unstarted", [])  # another leg, that did not begin
    assert steps(played.folder) == [1, 2]


def test_a_folder_that_cannot_be_written_ends_no_search(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    files.write_text(played.run.tensorboard, "a file")
    with caplog.at_level(logging.WARNING, "fgaug"):
        played.reports(curve(3))
        played.ends("ok", curve(3))
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text


def test_names_are_files_and_distinct(tmp_path: Path) -> None:
    cells = cells_in(tmp_path)
    assert folder_of(cells[-1]) == f"augmentation_psi_1_ratio_1_seed_2-{cells[-1].cell_id}"
    assert len({folder_of(cell) for cell in cells}) == len(cells)
    assert loggers_of([], RunPaths(tmp_path), cells) == []


def test_the_grid_names_loggers(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="loggers"):
        parse_space(grid(tmp_path, loggers=["wandbx"]))
    with pytest.raises(GridError, match="loggers"):
        parse_space(grid(tmp_path, loggers=["tensorboard", "tensorboard"]))


@pytest.mark.slow
def test_a_search_writes_what_its_curves_hold(tmp_path: Path) -> None:
    """Cells pause at rungs and go on; no file stays open, and no identity changes."""
    phantom_dataset(tmp_path)
    changes = {
        "axes": {"mode": ["augmentation"], "psi": [1.0], "ratio": [0.5, 1, 2], "seed": [1, 2]},
        "budget": {"unit": "steps", "max": 9, "evaluations": 9},
        "scheduler": {"type": "arm_asha", "metric": "loss"},
    }
    space = parse_space(grid(tmp_path, **changes, loggers=["tensorboard"]))
    with started(cpus=2, gpus=0, dashboard=False):
        run = search.search(space, tmp_path / "run")
        assert planner.plan(parse_space(grid(tmp_path, **changes)), run.root).todo == ()
    assert (run.ok, run.pruned) == (4, 4)
    found = {path.name for path in (run.root / "tensorboard").iterdir()}
    looks = Counter[int]()
    for trial in (run.root / "trials").iterdir():
        (name,) = (name for name in found if name.endswith(f"-{trial.name}"))
        assert_is_curve(run.root / "tensorboard" / name, trial / "curve.parquet")
        looks[len(scalars(run.root / "tensorboard" / name))] += 1
    assert looks == {9: 4, 1: 4}
    assert not [file for file in psutil.Process().open_files() if "tfevents" in file.path]
    assert "loggers:" in (run.root / "space.resolved.yaml").read_text()
    rows = json.loads(next(run.root.glob("trials/*/result.json")).read_text())["rows"]
    assert "loggers" not in rows[0]
