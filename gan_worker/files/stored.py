"""References to numbers in a network file, and the records of numpy objects."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from struct import unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgaug.errors import SnapshotError
from gan_worker.files.unpickle import Blob, Name, Opaque

MAX_DIMENSIONS = 8
READ = ("float32", "float16", "float64")  # dtypes of weights


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Little-endian numbers as a range of the file's bytes."""

    view: memoryview
    count: int
    number_type: str  # such as float32


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor view that is known to lie within its storage and to be no larger."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Dtype:
    """A numpy dtype; BUILD sets its memory layout."""

    code: str  # such as f4
    plain: bool = True  # little-endian, without fields

    @property
    def name(self) -> str:
        """Name of the dtype, such as float32."""
        return np.dtype(self.code).name

    @property
    def bytes(self) -> int:
        """Size of one number in bytes; 0 if the dtype is not plain."""
        return int(self.code[1]) if self.plain and self.code in _NUMBERS else 0


@dataclass(slots=True, eq=False)
class NumpyArray:
    """A numpy array of a TensorFlow file; BUILD sets the location of its numbers."""

    tensor: StoredTensor | Opaque | None = None


_NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})


def array_of(tensor: StoredTensor, name: str) -> NDArray[Any]:
    """Return a view of the file's bytes; convolution weights may be channels-last.

    Raises:
        SnapshotError: the dtype is not one of weights, such as integers or bfloat16.
    """
    storage = tensor.storage
    if storage.number_type not in READ:
        raise SnapshotError(
            f"tensor {shown(name)} is stored as {storage.number_type}, but weights must be "
            "float32, float16 or float64: save the network after `.float()`"
        )
    kind = np.dtype(storage.number_type).newbyteorder("<")
    flat = np.frombuffer(storage.view, dtype=kind, count=storage.count)
    steps = [kind.itemsize * step for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, steps, writeable=False
    )


def shown(value: Any) -> str:
    """Return a short, printable form of a file's value for messages, without traversing it."""
    if isinstance(value, NumpyArray):
        return shown(value.tensor) if isinstance(value.tensor, Opaque) else "a numpy array"
    if isinstance(value, Opaque):
        return value.what
    if isinstance(value, str | int | float | None):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:80]}..."
    return f"a {type(value).__name__}"


def require(holds: bool, problem: str) -> None:
    """Raise SnapshotError with `problem` unless `holds`."""
    if not holds:
        raise SnapshotError(problem)


def numpy_scalar(arguments: tuple[Any, ...]) -> StoredTensor | float | int:
    """Read a numpy scalar: a 0-d variable of a TensorFlow file, or a gain of an old one."""
    match arguments:
        case (Dtype() as kind, Blob(view)) if kind.bytes and kind.bytes == len(view):
            pass
        case _:
            raise SnapshotError("a numpy scalar that is not a single number of its dtype")
    if kind.code == "f8":
        return float(unpack_from("<d", view)[0])
    if kind.code in ("i4", "i8"):
        return int.from_bytes(view, "little", signed=True)
    return StoredTensor(Storage(view, 1, kind.name), 0, (), ())


def numpy_dtype(arguments: tuple[Any, ...]) -> Dtype:
    """Return the numpy dtype for a code."""
    code = arguments[0] if len(arguments) == 3 else None
    if not (isinstance(code, str) and len(code) <= 20):
        raise SnapshotError("a numpy dtype without a code")
    return Dtype(code)


def set_dtype(kind: Dtype, state: Any) -> None:
    """Record whether a numpy dtype is plain: a single little-endian number."""
    plain = (
        isinstance(state, tuple)
        and len(state) >= 5
        and state[1] in ("<", "|")
        and all(part is None for part in state[2:5])
    )
    kind.plain = kind.plain and plain


def numpy_array(arguments: tuple[Any, ...]) -> NumpyArray:
    """Create an array like numpy's unpickling: empty and of bytes; BUILD fills it."""
    match arguments:
        case (Name("numpy ndarray"), (0,), Blob(view)) if len(view) == 1:
            return NumpyArray()
        case _:
            raise SnapshotError("a numpy array that does not start empty")


def set_array(array: NumpyArray, state: Any) -> None:
    """Set the location of an array's numbers, after checking their count against the shape."""
    require(array.tensor is None, "a numpy array filled twice")
    try:
        array.tensor = _filled(state)
    except SnapshotError as error:  # raised only if the network needs this array
        array.tensor = Opaque(str(error))


def numpy_buffer(arguments: tuple[Any, ...]) -> StoredTensor:
    """Read an array in the form of protocol 5: numbers, dtype, shape, order, axis order."""
    match arguments:
        case (Blob() as blob, Dtype() as kind, tuple(shape), ("C" | "F") as order, *rest) if all(
            more is None for more in rest
        ):
            return _filled((1, shape, kind, order == "F", blob))
        case (Blob() as blob, Dtype() as kind, tuple(shape), "K", tuple(axes)):
            tensor = _filled((1, shape, kind, False, blob))
        case _:
            raise SnapshotError("a numpy array that is not made of a block of numbers")
    require(
        all(type(axis) is int for axis in axes) and sorted(axes) == list(range(len(shape))),
        "a numpy array of an unknown axis order",
    )
    size, stride = (tuple(of[axis] for axis in axes) for of in (tensor.size, tensor.stride))
    return StoredTensor(tensor.storage, 0, size, stride)


def _filled(state: Any) -> StoredTensor:
    match state:
        case (1, tuple(shape), Dtype() as kind, bool(fortran), Blob(view)) if kind.bytes:
            pass
        case _:
            raise SnapshotError("a numpy array that is not made of plain numbers")
    require(
        len(shape) <= MAX_DIMENSIONS and all(type(n) is int and 1 <= n < 2**40 for n in shape),
        "a numpy array whose shape is not made of whole numbers from 1 to 2**40",
    )
    count = prod(shape)
    require(
        kind.bytes * count == len(view),
        f"a numpy array of shape {shape} with {len(view)} bytes of {kind.name} numbers",
    )
    steps = [prod(shape[:i]) if fortran else prod(shape[i + 1 :]) for i in range(len(shape))]
    return StoredTensor(Storage(view, count, kind.name), 0, shape, tuple(steps))
