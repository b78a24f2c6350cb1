"""The inputs of a trial: dataset, bank and the images of its plan.

Datasets and banks are opened once per process and reopened only if they change.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, open_bank, open_store
from fgaug.core.paths import BankNames, DatasetPaths
from fgaug.core.store import is_uri
from fgaug.data import Dataset, open_dataset
from fgaug.errors import DataError
from fgaug.runs import mix
from fgaug.training.images import Images


def training_images(plan: mix.MixPlan, dataset: Dataset, bank: Bank | None) -> Images:
    """Return the images of a plan as references into memory-mapped pixels.

    Args:
        plan: the training set.
        dataset: of the real images.
        bank: of the fakes; None for a plan without fakes.
    """
    classes = {label: index for index, label in enumerate(dataset.spec.labels)}
    real_labels = dataset.manifest["label"].map(classes).to_numpy(np.int64)
    sources: list[np.ndarray] = [dataset.pixels()]
    source, row = [np.zeros(plan.n_real, np.int64)], [plan.real]
    label_of = [real_labels[plan.real]]
    for label, psi, z_seeds in plan.drawn:
        assert bank is not None
        which, rows, names = bank.locate(label, psi, z_seeds)
        source.append(which + len(sources))
        row.append(rows)
        label_of.append(np.full(len(rows), classes[label], np.int64))
        sources += [bank.pixels(name) for name in names]
    return Images(
        sources=sources,
        source=np.concatenate(source),
        row=np.concatenate(row),
        label=np.concatenate(label_of),
    )


def dataset_at(uri: str, digest: str) -> Dataset:
    """Return the dataset in a folder or at a URI.

    Args:
        uri: where it lies.
        digest: of the dataset that the search was planned for.

    Raises:
        DataError: it cannot be opened; or, at a URI, another one took its place.
    """
    if not is_uri(uri):
        return _dataset_once(uri, _written_at(DatasetPaths(Path(uri)).manifest))
    dataset = _dataset_once(uri, 0)  # one request a process, not one a trial
    if dataset.spec.digest != digest:
        raise DataError(
            f"{dataset.place} was replaced after the search started: its digest is "
            f"{dataset.spec.digest[:12]}, the search was planned for {digest[:12]}. Put the "
            "dataset back, or run the command again to plan for the new one."
        )
    return dataset


def bank_at(root: str) -> Bank:
    """Return the current state of the bank at a location."""
    folder = open_store(root).folder  # a bank on object storage is complete before trials start
    return _bank_once(root, _written_at(folder / BankNames.manifest) if folder else 0)


@lru_cache(maxsize=4)
def _dataset_once(uri: str, written_at: int) -> Dataset:
    del written_at  # part of the cache key: a changed dataset is reopened
    return open_dataset(uri)


@lru_cache(maxsize=4)
def _bank_once(root: str, written_at: int) -> Bank:
    del written_at  # part of the cache key: a changed bank is reopened
    return open_bank(root)


def _written_at(path: Path) -> int:
    """Return a file's modification time in ns; 0 if missing, which opening it will report."""
    return path.stat().st_mtime_ns if path.is_file() else 0
