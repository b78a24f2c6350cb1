"""Lock a bank for one writer at a time; other writers wait.

In a folder, the operating system's lock on `bank.lock` is released when its process ends for any
reason. Object stores have no locks: an object of that name identifies the writer, who rewrites it
regularly as a heartbeat: see `core.lease`.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from fgaug.bank.store import Store
from fgaug.core import lease
from fgaug.core.paths import BankNames
from fgaug.errors import BankError

REMIND_S = 60  # between messages while waiting
_log = logging.getLogger("fgaug")
Check = Callable[[], None]


@contextlib.contextmanager
def held(store: Store) -> Iterator[Check]:
    """Lock a bank for writing; wait for another writer, and warn who that is.

    Yields:
        A function that raises BankError if another writer has taken over the bank, which can
            happen on object storage. Call it before writing a manifest.
    """
    with _folder(store) if store.folder is not None else _objects(store) as check:
        yield check


@contextlib.contextmanager
def _folder(store: Store) -> Iterator[Check]:
    assert store.folder is not None
    store.folder.mkdir(parents=True, exist_ok=True)
    with (store.folder / BankNames.lock).open("a+") as file:
        remind = _Reminder(store)
        while not _flocked(file):
            remind(_told(file))
            time.sleep(lease.POLL_S)
        file.truncate(0)
        json.dump(lease.owner(), file)
        file.flush()
        try:
            yield lambda: None
        finally:
            file.truncate(0)  # keep the file: after removing it, two writers could lock two files


def _flocked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    return lease.parsed(file.read())


@contextlib.contextmanager
def _objects(store: Store) -> Iterator[Check]:
    told = _Reminder(store)
    with lease.waiting_for(store, BankNames.lock, BankError, told) as held_lease:

        def check() -> None:
            if not held_lease.ours():
                raise BankError(
                    f"{store.place()} was taken over by another writer, as this one sent no "
                    "heartbeat. Run the same command again: finished shards are kept."
                )

        yield check


class _Reminder:
    """Warns who holds a bank, now and then while somebody waits for it."""

    def __init__(self, store: Store) -> None:
        self.store, self.started, self.told = store, time.monotonic(), -1

    def __call__(self, owner: dict[str, Any]) -> None:
        waited = time.monotonic() - self.started
        if int(waited / REMIND_S) > self.told:
            self.told = int(waited / REMIND_S)
            _log.warning(f"{self.store.place()} is held by {described(owner)}; waiting")


def described(entry: dict[str, Any]) -> str:
    if "process" not in entry:
        return "another writer"
    age = ""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        since = datetime.datetime.fromisoformat(entry["since"])
        seconds = (datetime.datetime.now(datetime.UTC) - since).total_seconds()
        age = f" for {seconds / 60:.0f} min" if seconds >= 60 else f" for {max(0, seconds):.0f} s"
    return f"process {entry['process']} on {entry.get('host')}{age}"
