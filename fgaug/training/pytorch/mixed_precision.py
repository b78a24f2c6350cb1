"""Compute a network in bfloat16, except where that is slower or less exact.

Weights, their gradients and the optimiser stay float32. Dense convolutions and matrix products
round their operands to bfloat16 and add up in float32. Normalisation computes its statistics in
float32. Depthwise convolutions stay float32: they have too few products per pixel to gain.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DEVICES = ("cpu", "cuda")  # torch's meta device, for shapes alone, has no autocast


def bfloat16(device: str, wanted: bool) -> AbstractContextManager[object]:
    """Return a context in which a network on this device is computed in bfloat16, if wanted."""
    if not wanted or device not in _DEVICES:
        return nullcontext()
    return torch.autocast(device, torch.bfloat16)


def keep_float32(network: nn.Module) -> None:
    """Make the grouped convolutions of a network compute in float32 under `bfloat16`."""
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS) and module.groups > 1:
            kind: Any = type(module)
            module.__class__ = _float32_kind(kind)


class _Float32:
    """Mixin of a layer that computes in float32, whatever the context."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        apart = x.device.type in _DEVICES
        with torch.autocast(x.device.type, enabled=False) if apart else nullcontext():
            found: torch.Tensor = super().forward(x.float())  # type: ignore[misc]  # the layer's
            return found


@functools.cache
def _float32_kind(kind: Any) -> Any:
    # a class, as a function kept in the layer would refer to it and outlive its trial
    return type(f"Float32{kind.__name__}", (_Float32, kind), {})
