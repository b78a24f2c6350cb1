"""Frechet distance between two sets of features.

Heusel et al. 2017 (arXiv:1706.08500): FID = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the
squared Frechet distance of two Gaussians with the sets' means and covariances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.quality.arrays import Features, checked, checked_pair


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """Mean and covariance of one set, for repeated comparisons."""

    mean: Features  # [D]
    factor: Features  # [at most D, D]; factor.T @ factor is the covariance, divided by N - 1

    @classmethod
    def of(cls, features: ArrayLike) -> Gaussian:
        """Return the Gaussian of a set of at least 2 images."""
        array = checked(features)
        mean = array.mean(axis=0)
        factor = (array - mean) / math.sqrt(len(array) - 1)
        if len(factor) > factor.shape[1]:
            factor = np.linalg.qr(factor, mode="r")
        return cls(mean, factor)

    def distance(self, other: Gaussian) -> float:
        """Return the squared Frechet distance.

        The eigenvalues of S1 S2 = A'A B'B are the squared singular values of A B', so the trace
        of its root is the sum of these. Neither a covariance nor its root is formed, so that zero
        eigenvalues (fewer images than features, features that are always 0) stay 0 instead of
        adding up the roots of their rounding errors.
        """
        shift = self.mean - other.mean
        shared = np.linalg.norm(self.factor @ other.factor.T, ord="nuc")
        spread = np.square(self.factor).sum() + np.square(other.factor).sum()
        return max(float(shift @ shift + spread - 2 * shared), 0.0)


def fid(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Return the Frechet distance of two sets, covariances divided by N - 1; symmetric.

    With the features of the Inception network of 2015-12-05 this is the FID. It decreases as the
    sets grow, by an amount that differs between networks and sets: compare it only at equal sizes,
    and with `real_floor`.
    """
    a, b = checked_pair(features_a, features_b, ("features_a", "features_b"))
    return Gaussian.of(a).distance(Gaussian.of(b))
