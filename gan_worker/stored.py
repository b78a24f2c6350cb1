"""Numbers in a network file by their place, and the numpy records that name them.

bytes -> unpickle (machine) -> records, [stored] -> modules, tensorflow_files
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from struct import unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgaug.errors import SnapshotError
from gan_worker.unpickle import Blob, Dtype, Name

MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Storage:
    """Little-endian float32 numbers by their place in the file."""

    start: int
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view that was checked to lie inside its storage and to be no larger than it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(slots=True)
class NumpyArray:
    """A numpy array of a TensorFlow file; BUILD says where its numbers are."""

    tensor: StoredTensor | None = None


def array_of(data: bytes, tensor: StoredTensor) -> NDArray[np.float32]:
    """Return a view of the file's bytes; conv weights may be stored channels-last."""
    storage = tensor.storage
    flat = np.frombuffer(data, dtype="<f4", count=storage.count, offset=storage.start)
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, [4 * step for step in tensor.stride], writeable=False
    )


def shown(value: Any) -> str:
    """Return a value of a file for a message: short, printable, never walking what it holds."""
    if isinstance(value, str | int | float | None):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:80]}..."
    return f"a {type(value).__name__}"


def require(holds: bool, problem: str) -> None:
    """Refuse a file with `problem` unless a rule holds."""
    if not holds:
        raise SnapshotError(problem)


def numpy_scalar(data: bytes, arguments: tuple[Any, ...]) -> StoredTensor | float | int:
    """Read a numpy scalar: a 0-d variable of a TensorFlow file, or a gain of an old one."""
    match arguments:
        case (Dtype("f4"), Blob(start, 4)):
            return StoredTensor(Storage(start, 1), 0, (), ())
        case (Dtype("f8"), Blob(start, 8)):
            return float(unpack_from("<d", data, start)[0])
        case (Dtype("i4" | "i8" as code), Blob(start, length)) if length == int(code[1]):
            return int.from_bytes(data[start : start + length], "little", signed=True)
        case _:
            raise SnapshotError("a numpy scalar that is not one number of its type")


def numpy_dtype(_: bytes, arguments: tuple[Any, ...]) -> Dtype:
    """Return a numpy type by its code; none that holds objects or fields."""
    code = arguments[0] if len(arguments) == 3 else None
    if not (isinstance(code, str) and code in ("f4", "f8", "i4", "i8")):
        raise SnapshotError("a numpy type other than float32, float64, int32 and int64")
    return Dtype(code)


def set_dtype(_: Dtype, state: Any) -> None:
    """Check the state of a numpy type, which says nothing new of those allowed."""
    require(
        isinstance(state, tuple)
        and len(state) >= 5
        and state[1] == "<"
        and all(part is None for part in state[2:5]),
        "a numpy type that is not plain and little-endian",
    )


def numpy_array(_: bytes, arguments: tuple[Any, ...]) -> NumpyArray:
    """Open an array as numpy does: empty, of one byte a number; BUILD fills it."""
    match arguments:
        case (Name("numpy ndarray"), (0,), Blob(_, 1)):
            return NumpyArray()
        case _:
            raise SnapshotError("a numpy array that is not opened empty")


def set_array(array: NumpyArray, state: Any) -> None:
    """Fill an array with the place of its numbers: as many as its shape says."""
    match state:
        case (1, tuple(shape), Dtype("f4"), bool(fortran), Blob(start, length)):
            pass
        case _:
            raise SnapshotError("a numpy array that is not made of float32 numbers")
    require(array.tensor is None, "a numpy array filled twice")
    require(
        len(shape) <= MAX_DIMENSIONS and all(type(n) is int and 1 <= n < 2**40 for n in shape),
        "a numpy array whose shape is not made of whole numbers from 1 to 2**40",
    )
    count = prod(shape)
    require(
        4 * count == length,
        f"a numpy array of shape {shape} with {length} bytes of numbers",
    )
    steps = [prod(shape[:i]) if fortran else prod(shape[i + 1 :]) for i in range(len(shape))]
    array.tensor = StoredTensor(Storage(start, count), 0, shape, tuple(steps))
