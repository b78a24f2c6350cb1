"""The names allowed in network pickles, and the inert records that replace their objects."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from struct import unpack_from
from typing import Any

from fgaug.errors import SnapshotError
from gan_worker.files.stored import (
    MAX_DIMENSIONS,
    Dtype,
    NumpyArray,
    Storage,
    StoredTensor,
    numpy_array,
    numpy_buffer,
    numpy_dtype,
    numpy_scalar,
    require,
    set_array,
    set_dtype,
    shown,
)
from gan_worker.files.unpickle import Blob, Maker, Name, PersistentId, Rules, run_pickle

# A storage stream starts with 300 to 400 bytes of pickles, followed by raw numbers.
_HEAD = 4096
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# torch's storage classes: dtype and its size in bytes
_STORAGES = {
    "torch FloatStorage": ("float32", 4),
    "torch DoubleStorage": ("float64", 8),
    "torch HalfStorage": ("float16", 2),
    "torch BFloat16Storage": ("bfloat16", 2),
    "torch LongStorage": ("int64", 8),
    "torch IntStorage": ("int32", 4),
    "torch ShortStorage": ("int16", 2),
    "torch CharStorage": ("int8", 1),
    "torch ByteStorage": ("uint8", 1),
    "torch BoolStorage": ("bool", 1),
    "torch ComplexFloatStorage": ("complex64", 8),
    "torch ComplexDoubleStorage": ("complex128", 16),
}


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A network module: its class name and attributes, without its source code."""

    class_name: str
    state: dict[str, Any]
    version: Any = None  # of the persistence format


@dataclass(slots=True, eq=False)
class TensorFlowNetwork:
    """A network of a TensorFlow file; BUILD gives its attributes."""

    state: dict[str, Any] | None = None


def read_network_pickle(data: bytes) -> Any:
    """Return the value of a network pickle.

    Unknown objects become `Opaque` values; the caller decides whether the network needs them.

    Raises:
        SnapshotError: the data is not a pickle of protocol 2 to 5, or is damaged.
    """
    value, end = run_pickle(data, _OUTER)
    if end != len(data):
        raise SnapshotError(f"the pickle ends at byte {end}, the file at byte {len(data)}")
    return value


def _module(arguments: tuple[Any, ...]) -> Module:
    meta = arguments[0] if len(arguments) == 1 else None
    if not isinstance(meta, dict):
        raise SnapshotError("a network module without its description")
    kind, class_name, state = (meta.get(key) for key in ("type", "class_name", "state"))
    if kind != "class" or not isinstance(class_name, str):
        raise SnapshotError("a network module without the name of its class")
    if not isinstance(state, dict):
        raise SnapshotError(f"a {shown(class_name)} without its attributes")
    return Module(class_name, state, meta.get("version"))


def _storage(arguments: tuple[Any, ...]) -> Storage:
    """Read a storage stream exactly as torch writes it: five pickles, a count, raw numbers."""
    blob = arguments[0] if len(arguments) == 1 else None
    if not isinstance(blob, Blob):
        raise SnapshotError("a storage that is not made of bytes")
    opening = bytes(blob.view[:_HEAD])
    at, head = 0, []
    for _ in range(5):
        value, at = run_pickle(opening, _NESTED, at)
        head.append(value)
    magic, protocol, system, identity, keys = head
    require(magic == _MAGIC and protocol == _PROTOCOL, "a storage of an unknown format")
    require(
        isinstance(system, dict) and system.get("little_endian") is True,
        "a storage that is not little-endian",
    )
    count, number_type, size = _described(identity, keys)
    require(len(blob) - at >= 8, "a storage without its count")
    (written,) = unpack_from("<q", blob.view, at)
    numbers = blob.view[at + 8 :]
    require(
        written == count and size * count == len(numbers),
        f"a storage of {count} {number_type} numbers with {written} announced and "
        f"{len(numbers)} bytes of them",
    )
    return Storage(numbers, count, number_type)


def _described(identity: Any, keys: Any) -> tuple[int, str, int]:
    """Return the number of elements of a storage, their type and size in bytes.

    The location is the original device (cpu, cuda:0, mps) and does not affect the file.
    """
    value = identity.value if isinstance(identity, PersistentId) else None
    if not isinstance(value, tuple) or len(value) != 6:
        raise SnapshotError("a storage without its description")
    kind, number_type, key, place, count, view = value
    known = _STORAGES.get(number_type.text) if isinstance(number_type, Name) else None
    if known is None:
        raise SnapshotError(f"a storage of an unknown dtype ({shown(number_type)})")
    require(
        kind == "storage"
        and isinstance(key, str)
        and keys == [key]
        and isinstance(place, str)
        and view is None
        and type(count) is int
        and count >= 0,
        "a storage that is not one block of numbers",
    )
    return int(count), *known


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    require(len(arguments) in (6, 7), "a tensor without its description")
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise SnapshotError(f"a tensor without a storage ({shown(storage)})")
    for numbers in (size, stride, (offset,)):
        require(
            isinstance(numbers, tuple)
            and len(numbers) <= MAX_DIMENSIONS
            and all(type(number) is int and number >= 0 for number in numbers),
            "a tensor whose shape is not made of whole numbers of at least 0",
        )
    require(len(size) == len(stride), "a tensor with more sizes than strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    require(
        min(size, default=1) >= 1 and last < storage.count and prod(size) <= storage.count,
        f"a tensor of shape {size} reaches beyond its {storage.count} numbers",
    )
    return StoredTensor(storage, offset, size, stride)


def _parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    tensor = arguments[0] if len(arguments) in (3, 4) else None  # 4: with extra attributes
    if not isinstance(tensor, StoredTensor):
        raise SnapshotError(f"a parameter that is not a tensor ({shown(tensor)})")
    return tensor


def _network_state(network: TensorFlowNetwork, state: Any) -> None:
    if network.state is not None or not isinstance(state, dict):
        raise SnapshotError("a TensorFlow network without its attributes")
    network.state = state


def _dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Return an empty dict for an OrderedDict, a defaultdict or a Counter; items follow."""
    require(len(arguments) <= 1, "a dict with construction arguments")
    return {}


def _bytes_of_text(arguments: tuple[Any, ...]) -> Blob:
    """Return bytes from their form in protocol 2: a string of the same code points."""
    match arguments:
        case (str(text), "latin1"):
            pass
        case _:
            raise SnapshotError("bytes that are not stored as a string")
    try:
        return Blob(memoryview(text.encode("latin1")))
    except UnicodeEncodeError:
        raise SnapshotError("bytes that are stored as an invalid string") from None


_MAKERS: dict[str, Maker] = {
    "torch_utils.persistence _reconstruct_persistent_obj": _module,
    "collections OrderedDict": _dict,
    "collections defaultdict": _dict,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch.storage _load_from_bytes": _storage,
    "numpy.core.multiarray scalar": numpy_scalar,  # numpy 1
    "numpy._core.multiarray scalar": numpy_scalar,  # numpy 2
    "numpy dtype": numpy_dtype,
    "numpy.core.multiarray _reconstruct": numpy_array,
    "numpy._core.multiarray _reconstruct": numpy_array,
    "numpy.core.numeric _frombuffer": numpy_buffer,  # protocol 5
    "numpy._core.numeric _frombuffer": numpy_buffer,
    "_codecs encode": _bytes_of_text,  # protocol 2
}
_OUTER = Rules(
    makers=_MAKERS,
    objects={
        "dnnlib.util EasyDict": dict,
        "dnnlib.tflib.network Network": TensorFlowNetwork,
    },
    builders={
        Dtype: set_dtype,
        NumpyArray: set_array,
        TensorFlowNetwork: _network_state,
    },
)
_NESTED = Rules(makers={}, persistent=True)
