"""Storage of files by name: a folder, or a prefix of an object store.

Files are written atomically: in a folder by renaming a temporary file; an object store publishes
an object only when it is complete.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.fs

from fgaug.core import files, paths
from fgaug.errors import UserError

PATIENCE_S = 60.0  # how long to repeat a request that failed for a reason that may pass
_PAUSE_S = 0.25  # before the first repetition; doubled each time
_MOST_PAUSE_S = 8.0
# parts of messages of errors that no repetition cures
_LASTING = re.compile(
    r"NO_SUCH_BUCKET|ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT"
    r"|NOT_INITIALIZED|UNRECOGNIZED_CLIENT|EXPIRED_TOKEN|HTTP status 40[0-4]|HTTP status 405"
    r"|REQUEST_TIME_TOO_SKEWED"
)
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|HTTP status 40[13]"
)
_SKEWED = "REQUEST_TIME_TOO_SKEWED"
_UNEXPLAINED = "No response body"  # to a request of the method HEAD
_LATE = "allow_delayed_open"  # the option of pyarrow's S3 URIs
_PARTS_BYTES = 8 << 20  # pyarrow uploads objects of 10 MB and more in parts
_log = logging.getLogger("fgaug")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Entry:
    """Size and time of a stored file; the time is the store's own clock."""

    size: int  # bytes
    mtime_ns: int  # since the epoch; object stores round it to seconds


class Store(Protocol):
    """Files by name relative to the store, such as `shards/trv/psi_0.7/1-2000.parquet`."""

    uri: str  # opens this store again, also in another process
    folder: Path | None  # None on object storage

    def place(self, name: str = "") -> str:
        """Return a file's location for messages."""
        ...

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for random access.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        ...

    def read(self, name: str) -> pa.Buffer:
        """Return all bytes of a file.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        ...

    def entries(self, below: str) -> dict[str, Entry]:
        """Return every non-temporary file below a folder, by name."""
        ...

    def sizes(self, below: str) -> dict[str, int]:
        """Return the size in bytes of every non-temporary file below a folder, by name."""
        ...

    def entry(self, name: str) -> Entry | None:
        """Return size and time of a file; None if there is none of that name."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        ...

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a file atomically."""
        ...

    def upload(self, name: str, path: Path) -> None:
        """Write a file atomically with the content of a local one."""
        ...

    def download(self, name: str, path: Path) -> None:
        """Copy a file to a local path atomically.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        ...

    def remove_folder(self, name: str) -> None:
        """Remove all files below a folder."""
        ...

    def sweep(self) -> None:
        """Remove temporary files of killed writers; the caller must hold the store's lock."""
        ...


def is_uri(place: object) -> bool:
    """Return whether a place is the URI of an object store rather than a folder or `file://`."""
    return isinstance(place, str) and "://" in place and not place.startswith("file://")


def open_store(uri: str | Path | Store, error: type[UserError]) -> Store:
    """Open the store at a path, a `file://` URI or any `pyarrow.fs` URI.

    Args:
        uri: where it is; an open store is returned as it is.
        error: raised by the store for an invalid address or if it cannot be reached.
    """
    if not isinstance(uri, (str, Path)):
        return uri
    if "://" not in str(uri):
        return FolderStore(Path(uri))
    parsed = urlparse(str(uri))
    if parsed.scheme == "file":
        return FolderStore(Path(unquote(parsed.path)))
    return ObjectStore(str(uri), error)


def read(store: Store, name: str, error: type[UserError]) -> pa.Buffer:
    """Return all bytes of a file.

    Raises:
        FileNotFoundError: there is none of that name.
        UserError: `error`, if the file exists but cannot be read.
    """
    try:
        return store.read(name)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise error(
            f"{store.place(name)} cannot be read ({_first_line(problem)}). Check the disk or the "
            "connection; everything written so far is kept."
        ) from None


class FolderStore:
    """Files in a local or mounted folder."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        self.uri = str(folder.absolute())  # workers may have another working directory
        self._root = folder

    def place(self, name: str = "") -> str:
        return str(self._root / name)

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(str(self._root / name))

    def read(self, name: str) -> pa.Buffer:
        with self.open(name) as file:
            return file.read_buffer()

    def entries(self, below: str) -> dict[str, Entry]:
        found = {}
        for path in sorted((self._root / below).rglob("*")):
            if path.is_file() and path.suffix != ".tmp":
                state = path.stat()
                name = path.relative_to(self._root).as_posix()
                found[name] = Entry(state.st_size, state.st_mtime_ns)
        return found

    def sizes(self, below: str) -> dict[str, int]:
        return {name: entry.size for name, entry in self.entries(below).items()}

    def entry(self, name: str) -> Entry | None:
        path = self._root / name
        if not path.is_file():
            return None
        state = path.stat()
        return Entry(state.st_size, state.st_mtime_ns)

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        with files.atomic_write(self._root / name) as temporary, temporary.open("wb") as file:
            file.write(data)

    def upload(self, name: str, path: Path) -> None:
        with files.atomic_write(self._root / name) as temporary:
            _copy(path, temporary)

    def download(self, name: str, path: Path) -> None:
        with files.atomic_write(path, through=False) as temporary:
            _copy(self._root / name, temporary)

    def remove(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        shutil.rmtree(self._root / name, ignore_errors=True)

    def sweep(self) -> None:
        for path in self._root.rglob("*.tmp"):
            path.unlink(missing_ok=True)


class ObjectStore:
    """Files below a prefix of an object store: `s3://bucket/banks/fetal`, `gs://...`.

    Credentials come from the places that the store's own tools use (AWS_ACCESS_KEY_ID and so on),
    or from the URI. Requests that fail for a reason that may pass are repeated for PATIENCE_S.
    """

    folder: Path | None = None

    def __init__(self, uri: str, error: type[UserError]) -> None:
        self.uri, self._shown = uri, paths.shown_uri(uri)
        self._error = error
        try:
            self._files, self._root = pa.fs.FileSystem.from_uri(_opened_late(uri, True))
            self._large, _ = pa.fs.FileSystem.from_uri(_opened_late(uri, False))
        except (OSError, ValueError, pa.ArrowException) as problem:
            raise error(
                f"{self._shown} is not a valid address, or is unreachable "
                f"({_first_line(problem)}). Give a folder, or a URI such as s3://bucket/folder."
            ) from None

    def place(self, name: str = "") -> str:
        return f"{self._shown.rstrip('/')}/{name}" if name else self._shown

    def open(self, name: str) -> pa.NativeFile:
        return self._reached(name, lambda: self._files.open_input_file(self._path(name)))

    def read(self, name: str) -> pa.Buffer:
        def get() -> pa.Buffer:
            with self._files.open_input_file(self._path(name)) as file:
                return file.read_buffer()

        return self._reached(name, get)

    def entries(self, below: str) -> dict[str, Entry]:
        chosen = pa.fs.FileSelector(self._path(below), recursive=True, allow_not_found=True)
        found = self._reached(below, lambda: self._files.get_file_info(chosen))
        files = sorted((each for each in found if each.is_file), key=lambda each: str(each.path))
        start = len(self._path(""))
        return {each.path[start:]: Entry(each.size, each.mtime_ns or 0) for each in files}

    def sizes(self, below: str) -> dict[str, int]:
        return {name: entry.size for name, entry in self.entries(below).items()}

    def entry(self, name: str) -> Entry | None:
        found = self._reached(name, lambda: self._files.get_file_info(self._path(name)))
        return Entry(found.size, found.mtime_ns or 0) if found.is_file else None

    def has(self, name: str) -> bool:
        return self.entry(name) is not None

    def lacks_bucket(self) -> bool:
        """Return whether the bucket itself does not exist, to be asked when a file is missing."""
        bucket = self._root.strip("/").partition("/")[0]
        found = self._reached("", lambda: self._files.get_file_info(bucket))
        return bool(found.type == pa.fs.FileType.NotFound)

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        # A stream opened late asks for an upload in parts at its first write. If that fails,
        # closing the stream publishes an empty object: so large ones are asked for when opened.
        large = memoryview(data).nbytes >= _PARTS_BYTES
        files = self._large if large else self._files

        def put() -> None:
            # One write: closing a stream publishes what it holds, even after an error in between.
            with files.open_output_stream(self._path(name)) as stream:
                stream.write(data)

        self._reached(name, lambda: _undisturbed(put))

    def upload(self, name: str, path: Path) -> None:
        if not path.stat().st_size:
            self.write(name, b"")
            return
        with pa.memory_map(str(path)) as source:
            self.write(name, source.read_buffer())

    def download(self, name: str, path: Path) -> None:
        def get() -> None:
            with files.atomic_write(path, through=False) as temporary:
                with self._files.open_input_file(self._path(name)) as source:
                    source.download(str(temporary))
                    size = source.size()
                if temporary.stat().st_size != size:
                    raise OSError(f"{temporary.stat().st_size} of {size} bytes arrived")

        self._reached(name, get)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._reached(name, lambda: self._files.delete_file(self._path(name)))

    def remove_folder(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._reached(name, lambda: self._files.delete_dir(self._path(name)))

    def sweep(self) -> None:
        return  # partial objects are never visible; the store expires incomplete uploads

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _reached(self, name: str, request: Callable[[], Found]) -> Found:
        """Return the answer to a request, repeated while its failure may pass."""
        ends, pause = time.monotonic() + PATIENCE_S, _PAUSE_S
        while True:
            try:
                return request()
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as problem:
                if getattr(problem, "errno", None) in (28, 122):
                    raise  # this machine's disk is full
                reason = _first_line(problem)
                if _LASTING.search(str(problem)) or time.monotonic() + pause > ends:
                    raise self._error(
                        f"{self.place(name)} cannot be reached ({reason}). {_cure(str(problem))}"
                    ) from None
                if pause == _PAUSE_S * 4:
                    _log.warning(f"{self.place(name)} cannot be reached ({reason}); trying again")
                time.sleep(pause)
                pause = min(_MOST_PAUSE_S, pause * 2)


def _undisturbed(write: Callable[[], None]) -> None:
    """Write in a thread: a signal whose handler raises would publish an empty object otherwise.

    It reaches the main thread alone. After it the write ends by itself, whole or not at all.
    """
    if threading.current_thread() is not threading.main_thread():
        write()
        return
    done: Future[None] = Future()

    def run() -> None:
        try:
            write()
            done.set_result(None)
        except BaseException as error:  # raised by the caller instead
            done.set_exception(error)

    threading.Thread(target=run, name="fgaug-write").start()
    done.result()


def _opened_late(uri: str, late: bool) -> str:
    """Return an S3 URI whose streams start when they are closed (a small object takes one request,
    not three), or when they are opened."""
    if not uri.startswith("s3://"):
        return uri
    address, _, query = uri.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith(f"{_LATE}=")]
    return f"{address}?{'&'.join([*kept, f'{_LATE}={str(late).lower()}'])}"


def _cure(problem: str) -> str:
    if "NO_SUCH_BUCKET" in problem:
        return "The bucket does not exist: create it, or correct the address."
    if _SKEWED in problem:
        return (
            f"The clock of {platform.node()} is too far from the store's: set it, for example by "
            "NTP. Everything written so far is kept."
        )
    if _DENIED.search(problem):
        clock = f", and check the clock of {platform.node()}" if _UNEXPLAINED in problem else ""
        return (
            "Access is denied: give credentials that may read and write there, such as "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{clock}. Everything written so far is "
            "kept."
        )
    return (
        "Check the address, the credentials and the connection; everything written so far is kept."
    )


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read_from, target.open("wb") as write_to:
        while data := read_from.read(1 << 20):
            write_to.write(data)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
