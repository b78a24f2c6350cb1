"""Where a run lives: in a folder, or at a URI with a mirror on this machine.

Everything that opens a run goes through here. What it gets is a folder in both cases.
"""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.core import paths
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError, StoreError

if TYPE_CHECKING:
    from fgaug.core.mirror import Role

_MANGLED = re.compile(r"^[a-z][a-z0-9+.-]*:/(?!/)")  # `Path("s3://bucket/x")` loses a slash
_mirrors: dict[Path, RunPaths] = {}  # of this process, so that their folders keep their URI


def run_at(run: str | PathLike[str]) -> RunPaths:
    """Return the files of a run for reading; of a URI as they are now.

    Args:
        run: a folder, a `pyarrow.fs` URI such as `s3://bucket/runs/x`, or a `Run`. The folder
            of a mirror is not refreshed again.

    Raises:
        RunError: the URI is invalid or cannot be reached.
    """
    place = _text(run)
    if not is_uri(place):
        folder = _folder(place)
        return _mirrors.get(folder) or RunPaths(folder)
    from fgaug.core import mirror

    found = mirrored(place, "read")
    mirror.refresh(found.root)
    if found.environment.is_file():
        found.trials.mkdir(exist_ok=True)  # stores have no empty folders
    return found


def run_of_search(out: str | PathLike[str] | None, name: str) -> RunPaths:
    """Return the files of a run for a search, which holds its lock while it writes.

    Args:
        out: as in `run_at`; None: `runs/NAME`.
        name: of the grid.

    Raises:
        RunError: the URI is invalid or cannot be reached.
    """
    place = str(Path("runs") / name) if out is None else _text(out)
    if not is_uri(place):
        return RunPaths(_folder(place))
    from fgaug.core import mirror

    found = mirrored(place, "search")
    mirror.refresh(found.root)
    return found


def mirrored(uri: str, role: Role) -> RunPaths:
    """Return the files of a run at a URI in this process's mirror, as they were last seen."""
    from fgaug.core import mirror  # late: a folder needs no pyarrow
    from fgaug.core.store import open_store

    store = open_store(uri.rstrip("/"), StoreError)
    found = RunPaths(mirror.attach(store, role), uri=store.uri)
    _mirrors[found.root] = found
    return found


def is_uri(place: str) -> bool:
    """Return whether a run's place is a URI rather than a folder."""
    return "://" in place and not place.startswith("file://")


def shown(run: str | PathLike[str]) -> str:
    """Return a run's place for messages, without secrets."""
    return paths.shown_uri(_text(run))


def _folder(place: str) -> Path:
    if _MANGLED.match(place):
        raise RunError(
            f"{place} is a URI that has lost a slash, as pathlib does to it. Give the URI as text."
        )
    if place.startswith("file://"):
        from urllib.parse import unquote, urlparse

        return Path(unquote(urlparse(place).path))
    return Path(place)


def _text(run: str | PathLike[str]) -> str:
    return os.fspath(run)
