"""What is checked before a search starts: leakage, disks, networks; how many trials fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_grid import grid, phantom_dataset

from fgaug.data import open_dataset
from fgaug.errors import FgaugError, GridError
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.study import checks, generators, planner
from fgaug.study.estimate import parallel_trials

NETWORKS = Path(__file__).parent / "data" / "stylegan2"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planning")
    phantom_dataset(root)
    return root


def with_networks(root: Path, folder: Path, **changes: Any) -> Space:
    """Return a grid whose two labels come from copies of one small network in `folder`."""
    files = {}
    for label in ("dbp", "trv"):
        files[label] = str(folder / f"{label}.pkl")
        Path(files[label]).write_bytes((NETWORKS / "a.pkl").read_bytes())
    generator = {"snapshots": files, "noise": "const"}
    return parse_space(grid(root, bank=str(folder / "bank"), generator=generator, **changes))


def record(folder: Path, label: str, rows: pd.DataFrame) -> None:
    rows[["sha256", "group"]].to_parquet(folder / f"{label}.trained_on.parquet")


def test_leakage_is_unknown_without_a_record_and_none_with_a_clean_one(
    root: Path, tmp_path: Path
) -> None:
    space = with_networks(root, tmp_path)
    assert planner.plan(space, tmp_path / "run").sources[None].leakage == "unknown"
    manifest = open_dataset(root / "dataset").manifest
    for label in ("dbp", "trv"):
        record(tmp_path, label, manifest[manifest["split"] == "train"])
    assert planner.plan(space, tmp_path / "run").sources[None].leakage == "none"


def test_a_network_that_saw_a_validation_patient_is_refused_by_name_and_count(
    root: Path, tmp_path: Path
) -> None:
    space = with_networks(root, tmp_path)
    manifest = open_dataset(root / "dataset").manifest
    valid = manifest[manifest["split"] == "valid"]
    one = valid[valid["group"] == valid["group"].iloc[0]]
    record(tmp_path, "trv", one.iloc[:1])  # one image, its patient has others
    with pytest.raises(GridError, match=r"snapshots.trv` was trained on 1 .* of 1 of their patie"):
        planner.plan(space, tmp_path / "run")
    record(tmp_path, "trv", one.iloc[:1].assign(sha256="of another image"))
    with pytest.raises(GridError, match=r"trained on 0 validation .* 1 of their patients"):
        planner.plan(space, tmp_path / "run")


def test_a_changed_network_needs_another_bank(root: Path, tmp_path: Path) -> None:
    space = with_networks(root, tmp_path)
    planned = planner.plan(space, tmp_path / "run")
    from gan_worker.filling.fill import fill

    (needs,) = planned.needs
    fill(
        needs.source.store,
        needs.source.spec,
        generators.label_sources(needs.source),
        needs.missing,
    )
    assert planner.plan(space, tmp_path / "run").needs[0].missing.count == 0
    (tmp_path / "trv.pkl").write_bytes((NETWORKS / "c.pkl").read_bytes())
    with pytest.raises(GridError, match=r"holds different fakes.*snapshot of `trv`"):
        planner.plan(space, tmp_path / "run")


def test_wrong_networks_are_refused_before_anything_starts(root: Path, tmp_path: Path) -> None:
    space = with_networks(root, tmp_path)
    (tmp_path / "dbp.pkl").write_bytes(b"not a pickle")
    (tmp_path / "trv.pkl").write_bytes((NETWORKS / "c.pkl").read_bytes())  # has classes
    with pytest.raises(FgaugError) as refused:
        planner.plan(space, tmp_path / "run")
    assert "dbp.pkl" in str(refused.value)
    assert "classes" in str(refused.value)
    assert not (tmp_path / "bank").exists()


def test_a_disk_that_would_fill_up_is_refused(tmp_path: Path) -> None:
    checks.check_disk("small", {tmp_path: 1000})
    with pytest.raises(GridError, match=r"needs about 1000000.0 GB .* GB are free"):
        checks.check_disk("large", {tmp_path / "not" / "there": 10**15})
    # two folders on one disk share what is free
    half = 10**15 // 2
    with pytest.raises(GridError, match=r"1000000\.0 GB"):
        checks.check_disk("two", {tmp_path / "a": half, tmp_path / "b": half})


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "at_once"),
    [
        ({"cpu": 1}, 2, 0, 2),
        ({"cpu": 0.5}, 2, 0, 4),
        ({"cpu": 1, "gpu": 0.25}, 16, 2, 8),
        ({"cpu": 1, "gpu": 0.4}, 16, 2, 4),  # two on each GPU, the rest of it idle
        ({"cpu": 1, "gpu": 2}, 16, 4, 2),
        ({"cpu": 4, "gpu": 0.25}, 2, 1, 1),
    ],
)
def test_trials_at_once(
    root: Path, resources: dict[str, float], cpus: int, gpus: int, at_once: int
) -> None:
    assert parallel_trials(parse_space(grid(root, resources=resources)), cpus, gpus) == at_once
