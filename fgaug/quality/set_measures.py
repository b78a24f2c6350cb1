"""Measures of each set of a bank's fakes, with those of reals in its place.

A set consists of the fakes of one label at one psi that pass one filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.quality.arrays import Features, checked
from fgaug.quality.floors import Floor, Measures, beside_floors, distances_of, real_floor
from fgaug.quality.kernel import kid_error
from fgaug.quality.neighbours import density_coverage, precision_recall

MEASURES = ("fid", "kid", "precision", "recall", "density", "coverage")
LOWER_IS_BETTER = ("fid", "kid")
K, K_DENSITY = 3, 5  # neighbours, as in Kynkaanniemi et al. 2019 and in Naeem et al. 2020
MIN_FAKES = 2 * (K_DENSITY + 1)  # per set; the parts of the floor have half as many


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """The reals by one feature network, and what is measured with its features."""

    features: Features
    measuring: Measures


class RealFeatures:
    """The reals of one label with which sets of fakes are compared, and their floors."""

    def __init__(
        self,
        features: ArrayLike,
        groups: Sequence[object] | pd.Series,
        pr_features: ArrayLike | None = None,
    ) -> None:
        """Validate features and store the patient of each image.

        Args:
            features: float [N, D].
            groups: patient of each image, [N].
            pr_features: float [N, E] by the network of precision, recall, density and coverage;
                None if all measures come from `features`.
        """
        first = checked(features, "real", least=MIN_FAKES)
        self._views: tuple[_View, ...] = (_View(first, measures_of),)
        if pr_features is not None:
            second = checked(pr_features, "real", least=MIN_FAKES)
            self._views = (_View(first, distances_of), _View(second, neighbours_of))
        self.groups = np.asarray(groups)
        self._floors: dict[int, tuple[Floor, ...]] = {}

    def measured(self, fake: ArrayLike, pr_fake: ArrayLike | None = None) -> dict[str, Any]:
        """Return MEASURES of a set of fakes, the standard error of KID, and the floor's columns.

        Args:
            fake: float [n, D].
            pr_fake: float [n, E], required with `pr_features`.

        Columns: n_real, n_fake; MEASURES, fakes against all reals; kid_error (`kernel.kid_error`);
        the columns of `floors.beside_floors`.

        Raises:
            UserError: there are fewer than MIN_FAKES fakes.
        """
        assert (pr_fake is not None) == (len(self._views) == 2)
        given = (fake,) if pr_fake is None else (fake, pr_fake)
        fakes = [checked(each, "fake", least=MIN_FAKES) for each in given]
        real, n = self._views[0].features, len(fakes[0])
        measured: dict[str, float] = {}
        for view, own in zip(self._views, fakes, strict=True):
            measured |= view.measuring(view.features, own)
        floors = zip(self._floor(n), (view.features for view in self._views), fakes, strict=True)
        return {
            "n_real": len(real),
            "n_fake": n,
            **measured,
            "kid_error": kid_error(real, fakes[0], self.groups),
            **beside_floors(floors),
        }

    def _floor(self, n: int) -> tuple[Floor, ...]:
        """Return the floor of each view for n fakes, measured once per sample size."""
        n = min(n, len(self._views[0].features) // 2)
        if n not in self._floors:
            groups = self.groups.tolist()
            self._floors[n] = tuple(
                real_floor(view.features, n, groups=groups, k=K_DENSITY, measuring=view.measuring)
                for view in self._views
            )
        return self._floors[n]


def measures_of(real: Features, fake: Features) -> dict[str, float]:
    """Return MEASURES of fakes against reals, float [N, D] and [n, D]."""
    return {**distances_of(real, fake), **neighbours_of(real, fake)}


def neighbours_of(real: Features, fake: Features) -> dict[str, float]:
    """Return precision, recall, density and coverage of fakes, float [N, D] and [n, D]."""
    precision, recall = precision_recall(real, fake, K)
    density, coverage = density_coverage(real, fake, K_DENSITY)
    values = (precision, recall, density, coverage)
    return dict(zip(MEASURES[2:], values, strict=True))


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
