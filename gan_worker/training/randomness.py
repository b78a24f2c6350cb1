"""Random numbers of an iteration, determined only by the seed and its number.

A training resumed after a kill draws the same numbers as without it. Processes that share a batch
draw all numbers and keep their part, so results do not depend on the distribution.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_worker.networks import GeneratorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of each batch that a process computes: rank of `world`."""

    rank: int = 0
    world: int = 1
    group_size: int = 4  # images i, i + N / G, ... stay together, as they share a statistic

    def of(self, rows: Tensor) -> Tensor:
        """Return this process's rows of a batch [N, ...], in whole groups."""
        if self.world == 1:
            return rows
        group = min(self.group_size, len(rows))
        groups = len(rows) // group
        if len(rows) % group or groups % self.world:
            raise ValueError(f"{len(rows)} rows cannot be divided into {self.world} x {group}")
        part = groups // self.world
        grouped = rows.reshape(group, groups, *rows.shape[1:])
        return grouped[:, self.rank * part : (self.rank + 1) * part].flatten(0, 1)


class Chance:
    """The random numbers of one phase of one iteration, in call order."""

    def __init__(
        self, seed: int, iteration: int, phase: str, device: torch.device, share: Share
    ) -> None:
        text = f"{seed} {iteration} {phase}".encode()
        drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        self.cpu = torch.Generator().manual_seed(drawn)
        on_cpu = device.type == "cpu"
        self.own = self.cpu if on_cpu else torch.Generator(device).manual_seed(drawn)
        self.device, self.share = device, share

    def normal(self, *shape: int) -> Tensor:
        """Return this process's rows of standard normal numbers [N, ...]."""
        return self.share.of(torch.randn(shape, generator=self.own, device=self.device))

    def noise(self, config: GeneratorConfig, images: int) -> list[Tensor]:
        """Return one noise map [N, 1, r, r] per layer of a generator."""
        return [self.normal(images, 1, size, size) for size in config.noise_sizes]

    def below(self, bound: int) -> int:
        """Return an integer from 0 to `bound` - 1, the same in all processes."""
        return int(torch.randint(bound, (), generator=self.cpu))

    def happens(self, probability: float) -> bool:
        """Return True with this probability, the same in all processes."""
        return float(torch.rand((), generator=self.cpu)) < probability
