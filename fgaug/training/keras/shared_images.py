"""Images that two processes share: places of memory-mapped pixels and row numbers."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fgaug.training.images import Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an array of pixels lies in a file."""

    file: str
    offset: int
    shape: tuple[int, ...]


Source = Place | np.ndarray  # an array that is in no file travels whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Batches of labelled images as references into pixels."""

    sources: Sequence[Source]
    source: np.ndarray  # int [..., n]
    row: np.ndarray  # the same shape
    label: np.ndarray  # the same shape


def rows_of(images: Images, index: np.ndarray) -> Rows:
    """Return the images `index`, in its shape."""
    return Rows(
        sources=[_place(source) for source in images.sources],
        source=images.source[index],
        row=images.row[index],
        label=images.label[index],
    )


def opened(rows: Rows) -> Images:
    """Return the images of `rows`, flat, their pixels mapped into this process."""
    return Images(
        sources=[_mapped(one) if isinstance(one, Place) else one for one in rows.sources],
        source=rows.source.ravel(),
        row=rows.row.ravel(),
        label=rows.label.ravel(),
    )


def _place(array: np.ndarray) -> Source:
    """Return where the pixels of a mapped array lie; the array itself where it is in no file."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    mapped: object = owner.base
    if not (isinstance(array, np.memmap) and isinstance(mapped, mmap.mmap)):
        return np.asarray(array)
    if not array.flags.c_contiguous or array.filename is None:
        return np.asarray(array)
    begin = np.frombuffer(mapped, np.uint8).ctypes.data
    # a view keeps the offset of the whole, and a map starts at a page
    first = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    offset = first + array.ctypes.data - begin
    return Place(file=str(array.filename), offset=offset, shape=array.shape)


@lru_cache(maxsize=64)
def _mapped(place: Place) -> np.ndarray:
    return np.memmap(place.file, np.uint8, "r", place.offset, place.shape)
