"""Storage of a bank's files: a folder, or a prefix of an object store.

Files are written atomically: in a folder by renaming a temporary file; an object store publishes
an object only when it is complete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.fs

from fgaug.core import files, paths
from fgaug.errors import BankError


class Store(Protocol):
    """Files by name relative to the bank, such as `shards/trv/psi_0.7/1-2000.parquet`."""

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

    def sizes(self, below: str) -> dict[str, int]:
        """Return the size in bytes of every non-temporary file below a folder, by name."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        ...

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a file atomically."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        ...

    def sweep(self) -> None:
        """Remove temporary files of killed writers; the caller must hold the bank's lock."""
        ...


def open_store(uri: str | Path | Store) -> Store:
    """Open the store at a path, a `file://` URI or any `pyarrow.fs` URI."""
    if not isinstance(uri, (str, Path)):
        return uri
    if "://" not in str(uri):
        return FolderStore(Path(uri))
    parsed = urlparse(str(uri))
    if parsed.scheme == "file":
        return FolderStore(Path(unquote(parsed.path)))
    return ObjectStore(str(uri))


def read(store: Store, name: str) -> pa.Buffer:
    """Return all bytes of a file.

    Raises:
        FileNotFoundError: there is none of that name.
        BankError: it exists but cannot be read.
    """
    try:
        with store.open(name) as file:
            return file.read_buffer()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BankError(
            f"{store.place(name)} cannot be read ({_first_line(error)}). Check the disk or the "
            "connection; everything written so far is kept."
        ) from None


class FolderStore:
    """A bank in a local or mounted folder."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        self.uri = str(folder.absolute())  # workers may have another working directory
        self._root = folder

    def place(self, name: str = "") -> str:
        return str(self._root / name)

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(str(self._root / name))

    def sizes(self, below: str) -> dict[str, int]:
        found = {}
        for path in sorted((self._root / below).rglob("*")):
            if path.is_file() and path.suffix != ".tmp":
                found[path.relative_to(self._root).as_posix()] = path.stat().st_size
        return found

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        with files.atomic_write(self._root / name) as temporary, temporary.open("wb") as file:
            file.write(data)

    def remove(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        for path in self._root.rglob("*.tmp"):
            path.unlink(missing_ok=True)


class ObjectStore:
    """A bank below a prefix of an object store: `s3://bucket/banks/fetal`, `gs://...`.

    Credentials come from the places that the store's own tools use (AWS_ACCESS_KEY_ID and so on),
    or from the URI.
    """

    folder: Path | None = None

    def __init__(self, uri: str) -> None:
        self.uri, self._shown = uri, paths.without_secrets(uri).partition("?")[0]
        try:
            self._files, self._root = pa.fs.FileSystem.from_uri(uri)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise BankError(
                f"{self._shown} is not a valid bank address, or is unreachable "
                f"({_first_line(error)}). Give a folder, or a URI such as s3://bucket/folder."
            ) from None

    def place(self, name: str = "") -> str:
        return f"{self._shown.rstrip('/')}/{name}" if name else self._shown

    def open(self, name: str) -> pa.NativeFile:
        with self._reached(name):
            return self._files.open_input_file(self._path(name))

    def sizes(self, below: str) -> dict[str, int]:
        chosen = pa.fs.FileSelector(self._path(below), recursive=True, allow_not_found=True)
        with self._reached(below):
            found = self._files.get_file_info(chosen)
        files = sorted((file.path, file.size) for file in found if file.is_file)
        return {path.removeprefix(self._path("")): size for path, size in files}

    def has(self, name: str) -> bool:
        with self._reached(name):
            return bool(self._files.get_file_info(self._path(name)).is_file)

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        with self._reached(name), self._files.open_output_stream(self._path(name)) as stream:
            stream.write(data)

    def remove(self, name: str) -> None:
        with self._reached(name), contextlib.suppress(FileNotFoundError):
            self._files.delete_file(self._path(name))

    def sweep(self) -> None:
        return  # partial objects are never visible; the store expires incomplete uploads

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise BankError(
                f"{self.place(name)} cannot be reached ({_first_line(error)}). Check the address, "
                "the credentials and the connection; everything written so far is kept."
            ) from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
