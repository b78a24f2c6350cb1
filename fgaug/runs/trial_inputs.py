"""What a trial reads: the dataset, its bank, and the images that a plan names.

Opened once a process while it stays the same.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, open_bank, open_store
from fgaug.core.paths import BankNames, DatasetPaths
from fgaug.data import Dataset, open_dataset
from fgaug.runs import mix
from fgaug.training.images import Images


def training_images(plan: mix.MixPlan, dataset: Dataset, bank: Bank | None) -> Images:
    """Return the images that a plan names, as references into memory-mapped pixels.

    Args:
        plan: the training set.
        dataset: of the reals.
        bank: of the fakes; None for a plan without any.
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


def dataset_at(root: str) -> Dataset:
    """Return the dataset in a folder."""
    return _dataset_once(root, _written_at(DatasetPaths(Path(root)).manifest))


def bank_at(root: str) -> Bank:
    """Return the bank at a place, as it is now."""
    folder = open_store(root).folder  # a bank on object storage is complete before trials start
    return _bank_once(root, _written_at(folder / BankNames.manifest) if folder else 0)


@lru_cache(maxsize=4)
def _dataset_once(root: str, written_at: int) -> Dataset:
    del written_at  # part of the key: a dataset prepared anew is opened again
    return open_dataset(root)


@lru_cache(maxsize=4)
def _bank_once(root: str, written_at: int) -> Bank:
    del written_at  # part of the key: a bank that grew is opened again
    return open_bank(root)


def _written_at(path: Path) -> int:
    """Return when a file was last written, in ns; 0 if it is missing, as opening it says."""
    return path.stat().st_mtime_ns if path.is_file() else 0
