"""Network files looked at and converted.  commands -> [networks] -> gan_worker"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.errors import SnapshotError

if TYPE_CHECKING:
    from gan_worker.snapshot import Snapshot


def inspect_network(file: Path) -> Snapshot:
    """Return what a network file holds: `fgaug gan inspect`."""
    from gan_worker.snapshot import read_snapshot

    return read_snapshot(file)


def convert_network(file: Path, out: Path) -> Snapshot:
    """Write a network file's generator as `.safetensors`: `fgaug gan convert`."""
    from gan_worker.snapshot import read_snapshot, write_safetensors

    if out.exists():
        raise SnapshotError(f"{out} exists. Choose another name, or remove it first.")
    snapshot = read_snapshot(file)
    write_safetensors(snapshot, out)
    return snapshot
