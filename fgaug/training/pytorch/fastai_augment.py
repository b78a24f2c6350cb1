"""Apply fastai's augmentation to training batches on the device.

The transform processes a whole batch with as many channels as the images have, so grey images cost
a third of RGB. Its output equals fastai's `aug_transforms(size)` with the same generator.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

MAX_ROTATE_DEGREES = 10.0
MAX_ZOOM = 1.1
MAX_WARP = 0.2
MAX_LIGHTING = 0.2
P_FLIP, P_AFFINE, P_LIGHTING = 0.5, 0.75, 0.75
CPU_CHUNK = 16  # images warped at once, to fit a core's cache (64 of 128 px: 20 ms, not 50)


def to_unit(batch: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels as float32 in [0, 1]."""
    return batch.to(torch.float32).div_(255)


def fastai_transform(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a randomly flipped, rotated, zoomed, warped and relit copy of each image.

    The draws and their order are those of fastai 2.8 `aug_transforms()`: flip (p .5), rotation by
    up to 10 degrees, zoom up to 1.1 about a random centre, perspective warp up to .2 per axis,
    brightness and contrast up to .2 (each p .75), and one bilinear sampling with reflection.

    Args:
        x: float32 [N, C, H, W] in [0, 1].
        generator: on the device of `x`; the only source of randomness.
    """
    n = len(x)
    flip = _masked(torch.full((n,), -1.0, device=x.device), P_FLIP, 1.0, generator)
    affine = flip_rotate_zoom(flip, *_draw_rotate_zoom(n, x.device, generator))
    warp_x = _masked(_uniform(n, -MAX_WARP, MAX_WARP, generator), P_AFFINE, 0.0, generator)
    warp_y = _masked(_uniform(n, -MAX_WARP, MAX_WARP, generator), P_AFFINE, 0.0, generator)
    brightness = _uniform(n, 0.5 * (1 - MAX_LIGHTING), 0.5 * (1 + MAX_LIGHTING), generator)
    brightness = _masked(brightness, P_LIGHTING, 0.5, generator)
    log_contrast = -math.log(1 - MAX_LIGHTING)
    contrast = _uniform(n, -log_contrast, log_contrast, generator).exp_()
    contrast = _masked(contrast, P_LIGHTING, 1.0, generator)
    drawn = (x, affine, warp_homography(warp_x, warp_y), brightness, contrast)
    at_once = CPU_CHUNK if x.device.type == "cpu" else n
    parts = zip(*(torch.split(value, at_once) for value in drawn), strict=True)
    return torch.cat([_resampled(*part) for part in parts])


def _resampled(
    x: torch.Tensor,
    affine: torch.Tensor,
    homography: torch.Tensor,
    brightness: torch.Tensor,
    contrast: torch.Tensor,
) -> torch.Tensor:
    grid = sampling_grid(affine, homography, x.shape[2], x.shape[3])
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    return relight(x, brightness, contrast)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(n, device=generator.device).uniform_(low, high, generator=generator)


def _masked(
    value: torch.Tensor, p: float, neutral: float, generator: torch.Generator
) -> torch.Tensor:
    """Return for each image `value` with probability `p`, else `neutral`."""
    keep = torch.empty_like(value).bernoulli_(p, generator=generator)
    return (value - neutral) * keep + neutral


def _draw_rotate_zoom(
    n: int, device: torch.device, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    angle = _uniform(n, -MAX_ROTATE_DEGREES, MAX_ROTATE_DEGREES, generator)
    angle = _masked(angle, P_AFFINE, 0.0, generator) * math.pi / 180
    scale = 1 / _masked(_uniform(n, 1.0, MAX_ZOOM, generator), P_AFFINE, 1.0, generator)
    centre_x = _uniform(n, 0, 1, generator)
    centre_y = _uniform(n, 0, 1, generator)
    return angle, scale, centre_x, centre_y


def flip_rotate_zoom(
    flip: torch.Tensor,
    angle: torch.Tensor,
    scale: torch.Tensor,
    centre_x: torch.Tensor,
    centre_y: torch.Tensor,
) -> torch.Tensor:
    """Return flip @ rotate @ zoom [N, 3, 3]: output to source coordinates in [-1, 1]."""
    zero, one = torch.zeros_like(flip), torch.ones_like(flip)
    cos, sin = angle.cos(), angle.sin()
    flips = _matrix(flip, zero, zero, zero, one, zero)
    rotations = _matrix(cos, sin, zero, -sin, cos, zero)
    shift_x, shift_y = (1 - scale) * (2 * centre_x - 1), (1 - scale) * (2 * centre_y - 1)
    zooms = _matrix(scale, zero, shift_x, zero, scale, shift_y)
    return flips @ rotations @ zooms


def _matrix(*entries: torch.Tensor) -> torch.Tensor:
    """Return [N, 3, 3] from the six entries of the upper rows."""
    zero, one = torch.zeros_like(entries[0]), torch.ones_like(entries[0])
    return torch.stack([*entries, zero, zero, one], dim=1).view(-1, 3, 3)


def warp_homography(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return [N, 3, 3] homographies that take warped corners of [-1, 1]^2 back to the corners.

    The corners (-1,-1), (-1,1), (1,-1), (1,1) are warped by `x` and `y` [N] to (-1-y,-1-x),
    (-1+y,1+x), (1+y,-1+x), (1-y,1-x); the eight unknowns of each image solve the linear system
    of the four point pairs.
    """
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    pairs = [
        ((-one, -one), (-1 - y, -1 - x)),
        ((-one, one), (-1 + y, 1 + x)),
        ((one, -one), (1 + y, -1 + x)),
        ((one, one), (1 - y, 1 - x)),
    ]
    rows, values = [], []
    for (u, v), (a, b) in pairs:
        rows.append(torch.stack([a, b, one, zero, zero, zero, -u * a, -u * b], dim=1))
        rows.append(torch.stack([zero, zero, zero, a, b, one, -v * a, -v * b], dim=1))
        values += [u, v]
    solved = _solve(torch.stack(rows, dim=1), torch.stack(values, dim=1))
    return torch.cat([solved, one[:, None]], dim=1).view(-1, 3, 3)


def sampling_grid(affine: torch.Tensor, homography: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Return [N, h, w, 2] source coordinates: the affine map of each pixel, then the homography.

    Both are [N, 3, 3]. Corners are pixel centres (align_corners).
    """
    x = torch.linspace(-1, 1, w, device=affine.device)
    y = torch.linspace(-1, 1, h, device=affine.device)[:, None]
    source_x, source_y = (_row_times_point(affine, row, x, y) for row in (0, 1))
    point_x, point_y, depth = (
        _row_times_point(homography, row, source_x, source_y) for row in (0, 1, 2)
    )
    return torch.stack([point_x / depth, point_y / depth], dim=-1)


def _row_times_point(
    matrix: torch.Tensor, row: int, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    a, b, c = matrix[:, row, :, None, None].unbind(dim=1)
    return _fma(y, b, x * a) + c


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Return a * b + c rounded once to float32, as a fused multiply-add does.

    The rounding of matrix products depends on library and processor; in a speckled image, the last
    bit of a coordinate changes a pixel by up to 1e-5 of its value. Written out, the augmentation
    is the same on every machine (and equals fastai's on machines with fused products).
    """
    return torch.addcmul(c.double(), a.double(), b.double()).float()


def _solve(system: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the solutions [N, k] of [N, k, k] systems: LU with row pivots, fused, in float32."""
    n, k, _ = system.shape
    work = torch.cat([system, values[..., None]], dim=2)
    images = torch.arange(n, device=system.device)
    for i in range(k):
        pivot = work[:, i:, i].abs().argmax(dim=1) + i
        swapped = work[images, pivot].clone()
        work[images, pivot] = work[:, i].clone()
        work[:, i] = swapped
        factor = work[:, i + 1 :, i] * (1 / work[:, i, i])[:, None]
        rest = work[:, i + 1 :, i + 1 :]
        work[:, i + 1 :, i + 1 :] = _fma(-factor[..., None], work[:, i, None, i + 1 :], rest)
    solved = work[..., k].clone()
    for i in reversed(range(k)):
        solved[:, i] = solved[:, i] / work[:, i, i]
        solved[:, :i] = _fma(-work[:, :i, i], solved[:, i, None], solved[:, :i])
    return solved


def relight(x: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    """Return sigmoid(contrast * (logit(x) + logit(brightness))); .5 and 1 change nothing."""
    shift = torch.logit(brightness)[:, None, None, None]
    return torch.logit(x, eps=1e-7).add_(shift).mul_(contrast[:, None, None, None]).sigmoid_()
