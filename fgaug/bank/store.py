"""Storage of a bank's files: `core.store` with the errors of a bank."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fgaug.core import store
from fgaug.core.store import Store
from fgaug.errors import BankError

__all__ = ["Store", "open_store", "read"]


def open_store(uri: str | Path | Store) -> Store:
    """Open the store at a path, a `file://` URI or any `pyarrow.fs` URI.

    Raises:
        BankError: the address is invalid.
    """
    return store.open_store(uri, BankError)


def read(of: Store, name: str) -> pa.Buffer:
    """Return all bytes of a bank's file.

    Raises:
        FileNotFoundError: there is none of that name.
        BankError: it exists but cannot be read.
    """
    return store.read(of, name, BankError)
