"""Which image is shown when.

A position counts the images shown so far. What is shown there depends on the seed and the position
alone, so that a training that goes on from a snapshot replays nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Shuffled passes over the images without end, each of them showing every item once."""

    count: int  # images, at least 1
    seed: int  # 0 or more
    mirror: bool = False  # every image is two items, as it is and mirrored

    @property
    def items(self) -> int:
        """Return how many items a pass shows."""
        return self.count * (2 if self.mirror else 1)

    def at(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the `size` images shown from a position on, and which to mirror.

        Args:
            position: images shown before.
            size: of the batch, which may span passes.
        """
        passes, within = np.divmod(position + np.arange(size, dtype=np.int64), self.items)
        shown = np.empty(size, np.int64)
        for number in np.unique(passes):
            here = passes == number
            shown[here] = _order(self.items, self.seed, int(number))[within[here]]
        return shown % self.count, shown >= self.count


@lru_cache(maxsize=4)  # a batch spans two passes, unless it is larger than one
def _order(items: int, seed: int, number: int) -> np.ndarray:
    """Return the order of a pass; RandomState's streams are frozen, so it never changes."""
    bits = np.random.MT19937(np.random.SeedSequence((seed, number)))
    order: np.ndarray = np.random.RandomState(bits).permutation(items)
    order.flags.writeable = False
    return order
