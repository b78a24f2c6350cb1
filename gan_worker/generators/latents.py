"""Draws: z_seeds -> z and noise, as the official programs draw them.

All that is random in an image comes from `numpy.random.RandomState(z_seed)`: z first, then, for
seeded noise, the maps from 4 px up.
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
MAX_Z_SEED = 2**32 - 1  # what numpy's RandomState takes


def draw(
    config: GeneratorConfig, noise_mode: str, seeds: Sequence[int], *, pinned: bool = False
) -> tuple[Tensor, Noise]:
    """Return z [N, z_dim] and the noise, each seed's numbers from its own stream.

    Noise is the mode's own name, or for `seeded` a map [N, 1, r, r] a layer.

    Args:
        pinned: in memory from which a GPU copies while it computes.
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
    """Return z_seeds as Python integers; refuse what cannot seed a random generator."""
    seeds = []
    for z_seed in z_seeds:
        try:
            seed = operator.index(z_seed)
        except TypeError:
            seed = -1
        if not 0 <= seed <= MAX_Z_SEED:
            raise UserError(f"z_seeds are whole numbers from 0 to {MAX_Z_SEED}, got {z_seed!r}.")
        seeds.append(seed)
    return seeds


def checked_psi(psi: float) -> float:
    """Return psi as a float; refuse what is not a finite number."""
    value = float(psi)
    if not math.isfinite(value):
        raise UserError(f"psi must be a finite number, got {psi}. Give for example 0.7.")
    return value


def check_label(label: int | None, labels: int) -> None:
    """Refuse a label that the network does not have, or its lack where the network needs one."""
    if labels == 0 and label is not None:
        raise UserError(f"label must be None for a network without classes, got {label}.")
    if labels and label is None:
        raise UserError(f"label must name a class of this network: 0 to {labels - 1}, got None.")
    if label is not None and not 0 <= label < labels:
        raise UserError(f"label must be a class of this network, 0 to {labels - 1}, got {label}.")
