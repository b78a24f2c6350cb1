"""Scores of individual fakes: realism and density, copies, agreement with the label.

Pure functions on arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fgaug.errors import UserError
from fgaug.quality.arrays import checked
from fgaug.quality.neighbours import COPY, TIE, blocks, radii_of, realism_from, within_median

K_REALISM, K_DENSITY = 3, 5  # as published
ALPHA = 0.01  # share of unseen reals that may be flagged as copies


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeighbourScores:
    """Neighbour scores of N fakes among the reals of their label."""

    realism: NDArray[np.float64]  # infinite for a copy of a real
    density: NDArray[np.float64]
    nearest_distance: NDArray[np.float64]  # 0 for a copy of a real
    nearest: NDArray[np.int64]  # index of that real


class Reference:
    """Reals of one label with their balls, with which any number of fakes can be compared.

    Realism: Kynkaanniemi et al. 2019 (arXiv:1904.06991), equation 5: the largest over the reals of
    radius / distance, without the reals whose radius is above the median (see `realism` in
    `fgaug.quality.neighbours`). Density: Naeem et al. 2020 (arXiv:2002.09797), equation 3, of one
    fake: the number of reals' balls that it lies in, over k. Its mean over fakes is the density of
    the set.
    """

    def __init__(
        self, real: ArrayLike, k_realism: int = K_REALISM, k_density: int = K_DENSITY
    ) -> None:
        """Prepare the reals' features [N, D].

        Raises:
            UserError: there are too few reals, or features are not finite.
        """
        found = checked(real, "real", least=max(k_realism, k_density) + 1)
        self._mean, self._k = found.mean(axis=0), k_density
        self._reals = found - self._mean
        self._largest = _largest(self._reals)
        copy = COPY * self._largest
        radii = radii_of(self._reals, k_realism, copy)
        self._kept = within_median(radii)
        self._radii = radii[self._kept]
        self._open = radii_of(self._reals, k_density, copy) * (1 - TIE)

    def scores(self, fake: ArrayLike) -> NeighbourScores:
        """Return the scores of fakes' features [M, D], of the same network."""
        fakes = checked(fake, "fake", least=1)
        if fakes.shape[1] != self._reals.shape[1]:
            raise UserError(
                f"Fakes and reals must have features of the same network, got {fakes.shape[1]} "
                f"and {self._reals.shape[1]} per image."
            )
        fakes = fakes - self._mean
        realism, density, distance = (np.empty(len(fakes)) for _ in range(3))
        nearest = np.empty(len(fakes), np.int64)
        copy = COPY * max(self._largest, _largest(fakes))
        for start, block in blocks(fakes, self._reals, copy):
            here = slice(start, start + len(block))
            density[here] = (block < self._open).sum(axis=1) / self._k
            nearest[here] = block.argmin(axis=1)
            distance[here] = block.min(axis=1)
            realism[here] = realism_from(self._radii, block[:, self._kept])
        return NeighbourScores(
            realism=realism, density=density, nearest_distance=distance, nearest=nearest
        )


def _largest(features: NDArray[np.float64]) -> float:
    """Return the largest distance from the reals' mean."""
    return math.sqrt(float(np.square(features).sum(axis=1).max()))


def copy_threshold(heldout_to_train_distances: ArrayLike, alpha: float = ALPHA) -> float:
    """Return the distance to the nearest training real below which a fake counts as its copy.

    The distances of held-out reals to their nearest training real are those of images that are not
    copies. The threshold is the floor(alpha * (n + 1))-th smallest of them: at most the share
    alpha of images distributed like held-out reals lies below it, whatever the distribution of
    distances (a conformal quantile; Vovk et al. 2005, proposition 2.4). With fewer than 1 / alpha
    - 1 held-out reals it is 0, and only exact copies count.

    Args:
        heldout_to_train_distances: [n], for reals of one label whose patients have no training
            image.
        alpha: share, between 0 and 1.

    Raises:
        UserError: alpha is out of range.
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha must lie between 0 and 1, got {alpha:g}. The default is {ALPHA}.")
    distances = np.sort(np.asarray(heldout_to_train_distances, np.float64))
    rank = math.floor(alpha * (len(distances) + 1) * (1 + TIE))
    return float(distances[rank - 1]) if rank else 0.0


def copies(nearest_distance: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Return which fakes count as copies: nearer than the threshold, or at distance 0."""
    distance = np.asarray(nearest_distance, np.float64)
    found: NDArray[np.bool_] = (distance < threshold) | (distance == 0)
    return found


def of_own_label(
    probabilities: NDArray[np.float64], own: int | NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return confidence, margin and agreement of a classifier with the labels of images.

    Args:
        probabilities: [N, K], K at least 2.
        own: the class of each image, or of all.

    Returns:
        confidence [N], the probability of the image's own label; margin [N], confidence less the
        largest probability of another label, -1 to 1; agrees [N], whether its own label is the
        most likely one, with ties going to the first.
    """
    classes = np.broadcast_to(np.asarray(own, np.int64), (len(probabilities),))
    rows = np.arange(len(probabilities))
    confidence = probabilities[rows, classes]
    others = probabilities.copy()
    others[rows, classes] = -np.inf
    margin = confidence - others.max(axis=1)
    agrees = probabilities.argmax(axis=1) == classes
    return confidence, margin, agrees
