"""Numbers in a network file by their place, and the numpy records that name them."""

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
READ = ("float32", "float16", "float64")  # number types of weights


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Little-endian numbers, as bytes of the file."""

    view: memoryview
    count: int
    number_type: str  # such as float32


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A view that was checked to lie inside its storage and to be no larger than it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Dtype:
    """A numpy scalar type; BUILD says how its numbers are laid out."""

    code: str  # such as f4
    plain: bool = True  # little-endian, without fields

    @property
    def name(self) -> str:
        """Return the type's name, such as float32."""
        return np.dtype(self.code).name

    @property
    def bytes(self) -> int:
        """Return the bytes of one number, 0 where the type is not one of plain numbers."""
        return int(self.code[1]) if self.plain and self.code in _NUMBERS else 0


@dataclass(slots=True, eq=False)
class NumpyArray:
    """A numpy array of a TensorFlow file; BUILD says where its numbers are."""

    tensor: StoredTensor | Opaque | None = None


_NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})


def array_of(tensor: StoredTensor, name: str) -> NDArray[Any]:
    """Return a view of the file's bytes; conv weights may be stored channels-last.

    Raises:
        SnapshotError: numbers that are no weights, such as integers or bfloat16.
    """
    storage = tensor.storage
    if storage.number_type not in READ:
        raise SnapshotError(
            f"tensor {shown(name)} is stored as {storage.number_type}; weights are read as "
            "float32, float16 or float64: save the network after `.float()`"
        )
    kind = np.dtype(storage.number_type).newbyteorder("<")
    flat = np.frombuffer(storage.view, dtype=kind, count=storage.count)
    steps = [kind.itemsize * step for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, steps, writeable=False
    )


def shown(value: Any) -> str:
    """Return a value of a file for a message: short, printable, never walking what it holds."""
    if isinstance(value, NumpyArray):
        return shown(value.tensor) if isinstance(value.tensor, Opaque) else "a numpy array"
    if isinstance(value, Opaque):
        return value.what
    if isinstance(value, str | int | float | None):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:80]}..."
    return f"a {type(value).__name__}"


def require(holds: bool, problem: str) -> None:
    """Refuse a value with `problem` unless a rule holds."""
    if not holds:
        raise SnapshotError(problem)


def numpy_scalar(arguments: tuple[Any, ...]) -> StoredTensor | float | int:
    """Read a numpy scalar: a 0-d variable of a TensorFlow file, or a gain of an old one."""
    match arguments:
        case (Dtype() as kind, Blob(view)) if kind.bytes and kind.bytes == len(view):
            pass
        case _:
            raise SnapshotError("a numpy scalar that is not one number of its type")
    if kind.code == "f8":
        return float(unpack_from("<d", view)[0])
    if kind.code in ("i4", "i8"):
        return int.from_bytes(view, "little", signed=True)
    return StoredTensor(Storage(view, 1, kind.name), 0, (), ())


def numpy_dtype(arguments: tuple[Any, ...]) -> Dtype:
    """Return a numpy type by its code."""
    code = arguments[0] if len(arguments) == 3 else None
    if not (isinstance(code, str) and len(code) <= 20):
        raise SnapshotError("a numpy type without a code")
    return Dtype(code)


def set_dtype(kind: Dtype, state: Any) -> None:
    """Note whether a numpy type is plain: of one number, in little-endian order."""
    plain = (
        isinstance(state, tuple)
        and len(state) >= 5
        and state[1] in ("<", "|")
        and all(part is None for part in state[2:5])
    )
    kind.plain = kind.plain and plain


def numpy_array(arguments: tuple[Any, ...]) -> NumpyArray:
    """Open an array as numpy does: empty, of one byte a number; BUILD fills it."""
    match arguments:
        case (Name("numpy ndarray"), (0,), Blob(view)) if len(view) == 1:
            return NumpyArray()
        case _:
            raise SnapshotError("a numpy array that is not opened empty")


def set_array(array: NumpyArray, state: Any) -> None:
    """Fill an array with the place of its numbers: as many as its shape says."""
    require(array.tensor is None, "a numpy array filled twice")
    try:
        array.tensor = _filled(state)
    except SnapshotError as error:  # decides only if the network needs this array
        array.tensor = Opaque(str(error))


def numpy_buffer(arguments: tuple[Any, ...]) -> StoredTensor:
    """Read an array as protocol 5 writes it: numbers, type, shape, order, order of the axes."""
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
        "a numpy array whose axes are in no order",
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
