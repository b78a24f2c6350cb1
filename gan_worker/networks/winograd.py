"""Compute 3x3 convolutions on a CPU with Winograd's F(2x2, 3x3): 16 instead of 36 products.

Lavin and Gray 2015, arXiv:1509.09308: each 4x4 tile of the padded input becomes 16 numbers per
channel, each 3x3 kernel 16 weights, and 16 matrix products give the terms of 2x2 outputs. The rest
is additions of whole maps, so it is faster only for many channels. oneDNN computes the products,
with weights packed once. In float32 the result is more accurate than a direct sum (an error of
0.7e-6 against 1.1e-6 of the output's standard deviation at 512 channels).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

_MIN_CHANNELS = 128  # at 64, additions cost more than the products save
# Transformed tiles at a time: 32 MB do not fit the cache; with 8 MB, two threads, which
# synchronise after every operation, took 1.17 times as long.
_TILES_BYTES = 2**24


def pays(weight: Tensor) -> bool:
    """Return whether this form of a convolution with `weight` is faster on this machine."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and min(weight.shape[:2]) >= _MIN_CHANNELS
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's gap
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


class Winograd:
    """A convolution with padding 1 and input channels scaled by a style per image."""

    def __init__(self, weight: Tensor) -> None:
        self.outputs, self.inputs = weight.shape[:2]
        half = torch.tensor(0.5, dtype=torch.float64)
        first, middle, last = weight.double().unbind(2)
        rows = [first, half * (first + middle + last), half * (first - middle + last), last]
        tiles = []
        for row in rows:
            first, middle, last = row.unbind(2)
            tiles += [first, half * (first + middle + last), half * (first - middle + last), last]
        pack = torch.ops.mkldnn._reorder_linear_weight
        self.kernels = [pack(tile.float().contiguous(), None) for tile in tiles]

    def __call__(self, x: Tensor, style: Tensor) -> Tensor:
        """Return [N, outputs, h, w] in channels-last order; h and w must be even."""
        images, channels, height, width = x.shape
        high, wide = height // 2, width // 2  # tiles
        padded = x.new_empty(images, height + 2, width + 2, channels)
        for edge in (padded[:, 0], padded[:, -1], padded[:, :, 0], padded[:, :, -1]):
            edge.zero_()
        pixels = x.permute(0, 2, 3, 1)
        torch.mul(pixels, style[:, None, None], out=padded[:, 1:-1, 1:-1])
        y = x.new_empty(images, high, 2, wide, 2, self.outputs)
        step = max(1, min(high, _TILES_BYTES // (64 * images * wide * channels)))
        rows = x.new_empty(4, images, step, width + 2, channels)
        tiles = x.new_empty(4, 4, images, step, wide, channels)
        for top in range(0, high, step):
            count = min(step, high - top)
            strip = padded[:, 2 * top : 2 * (top + count) + 2]
            _split(strip[:, 0::2], strip[:, 1::2], rows[:, :, :count].unbind(), 1)
            part = rows[:, :, :count]
            _split(part[:, :, :, 0::2], part[:, :, :, 1::2], tiles[:, :, :, :count].unbind(1), 3)
            flat = tiles[:, :, :, :count].reshape(16, -1, channels)
            products = [
                _product(one, kernel).view(images, count, wide, self.outputs)
                for one, kernel in zip(flat, self.kernels, strict=True)
            ]
            _join(products, y[:, top : top + count])
        return y.view(images, height, width, self.outputs).permute(0, 3, 1, 2)


def _split(even: Tensor, odd: Tensor, parts: tuple[Tensor, ...], dim: int) -> None:
    """Write the four combinations of each tile's four lines; every second line is in two tiles."""
    count = even.shape[dim] - 1
    line0, line2 = even.narrow(dim, 0, count), even.narrow(dim, 1, count)
    line1, line3 = odd.narrow(dim, 0, count), odd.narrow(dim, 1, count)
    torch.sub(line0, line2, out=parts[0])
    torch.add(line1, line2, out=parts[1])
    torch.sub(line2, line1, out=parts[2])
    torch.sub(line1, line3, out=parts[3])


def _join(products: list[Tensor], y: Tensor) -> None:
    """Write the 2x2 outputs of each tile, `y` [N, high, 2, wide, 2, C], from its 16 products."""
    upper, lower = [], []
    for column in range(4):
        one, two, three, four = products[column::4]
        lower.append((two - three).sub_(four))
        upper.append(two.add_(three).add_(one))
    for row, (one, two, three, four) in enumerate((upper, lower)):
        difference = two - three
        torch.sub(difference, four, out=y[:, :, row, :, 1])
        torch.add(two.add_(three), one, out=y[:, :, row, :, 0])


def _product(rows: Tensor, kernel: Any) -> Tensor:
    """Return rows @ kernel.T with oneDNN, 2.3 times as fast as MKL on an AMD CPU."""
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(rows, kernel, None, "none", [], ""))
