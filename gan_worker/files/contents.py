"""The contents of a network file, and the checks common to all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fgaug.errors import SnapshotError
from gan_worker.files.stored import shown
from gan_worker.networks import GeneratorConfig, GeneratorNetwork

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A generator in a file: its parsed options, and views of its tensors."""

    kind: str  # the program's format
    network: str  # name of the network in the file
    config: GeneratorConfig
    arrays: dict[str, Array]  # views of the file's bytes, by official PyTorch name
    sha256: str | None = None  # of the file that this one is a copy of
    source: str | None = None  # the name of that file


def tensors_of(contents: Contents, size: int) -> dict[str, Tensor]:
    """Return the tensors of a file of `size` bytes; see `whole_network`."""
    return whole_network(contents.arrays, GeneratorNetwork.skeleton(contents.config), size)


def whole_network(
    arrays: Mapping[str, Array], skeleton: nn.Module, size: int
) -> dict[str, Tensor]:
    """Return contiguous float32 tensors; refuse an incomplete network or non-finite values.

    Args:
        arrays: views of a file's bytes by tensor name.
        skeleton: network with the required names and shapes.
        size: file size in bytes, an upper limit on the network's memory.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    for name in sorted(expected.keys() ^ arrays.keys()):
        raise SnapshotError(
            f"tensor {shown(name)} is {'missing' if name in expected else 'unknown'}"
        )
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise SnapshotError(f"tensor {name} has shape {arrays[name].shape}, not {shape}")
    if sum(array.nbytes for array in arrays.values()) > size:
        raise SnapshotError("its tensors share memory")
    return {name: _tensor(name, arrays[name]) for name in arrays}


def _tensor(name: str, array: Array) -> Tensor:
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is refused
        numbers = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(numbers).all():
        raise SnapshotError(f"tensor {name} contains NaN or infinity")
    return torch.from_numpy(numbers)
