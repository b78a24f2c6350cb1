"""A finished bank, open for reading.  shards, manifest -> [reader] -> training"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd

from fgaug import paths
from fgaug.bank.format import (
    IMAGE_COLUMNS,
    INDEX_COLUMNS,
    REMAKE,
    Shard,
    present,
    read_manifest,
    read_spec,
)
from fgaug.errors import BankError
from fgaug.paths import BankPaths
from fgaug.pixels import mapped, read_pixels


class Bank:
    """A finished bank, open for reading."""

    def __init__(self, root: Path) -> None:
        self.paths = BankPaths(root)
        self.spec = read_spec(self.paths)
        if not self.paths.manifest.is_file():
            raise BankError(
                f"{root} is an unfinished bank (no manifest.json). "
                "Run the same `fgaug bank fill` or `fgaug search` again to finish it."
            )
        self.shards = present(self.paths, read_manifest(self.paths))
        self._index: pd.DataFrame | None = None

    def index(self) -> pd.DataFrame:
        """Return one row an image: label, psi, z_seed, shard (path), row (within the shard)."""
        if self._index is None:
            self._index = self._stored_index()
        return self._index

    def _stored_index(self) -> pd.DataFrame:
        """Return index.parquet where it covers the manifest, else what the shards themselves say.

        A writer that was cut off between the two leaves an index ahead of its manifest.
        """
        try:
            index: pd.DataFrame = paths.read_table(
                self.paths.index, BankError, INDEX_COLUMNS
            ).to_pandas()
        except BankError:
            return index_of(self.paths, self.shards)
        index = index[index["shard"].isin([shard.path for shard in self.shards])]
        if len(index) != sum(shard.rows for shard in self.shards):
            return index_of(self.paths, self.shards)
        return index.reset_index(drop=True)

    def read(self, label: str, psi: float, z_seeds: Sequence[int]) -> np.ndarray:
        """Return the images of `z_seeds` in the order asked, uint8 [N, H, W, C].

        Raises:
            BankError: the bank lacks some of them, or a shard is damaged.
        """
        which, row, names = self.locate(label, psi, np.asarray(z_seeds, np.int64))
        shape = (self.spec.size, self.spec.size, self.spec.channels)
        out = np.empty((len(row), *shape), np.uint8)
        for number, name in enumerate(names):
            here = which == number
            out[here] = self.pixels(name)[row[here]]
        return out

    def locate(
        self, label: str, psi: float, z_seeds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return (shard number, row, shard paths): where each of `z_seeds` lies."""
        index = self.index()
        held = index[(index["label"] == label) & (index["psi"] == float(psi))]
        names = sorted(held["shard"].unique())
        number = held["shard"].map({name: i for i, name in enumerate(names)}).to_numpy(np.int64)
        known = held["z_seed"].to_numpy()
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known[order], z_seeds)
        lacking = ~np.isin(z_seeds, known)
        if lacking.any():
            raise BankError(
                f"{self.paths.root} lacks {int(lacking.sum())} of {len(z_seeds)} fakes asked of "
                f"label {label}, psi {psi:g} (the first is z_seed {z_seeds[lacking][0]}). "
                "Fill it with `fgaug bank fill`."
            )
        found = order[at]
        return number[found], held["row"].to_numpy(np.int64)[found], names

    def pixels(self, shard_path: str) -> np.ndarray:
        """Return all images of a shard, memory-mapped, decoded once a machine."""
        shard = next(shard for shard in self.shards if shard.path == shard_path)
        path = self.paths.root / shard.path

        def load() -> np.ndarray:
            images = read_pixels(path, BankError)
            if len(images) != shard.rows or paths.sha256_of(path) != shard.sha256:
                raise BankError(
                    f"{path} is damaged: its SHA-256 or its number of images is not that of the "
                    f"manifest. {REMAKE}"
                )
            return images

        shape = (self.spec.size, self.spec.size, self.spec.channels)
        return mapped(f"shard-{shard.sha256[:32]}", shard.rows, shape, load)


def open_bank(uri: str | Path) -> Bank:
    """Return the finished bank at a folder or `file://` URI.

    Raises:
        BankError: missing, unfinished or damaged.
    """
    return Bank(local_root(uri))


def local_root(uri: str | Path) -> Path:
    """Return the folder that a path or `file://` URI names."""
    parsed = urlparse(str(uri))
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    if "://" in str(uri):
        raise BankError(
            f"Banks live in local or mounted folders so far, got {uri}. "
            "Mount the store and give its path."
        )
    return Path(uri)


def index_of(bank_paths: BankPaths, shards: Iterable[Shard]) -> pd.DataFrame:
    """Return one row an image, read from the shards' own columns; see `Bank.index`."""
    parts: list[pd.DataFrame] = []
    for shard in shards:
        table = paths.read_table(bank_paths.root / shard.path, BankError, IMAGE_COLUMNS)
        parts.append(
            table.to_pandas().assign(shard=shard.path, row=np.arange(len(table), dtype=np.int64))
        )
    if not parts:
        types = {"label": str, "psi": float, "z_seed": np.int64, "shard": str, "row": np.int64}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    return pd.concat(parts, ignore_index=True)
