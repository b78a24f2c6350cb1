"""Write a bank: add, commit and drop shards.

The manifest is written last when shards are added, and first when they are dropped. A process
killed in between leaves files that the next writer adopts, never a manifest that lists missing
files.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.bank import lock
from fgaug.bank.format import (
    SCHEMA,
    BankSpec,
    Shard,
    as_json,
    check_new,
    is_empty,
    present,
    read_manifest,
    read_spec,
)
from fgaug.bank.reader import Bank, joined, pixels_key, rows_of, stored_index
from fgaug.bank.store import Store, open_store, read
from fgaug.core import pixels
from fgaug.core.paths import BankNames
from fgaug.core.pixels import decoded, encoded
from fgaug.errors import BankError


def write_shard(
    store: Store,
    label: str,
    psi: float,
    z_seeds: np.ndarray,
    images: np.ndarray,
    extra: Mapping[str, pa.Array] | None = None,
) -> Shard:
    """Write one shard atomically and return its manifest entry, without changing the manifest."""
    assert len(z_seeds) == len(images)
    columns = {
        "label": pa.array([label] * len(images), pa.string()),
        "psi": pa.array(np.full(len(images), float(psi)), pa.float64()),
        "z_seed": pa.array(np.asarray(z_seeds, np.int64)),
        **(extra or {}),
    }
    name = BankNames.shard(label, psi, int(z_seeds[0]), int(z_seeds[-1]))
    data = encoded(images, columns)
    store.write(name, data)
    return _described(name, label, float(psi), z_seeds, data)


def _described(name: str, label: str, psi: float, z_seeds: np.ndarray, data: pa.Buffer) -> Shard:
    return Shard(
        path=name,
        label=label,
        psi=psi,
        rows=len(z_seeds),
        bytes=data.size,
        sha256=hashlib.sha256(data).hexdigest(),
        first=int(z_seeds.min()),
        last=int(z_seeds.max()),
    )


class BankWriter:
    """Adds shards to a locked bank; `commit` makes them part of it, manifest last."""

    def __init__(
        self, store: Store, spec: BankSpec, check_held: lock.Check = lambda: None
    ) -> None:
        self.store = store
        self.check_held = check_held
        self.spec = self._create_or_check(spec)
        listed = read_manifest(store)
        self.committed = listed  # the current manifest; None if there is none
        found = present(store, listed or ())
        self.shards = {shard.path: shard for shard in found}
        index = stored_index(store, found)
        self._parts = {str(name): rows for name, rows in index.groupby("shard", sort=False)}
        self._adopt()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, uri: str | Path | Store, spec: BankSpec) -> Iterator[BankWriter]:
        """Yield a writer of a bank that stays locked for this block; wait for other writers."""
        store = open_store(uri)
        _check_labels(spec.sources)
        if not store.has(BankNames.spec):
            check_new(store)  # before creating a lock file in a foreign folder
        with lock.held(store) as check_held:
            store.sweep()
            yield cls(store, spec, check_held)

    def _create_or_check(self, spec: BankSpec) -> BankSpec:
        _check_labels(spec.sources)
        if not self.store.has(BankNames.spec):
            check_new(self.store)
            self.store.write(BankNames.spec, as_json(asdict(spec)))
            return spec
        known = read_spec(self.store)
        problems = known.differences(spec)
        if problems and is_empty(self.store):
            self.store.write(BankNames.spec, as_json(asdict(spec)))
            return spec
        if problems:
            raise BankError(
                f"{self.store.place()} contains other fakes: {'; '.join(problems)}. Give these "
                "fakes a separate bank."
            )
        if spec.sources.keys() <= known.sources.keys():
            return known
        grown = replace(known, sources={**known.sources, **spec.sources})
        self.store.write(BankNames.spec, as_json(asdict(grown)))
        return grown

    def _adopt(self) -> None:
        """Adopt valid shards that an interrupted fill left without a manifest entry."""
        listed = self.store.sizes(BankNames.shards)
        orphans = [name for name in listed if name not in self.shards]
        if not orphans:
            return
        held = {
            (label, psi): rows["z_seed"].to_numpy()
            for (label, psi), rows in self.index().groupby(["label", "psi"])
        }
        for name in orphans:
            try:
                shard, z_seeds = self._whole(name)
            except (BankError, KeyError, IndexError):
                self.store.remove(name)  # not a shard of this bank; its images are made again
                continue
            known = held.get((shard.label, shard.psi), np.empty(0, np.int64))
            if not np.isin(z_seeds, known).any():  # two fills may have made the same images
                held[shard.label, shard.psi] = np.concatenate([known, z_seeds])
                self.add(shard, z_seeds)

    def _whole(self, name: str) -> tuple[Shard, np.ndarray]:
        """Return an unlisted shard and its z_seeds; refuse a truncated or mismatched one."""
        data = read(self.store, name)
        images = decoded(pa.BufferReader(data), self.store.place(name), BankError)
        table = pq.read_table(pa.BufferReader(data), columns=["label", "psi", "z_seed"])
        shape = (self.spec.size, self.spec.size, self.spec.channels)
        if images.shape[1:] != shape or not len(images):
            raise BankError("other shape")
        label, psi = table.column("label")[0].as_py(), table.column("psi")[0].as_py()
        z_seeds = table.column("z_seed").to_numpy()
        return _described(name, label, psi, z_seeds, data), z_seeds

    def write(
        self,
        label: str,
        psi: float,
        z_seeds: np.ndarray,
        images: np.ndarray,
        extra: Mapping[str, pa.Array] | None = None,
    ) -> None:
        """Write one shard (uint8 [N, H, W, C]) and add it to the next commit."""
        self.add(write_shard(self.store, label, psi, z_seeds, images, extra), z_seeds)

    def add(self, shard: Shard, z_seeds: np.ndarray) -> None:
        """Add an already written shard, with `z_seeds` in this order, to the next commit."""
        self.shards[shard.path] = shard
        self._parts[shard.path] = rows_of(shard, np.asarray(z_seeds, np.int64))

    def drop(self, name: str) -> None:
        """Drop a shard in the next commit; its file stays for the writer that replaces it."""
        self.shards.pop(name, None)
        self._parts.pop(name, None)

    def index(self) -> pd.DataFrame:
        """Return the index of all shards so far, committed or not."""
        return joined(self._parts[name] for name in sorted(self._parts))

    def commit(self) -> Bank:
        """Write index and manifest if they change; return the finished bank."""
        shards = tuple(sorted(self.shards.values(), key=lambda shard: shard.path))
        if shards != self.committed or not self.store.has(BankNames.index):
            index = self.index()
            repeated = index.duplicated(["label", "psi", "z_seed"])
            assert not repeated.any(), "a fill wrote an image twice"
            self.check_held()
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pandas(index, preserve_index=False), sink)
            self.store.write(BankNames.index, sink.getvalue())
            manifest = {"schema": SCHEMA, "shards": [asdict(shard) for shard in shards]}
            self.store.write(BankNames.manifest, as_json(manifest))
            self.committed = shards
        return Bank(self.store)


def _check_labels(labels: Iterable[str]) -> None:
    for label in labels:
        if not label or label in (".", "..") or "/" in label or "\\" in label:
            raise BankError(f"A label becomes a folder name in the bank and cannot be {label!r}.")


def drop_shards(store: Store, spec: BankSpec, names: Collection[str]) -> int:
    """Remove shards by path, and this machine's decoded copies; return the bytes freed."""
    if not names:
        return 0
    with BankWriter.opened(store, spec) as writer:
        gone = [shard for name, shard in writer.shards.items() if name in names]
        for shard in gone:
            writer.drop(shard.path)
        writer.commit()
        for shard in gone:
            store.remove(shard.path)
            pixels.forget(pixels_key(shard))
    return sum(shard.bytes for shard in gone)
