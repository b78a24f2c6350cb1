"""What a reader found in a network file, and the checks every kind of file passes.

file -> reader -> [contents] -> snapshot
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgaug.errors import SnapshotError
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.stored import shown

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A generator in a file: options read, tensors by place only."""

    kind: str  # the program's format
    network: str  # which of the file's networks this is
    config: GeneratorConfig
    arrays: dict[str, Array]  # views of the file's bytes, by official PyTorch name
    sha256: str | None = None  # of the file this one is a copy of
    source: str | None = None  # the name of that file


def tensors_of(contents: Contents, size: int) -> dict[str, Tensor]:
    """Return contiguous float32 tensors; refuse what is not a whole network of finite numbers.

    Args:
        contents: what a file of `size` bytes holds.
        size: no network takes more memory than its file has bytes.
    """
    skeleton = GeneratorNetwork.skeleton(contents.config).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in skeleton.items()}
    for name in sorted(expected.keys() ^ contents.arrays.keys()):
        raise SnapshotError(
            f"tensor {shown(name)} is {'missing' if name in expected else 'unknown'}"
        )
    for name, shape in expected.items():
        if contents.arrays[name].shape != shape:
            raise SnapshotError(
                f"tensor {name} has shape {contents.arrays[name].shape}, not {shape}"
            )
    if sum(array.nbytes for array in contents.arrays.values()) > size:
        raise SnapshotError("its tensors share their numbers")
    return {name: _tensor(name, contents.arrays[name]) for name in contents.arrays}


def _tensor(name: str, array: Array) -> Tensor:
    if not np.isfinite(array).all():
        raise SnapshotError(f"tensor {name} holds NaN or infinity")
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
