"""Network files looked at and converted.  commands -> [networks] -> gan_worker"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug import paths
from fgaug.errors import SnapshotError

if TYPE_CHECKING:
    from gan_worker.snapshot import Snapshot


def inspect_network(file: Path) -> Snapshot:
    """Return what a network file holds: `fgaug gan inspect`."""
    from gan_worker.snapshot import read_snapshot

    return read_snapshot(file)


def convert_network(file: Path, out: Path, *, half: bool = False) -> Snapshot:
    """Write a network file's generator as `.safetensors`, with its record: `fgaug gan convert`."""
    from gan_worker.snapshot import read_snapshot, write_safetensors
    from gan_worker.training.images import record_of

    if out.exists():
        raise SnapshotError(f"{out} exists. Choose another name, or remove it first.")
    snapshot = read_snapshot(file)
    if record_of(file).is_file():  # what the network saw, the copy has seen
        with paths.whole(record_of(out)) as temporary:
            shutil.copyfile(record_of(file), temporary)
    write_safetensors(snapshot, out, half=half)
    return read_snapshot(out)
