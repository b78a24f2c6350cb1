"""Network files read into tensors and resolved options, without running anything in them.

file -> records -> snapshot -> generator
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgaug.errors import SnapshotError
from gan_worker.modules import array_of, read_generator
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.records import shown

# The largest official snapshot (1024 px, three networks) has 0.4 GB.
MAX_BYTES = 4 * 2**30
_CURE = "Give a network-snapshot-*.pkl as stylegan2-ada-pytorch or stylegan3 wrote it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A trained generator as read from a file: its moving average (`G_ema`)."""

    sha256: str  # of the file as first read
    kind: str  # the program's format: stylegan2-ada-pytorch
    config: GeneratorConfig
    tensors: dict[str, Tensor]  # float32, contiguous, by official name; no filters

    @property
    def resolution(self) -> int:
        """Return the side of its images in px."""
        return self.config.resolution

    @property
    def channels(self) -> int:
        """Return 1 for gray images, 3 for colour."""
        return self.config.img_channels

    @property
    def labels(self) -> int:
        """Return how many classes a conditional network has, else 0."""
        return self.config.labels


def read_snapshot(path: Path | str) -> Snapshot:
    """Return the generator in a network file; anything else ends in a SnapshotError."""
    path = Path(path)
    data = _bytes_of(path)
    try:
        config, stored = read_generator(data)
        _check_shapes(config, {name: record.size for name, record in stored.items()}, len(data))
        tensors = {name: _tensor(name, array_of(data, item)) for name, item in stored.items()}
    except (SnapshotError, ValueError) as error:
        raise SnapshotError(f"{path} was refused: {error}. {_CURE}") from None
    return Snapshot(
        sha256=hashlib.sha256(data).hexdigest(),
        kind="stylegan2-ada-pytorch",
        config=config,
        tensors=tensors,
    )


def _bytes_of(path: Path) -> bytes:
    if path.suffix == ".safetensors":
        raise SnapshotError(f"{path} is a .safetensors file, which is not read yet. {_CURE}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SnapshotError(
                f"A network file may have {MAX_BYTES} bytes, {path} has {size}. {_CURE}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise SnapshotError(f"{path} is missing. Give the path of a network file.") from None
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror}). {_CURE}") from None


def _check_shapes(config: GeneratorConfig, found: dict[str, tuple[int, ...]], size: int) -> None:
    """Refuse tensors that are not all, and only, those of a network of this config."""
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in GeneratorNetwork.skeleton(config).state_dict().items()
    }
    for name in sorted(expected.keys() ^ found.keys()):
        raise SnapshotError(
            f"tensor {shown(name)} is {'missing' if name in expected else 'unknown'}"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise SnapshotError(f"tensor {name} has shape {found[name]}, not {shape}")
    if 4 * sum(prod(shape) for shape in expected.values()) > size:
        raise SnapshotError("its tensors share their numbers")


def _tensor(name: str, array: NDArray[np.float32]) -> Tensor:
    if not np.isfinite(array).all():
        raise SnapshotError(f"tensor {name} holds NaN or infinity")
    return torch.from_numpy(array)
