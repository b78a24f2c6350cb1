""".rows.cache: the rows of a run's trials in one file, verified against the trials' own files.

A run of 100,000 trials has as many `result.json`, which take a minute to read. The cache holds
their rows with each file's size and time of modification; a row counts only while both are
unchanged. The JSON files stay the truth: a cache that is missing, damaged or from another version
is ignored, and deleting it loses nothing. It describes the files of one folder and stays there:
for a run on object storage, in this machine's mirror.

The file is one line of JSON (lengths and SHA-256 of two parts), the index of trials as JSON, and
the rows as Parquet (see `row_table`). Loads no library of numbers: `fgaug status` reads the index.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from fgaug.core import files
from fgaug.core.paths import RunPaths

_MAGIC = "fgaug rows 1"
_HEAD = 1000  # bytes; the first line is shorter
# A file may be written twice within one tick of its clock, so the rows of files this new at the
# time of writing are left out.
SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class FileState:
    """The size (bytes) and time of modification (ns) of a result file."""

    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A trial in the cache."""

    state: FileState
    status: str  # in its last row
    first: int  # its first row in the cache
    count: int  # of rows

    def __post_init__(self) -> None:
        if not (isinstance(self.status, str) and self.first >= 0 and self.count > 0):
            raise ValueError("not an entry of the index")


def started(run: RunPaths) -> frozenset[str]:
    """Return the cells that have a folder in the run, from one listing."""
    try:
        return frozenset(os.listdir(run.trials))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def result_states(run: RunPaths) -> dict[str, FileState]:
    """Return the state of every result file of a run, by cell in ascending order."""
    found = {}
    root, name = os.fspath(run.trials), run.trial("").result.name
    for cell_id in sorted(started(run)):
        try:
            of = os.stat(f"{root}/{cell_id}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(of.st_mode):
            found[cell_id] = FileState(of.st_size, of.st_mtime_ns)
    return found


def read_index(run: RunPaths) -> dict[str, Entry]:
    """Return the trials in a run's cache; empty if there is no usable cache."""
    return _read(run)[0]


def read_parts(run: RunPaths) -> tuple[dict[str, Entry], bytes]:
    """Return the trials in a run's cache and its rows as Parquet; empty without a usable cache."""
    return _read(run, rows=True)


def _read(run: RunPaths, rows: bool = False) -> tuple[dict[str, Entry], bytes]:
    try:
        with run.row_cache.open("rb") as file:
            head = json.loads(file.readline(_HEAD))
            if head["format"] != _MAGIC:
                return {}, b""
            index = _checked(file.read(head["index_bytes"]), head["index_sha256"])
            parquet = b""
            if rows:
                parquet = _checked(file.read(head["rows_bytes"]), head["rows_sha256"])
        return _entries(json.loads(index)), parquet
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}, b""


def _checked(content: bytes, sha256: str) -> bytes:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("damaged")
    return content


def _entries(index: Mapping[str, list[int] | list[str]]) -> dict[str, Entry]:
    names = ("cell_id", "size", "modified_ns", "status", "first", "count")
    columns = zip(*(index[name] for name in names), strict=True)
    return {
        cell_id: Entry(FileState(size, modified), status, first, count)
        for cell_id, size, modified, status, first, count in columns
    }


def write(run: RunPaths, entries: Mapping[str, Entry], parquet: bytes) -> None:
    """Write a run's cache atomically."""
    every = entries.values()
    content = json.dumps(
        {
            "cell_id": list(entries),
            "size": [entry.state.size for entry in every],
            "modified_ns": [entry.state.modified_ns for entry in every],
            "status": [entry.status for entry in every],
            "first": [entry.first for entry in every],
            "count": [entry.count for entry in every],
        },
        separators=(",", ":"),
    ).encode()
    head = {
        "format": _MAGIC,
        "index_bytes": len(content),
        "index_sha256": hashlib.sha256(content).hexdigest(),
        "rows_bytes": len(parquet),
        "rows_sha256": hashlib.sha256(parquet).hexdigest(),
    }
    with files.atomic_write(run.row_cache, through=False) as temporary:
        temporary.write_bytes(json.dumps(head).encode() + b"\n" + content + parquet)
