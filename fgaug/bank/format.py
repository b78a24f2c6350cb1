"""The contents of bank.json and manifest.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fgaug.bank.store import Store, read
from fgaug.core.paths import BankNames, DatasetPaths
from fgaug.errors import BankError

SCHEMA = 1
MIN_SIZE, MAX_SIZE = 8, 2048  # px, as for datasets
NOISE_MODES = ("seeded", "const", "none")
SHARD_BYTES = 32 << 20  # pixels of a full shard
RESIZE_FILTER = "lanczos"  # Pillow's, antialiased; resizes larger fakes to the bank's size
IMAGE_COLUMNS = ["label", "psi", "z_seed"]  # of a shard, beside its pixels
INDEX_COLUMNS = [*IMAGE_COLUMNS, "shard", "row"]
REMAKE = "`fgaug bank verify --repair` makes its images again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The origin of one label's fakes: a network file by content, or another generator."""

    kind: str  # stylegan2 | external | imported | phantom | stub
    sha256: str  # of the network file, or of the kind and its parameters
    name: str  # file name or kind, for display
    class_index: int | None = None  # of a conditional network


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSpec:
    """Properties shared by all images of a bank; written once to bank.json."""

    size: int  # px, square
    channels: int  # 1 or 3
    noise: str  # const | none | seeded
    sources: Mapping[str, Source]  # by label
    resize_filter: str = RESIZE_FILTER
    cutoff: int | None = None  # number of w vectors that psi applies to; None means all
    precision: str = "float32"  # of the convolutions: float32, float16 or bfloat16
    schema: int = SCHEMA

    @property
    def shard_rows(self) -> int:
        return max(64, min(8192, SHARD_BYTES // (self.size * self.size * self.channels)))

    def differences(self, other: BankSpec) -> list[str]:
        """Return the reasons why `other` cannot share a bank with this one, one line each.

        Missing labels are not a reason: a bank may gain labels, but never another source of one.
        """
        lines = []
        for name in ("size", "channels", "noise", "resize_filter", "cutoff", "precision"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                lines.append(f"its {name} is {mine}, not {theirs}")
        for label, source in other.sources.items():
            mine_source = self.sources.get(label)
            if mine_source is None:
                continue  # a bank gains labels
            if mine_source.sha256 != source.sha256:
                lines.append(
                    f"its snapshot of `{label}` is {mine_source.name} "
                    f"({mine_source.sha256[:12]}), not {source.name} "
                    f"({source.sha256[:12]})"
                )
            elif mine_source.class_index != source.class_index:
                lines.append(
                    f"its `{label}` is class {mine_source.class_index}, "
                    f"not class {source.class_index}"
                )
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One entry of the manifest."""

    path: str  # relative to the bank's folder
    label: str
    psi: float
    rows: int
    bytes: int
    sha256: str
    first: int  # smallest z_seed
    last: int  # largest z_seed


def check_options(size: int | None, channels: int | None, noise: str | None) -> None:
    """Refuse invalid options of a bank; None stands for an option that is not given.

    Raises:
        BankError: names the command-line option, the allowed values and the given one.
    """
    if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
        raise BankError(f"--size must lie from {MIN_SIZE} to {MAX_SIZE} pixels, got {size}.")
    if channels not in (None, 1, 3):
        raise BankError(f"--channels must be 1 or 3, got {channels}.")
    if noise is not None and noise not in NOISE_MODES:
        raise BankError(f"--noise must be one of {', '.join(NOISE_MODES)}, got {noise}.")


def source_digest(kind: str, parameters: Mapping[str, Any]) -> str:
    """Return the SHA-256 that identifies a generator without a network file."""
    text = json.dumps({"kind": kind, **parameters}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_new(store: Store) -> None:
    """Refuse to create a bank in place of something else or of shards of unknown origin."""
    if store.folder is not None and store.folder.exists() and not store.folder.is_dir():
        raise BankError(f"{store.folder} is a file, and a bank is a folder. Give another path.")
    if store.folder is not None and DatasetPaths(store.folder).spec.exists():
        raise BankError(f"{store.folder} is a dataset. Give the bank a separate folder.")
    if not is_empty(store):
        raise BankError(
            f"{store.place()} contains shards but no {BankNames.spec}, which records the networks "
            "that made them. Restore that file, or remove the folder to make its images again."
        )


def is_empty(store: Store) -> bool:
    """Return whether a bank has no images yet, as after a failed first fill."""
    return not store.has(BankNames.manifest) and not store.sizes(BankNames.shards)


def read_spec(store: Store) -> BankSpec:
    """Return the content of bank.json."""
    place = store.place(BankNames.spec)
    try:
        raw = _json(store, BankNames.spec)
    except FileNotFoundError:
        raise BankError(f"{store.place()} is not a bank (no bank.json).") from None
    try:
        if raw["schema"] != SCHEMA:
            raise BankError(
                f"{place} has schema {raw['schema']}; this version of fgaug reads {SCHEMA}."
            )
        sources = {label: Source(**source) for label, source in raw.pop("sources").items()}
        return BankSpec(**raw, sources=sources)
    except (KeyError, TypeError, AttributeError) as error:
        raise BankError(f"{place} is not a valid bank description ({error}).") from None


def read_manifest(store: Store) -> tuple[Shard, ...] | None:
    """Return the shards listed in manifest.json; None if the bank is unfinished."""
    place = store.place(BankNames.manifest)
    try:
        raw = _json(store, BankNames.manifest)
    except FileNotFoundError:
        return None
    try:
        shards = tuple(Shard(**shard) for shard in raw["shards"])
    except (KeyError, TypeError) as error:
        raise BankError(f"{place} is not a valid bank manifest ({error}).") from None
    for shard in shards:
        if PurePosixPath(shard.path).is_absolute() or ".." in PurePosixPath(shard.path).parts:
            raise BankError(f"{place} names a shard outside the bank: {shard.path}")
    return shards


def present(store: Store, shards: Iterable[Shard]) -> tuple[Shard, ...]:
    """Return the shards whose files exist; refuse files of a wrong length."""
    sizes = store.sizes(BankNames.shards)
    found = []
    for shard in shards:
        size = sizes.get(shard.path)
        if size is None:
            continue  # its images count as missing
        if size != shard.bytes:
            raise BankError(
                f"{store.place(shard.path)} is damaged: it has {size} bytes of {shard.bytes}. "
                f"{REMAKE}"
            )
        found.append(shard)
    return tuple(found)


def as_json(value: Any) -> bytes:
    """Return a value as indented JSON, as in bank.json and manifest.json."""
    return (json.dumps(value, indent=1) + "\n").encode()


def _json(store: Store, name: str) -> Any:
    try:
        return json.loads(read(store, name).to_pybytes().decode("utf-8"))
    except ValueError as problem:
        raise BankError(
            f"{store.place(name)} cannot be read as JSON ({problem}). Restore or remove it."
        ) from None
