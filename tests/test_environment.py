"""environment.json: written by a search, read as typed values, refused where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgaug import RunError
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.runs import environment, status
from fgaug.runs.environment import ArmRecord, DatasetRecord, Environment

OLD = RunPaths(Path(__file__).parent / "data" / "old_run" / "run")
ARM = ArmRecord(columns={"arm_id": "a" * 12, "mode": "baseline", "psi": None}, seeds={"c" * 12: 3})
WHOLE = Environment(
    versions={"fgaug": "1", "python": "3.11", "torch": "2"},
    computing={"numpy blas": "openblas 0.3"},
    git_commit="f" * 40,
    host="here",
    devices=("x86_64 x2",),
    command="fgaug search grid.yaml",
    dataset=DatasetRecord(
        labels=("a", "b"), size=16, channels=1, digest="0" * 64, n_images={"train": 4, "test": 0}
    ),
    plan={"schema": 1},
    cells=("c" * 12,),
    arms=(ARM,),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    environment.write(run, WHOLE)
    assert environment.read(run) == WHOLE
    keys = "fgaug python torch computing git_commit host devices command dataset plan cells arms"
    assert list(json.loads(run.environment.read_text())) == keys.split()


def test_a_record_of_an_earlier_version_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    recorded = environment.read(OLD)
    assert recorded.computing == {}, "that version did not record it"
    assert recorded.versions["torch"] == "2.14.1"
    assert recorded.dataset is not None
    assert recorded.dataset.n_images == {"train": 11, "valid": 17, "test": 12}
    assert [len(arm.seeds) for arm in recorded.arms] == [2, 2]
    environment.write(RunPaths(tmp_path), recorded)
    assert RunPaths(tmp_path).environment.read_bytes() == OLD.environment.read_bytes()


def test_a_record_without_the_optional_keys_is_read(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    files.write_json(run.environment, {"cells": ["0" * 12]})
    assert environment.read(run) == Environment(cells=("0" * 12,))
    assert environment.read(run).software() == {}


def test_cells_of_a_second_stage_are_added_once_and_all_else_is_kept(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    files.write_json(run.environment, {"fgaug": "9", "cells": ["b"], "of_a_later_version": [1]})
    for _ in range(2):
        environment.add_cells(run, ["c", "b", "a"])
    kept = {"fgaug": "9", "cells": ["b", "a", "c"], "of_a_later_version": [1]}
    assert json.loads(run.environment.read_text()) == kept


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (["cells"], "it holds a list, not an object"),
        ({"cells": "c1"}, "`cells` is of type str, not list"),
        ({"cells": [], "dataset": 3}, "`dataset` is of type int, not dict"),
        ({"cells": [], "dataset": {"n_train": "many"}}, "`n_train` is of type str, not int"),
        ({"cells": [], "arms": [{"arm_id": "a"}]}, "an arm lacks `cells`"),
        ({"cells": [], "arms": [{"cells": {}}]}, "an arm lacks `arm_id`"),
    ],
)
def test_a_damaged_record_is_refused_with_the_cure(tmp_path: Path, raw: Any, reason: str) -> None:
    run = RunPaths(tmp_path)
    files.write_json(run.environment, raw)
    with pytest.raises(RunError) as refused:
        environment.read(run)
    assert str(refused.value) == (
        f"{run.environment} is damaged ({reason}). Run the search again to restore it."
    )


def test_status_refuses_a_record_without_cells(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    files.write_json(run.environment, {"fgaug": "1"})
    with pytest.raises(RunError, match=r"lists no cells\. Run the search again"):
        status.read(run.root)
