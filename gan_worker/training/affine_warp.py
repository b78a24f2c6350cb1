"""Warp images by affine maps, twice differentiable.

Images are padded by reflection, upsampled by 2 with the wavelet sym6, sampled bilinearly at the
mapped positions, and downsampled with the same wavelet (Karras et al. 2020, arXiv:2006.06676,
appendix B.1). For the identity, the two filters cancel.

Padding and filters are linear in rows and columns, so each direction is one matrix: at 64 px, two
matrix products cost less than padding and two convolutions with few channels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Low-pass filter of the wavelet sym6, sum sqrt(2): Daubechies, Ten Lectures on Wavelets (1992),
# table 6.3; digits as in PyWavelets' `Wavelet("sym6").dec_lo`.
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
# Fine sample 2m is at pixel m, as this tap has most of the filter's weight (whose mean is at tap
# 5.1). Downsampling needs this many samples before the first pixel.
CENTRE = 5


def warped(images: Tensor, inverse: Tensor) -> Tensor:
    """Return images warped by affine maps, float [N, C, R, R].

    Images are extended by reflection for R - 1 px on each side, and by zeros beyond.

    Args:
        images: float32 or float64 [N, C, R, R].
        inverse: float64 [N, 3, 3] on the CPU; maps a position in the result to its source, in px
            from the centre of the image.
    """
    size, dtype, device = images.shape[3], images.dtype, images.device
    index = _fine_index(inverse, size)
    columns, rows = (_needed(index, size, axis) for axis in (0, 1))
    up, down = _up(size, dtype, device), _down(size, dtype, device)
    first = 2 * (size - 1)  # row of `up` for fine sample 0
    wide = images @ up[first + columns.start : first + columns.stop].T
    fine = up[first + rows.start : first + rows.stop] @ wide
    grid = _spread_out(_grid(index, columns, rows).to(device, dtype), size)
    moved: Tensor = down @ _Sampling.apply(fine, grid) @ down.T
    return moved


def _fine_index(inverse: Tensor, size: int) -> Tensor:
    """Return the maps between fine samples, counted from the first pixel, [N, 3, 3].

    Fine sample n is n / 2 px from the centre of pixel 0, or n / 2 - (R - 1) / 2 px from the centre
    of the image.
    """
    half = (size - 1) / 2
    place = torch.tensor([[0.5, 0, -half], [0, 0.5, -half], [0, 0, 1]], dtype=torch.float64)
    index: Tensor = torch.linalg.inv(place) @ inverse @ place
    return index


def _needed(index: Tensor, size: int, axis: int) -> range:
    """Return the range of existing fine samples along an axis that the maps reach."""
    low, high = float(-CENTRE), float(2 * size + CENTRE - 1)
    corners = torch.tensor([[low, low, high, high], [low, high, low, high], [1, 1, 1, 1]])
    reached = index[:, axis] @ corners.double()
    first, last = int(reached.min().floor()) - 1, int(reached.max().ceil()) + 1  # 1: rounding
    least, most = 2 - 2 * size, 4 * size - 3
    first = max(least, min(first, most))
    return range(first, max(first, min(last, most)) + 1)


def _grid(index: Tensor, columns: range, rows: range) -> Tensor:
    """Return the maps from a fine sample to a position within `fine`, [N, 2, 3].

    Positions are those of `grid_sample`: from -1 to 1 between the outer edges of the samples.
    """
    starts = torch.tensor([columns.start, rows.start], dtype=torch.float64)
    lengths = torch.tensor([len(columns), len(rows)], dtype=torch.float64)
    places = index[:, :2].clone()
    places[:, :, 2] += 0.5 - starts
    places *= (2 / lengths)[:, None]
    places[:, :, 2] -= 1
    return places


def _spread_out(grid: Tensor, size: int) -> Tensor:
    """Apply maps [N, 2, 3] to the S x S samples of a result; return positions [N, S, S, 2].

    Uses sums instead of a matrix product, as TF32 would shift positions by tenths of a pixel.
    """
    places = torch.arange(-CENTRE, 2 * size + CENTRE, dtype=grid.dtype, device=grid.device)
    across = grid[:, None, None, :, 0] * places[:, None]
    along = grid[:, None, None, :, 1] * places[:, None, None] + grid[:, None, None, :, 2]
    return across + along


class _Sampling(torch.autograd.Function):
    """Bilinear sampling whose image gradient is differentiable, unlike that of torch 2.9."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(slopes, grid, ctx.shape), None


class _Adjoint(torch.autograd.Function):
    """The adjoint of sampling. Both are linear, so each is the other's derivative."""

    @staticmethod
    def forward(ctx: Any, slopes: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        only_shape = slopes.new_zeros(()).expand(shape)  # only for the grid's gradient
        bilinear, zeros = 0, 0
        back: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            slopes, only_shape, grid, bilinear, zeros, False, [True, False]
        )[0]
        return back

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sampling.apply(slopes, grid), None, None


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # cached values must be usable in training too
def _up(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix [2 (3R - 2), R] that pads a row by reflection and upsamples it by 2."""
    long = 3 * size - 2
    distance = (torch.arange(long) - (size - 1)).abs()
    source = torch.where(distance < size, distance, 2 * (size - 1) - distance)
    reflected = F.one_hot(source, size).double()
    return (2 * _filter(2 * long, long, CENTRE) @ reflected).to(device, dtype)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _down(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix [R, 2 (R + 5)] that downsamples by 2 with the flipped filter and crops."""
    return _filter(2 * (size + CENTRE), size, 0).T.to(device, dtype)


def _filter(fine: int, coarse: int, shift: int) -> Tensor:
    """Return [fine, coarse]: element (n, m) is tap n - 2m + shift of the unit-sum filter or 0."""
    tap = torch.arange(fine)[:, None] - 2 * torch.arange(coarse) + shift
    taps = torch.tensor(SYM6, dtype=torch.float64) / 2**0.5
    within = (tap >= 0) & (tap < len(SYM6))
    return torch.where(within, taps[tap.clamp(0, len(SYM6) - 1)], 0.0)
