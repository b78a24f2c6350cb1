"""Describe a classifier saved by Keras: its outputs, its input size and its head.

Nothing in the file runs. Its configuration is read as JSON and only compared with what fgaug
rebuilds; Keras never deserialises it, so a Lambda layer stays text.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from fgaug.core import files
from fgaug.errors import UserError
from fgaug.training.keras import weight_file
from fgaug.training.keras.applications import FORMATS
from fgaug.training.saved_model import shown

ACTIVATIONS = ("relu", "linear", "tanh", "sigmoid", "elu", "selu", "gelu", "swish", "silu")
# layers whose number in a file must be that of the rebuilt network, as each changes the outputs
COMPARED = (
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Flatten",
    "Rescaling",
    "Normalization",
    "Lambda",
)
_POOLING = ("GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten")
_INERT = ("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization")
_MODELS = ("Functional", "Sequential", "Model")
_CONFIG_IN_ARCHIVE = "config.json"
_MAX_CONFIG_BYTES = 16 << 20  # the largest application has 2 MB
_MAX_DEPTH = 8  # of nested models
_MAX_DENSE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseLayer:
    """A dense layer of a head."""

    units: int
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A classifier's file, described without TensorFlow.

    A file of weights alone has no configuration: `head`, `layers`, `size` and `channels` are None.
    """

    path: Path
    sha256: str
    outputs: int
    head: tuple[DenseLayer, ...] | None  # after the pooling layer, the outputs last
    layers: Mapping[str, int] | None  # number of layers of each class in COMPARED
    size: int | None  # px of the images that it was built for
    channels: int | None


def read_network(path: Path) -> NetworkFile:
    """Describe a `.h5`, `.hdf5` or `.keras` file.

    Raises:
        UserError: the file is missing or damaged, or its head is not global average pooling and
            dense layers, which is all that fgaug rebuilds.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path} is not one of {', '.join(FORMATS)}. Save it with model.save().")
    if not path.is_file():
        raise UserError(f"{path} is not a file. Give the file that model.save() wrote.")
    units = weight_file.last_units(path)
    config = _config(path)
    head, layers, shape = None, None, None
    if config is not None:
        flat = list(_flat(config))
        head, shape = _head(path, flat), _input_shape(path, flat)
        counts = Counter(name for name, _ in flat)
        layers = {name: counts[name] for name in COMPARED}
        if head[-1].units != units:
            raise UserError(
                f"{path}: its configuration has {head[-1].units} outputs, its weights {units}. "
                "Save the network again."
            )
    return NetworkFile(
        path=path,
        sha256=files.sha256_of(path),
        outputs=units,
        head=head,
        layers=layers,
        size=None if shape is None else shape[0],
        channels=None if shape is None else shape[1],
    )


def _config(path: Path) -> Mapping[str, Any] | None:
    """Return a file's configuration as data; None for a file of weights alone."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                info = archive.getinfo(_CONFIG_IN_ARCHIVE)
                text: Any = archive.read(info) if info.file_size <= _MAX_CONFIG_BYTES else b"["
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs.get("model_config")
        if text is None:
            return None
        found = json.loads(text) if len(text) <= _MAX_CONFIG_BYTES else None
    except Exception as error:  # neither library documents a set of errors for hostile bytes
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{path}: its configuration cannot be read ({reason}). Save it with model.save()."
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: its configuration is not one of Keras. Save the network again.")
    return found


def _flat(config: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (class, settings) of each layer in the file's order, nested models flattened."""
    name, inner = config.get("class_name"), config.get("config")
    settings = inner if isinstance(inner, dict) else {}
    children = settings.get("layers") if name in _MODELS else inner
    if isinstance(children, list) and depth <= _MAX_DEPTH:  # Keras 2.1: a list of layers
        for child in children:
            if isinstance(child, dict):
                yield from _flat(child, depth + 1)
    else:
        yield shown(str(name)), settings


def _head(path: Path, flat: list[tuple[str, Mapping[str, Any]]]) -> tuple[DenseLayer, ...]:
    """Return the dense layers after the last pooling layer, with their activations."""
    cure = "fgaug rebuilds global average pooling and dense layers"
    pools = [at for at, (name, _) in enumerate(flat) if name in _POOLING]
    if not pools or flat[pools[-1]][0] != _POOLING[0]:
        what = flat[pools[-1]][0] if pools else "no pooling layer"
        raise UserError(f"{path} has {what} before its dense layers, but {cure}.")
    found: list[DenseLayer] = []
    for name, settings in flat[pools[-1] + 1 :]:
        if name == "Dense":
            units, activation = settings.get("units"), settings.get("activation", "linear")
            if type(units) is not int or units < 1:
                raise UserError(f"{path}: a dense layer has {shown(str(units))} units.")
            found.append(DenseLayer(units=units, activation=shown(str(activation))))
        elif name in ("Activation", "ReLU", "Softmax") and found:
            own = shown(str(settings.get("activation"))) if name == "Activation" else name.lower()
            if found[-1].activation != "linear":
                own = f"{found[-1].activation}, then {own}"  # refused below
            found[-1] = DenseLayer(units=found[-1].units, activation=own)
        elif name not in _INERT:
            raise UserError(f"{path} has a layer {name} in its head, but {cure}.")
    if not 1 <= len(found) <= _MAX_DENSE:
        raise UserError(
            f"{path} has {len(found)} dense layers after its pooling layer; fgaug rebuilds 1 to "
            f"{_MAX_DENSE}."
        )
    for layer in found[:-1]:
        if layer.activation not in ACTIVATIONS:
            raise UserError(
                f"{path}: a dense layer has the activation {layer.activation}. Known are "
                f"{', '.join(ACTIVATIONS)}."
            )
    last, single = found[-1].activation, found[-1].units == 1
    known = ("sigmoid",) if single else ("softmax", "linear")
    if last not in known:
        raise UserError(
            f"{path}: its {found[-1].units} output{'s' * (not single)} have the activation "
            f"{last}, but probabilities of labels need {' or '.join(known)}."
        )
    return tuple(found)


def _input_shape(
    path: Path, flat: list[tuple[str, Mapping[str, Any]]]
) -> tuple[int | None, int | None]:
    """Return the side in px and the channels of the network's images, as far as they are set."""
    for _, settings in flat:
        shape = settings.get("batch_input_shape", settings.get("batch_shape"))
        if not isinstance(shape, list) or len(shape) != 4:
            continue
        _, height, width, channels = (each if type(each) is int else None for each in shape)
        if height != width:
            raise UserError(
                f"{path} takes images of {height} x {width} px; datasets have squares. Train it "
                "on square images."
            )
        return height, channels
    return None, None
