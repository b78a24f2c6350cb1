"""Inspect and convert network files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.core import paths
from fgaug.errors import SnapshotError

if TYPE_CHECKING:
    from gan_worker.files.snapshot import Snapshot


def inspect_network(file: Path) -> Snapshot:
    """Read a network file for `fgaug gan inspect`."""
    from gan_worker.files.snapshot import read_snapshot

    return read_snapshot(file)


def convert_network(file: Path, out: Path, *, half: bool = False) -> Snapshot:
    """Convert a network file's generator to `.safetensors` for `fgaug gan convert`."""
    from gan_worker.files.snapshot import check_name, read_snapshot, write_safetensors

    if out.exists():
        raise SnapshotError(f"{out} exists. Choose another name, or remove it first.")
    check_name(out)
    snapshot = read_snapshot(file)
    paths.carry_record(file, out)  # the copy was trained on the same images
    write_safetensors(snapshot, out, half=half)
    return read_snapshot(out)
