"""Mirrors: local folders whose files are also objects of a store.

A run on object storage is read and written through a mirror in this machine's cache, so that all
code works on a folder. A file written below a mirror reaches the store before it appears in the
folder (`write_through`); `refresh` brings what others wrote. The store is the truth: a mirror can
be deleted at any time.

Files that few need are downloaded when they are read: `refresh` leaves them empty, and
`write_through.fetched` fills them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from fgaug.core import files, packs, paths, write_through
from fgaug.core.store import Entry, Store

TRIALS = "trials"  # folder of the trials' files
Role = Literal["search", "trials", "read"]
_NEEDED = ("result.json", "paused.json", "curve.parquet")  # of trials, by a search
_LARGE = ("checkpoint", "model.safetensors")
LOCKS = "locks"  # folder of leases, never mirrored
_LOCAL = ("tensorboard", "mlflow", "wandb")  # written by libraries; uploaded by `push`
_REQUESTS = 16  # at once
_stores: dict[Path, Store] = {}  # by the mirror's folder
_MOST_BYTES = 1 << 20  # of a trial's files that travel with its last report


def attach(store: Store, role: Role) -> Path:
    """Return the folder that mirrors a store in this process, created if missing.

    Args:
        store: on object storage.
        role: processes of one machine with different roles have separate mirrors, so that a
            reader never touches the files of a search. A search leaves files of trials empty
            that it does not need, a reader only checkpoints and models.
    """
    key = hashlib.sha256(paths.without_secrets(store.uri).encode()).hexdigest()[:24]
    folder = (paths.usable_cache() / "runs" / key / role).absolute()
    if folder not in _stores:
        with files.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _stores[folder] = store
        write_through.register(folder, store)
    return folder


def store_of(path: Path) -> tuple[Store, str] | None:
    """Return the store of a path below a mirror and the path's name there; None elsewhere."""
    for folder, store in _stores.items():
        if path.is_relative_to(folder):
            name = path.relative_to(folder).as_posix()
            return store, "" if name == "." else name
    return None


def store_at(folder: Path) -> Store:
    """Return the store that a mirror's folder was attached to."""
    return _stores[folder]


def refresh(folder: Path) -> None:
    """Make a folder below a mirror equal to the store, without the content of files that few need.

    Folders outside mirrors are left alone.
    """
    if (found := store_of(folder)) is None:
        return
    store, below = found
    with _alone(folder):
        began = time.time()
        entries = _listed(store, below)
        root = _root_of(folder)
        changed = [name for name, entry in entries.items() if not _same(root / name, entry)]
        with ThreadPoolExecutor(_REQUESTS) as threads:
            brought = [threads.submit(_bring, store, root / n, n, entries[n]) for n in changed]
        for each in brought:
            each.result()
        packs.unpack(root, set(entries))
        kept = entries.keys() | packs.packed_files(root)
        for name, path in _older(root, below, began):
            if name not in kept:
                Path(path).unlink(missing_ok=True)


def _listed(store: Store, below: str) -> dict[str, Entry]:
    """Return the entries of a folder that are mirrored.

    A pack that is written during a listing may take over trials that the listing has not reached
    yet. Then the folder is listed again.
    """
    while True:
        entries = store.entries(below)
        if below or store.entries(packs.FOLDER).keys() <= entries.keys():
            unmirrored = (LOCKS, *_LOCAL)
            return {k: v for k, v in entries.items() if k.split("/")[0] not in unmirrored}


def pack(folders: Sequence[Path]) -> None:
    """Put the files of finished trials into one pack of the store, and remove their objects.

    Args:
        folders: below one mirror, without checkpoints and models.
    """
    root = _root_of(folders[0])
    packs.write(root, folders)
    with ThreadPoolExecutor(_REQUESTS) as threads:
        names = [folder.relative_to(root).as_posix() for folder in folders]
        removed = [threads.submit(_stores[root].remove_folder, name) for name in names]
    for each in removed:
        each.result()


def has(path: Path) -> bool:
    """Return whether the store of a mirror has a file now."""
    store, name = store_of(path) or (None, "")
    return store is not None and store.has(name)


def renew(path: Path) -> None:
    """Make one small file below a mirror equal to the store."""
    if (found := store_of(path)) is None:
        return
    store, name = found
    try:
        store.download(name, path)
    except FileNotFoundError:
        path.unlink(missing_ok=True)


def receive(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files that are in the store already into a folder of the mirror.

    Args:
        folder: that of a trial.
        contents: by name; empty for files that are to be fetched when they are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in contents and not path.name.startswith("."):
            path.unlink(missing_ok=True)
    for name, data in contents.items():
        with files.atomic_write(folder / name, through=False) as temporary:
            temporary.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a trial's folder for `receive`, those that are large without bytes."""
    chosen = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    small = [path for path in chosen if path.name not in _LARGE]
    if sum(path.stat().st_size for path in small) > _MOST_BYTES:
        small = [path for path in small if path.name in _NEEDED]
    return {path.name: path.read_bytes() if path in small else b"" for path in chosen}


def push(folder: Path) -> None:
    """Upload all files below a folder that a library has written into a mirror."""
    if (found := store_of(folder)) is None or not folder.is_dir():
        return
    store, root = found[0], _root_of(folder)
    chosen = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(_REQUESTS) as threads:
        sent = [threads.submit(store.upload, p.relative_to(root).as_posix(), p) for p in chosen]
    for each in sent:
        each.result()


def pull(folder: Path) -> None:
    """Download the files below a library's folder that this machine lacks; see `push`."""
    if (found := store_of(folder)) is None:
        return
    store, below = found
    root = _root_of(folder)
    lacking = [name for name in store.entries(below) if not (root / name).exists()]
    with ThreadPoolExecutor(_REQUESTS) as threads:
        brought = [threads.submit(store.download, name, root / name) for name in lacking]
    for each in brought:
        each.result()


def forget(folder: Path) -> None:
    """Remove a folder of the mirror from this machine; the store keeps it."""
    if store_of(folder) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _root_of(path: Path) -> Path:
    return next(folder for folder in _stores if path.is_relative_to(folder))


def _older(root: Path, below: str, began: float) -> Iterator[tuple[str, str]]:
    """Yield name and path of a mirror's files that were complete before `began`.

    Libraries' own are left out. In texts, because a mirror may hold half a million files.
    """
    start = len(os.path.join(root, ""))
    for folder, folders, names in os.walk(root / below):
        if folder == str(root):
            folders[:] = [name for name in folders if name not in _LOCAL]
        elif folder[start:].split("/", 1)[0] in _LOCAL:
            return
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if name[0] != "." and os.stat(path).st_ctime < began:
                    yield path[start:], path


def _lazy(path: Path) -> bool:
    """Return whether a file is left empty until it is read."""
    root = _root_of(path)
    of_trial = path.relative_to(root).parts[0] == TRIALS
    if root.name == "search":
        return of_trial and path.name not in _NEEDED
    return of_trial and path.name in _LARGE


def _same(path: Path, entry: Entry) -> bool:
    try:
        state = path.stat()
    except FileNotFoundError:
        return False
    empty = _lazy(path) and not state.st_size
    return state.st_mtime_ns == entry.mtime_ns and (empty or state.st_size == entry.size)


def _bring(store: Store, path: Path, name: str, entry: Entry) -> None:
    try:
        if _lazy(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        else:
            store.download(name, path)
    except FileNotFoundError:
        path.unlink(missing_ok=True)  # removed since it was listed
        return
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time refresh a folder."""
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with files.disk_errors(folder), (folder / ".refresh").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
