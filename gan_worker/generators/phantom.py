"""Generate phantom fakes: new draws of the simulator, where psi scales their variation.

At psi 1 they are perfect fakes, as from a GAN that has learned the true distribution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fgaug.data.phantom import PLANES, draw_image
from fgaug.errors import SnapshotError

# The fake of z_seed s is the draw of seed s + OFFSET, as phantom datasets use seeds from 0.
OFFSET = 1 << 31


class PhantomGenerator:
    """Simulates images of one plane; a `Generator` without a network."""

    channels = 1
    labels = 0

    def __init__(self, plane: str, size: int) -> None:
        if plane not in PLANES:
            raise SnapshotError(
                f"`generator.kind: phantom` supports only the labels {' and '.join(PLANES)}, not "
                f"`{plane}`. Use it with a dataset of `fgaug data prepare --preset phantom`."
            )
        self.plane, self.size = plane, size

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> np.ndarray:
        """Return one draw per z_seed, uint8 [N, size, size, 1]; `psi` scales the variation."""
        assert label is None, "one generator draws one plane"
        if not len(z_seeds):
            return np.empty((0, self.size, self.size, 1), np.uint8)
        seeds = [(int(z_seed) + OFFSET) % 2**32 for z_seed in z_seeds]
        return np.stack([draw_image(self.plane, s, size=self.size, spread=psi) for s in seeds])
