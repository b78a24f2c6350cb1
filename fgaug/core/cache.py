"""This machine's cache: copies made once per machine, kept within limits.

Below `paths.cache_root()` lie decoded pixels (`*.npy`) and what was fetched from stores
(`fetched/DIGEST/`). All of it is named by content and can be made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fgaug.core import paths
from fgaug.errors import DiskFullError, UserError

UNUSED_DAYS = 30.0  # copies unused for this time are removed, and made again on demand
LIMIT = "FGAUG_CACHE_GB"  # variable: the size that the cache should not exceed
RECENT_S = 3600.0  # younger copies belong to running trials: no limit removes them
FETCHED = "fetched"
_evicted_at = -math.inf  # monotonic time of this process


@dataclass(frozen=True, slots=True)
class _Copy:
    path: Path  # a file, or a folder of files
    size: int  # bytes
    used: float  # when it was last used, in seconds since the epoch

    def remove(self) -> int:
        """Remove the copy and return its size; processes that map it are not affected."""
        with contextlib.suppress(OSError):
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink()
            return self.size
        return 0


def fetched(key: str) -> Path:
    """Return the folder of fetched files with this digest."""
    return paths.usable_cache() / FETCHED / key


def used(path: Path) -> None:
    """Note that a copy is in use, which protects it from eviction."""
    with contextlib.suppress(OSError):
        os.utime(path)


@contextlib.contextmanager
def making(path: Path, size: int) -> Iterator[None]:
    """Let one process of this machine make the copy at `path`, while others wait.

    Args:
        path: what to make; check again whether it exists, as another process may have made it.
        size: bytes it takes; old copies make room for them where the disk or the limit needs it.

    Raises:
        DiskFullError: no space is left for it.
    """
    with _locked(path.with_suffix(".lock")):
        try:
            _evict_now_and_then()
            _make_room(size)
            yield
        except DiskFullError as error:
            raise DiskFullError(
                f"No space left in the cache {paths.cache_root()} of {platform.node()}. Free some "
                "space there, or set FGAUG_CACHE to a folder on a larger disk, and run the same "
                "command again: finished work is valid."
            ) from error


def evict(days: float = UNUSED_DAYS) -> int:
    """Remove copies unused for this many days; return the bytes freed."""
    oldest = time.time() - days * 86400
    return sum(copy.remove() for copy in _copies() if copy.used < oldest)


def _evict_now_and_then() -> None:
    """Evict old copies on machines where no command starts, only trials."""
    global _evicted_at
    if time.monotonic() - _evicted_at > RECENT_S:
        _evicted_at = time.monotonic()
        evict()


def _make_room(size: int) -> None:
    """Remove the copies that were not used for longest, until `size` more bytes fit."""
    limit = _limit()
    free = shutil.disk_usage(paths.usable_cache()).free
    if limit is None and free > size:
        return
    copies = sorted(_copies(), key=lambda copy: copy.used)
    total, recent = sum(copy.size for copy in copies), time.time() - RECENT_S
    for copy in copies:
        fits = limit is None or total + size <= limit
        if (fits and free > size) or copy.used > recent:
            return
        freed = copy.remove()
        total, free = total - freed, free + freed


def _limit() -> float | None:
    """Return the limit in bytes; None if there is none."""
    text = os.environ.get(LIMIT)
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UserError(f"{LIMIT} must be a size in GB above 0, such as 200, got {text}.")
    return limit * 1e9


def _copies() -> Iterator[_Copy]:
    root = paths.usable_cache()
    # temporary files are those of killed processes
    for path in itertools.chain(*map(root.glob, ("*.npy", ".*.tmp", f"{FETCHED}/*"))):
        with contextlib.suppress(OSError):  # another process may remove it
            state = path.stat()
            size = state.st_size
            if path.is_dir():
                size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
            if path.suffix != ".lock":
                yield _Copy(path, size, state.st_mtime)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the operating system's lock on a file, which exists only meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock.fileno(), path):
                continue  # the holder before removed the file: others would not see this lock
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
