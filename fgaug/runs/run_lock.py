"""One search at a time holds a run; its shards hold it together.

In a folder these are the operating system's locks, which end with their process. On object
storage they are leases: see `core.lease`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fgaug.core.paths import RunPaths
from fgaug.errors import RunError, StoreError

_log = logging.getLogger("fgaug")


@contextlib.contextmanager
def held(run: RunPaths, part: str | None = None) -> Iterator[None]:
    """Lock the run for one search; the lock ends with the process in any case.

    Shards share the run's lock and have one lock each; a search of the whole grid locks the run
    exclusively.

    Args:
        run: the run, created if missing.
        part: name of a shard, such as `3-of-16`; None: the whole grid.

    Raises:
        RunError: another search holds the lock.
    """
    if run.uri is not None:
        with _leased(run, part):
            yield
        return
    run.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(run, run.lock, shared=part is not None))
        if part is not None:
            stack.enter_context(_locked(run, run.shard_lock(part), shared=False))
        else:
            _sweep(run)
        yield


@contextlib.contextmanager
def held_for_a_moment(run: RunPaths, file: Path) -> Iterator[None]:
    """Hold one of a run's files while it is read and written again; wait for others.

    Args:
        run: the run.
        file: the file, such as `run.looks`.
    """
    if run.uri is None:
        with file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    from fgaug.core import lease, mirror

    store = mirror.store_at(run.root)
    with lease.waiting_for(
        store, f"{mirror.LOCKS}/{file.stem}.lock", StoreError, lambda owner: None
    ):
        mirror.renew(file)
        yield


def holders(run: RunPaths) -> Iterator[tuple[str, float]]:
    """Yield the owner of each lock held by a living process, and when it was taken.

    On object storage, whether a holder is alive is judged by this machine's clock: its last
    heartbeat must be recent.
    """
    if run.uri is None:
        yield from _flocked(run)
        return
    from fgaug.core import lease, mirror
    from fgaug.core.store import read

    store = mirror.store_at(run.root)
    for name, entry in store.entries(mirror.LOCKS).items():
        if time.time() - entry.mtime_ns / 1e9 > lease.STALE_S or "search" not in name:
            continue
        with contextlib.suppress(FileNotFoundError):
            data = read(store, name, StoreError).to_pybytes()
            found = lease.parsed(data.decode(errors="replace"))
            yield _named(found), lease.since_of(found)


def _flocked(run: RunPaths) -> Iterator[tuple[str, float]]:
    """Test each lock of a folder by sharing it for a moment."""
    for path in sorted(run.root.glob(f"{run.lock.stem}*{run.lock.suffix}")):
        try:
            with path.open(encoding="utf-8", errors="replace") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield lock.read(200) or "unknown", path.stat().st_mtime
        except FileNotFoundError:
            continue


def _sweep(run: RunPaths) -> None:
    """Remove temporary files of killed writers; nobody else writes to the folder now."""
    halves = (run.trials.glob("*/.*.tmp"), run.root.glob(f".{run.results.name}.*.tmp"))
    for path in itertools.chain(*halves):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(run: RunPaths, path: Path, *, shared: bool) -> Iterator[None]:
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise _in_use(run, lock.read().strip()) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield


@contextlib.contextmanager
def _leased(run: RunPaths, part: str | None) -> Iterator[None]:
    """Take the search's lease, then refuse if a search that excludes it holds another one.

    Both may refuse if they start at the same moment, but never do both go on.
    """
    from fgaug.core import lease, mirror

    store = mirror.store_at(run.root)
    path = run.lock if part is None else run.shard_lock(part)
    own = lease.Lease(store, f"{mirror.LOCKS}/{path.name}", StoreError)
    _until(own.take, own, run)
    try:
        for name in store.entries(mirror.LOCKS):
            rival = name.removeprefix(f"{mirror.LOCKS}/")
            excludes = rival == run.lock.name if part is not None else rival.startswith("search.")
            if excludes and rival != path.name:
                other = lease.Lease(store, name, StoreError)
                _until(lambda other=other: not other.alive(), other, run)
        yield
    finally:
        own.release()


def _until(done: Any, watched: Any, run: RunPaths) -> None:
    """Wait until a lease is free; refuse as soon as its holder shows that it is alive."""
    from fgaug.core import lease

    announced = False
    while not done():
        if not announced:
            announced = True
            _log.warning(
                f"{run.place} was last held by {_named(watched.entry() or {}) or 'unknown'}; "
                f"checking for up to {lease.STALE_S:.0f} s whether it is still alive"
            )
        time.sleep(lease.POLL_S)
        if watched.beaten():
            raise _in_use(run, _named(watched.entry() or {}))


def _in_use(run: RunPaths, owner: str) -> RunError:
    return RunError(
        f"{run.place} is in use by another search ({owner or 'unknown'}). "
        "Wait for it, stop it, or give this search another --out."
    )


def _named(entry: dict[str, Any]) -> str:
    return f"process {entry['process']} on {entry.get('host')}" if "process" in entry else ""
