"""Folders of this process whose files are copies of a store's: mirrors, see `mirror`.

`files` looks here: what it writes or removes below such a folder, it writes or removes in the
store first, and what is there only in name it fetches before it reads it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """The store of a folder's files, by name relative to the folder."""

    def upload(self, name: str, path: Path) -> None:
        """Write a file atomically with the content of a local one."""
        ...

    def download(self, name: str, path: Path) -> None:
        """Copy a file to a local path atomically."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        ...


_targets: dict[Path, Target] = {}  # by absolute folder


def register(folder: Path, target: Target) -> None:
    """Write every file below `folder` to `target` too, from now on in this process."""
    _targets[folder] = target


def target_of(path: Path) -> tuple[Target, str] | None:
    """Return where a file is written too, and its name there; None for most files."""
    for folder, target in _targets.items():
        if path.is_relative_to(folder):
            return target, path.relative_to(folder).as_posix()
    return None


def fetched(path: Path) -> Path:
    """Return a path after downloading its content, if it is a mirror's and still empty."""
    found = target_of(path)
    if found is not None and path.is_file() and not path.stat().st_size:
        target, name = found
        listed_ns = path.stat().st_mtime_ns
        with contextlib.suppress(FileNotFoundError):
            target.download(name, path)
            os.utime(path, ns=(listed_ns, listed_ns))  # so that a refresh takes it for the same
    return path
