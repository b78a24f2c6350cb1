"""Serve batches of memory-mapped images.

PyTorch is imported only when tensors are requested.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fgaug.data import Dataset

if TYPE_CHECKING:
    import torch

RESIDENT_BYTES = 2 << 30  # a CUDA trial keeps up to this many bytes of a split on the GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """N labelled images as references into pixel arrays; only batches are copied."""

    sources: Sequence[np.ndarray]  # each uint8 [rows, H, W, C], usually memory-mapped
    source: np.ndarray  # int [N], index of the source
    row: np.ndarray  # int [N], row in that source
    label: np.ndarray  # int [N]
    # pixels on the GPU; None once there is no room for them
    _cache: dict[str, torch.Tensor | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> np.ndarray:
        """Return the pixels of the images `index`, uint8 [n, H, W, C]."""
        out = np.empty((len(index), *self.sources[0].shape[1:]), np.uint8)
        of = self.source[index]
        for which in np.unique(of):
            here = of == which
            out[here] = self.sources[which][self.row[index[here]]]
        return out

    def batch(self, index: np.ndarray, device: torch.device) -> torch.Tensor:
        """Return the pixels of the images `index` on `device`, uint8 [n, C, H, W]."""
        import torch

        if device.type == "cuda":
            resident = self._resident(device)
            if resident is not None:
                return resident[torch.from_numpy(index).to(device)]
        return _to_device(self.take(index), device)

    def labels(self, index: np.ndarray, device: torch.device) -> torch.Tensor:
        import torch

        return torch.from_numpy(self.label[index]).to(device)

    def _resident(self, device: torch.device) -> torch.Tensor | None:
        """Return all pixels on the device, copied once, or None if they do not fit."""
        import torch

        if not resident_bytes(len(self), self.sources[0].shape[1:]):
            return None
        if "pixels" not in self._cache:
            self._cache["pixels"] = None
            with contextlib.suppress(torch.OutOfMemoryError):
                self._cache["pixels"] = _to_device(self.take(np.arange(len(self))), device)
        return self._cache["pixels"]

    def release(self) -> bool:
        """Release the pixels on the GPU for good; return whether there were any.

        Batches are then copied from the machine's memory: the same pixels, only slower.
        """
        held = self._cache.get("pixels") is not None
        if held:
            self._cache["pixels"] = None
        return held


def resident_bytes(count: int, shape: Sequence[int]) -> int:
    """Return how many bytes of pixels a CUDA trial keeps on the GPU for a set of images.

    Args:
        count: number of images.
        shape: of one image, uint8.
    """
    size = count * int(np.prod(shape))
    return size if size <= RESIDENT_BYTES else 0  # a larger set is copied batch by batch


def _to_device(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    import torch

    tensor = torch.from_numpy(pixels)
    if device.type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2)


def epochs(count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield index batches endlessly: shuffled epochs, each without its incomplete last batch."""
    order = np.random.RandomState(seed)
    size = min(batch_size, count)
    while True:
        shuffled = order.permutation(count)
        for start in range(0, count - size + 1, size):
            yield shuffled[start : start + size]


def stream(count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield equal index batches endlessly: shuffled epochs end to end; batches may span two."""
    order = np.random.RandomState(seed)
    left = np.empty(0, np.int64)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, order.permutation(count)])
        yield left[:batch_size]
        left = left[batch_size:]


def split_images(dataset: Dataset, split: str) -> Images:
    """Return the real images of one split."""
    classes = {label: index for index, label in enumerate(dataset.spec.labels)}
    rows = np.flatnonzero((dataset.manifest["split"] == split).to_numpy())
    labels = dataset.manifest["label"].map(classes).to_numpy(np.int64)[rows]
    return Images(
        sources=[dataset.pixels()], source=np.zeros(len(rows), np.int64), row=rows, label=labels
    )
