"""Lock a bank for one writer at a time; other writers wait.

In a folder, the operating system's lock on `bank.lock` is released when its process ends for any
reason. Object stores have no locks: an object of that name identifies the writer, who rewrites it
regularly as a heartbeat.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import psutil

from fgaug.bank.store import Store, read
from fgaug.core.paths import BankNames
from fgaug.errors import BankError

POLL_S = 0.5  # between checks of a lock that is held
REMIND_S = 60  # between messages while waiting
BEAT_S = 15.0  # between heartbeats of a writer on object storage
STALE_S = 90.0  # a writer without a heartbeat for this long counts as dead
SETTLE_S = 1.0  # for other writes to become visible: object stores have no exclusive create
_ENTRY_BYTES = 512
_TRIES = 3  # to read an entry that may just be being written
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
        _wait(store, lambda: _flocked(file), lambda: _told(file))
        file.truncate(0)
        json.dump(_owner(), file)
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
    return _parsed(file.read())


@contextlib.contextmanager
def _objects(store: Store) -> Iterator[Check]:
    token = secrets.token_hex(8)
    watched: dict[str, Any] = {}  # the last heartbeat seen, and its time
    _wait(store, lambda: _taken(store, token, watched), lambda: _entry(store) or {})
    ended = threading.Event()

    def ours() -> bool:
        return (_entry(store) or {}).get("token") == token

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT_S):
            with contextlib.suppress(BankError):  # the writer itself reports an unreachable store
                if not ours():
                    return
                count += 1
                _write(store, token, count)

    def check() -> None:
        if not ours():
            raise BankError(
                f"{store.place()} was taken over by another writer, as this one sent no "
                "heartbeat. Run the same command again: finished shards are kept."
            )

    thread = threading.Thread(target=beat, name="bank lock", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(BankError):
            if ours():
                store.remove(BankNames.lock)


def _taken(store: Store, token: str, watched: dict[str, Any]) -> bool:
    """Take the lock object if it is missing or its owner is dead; return whether it is ours."""
    entry = _entry(store)
    if entry is not None and not _dead(entry):
        sign = (entry.get("token"), entry.get("beat"))
        if watched.get("sign") != sign:
            watched.update(sign=sign, since=time.monotonic())
        if time.monotonic() - watched["since"] < STALE_S:
            return False
    _write(store, token, 0)
    time.sleep(SETTLE_S)
    return (_entry(store) or {}).get("token") == token


def _dead(entry: dict[str, Any]) -> bool:
    """Return whether a lock's owner was a process on this machine that has ended."""
    here = entry.get("host") == platform.node()
    return here and not psutil.pid_exists(int(entry.get("process", 0)))


def _write(store: Store, token: str, beat: int) -> None:
    entry = {**_owner(), "token": token, "beat": beat}
    # constant length: a store may report the length first and return newer bytes
    store.write(BankNames.lock, json.dumps(entry).encode().ljust(_ENTRY_BYTES))


def _entry(store: Store) -> dict[str, Any] | None:
    for tried in range(_TRIES):
        try:
            return _parsed(read(store, BankNames.lock).to_pybytes().decode(errors="replace"))
        except FileNotFoundError:
            return None
        except BankError:
            if tried + 1 == _TRIES:
                raise
            time.sleep(POLL_S)
    return None


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}  # a lock that is just being written
    return value if isinstance(value, dict) else {}


def _owner() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": platform.node(), "since": now}


def _wait(store: Store, taken: Callable[[], bool], owner: Callable[[], dict[str, Any]]) -> None:
    started, told = time.monotonic(), -1
    while not taken():
        waited = time.monotonic() - started
        if int(waited / REMIND_S) > told:
            told = int(waited / REMIND_S)
            _log.warning(f"{store.place()} is held by {_described(owner())}; waiting")
        time.sleep(POLL_S)


def _described(entry: dict[str, Any]) -> str:
    if "process" not in entry:
        return "another writer"
    age = ""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        since = datetime.datetime.fromisoformat(entry["since"])
        seconds = (datetime.datetime.now(datetime.UTC) - since).total_seconds()
        age = f" for {seconds / 60:.0f} min" if seconds >= 60 else f" for {max(0, seconds):.0f} s"
    return f"process {entry['process']} on {entry.get('host')}{age}"
