"""Networks kept in the bank they fill, as plain numbers: a pickle is opened once.

network file -> [kept] -> snapshots/<sha12>.safetensors -> generator
"""

from __future__ import annotations

from pathlib import Path

from fgaug.bank.store import Store, read
from fgaug.core.paths import BankNames, record_of
from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import Snapshot, parse_snapshot, read_snapshot, to_safetensors


def keep_network(store: Store, file: Path, sha256: str) -> None:
    """Copy a network into a bank that lacks it, and the record of its training images.

    Raises:
        SnapshotError: the file is refused, or is not the network of that SHA-256 any more.
    """
    if not store.has(BankNames.snapshot(sha256)):
        snapshot = read_snapshot(file)
        if snapshot.sha256 != sha256:
            raise SnapshotError(
                f"{file} changed: the bank is made from {sha256[:12]}, the file is "
                f"{snapshot.sha256[:12]}. Give it a bank of its own."
            )
        store.write(BankNames.snapshot(sha256), to_safetensors(snapshot))
    record = record_of(file)
    if record.is_file() and not store.has(BankNames.trained_on(sha256)):
        store.write(BankNames.trained_on(sha256), record.read_bytes())


def kept_network(store: Store, sha256: str) -> Snapshot:
    """Return a bank's own copy of a network.

    Raises:
        SnapshotError: the copy is missing, damaged, or of another network.
    """
    name = BankNames.snapshot(sha256)
    cure = "Remove it; the next fill copies the network file anew."
    try:
        snapshot = parse_snapshot(read(store, name).to_pybytes(), store.place(name))
    except FileNotFoundError:
        raise SnapshotError(f"{store.place(name)} is missing. {cure}") from None
    if snapshot.sha256 != sha256:
        raise SnapshotError(
            f"{store.place(name)} is the network {snapshot.sha256[:12]}, not {sha256[:12]}. {cure}"
        )
    return snapshot
