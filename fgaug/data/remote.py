"""A prepared dataset on an object store: what a node fetches of it, and when.

Opening one fetches the small files (spec and manifest) into this machine's cache. The pixel files
are read when pixels are needed, and only their decoded copy is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from fgaug.core import listing, node_cache, pixels, store
from fgaug.core.listing import Listed, Listing
from fgaug.errors import DataError

REQUIRED = ("dataset.json", "manifest.parquet")
PIXELS = "pixels"  # folder of the pixel files
AT_ONCE = 4  # pixel files in flight: one connection rarely fills a node's network


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a dataset lies on an object store, and its files there."""

    uri: str  # with the credentials, if it has any; never printed
    files: Listing  # of the whole dataset, by name below the URI
    below: str = ""  # `unlabelled/` for the images without a label

    @property
    def place(self) -> str:
        """The address for messages, without credentials."""
        return store.open_store(self.uri, DataError).place(self.below.rstrip("/"))

    def inside(self, folder: str) -> Remote:
        """Return the dataset in a folder of this one."""
        return Remote(self.uri, self.files, f"{self.below}{folder}/")

    def parts(self) -> Iterator[np.ndarray]:
        """Yield the images of each pixel file, uint8 [N, H, W, C], in manifest order.

        Raises:
            DataError: a pixel file is missing or damaged, or the store cannot be reached.
        """
        of = store.open_store(self.uri, DataError)
        folder = f"{self.below}{PIXELS}"
        names = sorted(name for name in self.files if str(PurePosixPath(name).parent) == folder)

        def read(name: str) -> np.ndarray:
            try:
                data = store.read(of, name, DataError)
            except FileNotFoundError:
                raise DataError(
                    f"{of.place(name)} is missing. Stage the dataset again: `fgaug stage FOLDER "
                    "URI`."
                ) from None
            listing.check(data, self.files[name], of.place(name), DataError)
            return pixels.decoded(pa.BufferReader(data), of.place(name), DataError)

        with ThreadPoolExecutor(AT_ONCE) as threads:
            yield from threads.map(read, names)


def fetch(uri: str) -> tuple[Path, Remote]:
    """Fetch a dataset without its pixels; return its folder on this machine and where it lies.

    Raises:
        DataError: there is no dataset, it is damaged, or the store cannot be reached.
    """
    of = store.open_store(uri, DataError)
    files, version = listing.read(of, DataError), ""
    if files is None:  # copied there by other means than `fgaug stage`
        entries = of.entries("")
        files = {name: Listed(entry.size) for name, entry in entries.items()}
        version = f"{of.place()} {[entries[name].mtime_ns for name in _small(entries)]}"
    small = _small(files)
    if not small:
        bucket = isinstance(of, store.ObjectStore) and of.lacks_bucket()
        raise DataError(
            f"There is no prepared dataset at {of.place()}{': the bucket does not exist' * bucket}"
            ". Correct the address, or put the dataset there: `fgaug stage FOLDER URI`."
        )
    for name in REQUIRED:
        if name not in small:
            raise DataError(
                f"{of.place()} is not a whole dataset: {name} is missing. Copy it there again: "
                "`fgaug stage FOLDER URI`."
            )
    folder = node_cache.fetched(of, {name: files[name] for name in small}, DataError, version)
    return folder, Remote(uri, files)


def _small(names: Iterable[str]) -> list[str]:
    """Return the files of a dataset among these that opening it fetches."""
    whole = {*REQUIRED, "copies.csv"}
    return sorted(name for name in names if name.removeprefix("unlabelled/") in whole)
