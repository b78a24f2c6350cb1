"""Find the duplicates and near-duplicates in a set of images.

Three tests, none of which matches two patients of BUS-BRA or of simulated heads: equal pixels;
thumbnails of 16 x 16 block means that correlate above 0.995, upright, rotated or mirrored (finds
recompressed, resized, brightened and augmented copies); and images of 32 x 32 that correlate above
0.99 after cropping one by up to a tenth (finds 19 of 20 such copies).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fgaug.data.copies.alignment import FINE, aligned_correlation

EXACT, NEAR, TURNED, ALIGNED = "exact", "near", "turned", "aligned"  # kinds of pairs
COLUMNS = ("one", "other", "kind", "correlation")
_THUMB = 16  # pixels; small enough to survive recompression, scaling and brightening
_ALIKE = 0.995  # correlation of thumbnails
_CANDIDATE = 0.8  # of thumbnails: 19 of 20 copies cropped by up to 6% at each side are above
_ALIGNED = 0.99  # of pictures, aligned; other patients were below 0.987
_MOST_ALIGNED = 2000  # candidates, the most alike: 1.5 s
_ALL_TURNS = 20_000  # images; rotated copies of more would take eight times as long
_CHUNK = 1024
_TURNS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda grid: grid[:, :, ::-1],
    lambda grid: grid[:, ::-1],
    lambda grid: grid[:, ::-1, ::-1],
    lambda grid: grid.swapaxes(1, 2),
    lambda grid: grid.swapaxes(1, 2)[:, ::-1],
    lambda grid: grid.swapaxes(1, 2)[:, :, ::-1],
    lambda grid: grid.swapaxes(1, 2)[:, ::-1, ::-1],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Pairs of duplicate or near-duplicate images."""

    # one row a pair: one < other (rows of the manifest), kind, correlation. Each exact duplicate
    # is paired only with the first of its set.
    pairs: pd.DataFrame
    limits: tuple[str, ...]  # what the search did not cover, in words


def find_alike(blocks: Iterable[np.ndarray], sha256: Sequence[str]) -> Alike:
    """Return every pair of duplicate or near-duplicate images.

    Args:
        blocks: the images in the order of the manifest, uint8 [n, H, W, C].
        sha256: of their source pixels.
    """
    thumbs, pictures = _reduced(blocks)
    _, sha = np.unique(np.array(sha256, dtype=str), return_inverse=True)
    exact = _exact(sha)
    near, candidates, dropped = _near(thumbs, sha)
    limits = []
    if dropped:
        limits.append(
            f"the search for cropped copies covered the {_MOST_ALIGNED} most similar pairs; at "
            f"least {dropped} less similar ones were not aligned"
        )
    turned = _none()
    if len(thumbs) <= _ALL_TURNS:
        turned = _turned(thumbs, sha)
    else:
        limits.append(
            f"the search for rotated and mirrored copies is limited to sets of {_ALL_TURNS} images"
        )
    cropped = _cropped(pictures, candidates)
    every = pd.concat([exact, near, cropped, turned], ignore_index=True)
    every = every.drop_duplicates(["one", "other"], ignore_index=True)  # the first kind names it
    return Alike(pairs=every, limits=tuple(limits))


def _none() -> pd.DataFrame:
    return _pairs(np.empty(0, np.int64), np.empty(0, np.int64), NEAR, np.empty(0))


def _pairs(one: np.ndarray, other: np.ndarray, kind: str, value: np.ndarray) -> pd.DataFrame:
    low, high = np.minimum(one, other), np.maximum(one, other)
    return pd.DataFrame(dict(zip(COLUMNS, (low, high, kind, np.round(value, 4)), strict=True)))


def _exact(sha: np.ndarray) -> pd.DataFrame:
    first = pd.Series(np.arange(len(sha))).groupby(sha).transform("min").to_numpy()
    other = np.flatnonzero(first != np.arange(len(sha)))
    return _pairs(first[other], other, EXACT, np.ones(len(other)))


def _near(thumbs: np.ndarray, sha: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Return near pairs, the candidates for alignment, and how many candidates were cut off."""
    flat = thumbs.reshape(len(thumbs), -1)
    near, less, dropped = [], _none(), 0
    bar = _CANDIDATE
    for first in range(0, len(flat), _CHUNK):
        here, there, value = _above(flat[first : first + _CHUNK], flat[first:], bar)
        here, there = here + first, there + first
        new = (here < there) & (sha[here] != sha[there])
        found = _pairs(here[new], there[new], NEAR, value[new])
        alike = found["correlation"] > _ALIKE
        near.append(found[alike])
        less = pd.concat([less, found[~alike]], ignore_index=True)
        if len(less) > _MOST_ALIGNED:
            dropped += len(less) - _MOST_ALIGNED
            less = less.nlargest(_MOST_ALIGNED, "correlation")
            bar = float(less["correlation"].min())
    return pd.concat([_none(), *near], ignore_index=True), less, dropped


def _turned(thumbs: np.ndarray, sha: np.ndarray) -> pd.DataFrame:
    """Return the pairs that are near after rotating or mirroring one image.

    A thumbnail averaged over all eight orientations does not depend on its orientation, and two
    averages are at most as far apart as the best-matching orientations. So few pairs need
    rotating.
    """
    flat = thumbs.reshape(len(thumbs), -1)
    turned = [np.ascontiguousarray(turn(thumbs)).reshape(flat.shape) for turn in _TURNS]
    middle = np.mean([flat, *turned], axis=0)
    # each value in one eighth of a thumbnail stands for all values that map to its position
    places, counts = np.unique(_orbits(thumbs.shape[1]), return_counts=True)
    middle = middle[:, places] * np.sqrt(counts, dtype=np.float32)
    square = (middle**2).sum(axis=1)
    found = [_none()]
    for first in range(0, len(flat), _CHUNK):
        rows = slice(first, first + _CHUNK)
        apart = square[rows, None] + square[None, first:] - 2 * (middle[rows] @ middle[first:].T)
        here, there = np.nonzero(apart < 2 * (1 - _ALIKE) + 1e-4)
        here, there = here + first, there + first
        new = (here < there) & (sha[here] != sha[there])
        here, there = here[new], there[new]
        for part in range(0, len(here), _CHUNK * 8):
            one, other = here[part : part + _CHUNK * 8], there[part : part + _CHUNK * 8]
            value = np.max(
                [np.einsum("ij,ij->i", flat[one], each[other]) for each in turned], axis=0
            )
            alike = value > _ALIKE
            found.append(_pairs(one[alike], other[alike], TURNED, value[alike]))
    return pd.concat(found, ignore_index=True)


def _orbits(side: int) -> np.ndarray:
    """Return for each position of a thumbnail the first position that it maps to."""
    places = np.arange(side * side).reshape(1, side, side)
    every = np.stack([places, *(turn(places) for turn in _TURNS)])
    first: np.ndarray = every.min(axis=0).ravel()
    return first


def _above(one: np.ndarray, other: np.ndarray, bar: float) -> tuple[np.ndarray, ...]:
    product = one @ other.T
    here, there = np.nonzero(product > bar)
    return here, there, product[here, there]


def _cropped(pictures: np.ndarray, candidates: pd.DataFrame) -> pd.DataFrame:
    found = [_none()]
    for first in range(0, len(candidates), _CHUNK // 8):
        part = candidates.iloc[first : first + _CHUNK // 8]
        one, other = part["one"].to_numpy(), part["other"].to_numpy()
        value = aligned_correlation(pictures[one], pictures[other])
        alike = value > _ALIGNED
        found.append(_pairs(one[alike], other[alike], ALIGNED, value[alike]))
    return pd.concat(found, ignore_index=True)


def _reduced(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 [N, side, side] thumbnails, centred and of length 1, and [N, FINE, FINE]."""
    thumbs, pictures = [], []
    for block in blocks:
        for first in range(0, len(block), _CHUNK):
            part = block[first : first + _CHUNK]
            one = part.shape[3] == 1  # true for most sets, and ten times as fast as a mean
            grey = part[..., 0].astype(np.float32) if one else part.mean(axis=3, dtype=np.float32)
            thumbs.append(_means(grey, min(_THUMB, grey.shape[1])))
            pictures.append(_means(grey, FINE))
    small = np.concatenate(thumbs)
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    # flat images become 0, so they match nothing
    units = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-6)
    return units.reshape(small.shape), np.concatenate(pictures)


def _means(grey: np.ndarray, side: int) -> np.ndarray:
    """Return means over side x side blocks; pixels are repeated where there are fewer."""
    if grey.shape[1] < side:
        repeat = -(-side // grey.shape[1])
        grey = grey.repeat(repeat, axis=1).repeat(repeat, axis=2)
    edges = np.unique(np.linspace(0, grey.shape[1], side + 1).astype(int))
    weight = np.zeros((len(edges) - 1, grey.shape[1]), np.float32)
    for block, (start, end) in enumerate(itertools.pairwise(edges)):
        weight[block, start:end] = 1 / (end - start)
    # two large products, not one per image: small ones leave BLAS threads waiting for each other
    across = (grey.reshape(-1, grey.shape[2]) @ weight.T).reshape(len(grey), -1, len(weight))
    down = across.swapaxes(1, 2).reshape(-1, grey.shape[1]) @ weight.T
    means: np.ndarray = down.reshape(len(grey), len(weight), len(weight)).swapaxes(1, 2)
    return means
