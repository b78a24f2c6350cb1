"""Share images between processes as file offsets of memory-mapped pixels and row numbers."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fgaug.training.images import Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The location of a pixel array in a file."""

    file: str
    offset: int
    shape: tuple[int, ...]


Source = Place | np.ndarray  # an array in memory is sent as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Batches of labelled images as references into pixel arrays."""

    sources: Sequence[Source]
    source: np.ndarray  # int [..., n]
    row: np.ndarray  # the same shape
    label: np.ndarray  # the same shape


def rows_of(images: Images, index: np.ndarray) -> Rows:
    """Return references to the images `index`, in the shape of `index`."""
    return Rows(
        sources=[_place(source) for source in images.sources],
        source=images.source[index],
        row=images.row[index],
        label=images.label[index],
    )


def opened(rows: Rows) -> Images:
    """Return the images of `rows`, flattened, with pixels memory-mapped into this process."""
    return Images(
        sources=[_mapped(one) if isinstance(one, Place) else one for one in rows.sources],
        source=rows.source.ravel(),
        row=rows.row.ravel(),
        label=rows.label.ravel(),
    )


def _place(array: np.ndarray) -> Source:
    """Return the location of a memory-mapped array, or an array in memory itself."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    mapped: object = owner.base
    if not (isinstance(array, np.memmap) and isinstance(mapped, mmap.mmap)):
        return np.asarray(array)
    if not array.flags.c_contiguous or array.filename is None:
        return np.asarray(array)
    begin = np.frombuffer(mapped, np.uint8).ctypes.data
    # a view keeps the offset of its base, and a mapping starts at a page boundary
    first = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    offset = first + array.ctypes.data - begin
    return Place(file=str(array.filename), offset=offset, shape=array.shape)


@lru_cache(maxsize=64)
def _mapped(place: Place) -> np.ndarray:
    return np.memmap(place.file, np.uint8, "r", place.offset, place.shape)
