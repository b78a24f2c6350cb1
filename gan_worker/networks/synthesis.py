"""w -> image: modulated convolutions, toRGB and the three ways of joining blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_worker.networks.config import GeneratorConfig
from gan_worker.networks.layers import FullyConnected, activate, blur, normal, upsampled

Noise = str | Sequence[Tensor]
"""`const` (stored in the file), `none`, `random`, or a map [N, 1, r, r] a layer, in order."""


class SynthesisLayer(nn.Module):
    """A 3x3 convolution whose input channels are scaled by the style, then noise and activation.

    Scaling activations instead of weights shares one convolution among all images of a batch. The
    demodulation then needs only `sum_i s_i^2 sum_k W[o, i, k]^2`: one small product with a matrix
    that is computed once for fixed weights.
    """

    noise_const: Tensor

    def __init__(
        self, inputs: int, outputs: int, resolution: int, *, up: bool, config: GeneratorConfig
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.up = up
        self.activation = config.activation
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(normal(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if config.use_noise:
            self.register_buffer("noise_const", normal(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros(()))
        self._power: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        style = self.affine(w)
        demodulation = torch.rsqrt(style.square() @ self._weight_power().t() + 1e-8)
        x = x * style[:, :, None, None]
        if self.up:  # stored in true-convolution orientation, which is what a transpose applies
            x = blur(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, self.weight, padding=1)
        scale, shift = demodulation[:, :, None, None], self.bias[:, None, None]
        x = x * scale if torch.is_grad_enabled() else x.mul_(scale)
        if noise is not None:
            x = x.add_(noise * self.noise_strength)
        return activate(x.add_(shift), self.activation, gain, self.clamp)

    def _weight_power(self) -> Tensor:
        """Return the squared norm of each 3x3 kernel, [outputs, inputs]; kept for later calls."""
        if torch.is_grad_enabled() and self.weight.requires_grad:
            return self.weight.square().sum(dim=(2, 3))
        state = (self.weight.data_ptr(), self.weight._version)
        if self._power is None or self._power[0] != state:
            self._power = (state, self.weight.detach().square().sum(dim=(2, 3)))
        return self._power[1]


class ToRgb(nn.Module):
    """A 1x1 convolution to image channels, scaled by the style but not demodulated."""

    def __init__(self, inputs: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.style_gain = 1 / math.sqrt(inputs)
        self.affine = FullyConnected(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(normal(config.img_channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.style_gain
        weights = style[:, :, None] * self.weight[:, :, 0, 0].t()  # [N, inputs, channels]
        pixels = x.flatten(2).transpose(1, 2)  # [N, r * r, inputs]: no copy in channels-last order
        image = torch.baddbmm(self.bias, pixels, weights).transpose(1, 2)
        return activate(image.reshape(*image.shape[:2], *x.shape[2:]), "linear", clamp=self.clamp)


class SkipConvolution(nn.Module):
    """The residual path of a `resnet` block: 1x1 at the lower resolution, then doubled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_gain = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(normal(outputs, inputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return upsampled(F.conv2d(x, self.weight * self.weight_gain))


class SynthesisBlock(nn.Module):
    """All layers of one resolution; the first block starts from a learned constant."""

    def __init__(self, index: int, config: GeneratorConfig) -> None:
        super().__init__()
        width, resolution = config.widths[index], config.resolutions[index]
        self.first = index == 0
        self.residual = config.architecture == "resnet" and not self.first
        self.has_rgb = config.architecture == "skip" or resolution == config.resolution
        self.num_conv = 1 if self.first else 2
        if self.first:
            self.const = nn.Parameter(normal(width, 4, 4))
        else:
            before = config.widths[index - 1]
            self.conv0 = SynthesisLayer(before, width, resolution, up=True, config=config)
        self.conv1 = SynthesisLayer(width, width, resolution, up=False, config=config)
        if self.has_rgb:
            self.torgb = ToRgb(width, config)
        if self.residual:
            self.skip = SkipConvolution(config.widths[index - 1], width)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """Return features and image so far; `ws` and `noise` hold this block's alone."""
        if self.first or x is None:
            x = self.conv1(self.const.expand(len(ws), -1, -1, -1), ws[:, 0], noise[0])
        elif self.residual:
            half = math.sqrt(0.5)
            side = self.skip(x) * half
            main = self.conv0(x, ws[:, 0], noise[0])
            x = side + self.conv1(main, ws[:, 1], noise[1], gain=half)
        else:
            x = self.conv1(self.conv0(x, ws[:, 0], noise[0]), ws[:, 1], noise[1])
        if image is not None:
            image = upsampled(image)
        if self.has_rgb:
            rgb = self.torgb(x, ws[:, self.num_conv])
            image = rgb if image is None else image + rgb
        return cast(Tensor, x), image


class SynthesisNetwork(nn.Module):
    """Turns the w vectors of every layer into an image."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        for index, resolution in enumerate(config.resolutions):
            self.add_module(f"b{resolution}", SynthesisBlock(index, config))

    def forward(self, ws: Tensor, noise: Noise = "random") -> Tensor:
        """Return images [N, channels, r, r], about [-1, 1] and not clipped."""
        maps = self._noise_maps(noise, len(ws), ws.device)
        x: Tensor | None = None
        image: Tensor | None = None
        at = 0
        for block in self.blocks():
            # a toRGB shares its vector with the next block's first convolution
            own = ws[:, at : at + block.num_conv + 1]
            x, image = block(x, image, own, maps[at : at + block.num_conv])
            at += block.num_conv
        return cast(Tensor, image)

    def blocks(self) -> Iterator[SynthesisBlock]:
        """Yield the blocks from 4 px up."""
        for resolution in self.config.resolutions:
            yield cast(SynthesisBlock, getattr(self, f"b{resolution}"))

    def _noise_maps(
        self, noise: Noise, images: int, device: torch.device
    ) -> Sequence[Tensor | None]:
        sizes = self.config.noise_sizes
        if not self.config.use_noise or noise == "none":
            return [None] * len(sizes)
        if noise == "const":
            return [
                layer.noise_const for layer in self.modules() if isinstance(layer, SynthesisLayer)
            ]
        if noise == "random":
            return [torch.randn(images, 1, size, size, device=device) for size in sizes]
        assert not isinstance(noise, str), noise
        return noise
