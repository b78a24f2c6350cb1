"""Copies a bank to another place: what the other bank lacks, and nothing that it has.

The other bank may have grown by itself, as by a search that fills it. So images are compared by
label, psi and z_seed, and shards are added by the writer that also fills banks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.bank.format import IMAGE_COLUMNS, Shard, is_empty, read_spec
from fgaug.bank.reader import Bank, shard_images
from fgaug.bank.scores import all_scores, scorers_of, unscored, write_scores
from fgaug.bank.store import Store, read
from fgaug.bank.writer import BankWriter
from fgaug.core.paths import BankNames
from fgaug.core.pixels import PIXELS
from fgaug.core.progress import Advance
from fgaug.errors import BankError


@dataclass(frozen=True, slots=True)
class BankUpload:
    """A bank, and what another place lacks of it."""

    bank: Bank
    to: Store
    shards: tuple[Shard, ...]  # with images that the place lacks
    # bytes of networks, their records, and measurements that the place lacks, by name
    files: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """The size of what is to be sent; scores, which are small, are not counted."""
        return sum(shard.bytes for shard in self.shards) + sum(self.files.values())

    @property
    def total(self) -> int:
        """The size of all images of the bank."""
        return sum(shard.bytes for shard in self.bank.shards)

    def run(self, progress: Advance = lambda done, wanted: None) -> None:
        """Send what is missing, the manifest last; a repetition after a failure sends the rest.

        Args:
            progress: called with (bytes sent, bytes to send).

        Raises:
            BankError: the place holds other fakes, a shard is damaged, or it cannot be written.
        """
        done, wanted = 0, self.bytes
        with BankWriter.opened(self.to, self.bank.spec) as writer:
            for name in self.files:
                self.to.write(name, read(self.bank.store, name))
            for shard in self.shards:
                self._add(writer, shard)
                done += shard.bytes
                progress(done, wanted)
            writer.commit()
            for scorer in scorers_of(self.bank.store):
                scores = all_scores(self.bank.store, scorer)
                for key, rows in scores.groupby(["label", "psi"]):
                    label, psi = cast(tuple[str, float], key)
                    lacking = unscored(self.to, scorer, label, psi, rows["z_seed"].tolist())
                    frame = rows[rows["z_seed"].isin(lacking)].drop(columns=["label", "psi"])
                    write_scores(self.to, scorer, label, psi, frame, writer.check_held)

    def _add(self, writer: BankWriter, shard: Shard) -> None:
        """Add those images of a shard that the other bank lacks."""
        store, index = self.bank.store, writer.index()
        z_seeds = _z_seeds(self.bank, shard)
        lacking = ~np.isin(z_seeds, _held(index, shard))
        if lacking.all():
            data = read(store, shard.path)
            if hashlib.sha256(data).hexdigest() != shard.sha256:
                shard_images(store, shard)  # raises the error of a damaged shard
            self.to.write(shard.path, data)
            writer.add(shard, z_seeds)
        elif lacking.any():
            images = shard_images(store, shard)[lacking]
            table = pq.read_table(pa.BufferReader(read(store, shard.path)))
            extra = [name for name in table.column_names if name not in (*IMAGE_COLUMNS, PIXELS)]
            columns = {name: table.column(name).filter(pa.array(lacking)) for name in extra}
            plain = {name: column.combine_chunks() for name, column in columns.items()}
            writer.write(shard.label, shard.psi, z_seeds[lacking], images, plain)


def upload_of_bank(bank: Bank, to: Store) -> BankUpload:
    """Return what another place lacks of a bank.

    Raises:
        BankError: the place holds other fakes, or cannot be reached.
    """
    held = pd.DataFrame(columns=[*IMAGE_COLUMNS])
    if to.has(BankNames.spec) and not is_empty(to):
        if problems := read_spec(to).differences(bank.spec):
            raise BankError(
                f"{to.place()} contains other fakes: {'; '.join(problems)}. Choose another "
                "address."
            )
        if to.has(BankNames.manifest):
            held = Bank(to).index()
    shards = tuple(
        shard
        for shard in bank.shards
        if not np.isin(_z_seeds(bank, shard), _held(held, shard)).all()
    )
    there = _files(to)
    files = {name: size for name, size in _files(bank.store).items() if name not in there}
    return BankUpload(bank, to, shards, files)


def _files(store: Store) -> dict[str, int]:
    """Return the bytes of a bank's files beside shards and scores, by name."""
    return {**store.sizes("snapshots"), **store.sizes(BankNames.quality)}


def _z_seeds(bank: Bank, shard: Shard) -> np.ndarray:
    """Return the z_seeds of a shard in the order of its rows."""
    index = bank.index()
    rows = index[index["shard"] == shard.path].sort_values("row")
    return rows["z_seed"].to_numpy(np.int64)


def _held(index: pd.DataFrame, shard: Shard) -> np.ndarray:
    """Return the z_seeds of an index with the label and psi of a shard."""
    same = (index["label"] == shard.label) & (index["psi"] == shard.psi)
    return index.loc[same, "z_seed"].to_numpy(np.int64)
