"""The names a network pickle may hold and the inert records they stand for.

bytes -> unpickle (machine) -> records -> snapshot
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from struct import unpack_from
from typing import Any

from fgaug.errors import SnapshotError
from gan_worker.stored import (
    MAX_DIMENSIONS,
    NumpyArray,
    Storage,
    StoredTensor,
    numpy_array,
    numpy_dtype,
    numpy_scalar,
    require,
    set_array,
    set_dtype,
    shown,
)
from gan_worker.unpickle import Blob, Dtype, Maker, Name, PersistentId, Rules, run_pickle

NETWORK_CLASSES = frozenset(
    {
        "AugmentPipe",
        "Conv2dLayer",
        "Discriminator",
        "DiscriminatorBlock",
        "DiscriminatorEpilogue",
        "FullyConnectedLayer",
        "Generator",
        "MappingNetwork",
        "MinibatchStdLayer",
        "SynthesisBlock",
        "SynthesisLayer",
        "SynthesisNetwork",
        "ToRGBLayer",
    }
)

# A storage stream opens with 300 to 400 bytes of pickles, then raw numbers.
_HEAD = 4096
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass(frozen=True, slots=True)
class Module:
    """A network module: the name of its class and its attributes; its source is dropped."""

    class_name: str
    state: dict[str, Any]


@dataclass(slots=True)
class TensorFlowNetwork:
    """A network of a TensorFlow file; BUILD gives its attributes."""

    state: dict[str, Any] | None = None


def read_network_pickle(data: bytes) -> Any:
    """Return the value of a network pickle; refuse everything its writers never write."""
    value, end = run_pickle(data, _OUTER)
    if end != len(data):
        raise SnapshotError(f"the pickle ends at byte {end}, the file at byte {len(data)}")
    return value


def _module(_: bytes, arguments: tuple[Any, ...]) -> Module:
    meta = arguments[0] if len(arguments) == 1 else None
    if not isinstance(meta, dict):
        raise SnapshotError("a network module without its description")
    kind, class_name, state = (meta.get(key) for key in ("type", "class_name", "state"))
    require(
        kind == "class" and isinstance(class_name, str) and class_name in NETWORK_CLASSES,
        f"{shown(class_name)} is not a class of a StyleGAN2 network",
    )
    if not isinstance(state, dict):
        raise SnapshotError(f"a {class_name} without its attributes")
    return Module(str(class_name), state)


def _storage(data: bytes, arguments: tuple[Any, ...]) -> Storage:
    """Read a storage stream: five pickles, a count, raw numbers; exactly as torch writes it."""
    blob = arguments[0] if len(arguments) == 1 else None
    if not isinstance(blob, Blob):
        raise SnapshotError("a storage that is not made of bytes")
    end = blob.start + blob.length
    at = blob.start
    head = []
    for _ in range(5):
        value, at = run_pickle(data, _NESTED, at, min(end, blob.start + _HEAD))
        head.append(value)
    magic, protocol, system, identity, keys = head
    require(magic == _MAGIC and protocol == _PROTOCOL, "a storage of an unknown format")
    require(
        isinstance(system, dict) and system.get("little_endian") is True,
        "a storage that is not little-endian",
    )
    count = _element_count(identity, keys)
    require(end - at >= 8, "a storage without its count")
    (written,) = unpack_from("<q", data, at)
    start = at + 8
    require(
        written == count and 4 * count == end - start,
        f"a storage of {count} numbers with {written} announced and {end - start} bytes of them",
    )
    return Storage(start, count)


def _element_count(identity: Any, keys: Any) -> int:
    value = identity.value if isinstance(identity, PersistentId) else None
    if not isinstance(value, tuple) or len(value) != 6:
        raise SnapshotError("a storage without its description")
    kind, number_type, key, place, count, view = value
    require(
        kind == "storage"
        and number_type == Name("torch FloatStorage")
        and isinstance(key, str)
        and keys == [key]
        and place == "cpu"
        and view is None
        and type(count) is int
        and count >= 0,
        "a storage that is not one block of float32 numbers in main memory",
    )
    return int(count)


def _tensor(_: bytes, arguments: tuple[Any, ...]) -> StoredTensor:
    require(len(arguments) in (6, 7), "a tensor without its description")
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise SnapshotError("a tensor without a storage")
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


def _parameter(_: bytes, arguments: tuple[Any, ...]) -> StoredTensor:
    tensor = arguments[0] if len(arguments) == 3 else None
    if not isinstance(tensor, StoredTensor):
        raise SnapshotError("a parameter that is not a tensor")
    return tensor


def _network_state(network: TensorFlowNetwork, state: Any) -> None:
    if network.state is not None or not isinstance(state, dict):
        raise SnapshotError("a TensorFlow network without its attributes")
    network.state = state


def _ordered_dict(_: bytes, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    require(arguments == (), "an OrderedDict made from something")
    return {}


def _empty_set(_: bytes, arguments: tuple[Any, ...]) -> frozenset[Any]:
    require(arguments == ([],), "a set that is not empty")
    return frozenset()


_MAKERS: dict[str, Maker | None] = {
    "torch_utils.persistence _reconstruct_persistent_obj": _module,
    "dnnlib.util EasyDict": None,
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch.storage _load_from_bytes": _storage,
    "numpy.core.multiarray scalar": numpy_scalar,  # numpy 1
    "numpy._core.multiarray scalar": numpy_scalar,  # numpy 2
    "numpy dtype": numpy_dtype,
    "builtins set": _empty_set,  # protocol 3
    "numpy.core.multiarray _reconstruct": numpy_array,  # these four in TensorFlow files only
    "numpy._core.multiarray _reconstruct": numpy_array,
    "numpy ndarray": None,
    "dnnlib.tflib.network Network": None,
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
_NESTED = Rules(makers={"torch FloatStorage": None}, persistent=True)
