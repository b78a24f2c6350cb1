"""Shards added to a bank, then made part of it.  fill -> [writer] -> shards, index, manifest"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fgaug import paths
from fgaug.bank.demand import Key
from fgaug.bank.format import (
    IMAGE_COLUMNS,
    SCHEMA,
    BankSpec,
    Shard,
    check_new,
    is_empty,
    present,
    read_manifest,
    read_spec,
)
from fgaug.bank.reader import Bank, index_of
from fgaug.errors import BankError
from fgaug.paths import BankPaths
from fgaug.pixels import read_pixels, write_pixels


def write_shard(
    bank_paths: BankPaths, label: str, psi: float, z_seeds: np.ndarray, images: np.ndarray
) -> Path:
    """Write one shard, whole or not at all, and return its path; the manifest is not touched."""
    assert len(z_seeds) == len(images)
    path = bank_paths.shard(label, psi, int(z_seeds[0]), int(z_seeds[-1]))
    columns = {
        "label": pa.array([label] * len(images), pa.string()),
        "psi": pa.array(np.full(len(images), float(psi)), pa.float64()),
        "z_seed": pa.array(np.asarray(z_seeds, np.int64)),
    }
    write_pixels(path, images, columns)
    return path


class BankWriter:
    """Adds shards to a bank; `commit` makes them part of it, index first, manifest last."""

    def __init__(self, root: Path, spec: BankSpec) -> None:
        self.paths = BankPaths(root)
        self.spec = self._create_or_check(spec)
        listed = present(self.paths, read_manifest(self.paths))
        self.shards = {shard.path: shard for shard in listed}
        self._adopt()

    def _create_or_check(self, spec: BankSpec) -> BankSpec:
        for label in spec.sources:
            if not label or label in (".", "..") or "/" in label or "\\" in label:
                raise BankError(f"A label names a folder of the bank and cannot be {label!r}.")
        if not self.paths.spec.is_file():
            check_new(self.paths)
            paths.write_json(self.paths.spec, asdict(spec))
            return spec
        known = read_spec(self.paths)
        problems = known.differences(spec)
        if problems and is_empty(self.paths):
            paths.write_json(self.paths.spec, asdict(spec))
            return spec
        if problems:
            raise BankError(
                f"{self.paths.root} holds other fakes: {'; '.join(problems)}. "
                "Give these fakes a bank of their own."
            )
        return known

    def _adopt(self) -> None:
        """Take over whole shards that an interrupted fill left without a manifest line."""
        orphans = [
            path
            for path in sorted(self.paths.shards.rglob("*.parquet"))
            if path.relative_to(self.paths.root).as_posix() not in self.shards
        ]
        if not orphans:
            return
        held = {
            key: rows["z_seed"].to_numpy() for key, rows in self.index().groupby(["label", "psi"])
        }
        for path in orphans:
            self._add_if_whole(path, held)

    def _add_if_whole(self, path: Path, held: dict[Any, np.ndarray]) -> None:
        """Add an orphan and note its z_seeds in `held`, unless it is torn or repeats images."""
        try:
            table = paths.read_table(path, BankError, IMAGE_COLUMNS)
            images = read_pixels(path, BankError)
            shape = (self.spec.size, self.spec.size, self.spec.channels)
            if images.shape[1:] != shape or not len(images):
                raise BankError("other shape")
            key, z_seeds = _contents(table)
        except (BankError, KeyError):
            path.unlink()  # half a shard of an interrupted fill; it is generated again
            return
        known = held.get(key, np.empty(0, np.int64))
        if not np.isin(z_seeds, known).any():  # two fills at once may have made the same images
            held[key] = np.concatenate([known, z_seeds])
            self.add(path, table)

    def add(self, path: Path, table: pa.Table | None = None) -> None:
        """Note a shard file for the next commit; its z_seeds are read back from it."""
        if table is None:
            table = paths.read_table(path, BankError, IMAGE_COLUMNS)
        (label, psi), z_seeds = _contents(table)
        name = path.relative_to(self.paths.root).as_posix()
        self.shards[name] = Shard(
            path=name,
            label=label,
            psi=psi,
            rows=len(table),
            bytes=path.stat().st_size,
            sha256=paths.sha256_of(path),
            first=int(z_seeds.min()),
            last=int(z_seeds.max()),
        )

    def index(self) -> pd.DataFrame:
        """Return the index of all shards noted so far, read from their own columns."""
        return index_of(self.paths, self.shards.values())

    def commit(self) -> Bank:
        """Write index and manifest; return the finished bank."""
        index = self.index()
        repeated = index.duplicated(["label", "psi", "z_seed"])
        assert not repeated.any(), "a fill wrote an image twice"
        paths.write_table(self.paths.index, pa.Table.from_pandas(index, preserve_index=False))
        shards = [asdict(shard) for shard in sorted(self.shards.values(), key=lambda s: s.path)]
        paths.write_json(self.paths.manifest, {"schema": SCHEMA, "shards": shards})
        return Bank(self.paths.root)


def _contents(table: pa.Table) -> tuple[Key, np.ndarray]:
    """Return the (label, psi) of a shard and its z_seeds."""
    key = (table.column("label")[0].as_py(), table.column("psi")[0].as_py())
    return key, table.column("z_seed").to_numpy()
