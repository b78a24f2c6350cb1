"""What bank.json and manifest.json say of a bank.  sources -> [format] <-> reader, writer"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgaug import paths
from fgaug.errors import BankError
from fgaug.paths import BankPaths, DatasetPaths

SCHEMA = 1
SHARD_BYTES = 32 << 20  # pixels of a full shard
RESIZE_FILTER = "lanczos"  # Pillow's, antialiased: what brings larger fakes to the bank's size

IMAGE_COLUMNS = ["label", "psi", "z_seed"]  # of a shard, beside its pixels
INDEX_COLUMNS = [*IMAGE_COLUMNS, "shard", "row"]
REMAKE = "Remove the file and run the same command again: its images are made anew."


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
                lines.append(f"its {name} is {mine}, asked for is {theirs}")
        for label, source in other.sources.items():
            mine_source = self.sources.get(label)
            if mine_source is None:
                lines.append(f"it has no label `{label}`")
            elif mine_source.sha256 != source.sha256:
                lines.append(
                    f"its snapshot of `{label}` is {mine_source.name} "
                    f"({mine_source.sha256[:12]}), asked for is {source.name} "
                    f"({source.sha256[:12]})"
                )
            elif mine_source.class_index != source.class_index:
                lines.append(
                    f"its `{label}` is class {mine_source.class_index}, "
                    f"asked for is class {source.class_index}"
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


def source_digest(kind: str, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 that stands for a generator without a network file."""
    text = json.dumps({"kind": kind, **parameters}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_new(bank_paths: BankPaths) -> None:
    """Refuse to start a bank where something else lies, or shards whose origin is unknown."""
    root = bank_paths.root
    if root.exists() and not root.is_dir():
        raise BankError(f"{root} is a file; a bank is a folder. Give another place.")
    if DatasetPaths(root).spec.exists():
        raise BankError(f"{root} is a dataset. Give the bank a folder of its own.")
    if not is_empty(bank_paths):
        raise BankError(
            f"{root} holds shards but no {bank_paths.spec.name}, which says what network made "
            "them. Restore that file, or remove the folder to make its images anew."
        )


def is_empty(bank_paths: BankPaths) -> bool:
    """Return whether a bank has no image yet: its first fill failed, so it binds nobody."""
    return not bank_paths.manifest.exists() and not any(bank_paths.shards.rglob("*.parquet"))


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
            raise BankError(f"{path} is damaged: it has {size} bytes of {shard.bytes}. {REMAKE}")
        found.append(shard)
    return tuple(found)
