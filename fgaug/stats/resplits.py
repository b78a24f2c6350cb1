"""Two recipes over repeated re-splits of one dataset (level E3; never for one fixed split)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, missing, sample
from fgaug.stats.inference import TTest, t_test, upper_tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Resplits:
    """The corrected t test of Nadeau and Bengio and its Bayesian reading."""

    test: TTest  # with the corrected standard error
    uncorrected: TTest  # ignores the overlap of splits: p is too small
    bayes_left: float  # posterior P(difference < -rope)
    bayes_rope: float  # P(-rope <= difference <= rope)
    bayes_right: float  # P(difference > rope)
    reason: str | None


def nadeau_bengio(
    differences: ArrayLike,
    *,
    n_train: int,
    n_test: int,
    rope: float = 0.0,
    level: float = 0.95,
) -> Resplits:
    """Return the t test of one difference per split, with the variance corrected for overlap.

    Variance of the mean: s^2 (1 / J + n_test / n_train), t with J - 1 degrees of freedom (Nadeau
    and Bengio 2003, Machine Learning 52:239, section 3). The Bayesian correlated t test (Corani
    and Benavoli 2015, Machine Learning 100:285) has the same t as its posterior where the
    correlation is n_test / (n_train + n_test). Seeds on one fixed split do not overlap: there this
    would only add variance; use `welch`.

    Args:
        differences: A minus B of each split, float [J].
        n_train: training images per split; n_test: test images per split.
        rope: half width of the region of practical equivalence, in units of the metric.
        level: confidence level of the intervals.

    Raises:
        UserError: a size is below 1, or the rope is negative.
    """
    if n_train < 1 or n_test < 1:
        raise UserError(f"Splits need images on both sides, got {n_train} and {n_test}.")
    if not rope >= 0:
        raise UserError(f"`rope` must be 0 or more, got {rope:g}.")
    d = sample(differences, "differences")
    reason = missing(differences=d) or ("a single split has no variance" if d.size == 1 else None)
    mean = float(d.mean()) if d.size and not missing(differences=d) else NAN
    variance = float(d.var(ddof=1)) if reason is None else NAN
    scale = float(np.abs(d).max(initial=0.0)) if reason is None else 0.0
    both = [
        t_test(
            mean, (variance * share) ** 0.5, d.size - 1, level=level, scale=scale, reason=reason
        )
        for share in (1 / max(1, d.size) + n_test / n_train, 1 / max(1, d.size))
    ]
    left, right = _outside(both[0], rope)
    return Resplits(
        test=both[0],
        uncorrected=both[1],
        bayes_left=left,
        bayes_rope=max(0.0, 1 - left - right) if np.isfinite(left + right) else NAN,
        bayes_right=right,
        reason=both[0].reason,
    )


def _outside(test: TTest, rope: float) -> tuple[float, float]:
    """Return the posterior probabilities below -rope and above rope."""
    if test.se > 0:
        return (
            upper_tail((rope + test.difference) / test.se, test.df),
            upper_tail((rope - test.difference) / test.se, test.df),
        )
    # all splits equal: the posterior is a point mass, which lies inside the rope
    return (0.0, 0.0) if test.se == 0 and test.difference == 0 and rope > 0 else (NAN, NAN)
