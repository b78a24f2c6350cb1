"""Correlate pairs of images after the small crop that aligns them best.

Least squares in the manner of Lucas and Kanade (1981): scale and shift along each axis, gain and
offset of brightness, from coarse to fine. Works on many pairs at once; a matrix resamples each
axis.
"""

from __future__ import annotations

import numpy as np

FINE = 32  # side in pixels of the images compared
_COARSE = 16
_HOPEFUL = 0.95  # coarse correlation; 19 of 20 copies are above, and few others
_STEPS = 8  # Gauss-Newton steps at each of the two resolutions
_SCALES = (0.8, 1.25)  # a crop of more than a tenth at each side counts as another image
_OVERLAP = 0.7  # of the area; less proves little


def aligned_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return each pair's correlation after the best small crop, or -1 where there is none.

    Args:
        one: float32 [pairs, FINE, FINE].
        other: likewise; scaled and shifted to match `one`.
    """
    motion = np.tile(np.array([1.0, 0.0, 1.0, 0.0]), (len(one), 1))  # scale and shift: y, x
    coarse, onto = _blocks(one, _COARSE), _blocks(other, _COARSE)
    motion = _refined(coarse, onto, motion)
    found = _correlation(coarse, onto, motion)
    near = np.flatnonzero(found > _HOPEFUL)
    if len(near):
        motion = _refined(_blocks(one[near], FINE), _blocks(other[near], FINE), motion[near])
        found[near] = _correlation(one[near], other[near], motion)
    return found


def _blocks(pictures: np.ndarray, side: int) -> np.ndarray:
    step = FINE // side
    shape = (len(pictures), side, step, side, step)
    means: np.ndarray = pictures.reshape(shape).mean(axis=(2, 4), dtype=np.float64)
    return means


def _refined(one: np.ndarray, other: np.ndarray, motion: np.ndarray) -> np.ndarray:
    side = one.shape[1]
    place = (np.arange(side) + 0.5) / side * 2 - 1  # -1 to 1 from edge to edge
    for _ in range(_STEPS):
        moved, inside = _moved(other, motion)
        down = np.gradient(moved, axis=1) * (side / 2)
        right = np.gradient(moved, axis=2) * (side / 2)
        columns = np.stack(
            [
                *(down * place[:, None], down, right * place, right),
                *(moved, np.ones_like(moved)),
            ],
            axis=-1,
        ).reshape(len(one), -1, 6)
        weight = inside.reshape(len(one), -1, 1)
        weighted = columns * weight
        normal = weighted.transpose(0, 2, 1) @ columns
        # the ridge keeps flat images solvable and does not affect images with structure
        normal += np.eye(6) * (1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-9)
        wanted = weighted.transpose(0, 2, 1) @ one.reshape(len(one), -1, 1)
        solved = np.linalg.solve(normal, wanted)[..., 0]
        gain = np.where(np.abs(solved[:, 4:5]) > 0.1, solved[:, 4:5], 0.1)
        # gradients are taken on the moved image, so steps are in its own coordinates
        step = np.clip(solved[:, :4] / gain, -0.1, 0.1)
        scale_y, shift_y, scale_x, shift_x = motion.T
        motion = np.stack(
            [
                scale_y * (1 + step[:, 0]),
                shift_y + scale_y * step[:, 1],
                scale_x * (1 + step[:, 2]),
                shift_x + scale_x * step[:, 3],
            ],
            axis=1,
        )
        motion[:, 0::2] = np.clip(motion[:, 0::2], *_SCALES)
        motion[:, 1::2] = np.clip(motion[:, 1::2], -0.3, 0.3)
    return motion


def _moved(pictures: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return images sampled at scale x position + shift, and a mask that is 1 inside the image."""
    side = pictures.shape[1]
    rows, rows_inside = _sampling(side, motion[:, 0], motion[:, 1])
    columns, columns_inside = _sampling(side, motion[:, 2], motion[:, 3])
    moved = rows @ pictures @ columns.transpose(0, 2, 1)
    return moved, rows_inside[:, :, None] * columns_inside[:, None, :]


def _sampling(side: int, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return linear-interpolation matrices [pairs, side, side] and the mask of valid samples."""
    place = (np.arange(side) + 0.5) / side * 2 - 1
    at = ((scale[:, None] * place + shift[:, None]) + 1) / 2 * side - 0.5  # in pixels
    inside = (at >= -0.5) & (at <= side - 0.5)
    distance = np.abs(np.clip(at, 0, side - 1)[..., None] - np.arange(side))
    return np.maximum(0, 1 - distance), inside.astype(np.float64)


def _smooth(pictures: np.ndarray) -> np.ndarray:
    """Return images smoothed of the detail that interpolation loses."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth: np.ndarray = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
    return smooth


def _correlation(one: np.ndarray, other: np.ndarray, motion: np.ndarray) -> np.ndarray:
    moved, inside = _moved(_smooth(other.astype(np.float64)), motion)
    area = inside.sum(axis=(1, 2))
    enough = area >= _OVERLAP * one.shape[1] ** 2
    area = np.maximum(area, 1)[:, None, None]

    def centred(pictures: np.ndarray) -> np.ndarray:
        mean = (pictures * inside).sum(axis=(1, 2), keepdims=True) / area
        return np.asarray((pictures - mean) * inside)

    a, b = centred(_smooth(one.astype(np.float64))), centred(moved)
    length = np.sqrt((a**2).sum(axis=(1, 2)) * (b**2).sum(axis=(1, 2)))
    found = (a * b).sum(axis=(1, 2)) / np.maximum(length, 1e-9)
    return np.where(enough, found, -1.0)
