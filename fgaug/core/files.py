"""Write files atomically; read and write JSON and tables; compute digests.

Below a mirror of a store (see `mirror`), a file is written to the store before it appears, and
removed from it before it disappears.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgaug.core import write_through
from fgaug.errors import DiskFullError, UserError

if TYPE_CHECKING:
    import pyarrow as pa


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Report a full disk while writing `path` in one clear message."""
    try:
        yield
    except OSError as error:
        if error.errno in DiskFullError.ERRNOS:
            raise DiskFullError(
                f"No space left on {platform.node()} while writing {path}. Finished work is "
                "valid; free some space and run the same command again."
            ) from error
        raise


@contextlib.contextmanager
def atomic_write(path: Path, *, through: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; flush and rename it on success, else remove it.

    Args:
        path: the file.
        through: below a mirror, write it to the store too.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            if through and (found := write_through.target_of(path)) is not None:
                target, stored = found
                target.upload(stored, temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def remove(path: Path) -> None:
    """Remove a file if it exists."""
    found = write_through.target_of(path)
    if found is not None and path.is_file():
        target, name = found
        target.remove(name)
    path.unlink(missing_ok=True)


def move(path: Path, to: Path) -> None:
    """Rename a file, replacing `to` if it exists."""
    if (found := write_through.target_of(to)) is not None:
        target, name = found
        target.upload(name, path)
        remove_from = write_through.target_of(path)
        if remove_from is not None:
            remove_from[0].remove(remove_from[1])
    path.replace(to)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=False, allow_nan=True) + "\n")


def read_json(path: Path, error: type[UserError]) -> Any:
    """Read the JSON value in `path`, or raise `error` with the path and the cure."""
    try:
        return json.loads(write_through.fetched(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} is missing.") from None
    except (OSError, ValueError) as problem:
        raise error(f"{path} cannot be read as JSON ({problem}). Restore or remove it.") from None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet table to `path` atomically."""
    import pyarrow.parquet as pq  # late: `fgaug status` reads no tables

    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)


def read_table(path: Path, error: type[UserError], columns: list[str] | None = None) -> pa.Table:
    """Read the Parquet table in `path`, or raise `error` with the path and the cure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(write_through.fetched(path), columns=columns, partitioning=None)
    except FileNotFoundError:
        raise error(f"{path} is missing.") from None
    except (OSError, pa.ArrowException) as problem:
        reason = str(problem).splitlines()[0]
        raise error(
            f"{path} is not a valid Parquet file ({reason}). Restore it, or create it again."
        ) from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
