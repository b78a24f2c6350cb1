"""Processes that train one network together, or one alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class Together:
    """Means over all processes; one process alone is its own mean."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def first(self) -> bool:
        """Return whether this is the process that writes files and tells of progress."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes into each tensor."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, _split(flat, tensors), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.world > 1:
            dist.barrier()


def _split(flat: Tensor, tensors: Sequence[Tensor]) -> Iterable[Tensor]:
    return torch.split(flat, [tensor.numel() for tensor in tensors])
