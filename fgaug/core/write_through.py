"""Folders of this process whose files are copies of a store's: mirrors, see `mirror`.

`files` looks here: what it writes or removes below such a folder, it writes or removes in the
store first, and what is there only in name it fetches before it reads it.
"""

from __future__ import annotations

import contextlib
import os
import stat
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
    text = os.fspath(path)  # as text, because every file that is read is asked for
    for folder, target in _targets.items():
        start = os.path.join(folder, "")
        if text.startswith(start):
            return target, text[len(start) :]
    return None


def fetched(path: Path) -> Path:
    """Return a path after downloading its content, if it is a mirror's and still empty."""
    if (found := target_of(path)) is None:
        return path
    target, name = found
    with contextlib.suppress(FileNotFoundError):
        listed = path.stat()
        if stat.S_ISREG(listed.st_mode) and not listed.st_size:
            target.download(name, path)
            # so that a refresh takes it for the same
            os.utime(path, ns=(listed.st_mtime_ns, listed.st_mtime_ns))
    return path
