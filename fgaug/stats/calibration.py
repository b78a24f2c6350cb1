"""Calibration of probabilities: Brier score, log loss, ECE, slope and intercept.

ECE is descriptive only: it is biased upwards, above all for well-calibrated models (Roelofs et al.
2022, AISTATS). Brier score and log loss are tested through `influence_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints, class_indices, missing, sample
from fgaug.stats.influence import SMALLEST_PROBABILITY

CLIP = 1e-6  # clipping of probabilities before the logit
STEPS = 100  # of Newton's method; 5 to 10 are usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Calibration of probabilities of two classes; NaN where undefined."""

    brier: float  # mean (p - y)^2
    brier_skill: float  # 1 - brier / (share (1 - share)): skill over the constant share
    log_loss: float  # mean, natural logarithm, p clipped at 1e-15
    ece_equal_width: float
    ece_equal_mass: float  # the recommended one
    slope: float  # of the logit; 1 is ideal, below 1 overconfident
    intercept_in_the_large: float  # with the slope fixed at 1; 0 is ideal, above 0 p is too low
    reason: str | None  # why something is NaN


def calibration_of(y_true: ArrayLike, probability: ArrayLike, *, bins: int = 15) -> Calibration:
    """Return the calibration of probabilities of label 1.

    ECE: sum over bins of |mean y - mean p| weighted by their images; equal-width bins are
    floor(p bins) with p = 1 in the last, equal-mass bins floor(rank bins / N) in stable order.
    Slope: logistic regression of y on logit p; intercept-in-the-large: with logit p as offset (Cox
    1958, Biometrika 45:562; Van Calster et al. 2019, BMC Medicine 17:230).

    Args:
        y_true: int [N], 0 or 1.
        probability: float [N] within 0..1.
        bins: number of bins of both ECEs, at least 1.

    Raises:
        UserError: lengths differ, a probability is outside 0..1, or there is no bin.
    """
    y, p = class_indices(y_true, 2), sample(probability, "probability")
    if y.size != p.size:
        raise UserError(f"Each label needs a probability, got {y.size} and {p.size}.")
    if bins < 1:
        raise UserError(f"`bins` must be at least 1, got {bins}. Give 15.")
    if reason := missing(probability=p):
        return Calibration(
            brier=NAN,
            brier_skill=NAN,
            log_loss=NAN,
            ece_equal_width=NAN,
            ece_equal_mass=NAN,
            slope=NAN,
            intercept_in_the_large=NAN,
            reason=reason,
        )
    if p.min() < 0 or p.max() > 1:
        raise UserError(f"Probabilities must lie within 0..1, got {p.min():g}..{p.max():g}.")
    share, brier = float(y.mean()), float(((p - y) ** 2).mean())
    own = np.clip(np.where(y == 1, p, 1 - p), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    rank = np.empty(y.size, dtype=np.int64)
    rank[np.argsort(p, kind="stable")] = np.arange(y.size)
    slope, large, reason = _logistic(y, p)
    return Calibration(
        brier=brier,
        brier_skill=1 - brier / (share * (1 - share)) if 0 < share < 1 else NAN,
        log_loss=float(-np.log(own).mean()),
        ece_equal_width=_ece(y, p, np.minimum((p * bins).astype(np.int64), bins - 1), bins),
        ece_equal_mass=_ece(y, p, rank * bins // y.size, bins),
        slope=slope,
        intercept_in_the_large=large,
        reason=reason,
    )


def _ece(y: Ints, p: Floats, place: Ints, bins: int) -> float:
    return float(np.abs(np.bincount(place, weights=y - p, minlength=bins)).sum() / y.size)


def _logistic(y: Ints, p: Floats) -> tuple[float, float, str | None]:
    """Return slope and intercept-in-the-large, with the reason of a NaN."""
    x = special.logit(np.clip(p, CLIP, 1 - CLIP))
    if y.min() == y.max():
        return NAN, NAN, f"all labels are {y[0]}"
    share = float(y.mean())
    # the root is bracketed by the logit of the share minus the highest and the lowest logit
    low, high = special.logit(share) - x.max() - 1e-9, special.logit(share) - x.min() + 1e-9
    large = float(
        optimize.brentq(lambda a: special.expit(x + a).mean() - share, low, high, xtol=1e-13)
    )
    ones, zeros = x[y == 1], x[y == 0]
    if x.min() == x.max():
        return NAN, large, "all probabilities are equal: no slope"
    if ones.min() >= zeros.max() or zeros.min() >= ones.max():
        return NAN, large, "the probabilities separate the labels: the slope has no finite value"
    return _slope(y, x), large, None


def _slope(y: Ints, x: Floats) -> float:
    """Return the slope of a logistic regression of y on x, by Newton's method."""
    design = np.stack([np.ones_like(x), x])

    def deviance(beta: Floats) -> float:
        eta = beta @ design
        return float((np.logaddexp(0, eta) - y * eta).sum())

    beta = np.zeros(2)
    for _ in range(STEPS):
        fitted = special.expit(beta @ design)
        hessian = (design * (fitted * (1 - fitted))) @ design.T
        step = np.linalg.lstsq(hessian, design @ (y - fitted), rcond=None)[0]
        while deviance(beta + step) > deviance(beta) + 1e-9 and np.abs(step).max() > 1e-12:
            step = step / 2  # Newton overshoots where probabilities are extreme
        beta = beta + step
        if np.abs(step).max() < 1e-10 * (1 + np.abs(beta).max()):
            break
    return float(beta[1])
