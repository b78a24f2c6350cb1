"""The discriminator: its blocks, three architectures and the minibatch statistic.

Written from the papers (Karras et al. 2018, arXiv:1710.10196, section 3, for the statistic; 2020,
arXiv:1912.04958, figure 7, for the blocks); modules have the names of the official PyTorch files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_worker.networks.config import ARCHITECTURES
from gan_worker.networks.filtering import blur_kernel, filtered
from gan_worker.networks.layers import FullyConnected, activate, normal, second_moment_normalised

_HALF = math.sqrt(0.5)  # preserves the variance when two paths are added


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorConfig:
    """Shape and options of a discriminator; raises ValueError if invalid."""

    resolution: int  # px, a power of two from 8
    img_channels: int
    labels: int  # classes of a conditional network, else 0
    widths: tuple[int, ...] = field(repr=False)  # feature channels at 4, 8, ..., resolution px
    architecture: str = "resnet"
    conv_clamp: float | None = None
    group_size: int = 4  # images per minibatch statistic
    mapping_layers: int = 8  # of the label embedding

    def __post_init__(self) -> None:
        blocks = self.resolution.bit_length() - 2
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8, got {self.resolution}")
        if len(self.widths) != blocks:
            raise ValueError(f"widths must list {blocks} widths, got {self.widths}")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture must be one of {ARCHITECTURES}, got {self.architecture!r}"
            )
        if self.group_size < 1:
            raise ValueError(f"group_size must be 1 or more, got {self.group_size}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions of the blocks from the image on: r, r/2, ..., 8."""
        return tuple(2**power for power in range(self.resolution.bit_length() - 1, 2, -1))

    def width(self, resolution: int) -> int:
        """Return the feature channels at a resolution."""
        return self.widths[resolution.bit_length() - 3]


class Convolution(nn.Module):
    """A convolution with equalised learning rate; `down` also blurs and halves the image."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        clamp: float | None = None,
        down: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.down, self.clamp = kernel, down, clamp
        self.computes_in: torch.dtype | None = None  # None: the type of its input
        self.weight_gain = 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(normal(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.computes_in is None:
            x = self._convolved(x, bias)
        else:
            x = self._convolved(x.to(self.computes_in), None).to(x.dtype)
            x = x if bias is None else x + bias[:, None, None]
        if self.bias is None:
            return x if gain == 1 else x * gain
        return activate(x, "lrelu", gain, self.clamp)

    def _convolved(self, x: Tensor, bias: Tensor | None) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        if not self.down:
            return F.conv2d(x, weight, bias, padding=self.kernel // 2)
        if self.kernel == 1:
            return F.conv2d(halved(x), weight, bias)
        return F.conv2d(_blurred(x, 2, 1), weight, bias, stride=2)


def halved(x: Tensor) -> Tensor:
    """Downsample `x` by 2 with the [1, 3, 3, 1] filter and zero padding."""
    return _blurred(x, 1, 2)


def _blurred(x: Tensor, padding: int, stride: int) -> Tensor:
    kernel = blur_kernel(x[0, :, 0, 0]) / 4  # gain 4 is for upsampling with zeros in between
    return filtered(x, kernel, padding=padding, stride=stride)


class Block(nn.Module):
    """Two convolutions at one resolution; the second one halves the image."""

    def __init__(self, config: DiscriminatorConfig, resolution: int) -> None:
        super().__init__()
        width, after = config.width(resolution), config.width(resolution // 2)
        clamp, self.architecture = config.conv_clamp, config.architecture
        if resolution == config.resolution or self.architecture == "skip":
            self.fromrgb = Convolution(config.img_channels, width, 1, clamp=clamp)
        self.conv0 = Convolution(width, width, 3, clamp=clamp)
        self.conv1 = Convolution(width, after, 3, clamp=clamp, down=True)
        if self.architecture == "resnet":
            self.skip = Convolution(width, after, 1, down=True, bias=False)

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at half the size, and the image, which `skip` also halves."""
        if x is None:
            x = self.fromrgb(image)
        elif self.architecture == "skip":
            x = x + self.fromrgb(image)
        if self.architecture == "resnet":
            side = self.skip(x, _HALF)
            return side + self.conv1(self.conv0(x), _HALF), image
        x = self.conv1(self.conv0(x))
        return x, halved(image) if self.architecture == "skip" else image


class Epilogue(nn.Module):
    """The final block at 4 px: minibatch statistic, a convolution and two dense layers."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width = config.width(4)
        self.group_size = config.group_size
        if config.architecture == "skip":
            self.fromrgb = Convolution(config.img_channels, width, 1)
        self.conv = Convolution(width + 1, width, 3, clamp=config.conv_clamp)
        self.fc = FullyConnected(16 * width, width, activation="lrelu")
        self.out = FullyConnected(width, width if config.labels else 1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        if hasattr(self, "fromrgb"):
            x = x + self.fromrgb(image)
        x = torch.cat([x, spread(x, self.group_size)], dim=1)
        return cast(Tensor, self.out(self.fc(self.conv(x).flatten(1))))


def spread(x: Tensor, group_size: int) -> Tensor:
    """Return the minibatch standard deviation, one value per group, as maps [N, 1, h, w].

    The standard deviation over the group of each feature at each position, averaged. Images i, i +
    N / G, i + 2 N / G, ... form a group.

    Args:
        x: features [N, C, h, w].
        group_size: G, images per group, at most N; N must be a multiple of it.
    """
    count = len(x)
    size = min(group_size, count)
    if count % size:
        raise ValueError(f"the batch must be a multiple of the group size {size}, got {count}")
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    grouped = exact.reshape(size, count // size, *x.shape[1:])
    centred = grouped - grouped.mean(dim=0)
    told = (centred.square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return told.to(x.dtype).repeat(size).reshape(count, 1, 1, 1).expand(-1, -1, *x.shape[2:])


class LabelMapping(nn.Module):
    """Maps a one-hot class to the direction onto which features are projected."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width = config.width(4)
        self.embed = FullyConnected(config.labels, width)
        self.layers = config.mapping_layers
        for index in range(self.layers):
            layer = FullyConnected(width, width, activation="lrelu", lr_multiplier=0.01)
            self.add_module(f"fc{index}", layer)

    def forward(self, one_hot: Tensor) -> Tensor:
        x = second_moment_normalised(self.embed(one_hot))
        for index in range(self.layers):
            x = cast(Tensor, getattr(self, f"fc{index}")(x))
        return x


class DiscriminatorNetwork(nn.Module):
    """A StyleGAN2 discriminator with the tensor names of the official PyTorch files."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", Block(config, resolution))
        self.b4 = Epilogue(config)
        if config.labels:
            self.mapping = LabelMapping(config)

    @classmethod
    def skeleton(cls, config: DiscriminatorConfig) -> DiscriminatorNetwork:
        """Return the network with names and shapes on the meta device."""
        with torch.device("meta"):
            return cls(config)

    def compute_in(self, dtype: torch.dtype | None) -> None:
        """Compute the convolutions between features, except those at 4 px, in `dtype`.

        None: in the type of their input.
        """
        for block in self.modules():
            if isinstance(block, Block):
                for name, layer in block.named_children():
                    if name != "fromrgb":  # of too few channels to gain from it
                        cast(Convolution, layer).computes_in = dtype

    def forward(self, image: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return one logit per image, [N, 1]; above 0 means real.

        Args:
            image: [N, channels, r, r], roughly in [-1, 1].
            one_hot: float [N, labels]; None for a network without labels.
        """
        x: Tensor | None = None
        for resolution in self.config.resolutions:
            x, image = getattr(self, f"b{resolution}")(x, image)
        found = cast(Tensor, self.b4(x, image))
        if not self.config.labels:
            return found
        direction = self.mapping(one_hot)
        logits: Tensor = (found * direction).sum(dim=1, keepdim=True)
        return logits / math.sqrt(direction.shape[1])
