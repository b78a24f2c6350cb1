"""`files.json`: size and SHA-256 of every file of a staged folder, written last.

It makes a folder on an object store complete and checkable: readers compare what arrives with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from fgaug.core import files, store
from fgaug.core.store import Store
from fgaug.errors import UserError

NAME = "files.json"
SCHEMA = 1
Listing = Mapping[str, "Listed"]


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of a stored file before it is read."""

    size: int  # bytes
    sha256: str | None = None  # None: the folder has no `files.json`


def digest(listing: Listing) -> str:
    """Return the SHA-256 of a listing, which identifies all of its files, as 64 hex digits."""
    text = json.dumps({name: asdict(each) for name, each in listing.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def encoded(listing: Listing) -> bytes:
    """Return the content of `files.json`."""
    raw = {"schema": SCHEMA, "files": {name: asdict(each) for name, each in listing.items()}}
    return json.dumps(raw, indent=1).encode()


def read(of: Store, error: type[UserError]) -> dict[str, Listed] | None:
    """Return the listing of a stored folder; None if it has none.

    Raises:
        UserError: `error`, if it is damaged or cannot be reached.
    """
    try:
        raw = json.loads(store.read(of, NAME, error).to_pybytes())
        if raw["schema"] == SCHEMA:
            return {
                str(name): Listed(int(each["size"]), str(each["sha256"]))
                for name, each in raw["files"].items()
            }
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise error(
        f"{of.place(NAME)} is damaged or of another version of fgaug. Stage the folder again: "
        "`fgaug stage FOLDER URI`."
    )


def check(data: pa.Buffer | Path, listed: Listed, place: str, error: type[UserError]) -> None:
    """Refuse content that differs from its entry in a listing.

    Args:
        data: the content, in memory or in a file.
        listed: its entry; without a digest the size alone is checked.
        place: names it in messages.
        error: raised if it differs.
    """
    size = data.stat().st_size if isinstance(data, Path) else data.size
    if size != listed.size:
        differs = f"it has {size} bytes instead of {listed.size}"
    elif listed.sha256 is not None and (found := sha256_of(data)) != listed.sha256:
        differs = f"its SHA-256 is {found[:12]} instead of {listed.sha256[:12]}"
    else:
        return
    raise error(
        f"{place} is damaged: {differs}. Stage the folder again: `fgaug stage FOLDER URI`. "
        "Nothing was kept of it on this machine."
    )


def sha256_of(data: pa.Buffer | Path) -> str:
    """Return the SHA-256 of content in memory or in a file, as 64 hex digits."""
    if isinstance(data, Path):
        return files.sha256_of(data)
    return hashlib.sha256(data).hexdigest()
