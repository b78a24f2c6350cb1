"""Keep copies of networks in the bank they fill.

A network file is converted once to `snapshots/<sha12>.safetensors`, from which generators are
loaded later.
"""

from __future__ import annotations

from pathlib import Path

from fgaug.bank.store import Store, read
from fgaug.core.paths import BankNames, record_of
from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import Snapshot, parse_snapshot, read_snapshot, to_safetensors


def keep_network(store: Store, file: Path, sha256: str) -> None:
    """Copy a network and the record of its training images to a bank, unless present.

    Raises:
        SnapshotError: the file is invalid, or no longer has this SHA-256.
    """
    if not store.has(BankNames.snapshot(sha256)):
        snapshot = read_snapshot(file)
        if snapshot.sha256 != sha256:
            raise SnapshotError(
                f"{file} has changed: the bank was made from {sha256[:12]}, the file is "
                f"{snapshot.sha256[:12]}. Use a separate bank."
            )
        store.write(BankNames.snapshot(sha256), to_safetensors(snapshot))
    record = record_of(file)
    if record.is_file() and not store.has(BankNames.trained_on(sha256)):
        store.write(BankNames.trained_on(sha256), record.read_bytes())


def kept_network(store: Store, sha256: str) -> Snapshot:
    """Read a bank's copy of a network.

    Raises:
        SnapshotError: the copy is missing, damaged, or of another network.
    """
    name = BankNames.snapshot(sha256)
    cure = "Remove it; the next fill copies the network file again."
    try:
        snapshot = parse_snapshot(read(store, name).to_pybytes(), store.place(name))
    except FileNotFoundError:
        raise SnapshotError(f"{store.place(name)} is missing. {cure}") from None
    if snapshot.sha256 != sha256:
        raise SnapshotError(
            f"{store.place(name)} is the network {snapshot.sha256[:12]}, not {sha256[:12]}. {cure}"
        )
    return snapshot
