"""A finished bank, open for reading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.bank.format import (
    IMAGE_COLUMNS,
    INDEX_COLUMNS,
    REMAKE,
    Shard,
    present,
    read_manifest,
    read_spec,
)
from fgaug.bank.scores import all_scores, scorers_of
from fgaug.bank.store import Store, open_store, read
from fgaug.core.paths import BankNames
from fgaug.core.pixels import ImageArray, cached_memmap, decoded
from fgaug.errors import BankError


class Bank:
    """A finished bank, open for reading."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.spec = read_spec(store)
        listed = read_manifest(store)
        if listed is None:
            raise BankError(
                f"{store.place()} is an unfinished bank (no manifest.json). "
                "Run the same `fgaug bank fill` or `fgaug search` again to finish it."
            )
        self.shards = present(store, listed)
        self._index: pd.DataFrame | None = None

    def index(self, scores: Sequence[str] = ()) -> pd.DataFrame:
        """Return one row per image: label, psi, z_seed, shard (path), row (within the shard).

        Args:
            scores: scorers whose columns are added; values are missing for fakes without scores.
        """
        if self._index is None:
            self._index = stored_index(self.store, self.shards)
        index = self._index
        for name in scores:
            found = self.scores(name)
            kinds = {each: "boolean" for each in found if found[each].dtype == bool}
            # nullable types, as values may be missing
            index = index.merge(found.astype(kinds), how="left", on=IMAGE_COLUMNS)
        return index

    def scores(self, name: str) -> pd.DataFrame:
        """Return the scores of one scorer: label, psi, z_seed and the scorer's columns.

        Args:
            name: `features`, or `features-0123456789ab` if there are several.

        Raises:
            BankError: there are no such scores, or several sets of that name.
        """
        known = scorers_of(self.store)
        found = [each for each in known if name in (each.name, each.folder)]
        if len(found) != 1:
            have = ", ".join(each.folder for each in known) or "none"
            raise BankError(
                f"{self.store.place()} has {len(found)} sets of scores `{name}`; it has {have}. "
                "Give one of these, or score the bank with `fgaug bank score`."
            )
        return all_scores(self.store, found[0])

    def read(self, label: str, psi: float, z_seeds: Sequence[int]) -> ImageArray:
        """Return the images of `z_seeds` in the given order, uint8 [N, H, W, C].

        Raises:
            BankError: the bank lacks some of them, or a shard is damaged.
        """
        which, row, names = self.locate(label, psi, np.asarray(z_seeds, np.int64))
        shape = (self.spec.size, self.spec.size, self.spec.channels)
        out = np.empty((len(row), *shape), np.uint8)
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            out[here] = self.pixels(names[number])[row[here]]
        return out

    def locate(
        self, label: str, psi: float, z_seeds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the location of each of `z_seeds`: (shard number, row, shard paths)."""
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
                f"{self.store.place()} lacks {int(lacking.sum())} of {len(z_seeds)} requested "
                f"fakes of label {label}, psi {psi:g} (the first is z_seed "
                f"{z_seeds[lacking][0]}). Fill it with `fgaug bank fill`."
            )
        found = order[at]
        return number[found], held["row"].to_numpy(np.int64)[found], names

    def pixels(self, shard_path: str) -> ImageArray:
        """Return all images of a shard, memory-mapped, decoded once per machine."""
        shard = next(shard for shard in self.shards if shard.path == shard_path)
        shape = (self.spec.size, self.spec.size, self.spec.channels)
        return cached_memmap(
            pixels_key(shard), shard.rows, shape, lambda: shard_images(self.store, shard)
        )


def pixels_key(shard: Shard) -> str:
    """Return the name of a shard's decoded copy in a machine's cache."""
    return f"shard-{shard.sha256[:32]}"


def open_bank(uri: str | Path | Store) -> Bank:
    """Return the finished bank at a folder, a `file://` URI or any `pyarrow.fs` URI.

    Raises:
        BankError: the bank is missing, unfinished, damaged or unreachable.
    """
    return Bank(open_store(uri))


def shard_images(store: Store, shard: Shard) -> np.ndarray:
    """Return the images of a shard, uint8 [N, H, W, C], after checking its digest.

    Raises:
        BankError: the file does not match the manifest.
    """
    place = store.place(shard.path)
    try:
        data = read(store, shard.path)
    except FileNotFoundError:
        raise BankError(f"{place} is missing. {REMAKE}") from None
    same = hashlib.sha256(data).hexdigest() == shard.sha256
    images = decoded(pa.BufferReader(data), place, BankError) if same else np.empty(0)
    if len(images) != shard.rows:
        raise BankError(
            f"{place} is damaged: its SHA-256 or number of images differs from the manifest. "
            f"{REMAKE}"
        )
    return images


def shard_columns(store: Store, name: str, columns: Sequence[str] = IMAGE_COLUMNS) -> pa.Table:
    """Return columns of a shard without reading its pixels."""
    try:
        with store.open(name) as file:
            return pq.read_table(file, columns=list(columns), partitioning=None)
    except FileNotFoundError:
        raise BankError(f"{store.place(name)} is missing. {REMAKE}") from None
    except (OSError, pa.ArrowException) as problem:
        reason = str(problem).splitlines()[0]
        raise BankError(
            f"{store.place(name)} is not a valid Parquet file ({reason}). {REMAKE}"
        ) from None


def stored_index(store: Store, shards: Sequence[Shard]) -> pd.DataFrame:
    """Return index.parquet if it covers the manifest, else an index of the shards themselves.

    An interrupted writer may leave an index that is ahead of the manifest.
    """
    try:
        table = shard_columns(store, BankNames.index, INDEX_COLUMNS)
    except BankError:
        return index_of(store, shards)
    index: pd.DataFrame = table.to_pandas()
    index = index[index["shard"].isin([shard.path for shard in shards])]
    if len(index) != sum(shard.rows for shard in shards):
        return index_of(store, shards)
    return index.reset_index(drop=True)


def index_of(store: Store, shards: Iterable[Shard]) -> pd.DataFrame:
    """Return one row per image from the shards' columns; see `Bank.index`."""
    return joined(
        rows_of(shard, shard_columns(store, shard.path).column("z_seed").to_numpy())
        for shard in shards
    )


def rows_of(shard: Shard, z_seeds: np.ndarray) -> pd.DataFrame:
    """Return the index of one shard with `z_seeds` in this order."""
    rows = np.arange(len(z_seeds), dtype=np.int64)
    values = {"label": shard.label, "psi": shard.psi, "z_seed": z_seeds, "shard": shard.path}
    return pd.DataFrame({**values, "row": rows})


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the indexes of shards; an empty result has the columns too."""
    frames = list(parts)
    if frames:
        return pd.concat(frames, ignore_index=True)
    types = {"label": str, "psi": float, "z_seed": np.int64, "shard": str, "row": np.int64}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
