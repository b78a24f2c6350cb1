"""The synthesis network: modulated convolutions, toRGB and three architectures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_worker.networks import winograd
from gan_worker.networks.config import GeneratorConfig
from gan_worker.networks.filtering import blur_kernel, filtered
from gan_worker.networks.layers import FullyConnected, activate, normal, upsampled
from gan_worker.networks.winograd import Winograd

Noise = str | Sequence[Tensor]
"""`const` (stored in the file), `none`, `random`, or one map [N, 1, r, r] per layer, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A layer's preprocessed weights: computed once for sampling, repeatedly in training."""

    power: Tensor  # squared norm of each 3x3 kernel, float32 [outputs, inputs]
    weight: Tensor  # in the memory order and precision of its convolution
    scale: Tensor | None = None  # divisor of each output's weights, [outputs]
    taps: Tensor | None = None  # of the blur after a transposed convolution
    winograd: Winograd | None = None  # replaces the convolution


class SynthesisLayer(nn.Module):
    """A 3x3 convolution with style-scaled input channels, then noise and activation.

    Scaling activations instead of weights shares one convolution among all images of a batch.
    Demodulation then needs only `sum_i s_i^2 sum_k W[o, i, k]^2`, one small product.
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
        # of an unprepared layer's convolution; None: the type of its weights
        self.computes_in: torch.dtype | None = None
        self.affine = FullyConnected(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(normal(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if config.use_noise:
            self.register_buffer("noise_const", normal(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros(()))
        self.prepared: Prepared | None = None

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        kept = self.prepared or Prepared(
            power=self.weight.square().sum(dim=(2, 3)),
            weight=self._as_applied().to(self.computes_in or self.weight.dtype),
        )
        style = self.affine(w)
        scale = torch.rsqrt(style.square() @ kept.power.t() + 1e-8)
        if kept.scale is not None:
            style, scale = _within_half_precision(style, scale * kept.scale)
        # a GPU converts while it adds, a CPU takes ten times as long for sums of two types
        on_cores = x.device.type == "cpu"
        kind = self.weight.dtype if on_cores else kept.weight.dtype
        x = self._convolved(x.to(kind), style.to(kind), kept)
        x = x.to(kind) if on_cores else x
        factor = scale.to(x.dtype)[:, :, None, None]
        x = x * factor if torch.is_grad_enabled() else x.mul_(factor)
        if noise is not None:
            x = x.add_(noise * self.noise_strength)
        return activate(x.add_(self.bias[:, None, None]), self.activation, gain, self.clamp)

    def _convolved(self, x: Tensor, style: Tensor, kept: Prepared) -> Tensor:
        if kept.winograd is not None:
            return kept.winograd(x, style)
        x = (x * style[:, :, None, None]).to(kept.weight.dtype)
        if not self.up:
            return F.conv2d(x, kept.weight, padding=1)
        taps = blur_kernel(self.bias.to(x.dtype)) if kept.taps is None else kept.taps
        return filtered(F.conv_transpose2d(x, kept.weight, stride=2), taps, padding=1)

    def prepare(self, dtype: torch.dtype) -> None:
        """Precompute for sampling in `dtype` everything that depends only on the weights.

        float16 is limited to 65504. Weights of at most 1 / sqrt(fan-in) and styles of at most 1
        keep the sums far below; the factors are moved into the demodulation, so its 1e-8 is added
        to the same value as in float32.
        """
        with torch.no_grad():
            weight, scale = self._as_applied(), None
            if dtype != torch.float32:
                scale = self.weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-30)
                scale *= math.sqrt(self.weight[0].numel())
                own = scale[:, None, None] if self.up else scale[:, None, None, None]
                weight = (weight / own).to(dtype)
            # another order would cost a copy per call, half the time of a small map's convolution
            weight = weight.contiguous(memory_format=torch.channels_last)
            self.prepared = Prepared(
                power=self.weight.square().sum(dim=(2, 3)),
                weight=weight,
                scale=scale,
                taps=blur_kernel(self.bias.to(dtype)).contiguous() if self.up else None,
                winograd=Winograd(weight) if not self.up and winograd.pays(weight) else None,
            )

    def _as_applied(self) -> Tensor:
        """Return the weight in call order; transposed convolutions use the stored order."""
        return self.weight.transpose(0, 1) if self.up else self.weight


def _within_half_precision(style: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the style divided by its maximum per image, and the scale times that maximum."""
    peak = style.abs().amax(dim=1, keepdim=True).clamp_min(1e-30)
    return style / peak, scale * peak


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
        pixels = pixels.to(weights.dtype)  # images are not accumulated in half precision
        image = torch.baddbmm(self.bias, pixels, weights).transpose(1, 2)
        return activate(image.reshape(*image.shape[:2], *x.shape[2:]), "linear", clamp=self.clamp)


class SkipConvolution(nn.Module):
    """The residual path of a `resnet` block: 1x1 at the lower resolution, then upsampled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_gain = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(normal(outputs, inputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return upsampled(F.conv2d(x, (self.weight * self.weight_gain).to(x.dtype)))


class SynthesisBlock(nn.Module):
    """All layers at one resolution; the first block starts from a learned constant."""

    def __init__(self, index: int, config: GeneratorConfig) -> None:
        super().__init__()
        width, resolution = config.widths[index], config.resolutions[index]
        self.first = index == 0
        self.rows = _rows(width, resolution)
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
        """Return features and image so far; `ws` and `noise` are those of this block only."""
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


def _rows(width: int, resolution: int) -> int:
    """Return the number of images to pass through a block at a time on a CPU.

    The largest array is limited to 16 MB: the C library allocates each array of 32 MB anew from
    the system, and at 128 px convolutions took 1.2 times as long, and elementwise operations 10
    times.
    """
    return max(1, 2**24 // (4 * width * (resolution + 1) ** 2))


class SynthesisNetwork(nn.Module):
    """Maps the w vectors of all layers to an image."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        for index, resolution in enumerate(config.resolutions):
            self.add_module(f"b{resolution}", SynthesisBlock(index, config))

    def prepare(self, dtype: torch.dtype = torch.float32) -> None:
        """Prepare for sampling in `dtype`; the weights must not change afterwards."""
        for layer in self.modules():
            if isinstance(layer, SynthesisLayer):
                layer.prepare(dtype)

    def compute_in(self, dtype: torch.dtype | None) -> None:
        """Compute the 3x3 convolutions of training in `dtype`; None: that of the weights."""
        for layer in self.modules():
            if isinstance(layer, SynthesisLayer):
                layer.computes_in = dtype

    def forward(self, ws: Tensor, noise: Noise = "random") -> Tensor:
        """Return images [N, channels, r, r], roughly in [-1, 1] and not clipped."""
        maps = self._noise_maps(noise, len(ws), ws.device)
        return self._from(tuple(self.blocks()), 0, None, None, ws, maps)

    def _from(
        self,
        blocks: tuple[SynthesisBlock, ...],
        at: int,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor,
        maps: Sequence[Tensor | None],
    ) -> Tensor:
        """Apply `blocks` to features and image; `at` is the number of layers before them.

        A batch that is too large for a block passes through it, and all later blocks, in parts.
        """
        for index, block in enumerate(blocks):
            rows = block.rows if ws.device.type == "cpu" else len(ws)
            if len(ws) > rows and not torch.is_grad_enabled():
                parts = [slice(start, start + rows) for start in range(0, len(ws), rows)]
                return torch.cat(
                    [
                        self._from(
                            blocks[index:],
                            at,
                            None if x is None else x[part],
                            None if image is None else image[part],
                            ws[part],
                            [m if m is None or m.dim() == 2 else m[part] for m in maps],
                        )
                        for part in parts
                    ]
                )
            # toRGB shares its vector with the first convolution of the next block
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
