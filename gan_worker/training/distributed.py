"""Synchronise the processes that train one network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class Together:
    """Averages over all processes; does nothing for a single one."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, _split(flat, tensors), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


def _split(flat: Tensor, tensors: Sequence[Tensor]) -> Iterable[Tensor]:
    return torch.split(flat, [tensor.numel() for tensor in tensors])
