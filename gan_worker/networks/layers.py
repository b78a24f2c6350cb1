"""Common parts of all networks: activations, dense layers, upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SQRT2 = math.sqrt(2)
_FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (lambda x: x, 1.0),
    "relu": (torch.relu, _SQRT2),
    "swish": (F.silu, _SQRT2),
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 1.0),
    "elu": (F.elu, 1.0),
    "selu": (F.selu, 1.0),
    "softplus": (F.softplus, 1.0),
}


def normal(*shape: int, std: float = 1.0) -> Tensor:
    """Return numbers drawn from N(0, std^2), or only shapes on the meta device.

    There, even one draw would import parts of torch for two seconds.
    """
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_(std=std)


def activate(
    x: Tensor, activation: str = "lrelu", gain: float = 1.0, clamp: float | None = None
) -> Tensor:
    """Return the activation of `x` times its default gain and `gain`, clamped to +-`clamp`.

    The clamp applies after the gain and scales with `gain`. Without gradients `x` is overwritten,
    as at 128 px a new array costs ten times as much as the arithmetic.
    """
    in_place = not torch.is_grad_enabled()
    if activation == "lrelu":
        x, own_gain = F.leaky_relu(x, 0.2, inplace=in_place), _SQRT2
    else:
        function, own_gain = _FUNCTIONS[activation]
        x = function(x)
    factor = own_gain * gain
    if factor != 1:
        x = x.mul_(factor) if in_place else x * factor
    if clamp is not None:
        bound = clamp * gain
        x = x.clamp_(-bound, bound) if in_place else x.clamp(-bound, bound)
    return x


def second_moment_normalised(x: Tensor) -> Tensor:
    """Scale the rows of `x` to a mean square of one."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class FullyConnected(nn.Module):
    """A dense layer with equalised learning rate: initial weights have std 1 / lr_multiplier."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(normal(outputs, inputs, std=1 / lr_multiplier))
        self.bias = nn.Parameter(torch.full((outputs,), bias))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x * self.weight_gain, self.weight, self.bias * self.bias_gain)
        return activate(y, self.activation)


def upsampled(x: Tensor) -> Tensor:
    """Upsample `x` by 2 with the [1, 3, 3, 1] filter and zero padding.

    With inserted zeros, this filter weights two neighbours by 1/4 and 3/4, which is bilinear
    interpolation; only the border differs, hence the ring of zeros.
    """
    ringed = F.pad(x, (1, 1, 1, 1))
    doubled = F.interpolate(ringed, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[:, :, 2:-2, 2:-2]
