"""From a network's training images to a refused search: the record as training writes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from small_grid import grid, phantom_dataset

from fgaug.bank import open_store
from fgaug.core.paths import BankNames, record_of
from fgaug.data import Dataset, open_dataset
from fgaug.errors import UserError
from fgaug.grid.load import parse_space
from fgaug.runs.row import Exposure
from fgaug.study import generators, planner
from fgaug.study.leakage import exposure
from gan_worker.filling.fill import fill
from gan_worker.training.images import training_images, write_trained_on

NETWORK = Path(__file__).parent / "data" / "stylegan2" / "a.pkl"  # 32 px, 1 channel
LABELS = ("dbp", "trv")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained-on")
    phantom_dataset(root, test=0.2)
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return open_dataset(root / "dataset")


def network(folder: Path, label: str, trained_on: Dataset) -> Path:
    """Return a network file with the record that training on a dataset leaves beside it."""
    file = folder / f"{label}.pkl"
    file.write_bytes(NETWORK.read_bytes())
    write_trained_on(file, training_images(trained_on, [label]))
    return file


def grid_of(root: Path, folder: Path, files: dict[str, Path], **axes: Any) -> dict[str, Any]:
    generator = {
        "snapshots": {label: str(file) for label, file in files.items()},
        "noise": "const",
    }
    raw = grid(root, bank=str(folder / "bank"), generator=generator)
    raw["axes"] |= axes
    return raw


def test_a_search_that_validates_on_a_networks_patients_is_refused(
    root: Path, data: Dataset, odd_root: Path, fgaug: Any
) -> None:
    """The network of dbp learned from the dataset's training part, that of trv from another."""
    trained = {"dbp": data, "trv": data.with_split(3)}
    files = {label: network(odd_root, label, of) for label, of in trained.items()}
    path = odd_root / "grid.yaml"
    path.write_text(yaml.safe_dump(grid_of(root, odd_root, files)), encoding="utf-8")
    code, out, err = fgaug("search", path, "--out", odd_root / "run", "--dry-run")
    assert (code, out) == (2, "")
    seen = training_images(trained["trv"], ["trv"]).table
    held_out = data.manifest[data.manifest["split"] != "train"]
    images = int(held_out["sha256"].isin(seen["sha256"]).sum())
    patients = held_out.loc[held_out["group"].isin(seen["group"]), "group"].nunique()
    assert images > 0
    message = " ".join(err.split())
    assert (
        f"`generator.snapshots.trv` was trained on {images} validation or test images and on "
        f"images of {patients} of their patients ({record_of(files['trv'])}). Use a network "
        "trained on this dataset's training images, or another split"
    ) in message
    assert "snapshots.dbp" not in message
    assert not (odd_root / "run").exists()
    assert not (odd_root / "bank").exists()

    network(odd_root, "trv", data)
    code, out, _ = fgaug("search", path, "--out", odd_root / "run", "--dry-run")
    assert code == 0


def test_each_split_of_a_grid_is_held_against_the_record(
    root: Path, data: Dataset, tmp_path: Path, fgaug: Any
) -> None:
    files = {label: network(tmp_path, label, data.with_split(3)) for label in LABELS}
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(grid_of(root, tmp_path, files, split=[3])), encoding="utf-8")
    assert fgaug("search", path, "--out", tmp_path / "run", "--dry-run")[0] == 0
    path.write_text(yaml.safe_dump(grid_of(root, tmp_path, files, split=[3, 4])), encoding="utf-8")
    code, _, err = fgaug("search", path, "--out", tmp_path / "run", "--dry-run")
    assert code == 2
    assert "`axes.split` 4" in err
    assert "`axes.split` 3" not in err


def test_the_bank_carries_the_record_and_it_outlives_the_network_file(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    files = {label: network(tmp_path, label, data) for label in LABELS}
    space = parse_space(grid_of(root, tmp_path, files))
    (needs,) = planner.plan(space, tmp_path / "run").needs
    fill(
        needs.source.store,
        needs.source.spec,
        generators.label_sources(needs.source),
        needs.missing,
    )
    store = open_store(tmp_path / "bank")
    for label, source in needs.source.spec.sources.items():
        assert store.has(BankNames.trained_on(source.sha256)), label
    for file in files.values():
        record_of(file).unlink()
    assert planner.plan(space, tmp_path / "run").sources[None].leakage == "none"
    other = parse_space(grid_of(root, tmp_path, files, split=[4]))
    with pytest.raises(UserError, match=r"trained on \d+ .*\(.*bank/snapshots/.*\.trained_on\.pa"):
        planner.plan(other, tmp_path / "run")


def test_a_conditional_network_has_one_record_of_all_its_labels(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "both.pkl"
    file.write_bytes((NETWORK.parent / "c.pkl").read_bytes())
    images = training_images(data.with_split(3), LABELS)
    write_trained_on(file, images)
    raw = grid_of(root, tmp_path, dict.fromkeys(LABELS, file))
    for number, label in enumerate(LABELS):
        raw["generator"]["snapshots"][label] = {"file": str(file), "class": number}
    held_out = data.manifest[data.manifest["split"] != "train"]
    count = int(held_out["sha256"].isin(images.table["sha256"]).sum())
    with pytest.raises(UserError) as refused:
        planner.plan(parse_space(raw), tmp_path / "run")
    for label in LABELS:
        assert f"snapshots.{label}` was trained on {count} validation" in str(refused.value)


def test_patients_of_another_dataset_may_only_share_their_names(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    files = {label: network(tmp_path, label, data) for label in LABELS}
    other = pd.read_parquet(record_of(files["dbp"]))
    held_out = data.manifest.loc[data.manifest["split"] == "valid", "group"].iloc[0]
    other.assign(sha256="0" * 64, group=held_out).to_parquet(record_of(files["dbp"]))
    with pytest.raises(UserError) as refused:
        planner.plan(parse_space(grid_of(root, tmp_path, files)), tmp_path / "run")
    message = str(refused.value)
    assert "trained on 0 validation or test images and on images of 1 of their pat" in message
    assert "The record shares no image with this dataset: if only the patient names" in message


@pytest.mark.parametrize("columns", [["sha256"], ["group", "label"]])
def test_a_record_that_tells_nothing_is_refused(
    root: Path, data: Dataset, tmp_path: Path, columns: list[str]
) -> None:
    files = {label: network(tmp_path, label, data) for label in LABELS}
    record = record_of(files["trv"])
    pd.read_parquet(record)[columns].to_parquet(record)
    with pytest.raises(UserError, match=r"trv\.trained_on\.parquet is not a valid Parquet file"):
        planner.plan(parse_space(grid_of(root, tmp_path, files)), tmp_path / "run")


def exposed(
    root: Path, folder: Path, data: Dataset, records: dict[str, pd.DataFrame | None]
) -> Exposure:
    """Return what networks with such records (None: no record) saw of a dataset."""
    files = {label: network(folder, label, data) for label in LABELS}
    for label, record in records.items():
        if record is None:
            record_of(files[label]).unlink()
        else:
            record.to_parquet(record_of(files[label]))
    (needs,) = planner.plan(parse_space(grid_of(root, folder, files)), folder / "run").needs
    return exposure(needs.source, data)


def record_like(data: Dataset, rows: Any, **changes: Any) -> pd.DataFrame:
    return data.manifest.loc[rows, ["sha256", "group", "label"]].assign(**changes)


def test_a_record_tells_which_images_and_patients_were_seen(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    train = data.manifest.index[data.manifest["split"] == "train"]
    one = record_like(data, train[:3])
    found = exposed(root, tmp_path, data, dict.fromkeys(LABELS, one))
    patients = data.manifest["group"].isin(one["group"])
    assert found.seen == set(data.manifest.index[patients])
    assert found.unknown == frozenset()
    assert found.to(train[:3]) is True
    others = data.manifest.index[~patients]
    assert found.to(others) is False
    assert found.to([]) is False


def test_networks_of_another_dataset_saw_nothing_of_this_one(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    train = data.manifest.index[data.manifest["split"] == "train"]
    foreign = record_like(data, train, sha256="0" * 64, group="of another hospital")
    found = exposed(root, tmp_path, data, dict.fromkeys(LABELS, foreign))
    assert (found.seen, found.unknown) == (frozenset(), frozenset())
    # patients of the same names may be the same people or others: nobody knows
    alike = foreign.assign(group=data.manifest.loc[train, "group"])
    found = exposed(root, tmp_path, data, dict.fromkeys(LABELS, alike))
    assert found.seen == frozenset()
    assert found.to(train) is None


def test_without_a_record_flags_tell_and_without_flags_nothing_does(
    root: Path, data: Dataset, tmp_path: Path
) -> None:
    found = exposed(root, tmp_path, data, dict.fromkeys(LABELS, None))
    assert found.seen == frozenset()
    assert found.unknown == set(data.manifest.index)
    train = data.manifest.index[data.manifest["split"] == "train"]
    foreign = record_like(data, train, sha256="0" * 64, group="elsewhere")
    half = exposed(root, tmp_path, data, {"dbp": None, "trv": foreign})
    assert half.unknown == set(data.manifest.index), "one network of two is not known"
    flags = data.manifest["split"].eq("train") & (data.manifest.index % 2 == 0)
    flagged = dataclasses.replace(data, manifest=data.manifest.assign(gan=flags))
    files = {label: network(tmp_path, label, data) for label in LABELS}
    for file in files.values():
        record_of(file).unlink()
    (needs,) = planner.plan(parse_space(grid_of(root, tmp_path, files)), tmp_path / "run").needs
    told = exposure(needs.source, flagged)
    assert told.seen == set(data.manifest.index[flags])
    assert told.unknown == frozenset()
