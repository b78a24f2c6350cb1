"""Copies a prepared dataset to an object store, from which every node can open it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fgaug.core import listing, paths
from fgaug.core.staging import Upload, upload_of
from fgaug.core.store import Store
from fgaug.data.dataset import Dataset, open_dataset, parts_of
from fgaug.errors import DataError


def upload_of_dataset(folder: Path, to: Store) -> Upload:
    """Return what a store lacks of the dataset in a folder.

    Raises:
        DataError: the folder holds no dataset, the address another one, or the store cannot be
            reached.
    """
    dataset = open_dataset(folder)
    _refuse_another(dataset, to)
    files = paths.DatasetPaths(Path())
    final = (str(files.spec), str(files.manifest))
    return upload_of(dataset.root, _names(dataset), to, DataError, final=final)


def _refuse_another(dataset: Dataset, to: Store) -> None:
    last = paths.DatasetPaths(Path()).manifest.name
    if listing.read(to, DataError) is None and not to.has(last):
        return  # there is none, or one that was not copied to its end
    there = open_dataset(to.uri).spec.digest
    if there != dataset.spec.digest:
        raise DataError(
            f"{to.place()} already holds another dataset (digest {there[:12]}; this one is "
            f"{dataset.spec.digest[:12]}). Choose another address."
        )


def _names(dataset: Dataset) -> Iterator[str]:
    """Yield the files of a dataset and of its images without a label, relative to its folder."""
    for each in (dataset, dataset.unlabelled):
        if each is not None:
            files = paths.DatasetPaths(each.root)
            found = [files.spec, files.manifest, files.copies, *parts_of(each.root)]
            for path in (path for path in found if path.is_file()):
                yield path.relative_to(dataset.root).as_posix()
