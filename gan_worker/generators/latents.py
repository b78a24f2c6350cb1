"""Draw z and noise from z_seeds, exactly as the official programs do.

All randomness of an image comes from `numpy.random.RandomState(z_seed)`: first z, then, for seeded
noise, the noise maps from 4 px up.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fgaug.errors import UserError
from gan_worker.networks import GeneratorConfig
from gan_worker.networks.synthesis import Noise

NOISE_MODES = ("const", "none", "seeded")
MAX_Z_SEED = 2**32 - 1  # limit of numpy's RandomState


def draw(
    config: GeneratorConfig, noise_mode: str, seeds: Sequence[int], *, pinned: bool = False
) -> tuple[Tensor, Noise]:
    """Return z [N, z_dim] and the noise, with a separate random stream per seed.

    The noise is the name of the mode, or for `seeded` one map [N, 1, r, r] per layer.

    Args:
        pinned: use pinned memory, from which a GPU copies asynchronously.
    """
    sizes = config.noise_sizes if noise_mode == "seeded" else ()
    z = torch.empty(len(seeds), config.z_dim, pin_memory=pinned)
    maps = [torch.empty(len(seeds), 1, size, size, pin_memory=pinned) for size in sizes]
    arrays = [tensor.numpy() for tensor in (z, *maps)]
    for row, seed in enumerate(seeds):
        random = np.random.RandomState(seed)
        for array in arrays:
            array[row] = random.randn(*array.shape[1:])
    return z, maps if noise_mode == "seeded" else noise_mode


def checked_seeds(z_seeds: Sequence[int]) -> list[int]:
    """Return z_seeds as Python integers; refuse invalid seeds."""
    seeds = []
    for z_seed in z_seeds:
        try:
            seed = operator.index(z_seed)
        except TypeError:
            seed = -1
        if not 0 <= seed <= MAX_Z_SEED:
            raise UserError(
                f"z_seeds must be whole numbers from 0 to {MAX_Z_SEED}, got {z_seed!r}."
            )
        seeds.append(seed)
    return seeds


def checked_psi(psi: float) -> float:
    """Return psi as a float; refuse non-finite numbers."""
    value = float(psi)
    if not math.isfinite(value):
        raise UserError(f"psi must be a finite number, got {psi}. For example, give 0.7.")
    return value


def check_label(label: int | None, labels: int) -> None:
    """Refuse a label that the network does not have, or a missing label that it needs."""
    if labels == 0 and label is not None:
        raise UserError(f"label must be None for a network without classes, got {label}.")
    if labels and label is None:
        raise UserError(f"label must name a class of this network: 0 to {labels - 1}, got None.")
    if label is not None and not 0 <= label < labels:
        raise UserError(f"label must be a class of this network, 0 to {labels - 1}, got {label}.")
