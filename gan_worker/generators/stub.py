"""Generate smooth patterns instead of network images, for tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgaug.core.pixels import ImageArray
from fgaug.errors import UserError
from gan_worker.generators.latents import check_label, checked_psi, checked_seeds


class StubGenerator:
    """Generates smooth patterns instead of network images, instantly and deterministically.

    A pattern is two waves and grain drawn from z_seed, scaled by psi about grey, so that psi 0
    gives the same image for every seed, as in a real network.
    """

    def __init__(self, size: int, channels: int, labels: int = 0) -> None:
        if size < 1 or channels < 1 or labels < 0:
            raise UserError(
                "A stub needs a size and channels of at least 1 and labels of at least 0, "
                f"got {size}, {channels}, {labels}."
            )
        self.size, self.channels, self.labels = size, channels, labels

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> ImageArray:
        """Return uint8 [N, H, W, C]; each image depends only on its z_seed, psi and label."""
        psi = checked_psi(psi)
        check_label(label, self.labels)
        seeds = np.array(checked_seeds(z_seeds), dtype=np.uint64)
        images = np.empty((len(seeds), self.size, self.size, self.channels), dtype=np.uint8)
        rows = max(1, 2**20 // (self.size**2 * self.channels))  # 8 MB an array
        for start in range(0, len(seeds), rows):
            images[start : start + rows] = self._patterns(seeds[start : start + rows], psi, label)
        return images

    def _patterns(self, z_seeds: NDArray[np.uint64], psi: float, label: int | None) -> ImageArray:
        seeds = z_seeds[:, None]
        draws = _hashed(seeds * np.uint64(8) + np.arange(8, dtype=np.uint64))  # [N, 8] in [0, 1)
        turn = 2 * math.pi * draws[:, :, None]
        at = np.linspace(0, 2 * math.pi, self.size, endpoint=False)
        down = np.sin((1 + (label or 0)) * at + turn[:, 0]) * draws[:, 1, None]
        right = np.sin(2 * at + turn[:, 2]) * draws[:, 3, None]
        planes = np.arange(self.channels)
        tint = 0.5 * np.sin(turn[:, 4] + planes)
        cells = np.arange(self.size * self.size, dtype=np.uint64).reshape(self.size, self.size)
        grain = _hashed(seeds[:, :, None] * np.uint64(2**20) + cells) - 0.5
        gray = down[:, :, None] + right[:, None, :] + 0.5 * grain
        levels = 128 + 40 * psi * (gray[..., None] + tint[:, None, None, :])
        images: ImageArray = np.clip(levels, 0, 255).astype(np.uint8)
        return images


def _hashed(keys: NDArray[Any]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each key, with the splitmix64 hash."""
    mixed = keys * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return numbers
