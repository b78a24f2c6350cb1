"""The fake bank: its format, what is wanted of it, its reader and its writer.

demand - index -> missing -> [writer] -> shards, then manifest -> [reader] -> training
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pyarrow as pa

from fgaug import paths
from fgaug.errors import BankError
from fgaug.paths import BankPaths
from fgaug.pixels import mapped, read_pixels, write_pixels

SCHEMA = 1
SHARD_BYTES = 32 << 20  # pixels of a full shard
RESIZE_FILTER = "lanczos"  # Pillow's, antialiased: what brings larger fakes to the bank's size

INDEX_COLUMNS = ["label", "psi", "z_seed", "shard", "row"]
_REMAKE = "Remove the file and run the same command again: its images are made anew."

Key = tuple[str, float]  # (label, psi)


@dataclass(frozen=True, slots=True)
class Demand:
    """Which fakes are wanted: for each (label, psi) the sorted, distinct z_seeds."""

    wanted: Mapping[Key, np.ndarray]

    @classmethod
    def of(cls, parts: Iterable[tuple[str, float, np.ndarray]]) -> Demand:
        """Return the union of (label, psi, z_seeds) parts."""
        gathered: dict[Key, list[np.ndarray]] = {}
        for label, psi, z_seeds in parts:
            gathered.setdefault((label, float(psi)), []).append(np.asarray(z_seeds, np.int64))
        wanted = {key: np.unique(np.concatenate(found)) for key, found in sorted(gathered.items())}
        return cls({key: z_seeds for key, z_seeds in wanted.items() if len(z_seeds)})

    @property
    def count(self) -> int:
        return sum(len(z_seeds) for z_seeds in self.wanted.values())

    def minus(self, index: pd.DataFrame) -> Demand:
        """Return what of this demand the bank's `index` lacks."""
        held = {key: rows["z_seed"].to_numpy() for key, rows in index.groupby(["label", "psi"])}
        left = {}
        for key, z_seeds in self.wanted.items():
            rest = np.setdiff1d(z_seeds, held.get(key, np.empty(0, np.int64)))
            if len(rest):
                left[key] = rest
        return Demand(left)

    def pieces(self, rows: int) -> Iterator[tuple[str, float, np.ndarray]]:
        """Yield (label, psi, z_seeds) pieces of at most `rows` images: a shard's worth each."""
        for (label, psi), z_seeds in self.wanted.items():
            for start in range(0, len(z_seeds), rows):
                yield label, psi, z_seeds[start : start + rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What makes one label's fakes: a network file by content, or another kind of generator."""

    kind: str  # stylegan2 | phantom | stub
    sha256: str  # of the network file as first read, or of the kind and its parameters
    name: str  # file name or kind, for people
    class_index: int | None = None  # of a conditional network


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSpec:
    """What all images of a bank share; written once to bank.json."""

    size: int  # px, square
    channels: int  # 1 or 3
    noise: str  # const | none | seeded
    sources: Mapping[str, Source]  # by label
    resize_filter: str = RESIZE_FILTER
    schema: int = SCHEMA

    @property
    def shard_rows(self) -> int:
        return max(64, min(8192, SHARD_BYTES // (self.size * self.size * self.channels)))

    def differences(self, other: BankSpec) -> list[str]:
        """Return why `other` cannot share a bank with this one, one line each."""
        lines = []
        for name in ("size", "channels", "noise", "resize_filter"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                lines.append(f"its {name} is {mine}, the grid's is {theirs}")
        for label, source in other.sources.items():
            mine_source = self.sources.get(label)
            if mine_source is None:
                lines.append(f"it has no label `{label}`")
            elif mine_source.sha256 != source.sha256:
                lines.append(
                    f"its snapshot of `{label}` is {mine_source.name} "
                    f"({mine_source.sha256[:12]}), the grid's is {source.name} "
                    f"({source.sha256[:12]})"
                )
            elif mine_source.class_index != source.class_index:
                lines.append(
                    f"its `{label}` is class {mine_source.class_index}, "
                    f"the grid's is class {source.class_index}"
                )
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One line of the manifest."""

    path: str  # below the bank's folder
    label: str
    psi: float
    rows: int
    bytes: int
    sha256: str
    first: int  # smallest z_seed
    last: int  # largest z_seed


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
                    f"manifest. {_REMAKE}"
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


def read_spec(bank_paths: BankPaths) -> BankSpec:
    """Return the content of bank.json."""
    if not bank_paths.spec.is_file():
        raise BankError(f"{bank_paths.root} is not a bank (no bank.json).")
    raw = paths.read_json(bank_paths.spec, BankError)
    try:
        if raw["schema"] != SCHEMA:
            raise BankError(
                f"{bank_paths.spec} has schema {raw['schema']}, this fgaug reads {SCHEMA}."
            )
        sources = {label: Source(**source) for label, source in raw.pop("sources").items()}
        return BankSpec(**raw, sources=sources)
    except (KeyError, TypeError, AttributeError) as error:
        raise BankError(f"{bank_paths.spec} is not a bank's description ({error}).") from None


def read_manifest(bank_paths: BankPaths) -> tuple[Shard, ...]:
    """Return the shards listed in manifest.json, none where the bank is unfinished."""
    if not bank_paths.manifest.is_file():
        return ()
    raw = paths.read_json(bank_paths.manifest, BankError)
    try:
        shards = tuple(Shard(**shard) for shard in raw["shards"])
    except (KeyError, TypeError) as error:
        raise BankError(f"{bank_paths.manifest} is not a bank's manifest ({error}).") from None
    for shard in shards:
        if Path(shard.path).is_absolute() or ".." in Path(shard.path).parts:
            raise BankError(f"{bank_paths.manifest} names a shard outside the bank: {shard.path}")
    return shards


def present(bank_paths: BankPaths, shards: Iterable[Shard]) -> tuple[Shard, ...]:
    """Return the shards whose file is there; refuse a file of another length."""
    found = []
    for shard in shards:
        path = bank_paths.root / shard.path
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue  # its images count as not yet made
        if size != shard.bytes:
            raise BankError(f"{path} is damaged: it has {size} bytes of {shard.bytes}. {_REMAKE}")
        found.append(shard)
    return tuple(found)


def index_of(bank_paths: BankPaths, shards: Iterable[Shard]) -> pd.DataFrame:
    """Return one row an image, read from the shards' own columns; see `Bank.index`."""
    parts: list[pd.DataFrame] = []
    for shard in shards:
        table = paths.read_table(bank_paths.root / shard.path, BankError, INDEX_COLUMNS[:3])
        parts.append(
            table.to_pandas().assign(shard=shard.path, row=np.arange(len(table), dtype=np.int64))
        )
    if not parts:
        types = {"label": str, "psi": float, "z_seed": np.int64, "shard": str, "row": np.int64}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    return pd.concat(parts, ignore_index=True)


def source_digest(kind: str, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 that stands for a generator without a network file."""
    text = json.dumps({"kind": kind, **parameters}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
            paths.write_json(self.paths.spec, asdict(spec))
            return spec
        known = read_spec(self.paths)
        problems = known.differences(spec)
        if problems:
            raise BankError(
                f"{self.paths.root} holds other fakes: {'; '.join(problems)}. "
                "Give the grid a bank of its own."
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
            table = paths.read_table(path, BankError, INDEX_COLUMNS[:3])
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
            table = paths.read_table(path, BankError, INDEX_COLUMNS[:3])
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
