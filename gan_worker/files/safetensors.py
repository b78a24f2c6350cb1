"""Read and write networks as `.safetensors` files: a JSON header followed by raw numbers.

The format: 8 bytes of header length (little-endian), a JSON object with (dtype, shape,
data_offsets) per tensor and `__metadata__` (strings), then the numbers without gaps. We add one
metadata entry, `fgaug`, which is JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fgaug.errors import SnapshotError
from gan_worker.files.contents import Array, Contents
from gan_worker.files.stored import shown
from gan_worker.networks import GeneratorConfig

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
_MAX_HEADER = 2**20  # that of a 1024 px generator has 20 KB
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_KEYS = {"version", "kind", "network", "source", "sha256", "digest", "config"}


def contents_of(data: bytes) -> Contents:
    """Return the generator in a `.safetensors` file written by `encoded`.

    float16 weights are converted to float32. Such a file is not an exact copy of its original, so
    its own digest identifies it.
    """
    header, start = _header(data)
    described = _description(header.pop("__metadata__", None))
    arrays = _arrays(header, data, start)
    exact = all(array.dtype == _DTYPES["F32"] for array in arrays.values())
    config = _config(described["config"])
    if exact and described["digest"] != _digest(described, arrays):
        raise SnapshotError("its tensors do not match its description")
    return Contents(
        kind=described["kind"],
        network=described["network"],
        config=config,
        arrays=arrays,
        sha256=(described["sha256"] or None) if exact else None,
        source=described["source"] or None,
    )


def encoded(
    tensors: Mapping[str, Tensor],
    config: GeneratorConfig,
    *,
    kind: str,
    network: str,
    source: str,
    sha256: str,
    half: bool = False,
) -> bytes:
    """Encode float32 tensors and their description as the bytes of a file.

    With `half` as float16, in half the space. That is another network, identified by its own
    digest.
    """
    arrays = {name: tensors[name].detach().cpu().contiguous().numpy() for name in sorted(tensors)}
    description: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "kind": kind,
        "network": network,
        "source": source,
        "sha256": sha256,
        "config": dataclasses.asdict(config),
    }
    description["digest"] = _digest(description, arrays)
    header: dict[str, Any] = {"__metadata__": {"fgaug": json.dumps(description)}}
    end = 0
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise SnapshotError(f"Tensor {name} must be float32 to be written, got {array.dtype}.")
        if half and not np.abs(array).max() <= np.finfo(np.float16).max:
            raise SnapshotError(f"Tensor {name} has values outside the range of float16.")
        offsets = [end, end := end + array.size * (2 if half else 4)]
        code = "F16" if half else "F32"
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    kind_of = _DTYPES["F16" if half else "F32"]
    numbers = [array.astype(kind_of, copy=False).tobytes() for array in arrays.values()]
    return b"".join([len(text).to_bytes(8, "little"), text, *numbers])


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return the header and the offset of the numbers."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(_MAX_HEADER, len(data) - 8):
        raise SnapshotError("it has no safetensors header")
    return _object(data[8 : 8 + length], "its header"), 8 + length


def _object(text: bytes | str, what: str) -> dict[str, Any]:
    """Parse a JSON object; refuse repeated keys and non-standard numbers."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise SnapshotError(f"{what} has a repeated key")
        return found

    def constant(name: str) -> None:
        raise SnapshotError(f"{what} holds {name}")

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError):
        raise SnapshotError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise SnapshotError(f"{what} is not a JSON object")
    return value


def _description(metadata: Any) -> dict[str, Any]:
    text = metadata.get("fgaug") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise SnapshotError("it does not describe its generator (no `fgaug` entry)")
    described = _object(text, "its description")
    if described.get("version") != FORMAT_VERSION:
        raise SnapshotError(
            f"its description is of version {shown(described.get('version'))}, "
            f"not {FORMAT_VERSION}"
        )
    for key in sorted(_KEYS ^ described.keys()):
        raise SnapshotError(
            f"its description {'lacks' if key in _KEYS else 'has an unknown'} {shown(key)}"
        )
    for key in sorted(_KEYS - {"version", "config"}):
        if not isinstance(described[key], str) or len(described[key]) > 1000:
            raise SnapshotError(f"{key} of its description is not a text")
    for key in ("sha256", "digest"):
        text = described[key]
        if text and not (len(text) == 64 and set(text) <= set("0123456789abcdef")):
            raise SnapshotError(f"{key} of its description is not a SHA-256")
    return described


def _config(given: Any) -> GeneratorConfig:
    fields = {field.name: str(field.type) for field in dataclasses.fields(GeneratorConfig)}
    if not isinstance(given, dict):
        raise SnapshotError("config of its description is not an object")
    for name in sorted(fields.keys() ^ given.keys()):
        raise SnapshotError(
            f"config of its description {'lacks' if name in fields else 'has an unknown'} "
            f"{shown(name)}"
        )
    return GeneratorConfig(**{name: _option(name, given[name], fields[name]) for name in fields})


def _option(name: str, value: Any, kind: str) -> Any:
    """Return an option after checking it against the type in the config."""
    if kind == "float | None" and value is None:
        return None
    if kind.startswith("float") and type(value) in (int, float) and abs(value) < 1e9:
        return float(value)
    if kind in ("int", "str", "bool") and type(value).__name__ == kind:
        return value
    if kind.startswith("tuple") and type(value) is list and {int} >= {*map(type, value)}:
        return tuple(value)
    raise SnapshotError(f"{name} of its config is {shown(value)}")


def _arrays(header: dict[str, Any], data: bytes, start: int) -> dict[str, Array]:
    """Return views of the tensors, which must cover the data exactly once."""
    arrays: dict[str, Array] = {}
    places = []
    for name, entry in header.items():
        match entry:
            case {
                "dtype": str(code),
                "shape": list(shape),
                "data_offsets": [int(first), int(last)],
                **rest,
            } if code in _DTYPES and not rest:
                pass
            case _:
                raise SnapshotError(f"tensor {shown(name)} is not described as float32 or float16")
        if len(shape) > 8 or not all(type(n) is int and 1 <= n < 2**31 for n in shape):
            raise SnapshotError(f"tensor {shown(name)} has an impossible shape")
        count = math.prod(shape)
        if not 0 <= first <= last <= len(data) - start:
            raise SnapshotError(f"tensor {shown(name)} reaches beyond the file")
        if last - first != count * _DTYPES[code].itemsize:
            raise SnapshotError(f"tensor {shown(name)} has {last - first} bytes for its shape")
        flat = np.frombuffer(data, dtype=_DTYPES[code], count=count, offset=start + first)
        arrays[name] = flat.reshape(shape)
        places.append((first, last))
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise SnapshotError("its tensors overlap or leave gaps")
        end = last
    if end != len(data) - start:
        raise SnapshotError("it has more data than its tensors")
    return arrays


def _digest(described: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a description and of its tensors' names, shapes and values."""
    told = {name: value for name, value in described.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(json.dumps([name, list(arrays[name].shape)]).encode())
        digest.update(np.ascontiguousarray(arrays[name], dtype="<f4").data)
    return digest.hexdigest()
