"""Determine the order of the training images.

A position counts the images shown so far. The image at a position depends only on the seed and the
position, so a resumed training need not replay anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Endless shuffled epochs over the images, each with every item once."""

    count: int  # images, at least 1
    seed: int  # 0 or more
    mirror: bool = False  # every image is two items: original and mirrored

    @property
    def items(self) -> int:
        """Number of items per epoch."""
        return self.count * (2 if self.mirror else 1)

    def at(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the `size` images from a position on, and which to mirror.

        Args:
            position: number of images shown before.
            size: batch size; a batch may span epochs.
        """
        passes, within = np.divmod(position + np.arange(size, dtype=np.int64), self.items)
        shown = np.empty(size, np.int64)
        for number in np.unique(passes):
            here = passes == number
            shown[here] = _order(self.items, self.seed, int(number))[within[here]]
        return shown % self.count, shown >= self.count


@lru_cache(maxsize=4)  # a batch spans two epochs, unless it is larger than one
def _order(items: int, seed: int, number: int) -> np.ndarray:
    """Return the order of an epoch; it never changes, as RandomState's streams are frozen."""
    bits = np.random.MT19937(np.random.SeedSequence((seed, number)))
    order: np.ndarray = np.random.RandomState(bits).permutation(items)
    order.flags.writeable = False
    return order
