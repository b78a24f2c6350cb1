"""A phantom dataset with folds by patient, for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from small_grid import phantom_dataset

from fgaug.data import Dataset, open_dataset
from fgaug.data.dataset import write_dataset


def folded_dataset(root: Path, folds: int = 3, images: int = 90, first: int = 1) -> Dataset:
    """Prepare `root/dataset` with folds numbered from `first`, dealt out to the patients."""
    plain = open_dataset(phantom_dataset(root / "without", images=images))
    manifest = plain.manifest
    rank = manifest["group"].rank(method="dense").astype(int)
    table = manifest.assign(fold=first + rank % folds)
    spec = dataclasses.replace(plain.spec, folds=tuple(range(first, first + folds)))
    return write_dataset(root / "dataset", spec, table, [plain.pixels()])
