"""The inputs of a trial: dataset, bank and the images of its plan.

Datasets and banks are opened once per process and reopened only if they change.
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


def dataset_at(root: str) -> Dataset:
    """Return the dataset in a folder."""
    return _dataset_once(root, _written_at(DatasetPaths(Path(root)).manifest))


def bank_at(root: str) -> Bank:
    """Return the current state of the bank at a location."""
    folder = open_store(root).folder  # a bank on object storage is complete before trials start
    return _bank_once(root, _written_at(folder / BankNames.manifest) if folder else 0)


@lru_cache(maxsize=4)
def _dataset_once(root: str, written_at: int) -> Dataset:
    del written_at  # part of the cache key: a changed dataset is reopened
    return open_dataset(root)


@lru_cache(maxsize=4)
def _bank_once(root: str, written_at: int) -> Bank:
    del written_at  # part of the cache key: a changed bank is reopened
    return open_bank(root)


def _written_at(path: Path) -> int:
    """Return a file's modification time in ns; 0 if missing, which opening it will report."""
    return path.stat().st_mtime_ns if path.is_file() else 0
