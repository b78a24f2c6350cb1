"""Depthwise convolutions with a faster backward pass on processors: the same function.

Half of a training step of lite0 on small images goes into the library's backward pass of 5x5
depthwise convolutions. Written out as shifted products it takes a fifth of that. Both programs of
the comparison train with it, so that it cannot tell them apart; it changes rounding only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def speed_up(model: nn.Module) -> int:
    """Let the depthwise convolutions of stride 1 in `model` use it; return how many there are."""
    count = 0
    for layer in model.modules():
        if _fits(layer):
            layer.forward = _Forward(layer)
            count += 1
    return count


def _fits(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.stride == layer.dilation == (1, 1)
        and layer.bias is None
        and layer.kernel_size[0] == layer.kernel_size[1] == 2 * layer.padding[0] + 1
    )


class _Forward:
    """Stands for `layer.forward`; holds no parameter of its own."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Depthwise.apply(x, self.layer.weight)
        return out


class _Depthwise(torch.autograd.Function):
    """Odd square kernels, stride 1, padded to keep the size."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = context.saved_tensors
        side, half = weight.shape[-1], weight.shape[-1] // 2
        of_x = F.conv2d(gradient, weight.flip(2, 3), padding=half, groups=len(weight))
        if not context.needs_input_grad[1]:
            return of_x, None
        h, w = x.shape[2:]
        of_weight = torch.zeros_like(weight)
        for i in range(max(0, half - h + 1), min(side, half + h)):
            for j in range(max(0, half - w + 1), min(side, half + w)):
                down, across = i - half, j - half
                of = gradient[..., max(0, -down) : h - max(0, down), :]
                of = of[..., max(0, -across) : w - max(0, across)]
                to = x[..., max(0, down) : h + min(0, down), :]
                to = to[..., max(0, across) : w + min(0, across)]
                of_weight[:, 0, i, j] = (of * to).sum(dim=(0, 2, 3))
        return of_x, of_weight
