"""Measuring the sets of fakes in a bank."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgaug.bank import Bank, Demand, Store, lock, open_bank
from fgaug.bank.store import read
from fgaug.core import paths
from fgaug.core.paths import BankNames
from fgaug.core.progress import Advance
from fgaug.core.version import __version__
from fgaug.data import Dataset, open_dataset
from fgaug.grid.filters import NONE, Filter, parse
from fgaug.quality.fake_sets import record
from fgaug.quality.fake_sets.reals import AllReals
from fgaug.quality.fake_sets.record import QUALITY_VERSION, Row, SetRecord
from fgaug.quality.fake_sets.rows import (
    Fakes,
    TableRows,
    add_fakes,
    add_networks,
    add_reals,
    fakes_of,
)
from fgaug.quality.features.of_bank import features_of_fakes
from fgaug.quality.features.pair import NetworkPair, load_pair
from fgaug.quality.scoring.score_bank import ProgressCounter, check_fits, device_of
from fgaug.quality.set_measures import drawn
from fgaug.quality.strata import Machines


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSetOptions:
    """Options for measuring a bank's fakes."""

    dataset: str | Path  # a folder or URI
    filters: tuple[str, ...] = ()  # in addition to no filter
    images: int = 1000  # per set, the lowest z_seeds
    features: str = "lite0"  # see `fgaug.quality.features.networks.load_network`
    pr_features: str | None = None  # of precision, recall, density and coverage, if another
    split: int | str = "dataset"  # of the training images: as prepared, or the seed of a draw
    against: str | None = None  # another bank, whose networks are compared with this one's
    device: str = "auto"  # all GPUs if there are any; cpu, cuda or cuda:1


def measure_bank(
    bank: Bank, wanted: Demand, how: FakeSetOptions, progress: Advance = lambda done, wanted: None
) -> SetRecord:
    """Measure a bank's fakes, store the record in the bank and return it: `fgaug bank quality`.

    Keeps earlier measurements of other sets made in the same way.

    Args:
        bank: the open bank.
        wanted: labels and psis to measure; `how` sets the number of fakes.
        how: dataset, features and filters.
        progress: called with (images with features, images in total).

    Raises:
        BankError: a filter's scores are missing, or image sizes differ from the dataset's.
        DataError: the dataset or a label cannot be used.
        UserError: the feature network or a filter cannot be used.
    """
    dataset = open_dataset(how.dataset).with_split(how.split)
    drawn(np.arange(0), how.images)
    filters = _filters(how)
    other = None if how.against is None else open_bank(how.against)
    for label in dict.fromkeys(label for label, _ in wanted.wanted):
        check_fits(bank, label, dataset)
        if other is not None:
            check_fits(other, label, dataset)
    sets = fakes_of(bank, wanted, filters, how.images)
    pair = load_pair(how.features, how.pr_features, device_of(how.device))
    network = pair.distance
    wanted_images = len(dataset) + sum(len(fakes.z_seeds) for fakes in sets)
    count = ProgressCounter(progress, len(pair.distinct) * wanted_images)
    reals = AllReals(dataset, pair, count.within)
    count.add(len(pair.distinct) * len(dataset))
    found = TableRows()
    machines = _machines(found, reals)
    own = reals.own_labels()
    for label in dict.fromkeys(fakes.label for fakes in sets):
        known = reals.of_label(label)
        add_reals(found, known, own.get(label, {}))
        for fakes in (fakes for fakes in sets if fakes.label == label):
            by_network = []
            for each in pair.distinct:
                args = (label, fakes.psi, fakes.z_seeds, each)
                by_network.append(features_of_fakes(bank, *args, count.within))
                count.add(len(fakes.z_seeds))
            features = by_network[0]
            add_fakes(found, bank, fakes, by_network, known, machines, network.label)
            if other is not None and (shared := _shared(other, fakes)).any():
                z_seeds = fakes.z_seeds[shared]
                theirs = features_of_fakes(other, label, fakes.psi, z_seeds, network)
                add_networks(found, (bank, other), fakes, (features[shared], theirs), z_seeds)
    head = _head(bank, dataset, how, pair)
    return _keep(bank, SetRecord(head=head, tables=found.tables))


def kept_of(store: Store, dataset_digest: str) -> list[SetRecord]:
    """Return a bank's records of measurements against a dataset, one per networks and split.

    Raises:
        BankError: a file cannot be read.
    """
    found = []
    for name in store.sizes(BankNames.quality):
        if name.startswith(f"{BankNames.quality}/{dataset_digest[:12]}-"):
            each = record.read(read(store, name).to_pybytes(), store.place(name))
            if each is not None and each.head["dataset_digest"] == dataset_digest:
                found.append(each)
    return found


def _keep(bank: Bank, found: SetRecord) -> SetRecord:
    store, name = bank.store, f"{BankNames.quality}/{found.name}"
    with lock.held(store) as check:
        if store.has(name):
            older = record.read(read(store, name).to_pybytes(), store.place(name))
            found = found if older is None else older.with_newer(found)
        check()
        store.write(name, found.to_bytes())
    return found


def _filters(how: FakeSetOptions) -> list[Filter]:
    """Return the empty filter and the requested ones, without duplicates."""
    found = [parse(NONE), *(parse(text) for text in how.filters)]
    return list({each.text: each for each in found}.values())


def _machines(found: TableRows, reals: AllReals) -> dict[str, Machines]:
    """Add a row per stratum of the reals; return the classifiers that can predict one."""
    machines = {}
    for column, machine in reals.machines().items():
        found.tables["machines"].append(_machine_row(column, machine))
        if isinstance(machine, Machines) and machine.tells:
            machines[column] = machine
    return machines


def _shared(other: Bank, each: Fakes) -> np.ndarray:
    """Return which of the fakes' z_seeds another bank also has: bool [n]."""
    index = other.index()
    held = index[index["label"].eq(each.label) & index["psi"].eq(each.psi)]["z_seed"]
    return np.isin(each.z_seeds, held.to_numpy())


def _machine_row(column: str, found: Machines | str) -> Row:
    if isinstance(found, str):
        return {"stratum": column, "tells": False, "reason": found}
    return {
        "stratum": column,
        "tells": found.tells,
        "accuracy": found.accuracy,
        "least": found.least,
        "inputs": found.inputs,
        "values": list(found.strata),
        "left_out": list(found.left_out),
        "n_real": len(found.rows),
        "reason": None,
    }


def _head(bank: Bank, dataset: Dataset, how: FakeSetOptions, pair: NetworkPair) -> dict[str, Any]:
    return {
        "version": QUALITY_VERSION,
        "dataset": paths.without_secrets(str(how.dataset)),
        "dataset_digest": dataset.spec.digest,
        "split": how.split,
        **pair.columns(),
        "images": how.images,
        "sources": {label: source.sha256 for label, source in bank.spec.sources.items()},
        "fgaug": __version__,
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
