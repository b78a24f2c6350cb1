"""Read the discriminator of a network pickle, for further training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fgaug.errors import SnapshotError
from gan_worker.files import pytorch_pickle, tensorflow_pickle
from gan_worker.files.contents import Array, whole_network
from gan_worker.files.records import Module
from gan_worker.files.snapshot import bytes_of, refused, value_of
from gan_worker.networks.discriminator import DiscriminatorConfig, DiscriminatorNetwork

_EVERY = 2**16  # group size if a file has none: the whole batch is one group
_LAYERS = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
_LAST = {"conv": "4x4/Conv", "fc": "4x4/Dense0", "out": "Output"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDiscriminator:
    """A discriminator read from a file."""

    config: DiscriminatorConfig
    tensors: dict[str, Tensor]  # float32, contiguous, by official PyTorch name; no filters

    def network(self) -> DiscriminatorNetwork:
        """Return a network that uses these tensors without copying, in evaluation mode."""
        network = DiscriminatorNetwork.skeleton(self.config)
        network.load_state_dict(self.tensors, assign=True)
        return network.eval().requires_grad_(False)


def read_discriminator(path: Path | str) -> StoredDiscriminator:
    """Return the discriminator of an official pickle, PyTorch or TensorFlow.

    Raises:
        SnapshotError: the file is refused or has no discriminator.
    """
    path = Path(path)
    data = bytes_of(path)
    try:
        value = value_of(data)
        if tensorflow_pickle.holds(value):
            config, arrays = _of_tensorflow(value)
        else:
            config, arrays = _of_modules(value)
        tensors = whole_network(arrays, DiscriminatorNetwork.skeleton(config), len(data))
    except (SnapshotError, ValueError) as error:
        raise refused(path, error) from None
    return StoredDiscriminator(config=config, tensors=tensors)


def _of_modules(value: Any) -> tuple[DiscriminatorConfig, dict[str, Array]]:
    top = pytorch_pickle.named_network(value, "D", "Discriminator")
    parts, stored = pytorch_pickle.flattened(top)
    # the layer of a skip and the last fromRGB are never clamped
    layers = [part for name, part in parts.items() if re.search(r"\.conv[01]?$", name)]
    resolution = pytorch_pickle.whole(top, "img_resolution")
    labels = pytorch_pickle.whole(top, "c_dim")
    blocks = [f"b{2**power}" for power in range(2, resolution.bit_length())]
    statistic = pytorch_pickle.at(parts, "b4.mbstd")
    if pytorch_pickle.whole(statistic, "num_channels") != 1:
        raise SnapshotError("its discriminator has more than one minibatch statistic")
    config = DiscriminatorConfig(
        resolution=resolution,
        img_channels=pytorch_pickle.whole(top, "img_channels"),
        labels=labels,
        widths=(
            pytorch_pickle.outputs(stored, "b4.conv.weight"),
            *(pytorch_pickle.outputs(stored, f"{block}.conv0.weight") for block in blocks[1:]),
        ),
        architecture=pytorch_pickle.common(
            [pytorch_pickle.at(parts, block) for block in blocks], "architecture", str
        ),
        conv_clamp=pytorch_pickle.clamp_of(layers),
        group_size=_group_size(statistic),
        mapping_layers=pytorch_pickle.whole(pytorch_pickle.at(parts, "mapping"), "num_layers")
        if labels
        else 0,
    )
    return config, pytorch_pickle.arrays_of(stored)


def _group_size(statistic: Module) -> int:
    if statistic.state.get("group_size", 0) is None:
        return _EVERY
    return pytorch_pickle.whole(statistic, "group_size")


def _of_tensorflow(value: Any) -> tuple[DiscriminatorConfig, dict[str, Array]]:
    options, variables = tensorflow_pickle.discriminator_of(value)
    resolution = options.whole("resolution", 1024)
    if options.whole("label_size", 0):
        raise SnapshotError(
            "the discriminator of a conditional TensorFlow network maps labels differently and "
            "is not supported"
        )
    sides = [2**power for power in range(3, resolution.bit_length())]
    widths = [
        tensorflow_pickle.outputs(variables, f"{side}x{side}/Conv0/weight") for side in sides
    ]
    config = DiscriminatorConfig(
        resolution=resolution,
        img_channels=options.whole("num_channels", 3),
        labels=0,
        widths=(tensorflow_pickle.outputs(variables, "4x4/Conv/weight"), *widths),
        architecture=options.one("architecture", "resnet"),
        conv_clamp=options.clamp(),
        group_size=_group_of(options),
        mapping_layers=0,
    )
    names = DiscriminatorNetwork.skeleton(config).state_dict()
    missing = {_variable(name) for name in names} - variables.keys()
    for name in sorted(missing):
        raise SnapshotError(f"the variable {name} is missing")
    return config, {name: _turned(name, variables[_variable(name)]) for name in names}


def _group_of(options: tensorflow_pickle.Options) -> int:
    if options.given.get("mbstd_group_size", 4) is None:
        return _EVERY
    return options.whole("mbstd_group_size", 4)


def _variable(name: str) -> str:
    """Return the name of the TensorFlow variable of one of our tensors."""
    block, layer, leaf = name.split(".")
    side = block.removeprefix("b")
    place = f"{side}x{side}/{_LAYERS[layer]}" if layer in _LAYERS else _LAST[layer]
    return f"{place}/{leaf}"


def _turned(name: str, array: Array) -> Array:
    if array.ndim == 4:  # height, width, in, out
        return np.transpose(array, (3, 2, 0, 1))
    return np.transpose(array) if array.ndim == 2 else array
