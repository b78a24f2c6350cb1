"""Store pixels in Parquet files, and cache one decoded, memory-mapped copy per machine.

Files have one `fixed_size_binary(H*W*C)` column, uint8, row-major HWC, with the shape in the
metadata, neither compressed nor dictionary-encoded: 1 byte per value, readable by any Parquet
tool. Reading single rows from Parquet decodes whole pages, so training reads a decoded `.npy` that
all processes of a machine share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.core import cache, files, paths
from fgaug.core.cache_lookups import count_lookup
from fgaug.errors import UserError

PIXELS = "pixels"
ImageArray: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]  # [N, H, W, C]
_SHAPE_KEY = b"fgaug.shape"
_ROW_GROUP_BYTES = 4 << 20


def encoded(images: np.ndarray, columns: dict[str, pa.Array]) -> pa.Buffer:
    """Encode `columns` and `images` (uint8 [N, H, W, C]) as the bytes of a Parquet file."""
    assert images.dtype == np.uint8
    assert images.ndim == 4
    row_bytes = int(np.prod(images.shape[1:]))
    data = pa.py_buffer(np.ascontiguousarray(images))
    column = pa.Array.from_buffers(pa.binary(row_bytes), len(images), [None, data])
    table = pa.table({**columns, PIXELS: column})
    shape = json.dumps(images.shape[1:]).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({_SHAPE_KEY: shape}),
        sink,
        compression="none",
        use_dictionary=False,
        write_statistics=[name for name in columns],
        write_page_checksum=True,
        row_group_size=max(1, _ROW_GROUP_BYTES // row_bytes),
    )
    return sink.getvalue()


def write_pixels(path: Path, images: np.ndarray, columns: dict[str, pa.Array]) -> None:
    """Write `columns` and `images` (uint8 [N, H, W, C]) to a Parquet file atomically."""
    data = encoded(images, columns)
    with files.atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def read_pixels(path: Path, error: type[UserError]) -> np.ndarray:
    """Read all images of a file, uint8 [N, H, W, C]; raise `error` if it is damaged."""
    try:
        return decoded(pa.OSFile(str(path)), str(path), error)
    except FileNotFoundError:
        raise error(f"{path} is missing.") from None


def decoded(file: pa.NativeFile, place: str, error: type[UserError]) -> np.ndarray:
    """Read all images of an open file, uint8 [N, H, W, C]; `place` names it in messages."""
    try:
        table = pq.read_table(
            file, columns=[PIXELS], partitioning=None, page_checksum_verification=True
        )
        shape = json.loads(table.schema.metadata[_SHAPE_KEY])
        column = table.column(PIXELS).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # combine_chunks may keep the wrapper
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if not len(column):
            return np.empty((0, *shape), np.uint8)
        flat = np.frombuffer(column.buffers()[1], np.uint8)
        start = column.offset * column.type.byte_width
        flat = flat[start : start + len(column) * column.type.byte_width]
        return flat.reshape(len(column), *shape)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise error(f"{place} is not a valid pixel file ({reason}).") from None


def cached_memmap(
    key: str,
    rows: int,
    shape: Sequence[int],
    load: Callable[[], np.ndarray],
    dtype: type[np.generic] = np.uint8,
) -> np.ndarray:
    """Return the array named `key`, memory-mapped and created once per machine.

    Args:
        key: digest of the content; names the cached file.
        rows: number of images; a cached file of another length is replaced.
        shape: shape per image: (H, W, C) for pixels.
        load: returns the array [rows, *shape]; called if it is not cached.
        dtype: dtype of the array; uint8 for pixels.
    """
    path = paths.usable_cache() / f"{key}.npy"
    wanted = (rows, *shape)
    found = _cached(path, wanted, dtype)
    count_lookup("decoded", hit=found is not None)
    if found is not None:
        return found
    with cache.making(path, int(np.prod(wanted)) * np.dtype(dtype).itemsize):
        found = _cached(path, wanted, dtype)  # another process may have created it meanwhile
        if found is not None:
            return found
        array = np.ascontiguousarray(load())
        assert array.dtype == dtype, array.dtype
        assert array.shape[: len(wanted)] == wanted, (array.shape, wanted)
        with files.atomic_write(path) as temporary, temporary.open("wb") as file:
            # not np.save, whose OSError does not mention a full disk
            header = np.lib.format.header_data_from_array_1_0(array)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(array.data)
    made: np.ndarray = np.load(path, mmap_mode="r")
    return made


def _cached(path: Path, wanted: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray | None:
    """Return the memory-mapped copy, marked as used; None if it is missing or truncated."""
    try:
        found: np.ndarray = np.load(path, mmap_mode="r")
        if found.shape[: len(wanted)] != wanted or found.dtype != dtype:
            return None
        cache.used(path)
        return found
    except (OSError, ValueError, EOFError):
        return None


def forget(key: str) -> None:
    """Remove the decoded copy named `key`, if any; processes that map it are not affected.

    Other machines keep their copies until `cache.evict` finds them unused.
    """
    (paths.usable_cache() / f"{key}.npy").unlink(missing_ok=True)
