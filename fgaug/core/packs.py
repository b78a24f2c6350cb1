"""Packs: Parquet files in a store that each hold the small files of many finished trials.

A run of 100,000 trials would be half a million objects, and listing those takes minutes. A search
packs its finished trials a thousand at a time and removes their objects. A mirror unpacks what it
gets, so that everything that reads a run finds the same files as in a folder. An object of its own
has precedence over a packed one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.core import files, write_through

FOLDER = "packs"
_SCHEMA = pa.schema(
    [("folder", pa.string()), ("file", pa.string()), ("content", pa.large_binary())]
)
_GROUP = 256  # files a row group, to read a pack in parts


def write(root: Path, folders: Sequence[Path]) -> Path:
    """Write the files of some folders below a mirror's root as one pack, and return it.

    Args:
        root: of the mirror.
        folders: of finished trials.
    """
    number = 1 + max((int(path.stem) for path in (root / FOLDER).glob("*.parquet")), default=0)
    path = root / FOLDER / f"{number:06d}.parquet"
    with (
        files.atomic_write(path) as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer,
    ):
        for start in range(0, len(folders), _GROUP):
            writer.write_table(_table(root, folders[start : start + _GROUP]))
        writer.close()  # before it is uploaded
    _mark(path)
    return path


def packed_files(root: Path) -> set[str]:
    """Return the names, relative to the root, of all files in the packs of a mirror."""
    names: set[str] = set()
    for path in sorted((root / FOLDER).glob("*.parquet")):
        table = pq.read_table(path, columns=["folder", "file"], partitioning=None)
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        names.update(f"{folder}/{file}" for folder, file in pairs)
    return names


def unpack(root: Path, loose: set[str]) -> None:
    """Write the files of packs that are new in a mirror to their folders.

    Args:
        root: of the mirror.
        loose: names of objects of their own, which are left alone.
    """
    for path in sorted((root / FOLDER).glob("*.parquet")):
        if _mark_of(path).is_file():
            continue
        made: set[str] = set()
        modified_ns = path.stat().st_mtime_ns  # so old that the cache of rows takes it for settled
        for folder, file, content in _rows(path):
            if f"{folder}/{file}" in loose:
                continue
            place = os.path.join(root, folder)
            if folder not in made:
                os.makedirs(place, exist_ok=True)
                made.add(folder)
            temporary = os.path.join(place, f".{file}.{os.getpid()}.tmp")
            with open(temporary, "wb") as written:
                written.write(content)
            os.utime(temporary, ns=(modified_ns, modified_ns))
            os.replace(temporary, os.path.join(place, file))
        _mark(path)


def _table(root: Path, folders: Sequence[Path]) -> pa.Table:
    rows = [
        (folder.relative_to(root).as_posix(), path.name, write_through.fetched(path).read_bytes())
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], _SCHEMA)


def _rows(path: Path) -> Iterator[tuple[str, str, bytes]]:
    with pq.ParquetFile(path) as pack:
        for batch in pack.iter_batches(_GROUP):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _mark_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.unpacked")


def _mark(path: Path) -> None:
    _mark_of(path).touch()
