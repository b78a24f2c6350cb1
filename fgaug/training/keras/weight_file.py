"""Load a body's weights from a `.h5` or `.keras` file without running anything in it.

Of a `.keras` archive only the weights are read, never the layer configuration; links that lead out
of the file are refused.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fgaug.core.first_bytes import identify
from fgaug.errors import UserError

_IN_ARCHIVE = "model.weights.h5"
_MAX_BYTES = 4 << 30  # of weights: the largest application has 1.4 GB
_MAX_DEPTH = 16
_MAX_MODELS = 100  # nested models searched
_MAX_GROUPS = 20_000  # of a file; the largest application has about 2,000
_SHOWN = 5
_RECIPE, _JUDGE = "`recipe.model`", "`judge.model` (--judge-model)"  # who names the model
_CURES = {
    "torch": "For PyTorch weights, omit `backend: keras`",
    "safetensors": "For PyTorch weights, omit `backend: keras`",
    "tf-checkpoint": "Load it into a Keras model and save that with model.save(FILE.keras)",
    "saved-model": "Load it with Keras and save it again with model.save(FILE.keras)",
}


@dataclass(frozen=True, slots=True)
class _Stored:
    """The weights of one layer: the target and their location in the file."""

    layer: Any  # of the body
    name: str  # in the file
    numbers: list[h5py.Dataset]

    @property
    def fits(self) -> bool:
        return [tuple(each.shape) for each in self.numbers] == _shapes(self.layer)

    def difference(self) -> str:
        there = [tuple(each.shape) for each in self.numbers]
        return f"{self.name} is {there}, the model's {self.layer.name} is {_shapes(self.layer)}"


@dataclass(frozen=True, slots=True)
class _Model:
    """A model in a file, matched against the body."""

    name: str
    layers: list[_Stored]

    @property
    def fits(self) -> bool:
        return all(layer.fits for layer in self.layers)


def load(path: Path, body: Any) -> None:
    """Copy a file's weights into `body`, the Keras model of a recipe; layers of a top are ignored.

    The weights are those of the saved model, or of the one matching model nested in it.

    Raises:
        UserError: the file has no Keras weights, belongs to another model, or contains two
            different matching models.
    """
    with _reading(path) as file:
        reader = _Reader()
        chosen = _chosen(path, list(_models(reader, file, body)), reader, _RECIPE)
        numbers = [[reader.read(each) for each in layer.numbers] for layer in chosen.layers]
    _fill(chosen, numbers)


def load_with_head(path: Path, body: Any) -> list[tuple[str, list[np.ndarray]]]:
    """Copy a file's weights into `body`, the Keras model of a judge.

    Returns:
        The other layers of the file as (name, arrays), in order.

    Raises:
        UserError: as for `load`.
    """
    with _reading(path) as file:
        reader = _Reader()
        chosen = _chosen(path, list(_models(reader, file, body)), reader, _JUDGE)
        numbers = [[reader.read(each) for each in layer.numbers] for layer in chosen.layers]
        used = {each.name for layer in chosen.layers for each in layer.numbers}
        rest = [
            (name, [reader.read(each) for each in stored])
            for name, stored in _stored_layers(reader, file)
            if not used.intersection(each.name for each in stored)
        ]
    _fill(chosen, numbers)
    return rest


def last_units(path: Path) -> int:
    """Return the width of a file's last dense layer.

    Raises:
        UserError: the file has no Keras weights, or no dense layer at its end.
    """
    with _reading(path) as file:
        reader = _Reader()
        layers = list(_stored_layers(reader, file))
        if "layers" in file and "layer_names" not in file.attrs:  # sorted by class there
            layers = [layer for layer in layers if _class_of(layer[0]) == "dense"]
        shape: tuple[int, ...] = layers[-1][1][0].shape if layers else ()
    if len(shape) != 2:
        raise UserError(
            f"{path} does not end with a dense layer, so it is no classifier. Give a whole "
            "network, saved with model.save()."
        )
    return int(shape[1])


def _fill(chosen: _Model, numbers: list[list[np.ndarray]]) -> None:
    for layer, arrays in zip(chosen.layers, numbers, strict=True):
        layer.layer.set_weights(arrays)


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """Open a file of weights, and report damaged or foreign files as mistakes of the user."""
    try:
        with _opened(path) as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # h5py documents no set of errors for hostile bytes
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        kind = identify(path)
        if kind is not None and kind.name not in ("hdf5", "keras"):
            reason = f"it is {kind.what}. {kind.way_out(_CURES)}"
        raise UserError(
            f"{path} cannot be read as Keras weights ({reason}). Give the .h5, .weights.h5 or "
            ".keras file of an application of keras.applications."
        ) from None


def _chosen(path: Path, models: list[_Model], reader: _Reader, key: str) -> _Model:
    """Return the saved model if it fits, else the one nested model that fits.

    Args:
        key: where the user names the model that is needed.
    """
    fitting = [model for model in models if model.fits]
    if not fitting:
        raise _of_another_model(path, models, key)
    first = fitting[0]
    if first is not models[0] and not all(_equal(first, other, reader) for other in fitting[1:]):
        names = ", ".join(repr(model.name[:100]) for model in fitting)
        raise UserError(
            f"{path} contains {len(fitting)} different nested models that fit {key} "
            f"({names}). Save only the one you need: model.get_layer(NAME).save(FILE)."
        )
    return first


def _equal(one: _Model, other: _Model, reader: _Reader) -> bool:
    return all(
        np.array_equal(reader.read(first), reader.read(second))
        for left, right in zip(one.layers, other.layers, strict=True)
        for first, second in zip(left.numbers, right.numbers, strict=True)
    )


def _of_another_model(path: Path, models: list[_Model], key: str) -> UserError:
    nearest = min(models, key=lambda model: sum(not layer.fits for layer in model.layers))
    wrong = [layer.difference() for layer in nearest.layers if not layer.fits]
    nested = [repr(model.name[:100]) for model in models[1:]]
    inside = f"; nested in it: {', '.join(nested[:_SHOWN])}" if nested else ""
    return UserError(
        f"{path} contains the weights of another model ({'; '.join(wrong[:_SHOWN])}; {len(wrong)} "
        f"layers differ{inside}). Give a file for {key}, or name the file's own model there."
    )


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _opened(path: Path) -> h5py.File:
    if path.suffix != ".keras":
        return h5py.File(path, "r")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(_IN_ARCHIVE)
        if info.file_size > _MAX_BYTES:
            raise UserError(f"{path}: its {_IN_ARCHIVE} unpacks to {info.file_size} bytes.")
        return h5py.File(io.BytesIO(archive.read(info)), "r")


def _models(reader: _Reader, file: h5py.File, body: Any) -> Iterator[_Model]:
    """Yield the saved model and each model nested in it, matched to the body's layers."""
    if "layers" in file and "layer_names" not in file.attrs:
        yield from _of_keras_3(reader, file, body)
        return
    inner = reader.group(file, "model_weights") if "model_weights" in file else file
    yield from _of_keras_2(reader, inner, body)


def _of_keras_2(reader: _Reader, file: h5py.Group, body: Any) -> Iterator[_Model]:
    """Yield the models of the older layout, which lists names of layers and of their weights.

    A nested model is one layer with the weights of all its layers.
    """
    listed = []
    for name in _texts(file.attrs["layer_names"]):
        group = reader.group(file, name)
        names = _texts(group.attrs["weight_names"])
        if names:
            listed.append((name, {each: reader.numbers(group, each) for each in names}))
    wanted = [layer for layer in body.layers if layer.weights]
    flat = [(name, list(numbers.values())) for name, numbers in listed]
    flat += [("nothing", [])] * (len(wanted) - len(flat))
    yield _Model(
        "the model itself",
        [_Stored(layer, *stored) for layer, stored in zip(wanted, flat, strict=False)],
    )
    for name, numbers in listed[:_MAX_MODELS]:
        if len(numbers) > _SHOWN:  # more than any single layer has
            yield _Model(name, _by_names(numbers, body))


def _by_names(numbers: dict[str, h5py.Dataset], body: Any) -> list[_Stored]:
    """Return the layers of a nested model by the names of its weights, such as `conv/kernel`.

    Their order is unreliable: frozen weights come last. Automatic numbers start anywhere
    (conv2d_94 for conv2d), so the n-th layer of a class matches the n-th of that class.
    """
    groups: dict[str, dict[str, h5py.Dataset]] = {}
    for full, each in numbers.items():
        *path, leaf = full.split("/")
        groups.setdefault(path[-1] if path else "", {})[leaf.split(":")[0]] = each
    leaves = list(_leaves(body))
    ranks: dict[str, list[str]] = {}
    for name in sorted(groups, key=_number):
        ranks.setdefault(_class_of(name), []).append(name)
    ours = {layer.name for layer in leaves}
    taken: dict[str, str] = {}
    for kind in {_snake(type(layer).__name__) for layer in leaves}:
        numbered = sorted((name for name in ours if _class_of(name) == kind), key=_number)
        theirs = ranks.get(kind, [])
        if len(numbered) == len(theirs):  # otherwise they cannot be matched
            taken |= dict(zip(numbered, theirs, strict=True))
    found = []
    for layer in leaves:
        name = taken.get(layer.name, layer.name)
        found.append(_Stored(layer, name, _in_order(groups.get(name, {}), layer)))
    return found


def _in_order(stored: dict[str, h5py.Dataset], layer: Any) -> list[h5py.Dataset]:
    """Return a layer's arrays in the order of its weights, matched by name if possible."""
    names = [weight.name.split("/")[-1].split(":")[0] for weight in layer.weights]
    if stored.keys() == set(names):
        return [stored[name] for name in names]
    return list(stored.values())


def _leaves(model: Any) -> Iterator[Any]:
    """Yield the layers with weights; layers of a nested Sequential are yielded one by one."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _leaves(layer)
        elif layer.weights:
            yield layer


def _class_of(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _number(name: str) -> int:
    found = re.search(r"_(\d{1,9})$", name)
    return int(found[1]) if found else 0


def _of_keras_3(reader: _Reader, file: h5py.Group, body: Any) -> Iterator[_Model]:
    """Yield the models of the newer layout, each with its own `layers`."""
    waiting, seen = [("the model itself", file)], 0
    while waiting and seen < _MAX_MODELS:
        name, group = waiting.pop(0)
        layers = reader.group(group, "layers")
        yield _Model(name, list(_numbered(reader, layers, body)))
        seen += 1
        for key in layers:
            child = reader.group(layers, key)
            if "layers" in child:
                waiting.append((_own_name(reader, child, key), child))


def _own_name(reader: _Reader, group: h5py.Group, key: str) -> str:
    name = reader.group(group, "vars").attrs.get("name") if "vars" in group else None
    return name if isinstance(name, str) else key


def _numbered(
    reader: _Reader, layers: h5py.Group | dict[str, Any], body: Any
) -> Iterator[_Stored]:
    """Yield the layers of one model, which are numbered within each class."""
    count: Counter[str] = Counter()
    for layer in body.layers:
        kind = _snake(type(layer).__name__)
        name = f"{kind}_{count[kind]}" if count[kind] else kind
        count[kind] += 1
        group = reader.group(layers, name) if name in layers else {}
        if getattr(layer, "layers", None):
            inner = reader.group(group, "layers") if "layers" in group else {}
            yield from _numbered(reader, inner, layer)
        elif layer.weights:
            found = reader.group(group, "vars") if "vars" in group else {}
            numbers = [reader.numbers(found, each) for each in sorted(found, key=int)]
            yield _Stored(layer, name if group else "nothing", numbers)


def _stored_layers(reader: _Reader, file: h5py.File) -> Iterator[tuple[str, list[h5py.Dataset]]]:
    """Yield every layer of a file that has weights, with its arrays.

    The older layout has the order of the network; the newer one sorts by class and number.
    """
    if "layers" in file and "layer_names" not in file.attrs:
        yield from _below(reader, reader.group(file, "layers"), "", 0, [_MAX_GROUPS])
        return
    inner = reader.group(file, "model_weights") if "model_weights" in file else file
    for name in _texts(inner.attrs["layer_names"]):
        group = reader.group(inner, name)
        parts: dict[str, list[h5py.Dataset]] = {}
        for full in _texts(group.attrs["weight_names"]):
            parts.setdefault(full.rpartition("/")[0], []).append(reader.numbers(group, full))
        for below, stored in parts.items():
            yield below.rpartition("/")[2] or name, stored


def _below(
    reader: _Reader, group: h5py.Group, name: str, depth: int, left: list[int]
) -> Iterator[tuple[str, list[h5py.Dataset]]]:
    """Yield the layers below a group of the newer layout.

    Args:
        name: of the layer that the group belongs to.
        left: groups that may still be opened; hard links can form circles.
    """
    left[0] -= 1
    if depth > _MAX_DEPTH or left[0] < 0:
        raise ValueError("its groups are nested without end")
    for key in sorted(group, key=lambda each: (_class_of(each), _number(each))):
        child = reader.group(group, key)
        if key == "vars":
            if len(child):
                stored = [reader.numbers(child, each) for each in sorted(child, key=int)]
                yield name, stored
        else:
            own = name if key == "layers" else key
            yield from _below(reader, child, own, depth + 1, left)


class _Reader:
    """Reads arrays from a file up to a total size; refuses external links."""

    def __init__(self) -> None:
        self.left = _MAX_BYTES

    def group(self, parent: h5py.Group, name: str) -> h5py.Group:
        found = self._follow(parent, name)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name[:100]} is not a group")
        return found

    def numbers(self, parent: h5py.Group, name: str) -> h5py.Dataset:
        found = self._follow(parent, name)
        if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
            raise ValueError(f"{name[:100]} is not an array in this file")
        if found.dtype.kind not in "fiu":
            raise ValueError(f"{name[:100]} is {found.dtype}, not numbers")
        return found

    def read(self, found: h5py.Dataset) -> np.ndarray:
        self.left -= found.nbytes
        if self.left < 0:
            raise ValueError(f"more than {_MAX_BYTES} bytes of weights")
        values = np.asarray(found[()])
        if not np.isfinite(values).all():
            raise ValueError(f"{found.name[-100:]} contains NaN or infinite values")
        return values

    def _follow(self, parent: h5py.Group, name: str) -> Any:
        parts = [part for part in name.split("/") if part]
        if not parts or len(parts) > _MAX_DEPTH:
            raise ValueError(f"{name[:100]} is not a name in this file")
        at: Any = parent
        for part in parts:
            if not isinstance(at.get(part, getlink=True), h5py.HardLink):
                raise ValueError(f"{name[:100]} is missing or links out of this file")
            at = at[part]
        return at


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _snake(name: str) -> str:
    """Return a class name in snake case: BatchNormalization is batch_normalization."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
