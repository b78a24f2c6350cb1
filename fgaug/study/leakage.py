"""Leakage: whether a grid's networks were trained on validation or test images.

A network's record, written during its training, names its images and patients; without a record,
gan flags in the dataset may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from fgaug.bank import Source, Store
from fgaug.bank.reader import shard_columns
from fgaug.core import files, paths
from fgaug.core.node_cache import local_file
from fgaug.core.paths import BankNames
from fgaug.core.split_names import fold_of
from fgaug.data import Dataset
from fgaug.data.folds import HELD_OUT
from fgaug.errors import SnapshotError
from fgaug.grid.axes import Split
from fgaug.grid.generators import SnapshotFile
from fgaug.runs.row import Exposure
from fgaug.study.fake_source import FakeSource

UNTRAINED = ("phantom", "stub")  # kinds that were not trained on images
_COLUMNS = ["sha256", "group"]  # the columns of a record used here


@dataclass(frozen=True, slots=True)
class _Record:
    place: str
    seen: pd.DataFrame  # sha256 and group of the network's training images


def leakage(
    fake_source: FakeSource, splits: Mapping[Split, Dataset]
) -> tuple[Literal["none", "unknown"], list[str]]:
    """Return "none" if the networks are known not to leak, else "unknown", and the problems.

    It is a problem if a network was trained on a validation or test image of any split, or on
    another image of such a patient; so is a resplit whose leaks cannot be determined.

    Args:
        fake_source: the networks, and their bank, which keeps records too.
        splits: the dataset with each split that uses the fakes.
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
        problems += _unknown(f"the network{'s' * (len(unrecorded) > 1)} of {labels}{of}", splits)
    return "unknown" if unrecorded else "none", problems


def exposure(fake_source: FakeSource, dataset: Dataset) -> Exposure:
    """Return which images of a dataset a fake source's networks were trained on.

    A network's record decides. Without a record the dataset's gan flags do, if any image has one;
    otherwise exposure is unknown. It is also unknown for patients named in a record that shares no
    image with this dataset, because different datasets may use the same patient names.
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
    """Return the record of each label's network; None if it has none."""
    sources, files = fake_source.spec.sources.items(), fake_source.generator.snapshots
    return {
        label: _record(files.get(label), source, fake_source.store)
        for label, source in sources
        if source.kind not in UNTRAINED
    }


def _record(named: SnapshotFile | None, source: Source, bank: Store) -> _Record | None:
    """Return a network's record of its training images, stored beside its file or in the bank."""
    file = local_file(named.file, SnapshotError, (paths.TRAINED_ON,)) if named else None
    beside = paths.record_of(file) if file else None
    if beside is not None and beside.is_file():
        seen = files.read_table(beside, SnapshotError, _COLUMNS).to_pandas()
        return _Record(str(beside), seen)
    in_bank = BankNames.trained_on(source.sha256)
    if bank.has(in_bank):
        seen = shard_columns(bank, in_bank, _COLUMNS).to_pandas()
        return _Record(bank.place(in_bank), seen)
    return None


def _axis(split: Split) -> str:
    """Return a split as the value of the grid's axis that chose it."""
    fold = fold_of(split)
    return f"`axes.split` {split}" if fold is None else f"`axes.fold` {fold}"


def _leaks(key: str, record: _Record, split: Split, divided: Dataset) -> list[str]:
    held_out = divided.manifest[divided.manifest["split"] != "train"]
    images = int(held_out["sha256"].isin(record.seen["sha256"]).sum())
    known = held_out["group"].astype(str).isin(record.seen["group"].astype(str))
    patients = held_out.loc[known, "group"].nunique()
    if not images and not patients:
        return []
    of_split = "" if split == "dataset" else f" of {_axis(split)}"
    shared = divided.manifest["sha256"].isin(record.seen["sha256"]).any()
    elsewhere = (
        "The record shares no image with this dataset: if only the patient names coincide, rename "
        "the patients of one dataset. Otherwise use"
    )
    fold = fold_of(split)
    cure = ", or another split"
    if fold is not None:
        cure = f" while fold {fold} is held out (`fgaug gan train --split {split}`)"
    return [
        f"`{key}` was trained on {images} validation or test images{of_split} and on images of "
        f"{patients} of their patients ({record.place}). {'Use' if shared else elsewhere} a "
        f"network trained on this dataset's training images{cure}"
    ]


def _unknown(networks: str, splits: Mapping[Split, Dataset]) -> Iterator[str]:
    """Yield the problems of resplits that may hold out images networks without a record saw."""
    cure = (
        "Train networks on that split and keep their record (`x.trained_on.parquet` beside "
        "`x.pkl`), use `kind: phantom` or `stub`, or use only modes without fakes"
    )
    blind = []
    for split, divided in splits.items():
        manifest = divided.manifest
        flagged = int((manifest["gan"] & manifest["split"].isin(["valid", HELD_OUT])).sum())
        if split == "dataset":
            continue
        if flagged:
            yield (
                f"{_axis(split)} validates on {flagged} images with the gan flag, on which "
                f"{networks} {'were' if networks.startswith('the networks') else 'was'} trained. "
                f"{cure}"
            )
        elif not manifest["gan"].any():
            blind.append(split)
    if blind:
        named = "`axes.split`" if fold_of(blind[0]) is None else "`axes.fold`"
        which = ", ".join(str(split if (f := fold_of(split)) is None else f) for split in blind)
        how = "a resplit may validate" if fold_of(blind[0]) is None else "a fold may be tested"
        yield (
            f"{named} {which}: the training images of {networks} are unknown, so "
            f"{how} on them. {cure}"
        )
