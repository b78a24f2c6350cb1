"""Weights of a body from a `.h5` or `.keras` file, read as numbers alone.

network <- [weight_file] <- file.  Nothing in a file is run: of a `.keras` archive only the weights
are read, its description of layers is not; links that lead out of a file are refused.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fgaug.errors import UserError

_IN_ARCHIVE = "model.weights.h5"
_MAX_BYTES = 4 << 30  # of numbers: the largest application has 1.4 GB
_MAX_DEPTH = 16
_SHOWN = 5

Layers = list[tuple[str, list[np.ndarray]]]


def load(path: Path, body: Any) -> None:
    """Copy a file's weights into `body` (a Keras model); layers of a top are left out.

    Raises:
        UserError: the file is not one of Keras weights, or of another model.
    """
    wanted = [layer for layer in body.layers if layer.weights]
    try:
        with _opened(path) as file:
            found = _layers(file, body)
    except UserError:
        raise
    except Exception as error:  # the library names no set of errors for hostile bytes
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{path} cannot be read as Keras weights ({reason}). Give the .h5, .weights.h5 or "
            ".keras file of an application of keras.applications."
        ) from None
    wrong = []
    for index, layer in enumerate(wanted):
        name, arrays = found[index] if index < len(found) else ("nothing", [])
        there = [tuple(array.shape) for array in arrays]
        here = [tuple(weight.shape) for weight in layer.weights]
        if there != here:
            wrong.append(f"{name} is {there}, the model's {layer.name} is {here}")
    if wrong:
        raise UserError(
            f"{path} holds the weights of another model ({'; '.join(wrong[:_SHOWN])}; "
            f"{len(wrong)} layers differ). Give the file that belongs to `recipe.model`."
        )
    for layer, (_, arrays) in zip(wanted, found, strict=False):
        layer.set_weights(arrays)


def _opened(path: Path) -> h5py.File:
    if path.suffix != ".keras":
        return h5py.File(path, "r")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(_IN_ARCHIVE)
        if info.file_size > _MAX_BYTES:
            raise UserError(f"{path}: its {_IN_ARCHIVE} unpacks to {info.file_size} bytes.")
        return h5py.File(io.BytesIO(archive.read(info)), "r")


def _layers(file: h5py.File, body: Any) -> Layers:
    """Return the arrays of each layer with weights, in the order of the body's layers."""
    reader = _Reader()
    if "layers" in file and "layer_names" not in file.attrs:
        return list(_of_keras_3(reader, reader.group(file, "layers"), body))
    inner = reader.group(file, "model_weights") if "model_weights" in file else file
    return list(_of_keras_2(reader, inner))


def _of_keras_2(reader: _Reader, file: h5py.Group) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield layers of the older layout, which lists the names of layers and of their weights."""
    for name in _texts(file.attrs["layer_names"]):
        group = reader.group(file, name)
        arrays = [reader.array(group, each) for each in _texts(group.attrs["weight_names"])]
        if arrays:
            yield name, arrays


def _of_keras_3(
    reader: _Reader, layers: h5py.Group, body: Any
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield layers of the newer layout, which numbers the layers of each class."""
    count: Counter[str] = Counter()
    for layer in body.layers:
        kind = _snake(type(layer).__name__)
        name = f"{kind}_{count[kind]}" if count[kind] else kind
        count[kind] += 1
        if layer.weights:
            found = reader.group(reader.group(layers, name), "vars") if name in layers else {}
            arrays = [reader.array(found, each) for each in sorted(found, key=int)]
            yield name, arrays


class _Reader:
    """Reads numbers of a file, by links that stay in it, up to a size."""

    def __init__(self) -> None:
        self.left = _MAX_BYTES

    def group(self, parent: h5py.Group, name: str) -> h5py.Group:
        found = self._follow(parent, name)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name[:100]} is no group")
        return found

    def array(self, parent: h5py.Group, name: str) -> np.ndarray:
        found = self._follow(parent, name)
        if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
            raise ValueError(f"{name[:100]} is no array of this file")
        if found.dtype.kind not in "fiu":
            raise ValueError(f"{name[:100]} is {found.dtype}, not numbers")
        self.left -= found.nbytes
        if self.left < 0:
            raise ValueError(f"more than {_MAX_BYTES} bytes of numbers")
        values = np.asarray(found[()])
        if not np.isfinite(values).all():
            raise ValueError(f"{name[:100]} holds values that are not numbers")
        return values

    def _follow(self, parent: h5py.Group, name: str) -> Any:
        parts = [part for part in name.split("/") if part]
        if not parts or len(parts) > _MAX_DEPTH:
            raise ValueError(f"{name[:100]} is no name in this file")
        at: Any = parent
        for part in parts:
            if not isinstance(at.get(part, getlink=True), h5py.HardLink):
                raise ValueError(f"{name[:100]} is missing, or a link out of this file")
            at = at[part]
        return at


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _snake(name: str) -> str:
    """Return a class's name as files have it: BatchNormalization is batch_normalization."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
