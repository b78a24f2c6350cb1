"""Check that a bank's files match its manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from fgaug.bank.format import (
    IMAGE_COLUMNS,
    INDEX_COLUMNS,
    BankSpec,
    Shard,
    read_manifest,
    read_spec,
)
from fgaug.bank.reader import joined, rows_of, shard_columns, shard_images
from fgaug.bank.store import Store
from fgaug.core.paths import BankNames
from fgaug.errors import BankError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of checking every file of a bank."""

    spec: BankSpec
    shards: tuple[Shard, ...]  # valid shards that match the manifest
    bad: dict[str, str]  # problems by shard or file
    index: pd.DataFrame  # of the manifest: one row per image, including bad shards if known

    @property
    def images(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def z_seeds_of(self, shard: Shard) -> np.ndarray:
        """Return the z_seeds that a shard has or had.

        Raises:
            BankError: neither the index nor the range in its name determines them.
        """
        listed = self.index.loc[self.index["shard"] == shard.path].sort_values("row")
        if len(listed) == shard.rows:
            return listed["z_seed"].to_numpy(np.int64)
        if shard.last - shard.first + 1 == shard.rows:
            return np.arange(shard.first, shard.last + 1, dtype=np.int64)
        raise BankError(
            f"{shard.path} is damaged, and {BankNames.index} does not list its z_seeds. Remove it "
            "and fill the bank again."
        )


Looked = Callable[[int, int], None]  # images read, total


def verify(store: Store, looked: Looked = lambda done, wanted: None) -> Verified:
    """Check a bank's files: read every byte and compare every row.

    Args:
        looked: called with (images read, total).

    Raises:
        BankError: the bank is missing or unfinished, or its description or manifest cannot be
            read.
    """
    spec, listed = read_spec(store), read_manifest(store)
    if listed is None:
        raise BankError(
            f"{store.place()} is an unfinished bank (no manifest.json). "
            "Run the same `fgaug bank fill` or `fgaug search` again to finish it."
        )
    bad: dict[str, str] = {}
    whole: list[Shard] = []
    parts: list[pd.DataFrame] = []
    total, done = sum(shard.rows for shard in listed), 0
    for shard in listed:
        try:
            z_seeds = _checked(store, spec, shard)
        except BankError as error:
            bad[shard.path] = str(error)
        else:
            whole.append(shard)
            parts.append(rows_of(shard, z_seeds))
        done += shard.rows
        looked(done, total)
    found = joined(parts)
    _note_repeats(found, bad)
    index = _index(store, listed)
    if not bad and not _same_rows(index, found):
        bad[BankNames.index] = f"{store.place(BankNames.index)} does not match the shards."
    for name in store.sizes(BankNames.shards):
        if name not in {shard.path for shard in listed}:
            bad[name] = (
                f"{store.place(name)} is not in the manifest, as a fill was interrupted. Run the "
                "fill again, or use --repair."
            )
    shards = tuple(shard for shard in whole if shard.path not in bad)
    return Verified(spec=spec, shards=shards, bad=bad, index=index if len(index) else found)


def _checked(store: Store, spec: BankSpec, shard: Shard) -> np.ndarray:
    """Return the z_seeds of a shard after checking its bytes and columns against the manifest."""
    images = shard_images(store, shard)
    place = store.place(shard.path)
    if images.shape[1:] != (spec.size, spec.size, spec.channels):
        raise BankError(f"{place} contains images of shape {images.shape[1:]}.")
    frame = shard_columns(store, shard.path, IMAGE_COLUMNS).to_pandas()
    z_seeds: np.ndarray = frame["z_seed"].to_numpy(np.int64)
    if set(frame["label"]) != {shard.label} or set(frame["psi"]) != {shard.psi}:
        raise BankError(f"{place} contains images of another label or psi than in the manifest.")
    if (z_seeds.min(), z_seeds.max()) != (shard.first, shard.last):
        raise BankError(
            f"{place} contains z_seeds {z_seeds.min()}-{z_seeds.max()}, not those of its name."
        )
    return z_seeds


def _note_repeats(found: pd.DataFrame, bad: dict[str, str]) -> None:
    repeated = found[found.duplicated(["label", "psi", "z_seed"])]
    for name, z_seeds in repeated.groupby("shard")["z_seed"]:
        bad[str(name)] = f"{name} contains z_seed {z_seeds.iloc[0]} of another shard again."


def _index(store: Store, listed: Sequence[Shard]) -> pd.DataFrame:
    """Return the rows of index.parquet that the manifest covers; none if it cannot be read."""
    try:
        table: pa.Table = shard_columns(store, BankNames.index, INDEX_COLUMNS)
    except BankError:
        return joined([])
    frame: pd.DataFrame = table.to_pandas()
    return frame[frame["shard"].isin([shard.path for shard in listed])]


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    key = ["shard", "row"]
    one, other = (frame.sort_values(key).reset_index(drop=True) for frame in (one, other))
    return len(one) == len(other) and bool((one[list(other)] == other).all().all())
