"""A lease: an object of a store that says who holds it, where no file can be locked.

The holder rewrites its object regularly, as a heartbeat. Whoever wants the lease watches whether
the heartbeat changes, so the clocks of the machines do not matter.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from fgaug.core.store import Store, read
from fgaug.errors import UserError

POLL_S = 0.5  # between looks at a lease that is held
BEAT_S = 15.0  # between heartbeats
STALE_S = 90.0  # a holder without a heartbeat for this long counts as dead
SETTLE_S = 1.0  # for other writes to become visible: object stores have no exclusive create
_ENTRY_BYTES = 512
_TRIES = 3  # to read an entry that may just be being written


class Lease:
    """One attempt to hold an object of a store."""

    def __init__(self, store: Store, name: str, error: type[UserError]) -> None:
        self.store, self.name, self.error = store, name, error
        self.token = secrets.token_hex(8)
        self.lost = threading.Event()  # somebody else has taken it over
        self._watched: tuple[Any, float] | None = None  # the last heartbeat seen, and when
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Take the lease if nobody holds it or its holder is dead; return whether it is ours."""
        if self.alive():
            return False
        self._write(0)
        time.sleep(SETTLE_S)
        if not self.ours():
            return False
        self._thread = threading.Thread(target=self._beat, name="fgaug lease", daemon=True)
        self._thread.start()
        return True

    def alive(self) -> bool:
        """Return whether somebody else holds the lease, as far as one can tell by now."""
        entry = self.entry()
        if entry is None or entry.get("token") == self.token or _dead(entry):
            return False
        sign = (entry.get("token"), entry.get("beat"))
        if self._watched is None or self._watched[0] != sign:
            self._watched = (sign, time.monotonic())
        return time.monotonic() - self._watched[1] < STALE_S

    def beaten(self) -> bool:
        """Return whether its holder sent a heartbeat while we watched: it is certainly alive."""
        before = self._watched
        self.alive()
        return before is not None and self._watched is not None and before[0] != self._watched[0]

    def ours(self) -> bool:
        """Return whether the object in the store names us."""
        return (self.entry() or {}).get("token") == self.token

    def entry(self) -> dict[str, Any] | None:
        """Return who holds the lease: `process`, `host`, `since`...; None if nobody does."""
        for tried in range(_TRIES):
            try:
                data = read(self.store, self.name, self.error).to_pybytes()
                return parsed(data.decode(errors="replace"))
            except FileNotFoundError:
                return None
            except UserError:
                if tried + 1 == _TRIES:
                    raise
                time.sleep(POLL_S)
        return None

    def release(self) -> None:
        """Give the lease back; the store may be unreachable by now."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(UserError):
            if self.ours():
                self.store.remove(self.name)

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(UserError):  # the holder itself reports an unreachable store
                if not self.ours():
                    self.lost.set()
                    return
                count += 1
                self._write(count)

    def _write(self, beat: int) -> None:
        entry = {**owner(), "token": self.token, "beat": beat}
        # constant length: a store may report the length first and return newer bytes
        self.store.write(self.name, json.dumps(entry).encode().ljust(_ENTRY_BYTES))


@contextlib.contextmanager
def waiting_for(
    store: Store, name: str, error: type[UserError], waits: Callable[[dict[str, Any]], None]
) -> Iterator[Lease]:
    """Hold a lease for a block, however long its present holder takes.

    Args:
        store: on object storage.
        name: of the object.
        error: raised if the store cannot be reached.
        waits: called with the holder's entry before each further look.
    """
    lease = Lease(store, name, error)
    while not lease.take():
        waits(lease.entry() or {})
        time.sleep(POLL_S)
    try:
        yield lease
    finally:
        lease.release()


def owner() -> dict[str, Any]:
    """Return the entry that names this process."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "machine": _machine(),
        "since": now,
    }


def since_of(entry: Mapping[str, Any]) -> float:
    """Return when a lease was taken, in seconds since the epoch; -inf if unknown."""
    try:
        return datetime.datetime.fromisoformat(entry["since"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return -math.inf


def parsed(text: str) -> dict[str, Any]:
    """Return an entry from its JSON; empty for one that is just being written."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _dead(entry: dict[str, Any]) -> bool:
    """Return whether a holder was a process on this machine that has ended."""
    return entry.get("machine") == _machine() and not psutil.pid_exists(entry.get("process", 0))


def _machine() -> str:
    """Return what tells this boot of this machine, and its process numbers, from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return platform.node()
