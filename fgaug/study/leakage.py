"""Leakage: what a grid's networks saw of the images that their fakes are judged on.

A network's record, written when it was trained,
names its images and patients; without one, gan flags in the dataset may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from fgaug.bank import Source, Store
from fgaug.bank.reader import shard_columns
from fgaug.core import files, paths
from fgaug.core.paths import BankNames
from fgaug.data import Dataset
from fgaug.errors import SnapshotError
from fgaug.grid.axes import Split
from fgaug.grid.generators import SnapshotFile
from fgaug.runs.row import Exposure
from fgaug.study.fake_source import FakeSource

UNTRAINED = ("phantom", "stub")  # kinds that never saw an image
_COLUMNS = ["sha256", "group"]  # of a record that count here


@dataclass(frozen=True, slots=True)
class _Record:
    place: str
    seen: pd.DataFrame  # sha256 and group of each image that the network was trained on


def leakage(
    fake_source: FakeSource, splits: Mapping[Split, Dataset]
) -> tuple[Literal["none", "unknown"], list[str]]:
    """Return whether the networks' training images are known to leak nothing, and the leaks.

    A network that saw a validation or test image of any of the splits, or another image of its
    patient, is a problem; so is a redrawn split whose leaks cannot be determined.

    Args:
        fake_source: the networks, and the bank of their fakes, which keeps records too.
        splits: the dataset as divided by each split that the fakes are used in.
    """
    problems: list[str] = []
    found = _records(fake_source)
    records = {label: record for label, record in found.items() if record is not None}
    for split, divided in splits.items():
        for label, record in records.items():
            key = f"{fake_source.key}generator.snapshots.{label}"
            problems += _leaks(key, record, split, divided)
    unrecorded = [label for label in found if label not in records]
    if unrecorded:
        labels = ", ".join(f"`{label}`" for label in unrecorded)
        of = "" if fake_source.snapshot is None else f" in the snapshot {fake_source.snapshot}"
        problems += _untold(f"the network{'s' * (len(unrecorded) > 1)} of {labels}{of}", splits)
    return "unknown" if unrecorded else "none", problems


def exposure(fake_source: FakeSource, dataset: Dataset) -> Exposure:
    """Return which images of a dataset the networks of a fake source were trained on.

    A network's record decides. Of one without a record the dataset's gan flags tell, where some
    image has one; else nothing is known. A record of another dataset may name the same patients
    by chance: where it shares no image with this one, that is not known either.
    """
    manifest = dataset.manifest
    seen = pd.Series(False, index=manifest.index)
    unknown = seen.copy()
    for record in _records(fake_source).values():
        if record is None:
            flagged = bool(manifest["gan"].any())
            seen |= manifest["gan"] if flagged else False
            unknown |= not flagged
            continue
        images = manifest["sha256"].isin(record.seen["sha256"])
        patients = manifest["group"].astype(str).isin(record.seen["group"].astype(str))
        if images.any():
            seen |= images | patients
        else:
            unknown |= patients
    return Exposure(
        seen=frozenset(manifest.index[seen].tolist()),
        unknown=frozenset(manifest.index[unknown].tolist()),
    )


def _records(fake_source: FakeSource) -> dict[str, _Record | None]:
    """Return the record of each label's network, None where it has none."""
    sources, files = fake_source.spec.sources.items(), fake_source.generator.snapshots
    return {
        label: _record(files.get(label), source, fake_source.store)
        for label, source in sources
        if source.kind not in UNTRAINED
    }


def _record(named: SnapshotFile | None, source: Source, bank: Store) -> _Record | None:
    """Return what a network was trained on, from beside its file or from the bank."""
    beside = paths.record_of(Path(named.file)) if named else None
    if beside is not None and beside.is_file():
        seen = files.read_table(beside, SnapshotError, _COLUMNS).to_pandas()
        return _Record(str(beside), seen)
    in_bank = BankNames.trained_on(source.sha256)
    if bank.has(in_bank):
        seen = shard_columns(bank, in_bank, _COLUMNS).to_pandas()
        return _Record(bank.place(in_bank), seen)
    return None


def _leaks(key: str, record: _Record, split: Split, divided: Dataset) -> list[str]:
    held_out = divided.manifest[divided.manifest["split"] != "train"]
    images = int(held_out["sha256"].isin(record.seen["sha256"]).sum())
    known = held_out["group"].astype(str).isin(record.seen["group"].astype(str))
    patients = held_out.loc[known, "group"].nunique()
    if not images and not patients:
        return []
    of_split = "" if split == "dataset" else f" of `axes.split` {split}"
    shared = divided.manifest["sha256"].isin(record.seen["sha256"]).any()
    elsewhere = (
        "It shares no image with this dataset: if its patients are others of the same names, "
        "rename those of one dataset. Else use"
    )
    return [
        f"`{key}` was trained on {images} validation or test images{of_split} and on images of "
        f"{patients} of their patients ({record.place}). {'Use' if shared else elsewhere} a "
        "network trained on this dataset's training images, or another split"
    ]


def _untold(networks: str, splits: Mapping[Split, Dataset]) -> Iterator[str]:
    """Yield which splits of another draw may hold out what networks without a record saw."""
    cure = (
        "Train networks on that split and keep their record (`x.trained_on.parquet` beside "
        "`x.pkl`), take `kind: phantom` or `stub`, or train modes without fakes only"
    )
    blind = []
    for split, divided in splits.items():
        manifest = divided.manifest
        flagged = int((manifest["gan"] & (manifest["split"] == "valid")).sum())
        if split == "dataset":
            continue
        if flagged:
            yield (
                f"`axes.split` {split} validates on {flagged} images with gan flag, so "
                f"{networks} saw them. {cure}"
            )
        elif not manifest["gan"].any():
            blind.append(str(split))
    if blind:
        yield (
            f"`axes.split` {', '.join(blind)}: nothing tells which images {networks} saw, and "
            f"such a split validates on others than the dataset's. {cure}"
        )
