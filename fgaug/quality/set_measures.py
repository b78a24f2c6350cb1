"""Measures of each set of a bank's fakes, with those of reals in its place.

A set consists of the fakes of one label at one psi that pass one filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.quality.arrays import Features, checked
from fgaug.quality.floors import Floor, beside_floor, real_floor
from fgaug.quality.frechet import fid
from fgaug.quality.kernel import kid, kid_error
from fgaug.quality.neighbours import density_coverage, precision_recall

MEASURES = ("fid", "kid", "precision", "recall", "density", "coverage")
LOWER_IS_BETTER = ("fid", "kid")
K, K_DENSITY = 3, 5  # neighbours, as in Kynkaanniemi et al. 2019 and in Naeem et al. 2020
MIN_FAKES = 2 * (K_DENSITY + 1)  # per set; the parts of the floor have half as many


class RealFeatures:
    """The reals of one label with which sets of fakes are compared, and their floors."""

    def __init__(self, features: ArrayLike, groups: Sequence[object] | pd.Series) -> None:
        """Validate features, float [N, D], and store the patient of each image, [N]."""
        self.features = checked(features, "real", least=MIN_FAKES)
        self.groups = np.asarray(groups)
        self._floors: dict[int, Floor] = {}

    def measured(self, fake: ArrayLike) -> dict[str, Any]:
        """Return MEASURES of a set of fakes, the standard error of KID, and the floor's columns.

        Columns: n_real, n_fake; MEASURES, fakes against all reals; kid_error (`kernel.kid_error`);
        the columns of `floors.beside_floor`.

        Raises:
            UserError: there are fewer than MIN_FAKES fakes.
        """
        fakes = checked(fake, "fake", least=MIN_FAKES)
        return {
            "n_real": len(self.features),
            "n_fake": len(fakes),
            **measures_of(self.features, fakes),
            "kid_error": kid_error(self.features, fakes, self.groups),
            **beside_floor(self._floor(len(fakes)), self.features, fakes),
        }

    def _floor(self, n: int) -> Floor:
        """Return the floor for n fakes, measured once per sample size."""
        n = min(n, len(self.features) // 2)
        if n not in self._floors:
            self._floors[n] = real_floor(
                self.features, n, groups=self.groups.tolist(), k=K_DENSITY, measuring=measures_of
            )
        return self._floors[n]


def measures_of(real: Features, fake: Features) -> dict[str, float]:
    """Return MEASURES of fakes against reals, float [N, D] and [n, D]."""
    precision, recall = precision_recall(real, fake, K)
    density, coverage = density_coverage(real, fake, K_DENSITY)
    values = (fid(real, fake), kid(real, fake), precision, recall, density, coverage)
    return dict(zip(MEASURES, values, strict=True))


def shortfall(row: Mapping[str, Any], measure: str) -> float:
    """Return how much worse fakes are than reals at equal sizes; positive is worse."""
    apart = float(row[f"{measure}_at_floor"]) - float(row[f"floor_{measure}"])
    return apart if measure in LOWER_IS_BETTER else -apart


def drawn(z_seeds: np.ndarray, most: int) -> np.ndarray:
    """Return the lowest `most` of a set's z_seeds; the order in the bank is irrelevant.

    Raises:
        UserError: `most` is too small to measure.
    """
    if most < MIN_FAKES:
        raise UserError(f"--images must be at least {MIN_FAKES}, got {most}. The default is 1000.")
    return np.sort(z_seeds)[:most]
