"""Every metric as one estimate per run, and the influence of each patient on it.

The tests over seeds and patients use `Influence.factors[r] @ Influence.factors[s]`, the covariance
over draws of new patients of the estimates of runs r and s.

`MEASURES` defines each metric of `fgaug.core.analysis_metrics`. All but the AUC are means of
ratios of sums over images (`Ratios`), which gives their estimate, their influence and their value
on resampled images from one definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fgaug.core.analysis_metrics import METRICS as KNOWN
from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints, class_indices, patient_codes
from fgaug.stats.clusters import clustered_factors, why_undefined
from fgaug.stats.roc import auc_influence

METRICS = tuple(KNOWN)
SMALLEST_PROBABILITY = 1e-15  # clipping before the logarithm
# Of labels [N], probabilities [R, N, L] and a threshold: numerators [K, R, N] and denominators
# that broadcast to them. The metric is the mean over k of sum(numerator) / sum(denominator).
Ratios: TypeAlias = Callable[[Ints, Floats, float], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How a metric is computed."""

    ratios: Ratios | None  # None for the AUC, which compares pairs of images
    by_class: bool = False  # whether new patients are drawn by class: a mean over the true classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One metric of R runs on the same images, and its variation over patients."""

    metric: str  # one of METRICS
    estimate: Floats  # [R]
    factors: Floats  # [R, D]; products are covariances over patients. NaN where undefined
    n_images: int
    n_patients: int
    reason: str | None  # why something is NaN

    def covariance(self) -> Floats:
        """Return the covariance of all pairs of runs, [R, R], units of the metric squared."""
        return self.factors @ self.factors.T


def influence_of(
    metric: str,
    y_true: ArrayLike,
    probability: ArrayLike,
    *,
    group: ArrayLike | None = None,
    threshold: float = 0.5,
) -> Influence:
    """Return the metric of each run with the influence of each patient (linearisation).

    Args:
        metric: one of METRICS. With more than two classes the AUC is one-vs-rest macro, Brier is
            half the squared distance to the one-hot label, and the predicted class has the
            highest probability.
        y_true: int [N], 0..L - 1.
        probability: of label 1, float [R, N] or [N]; or of each label, [R, N, L].
        group: the patient of each image, [N]; None if every image is its own patient.
        threshold: with two classes, label 1 is predicted from this probability up.

    The AUC's influence is DeLong's; for the macro AUC it is the mean over labels, by the image's
    own class, which for two labels is the binary one. Every other metric is a mean over k of
    ratios r_k = A_k / B_k of sums over images; the influence of image i is the mean over k of
    (a_ki - r_k b_ki) / B_k (the delta method, or infinitesimal jackknife: Efron 1982, chapter 6).
    For a mean over images this is (l_i - mean) / N.

    Raises:
        UserError: the metric is unknown, or shapes do not match.
    """
    if metric not in METRICS:
        raise UserError(f"`metric` must be one of {', '.join(METRICS)}, got {metric!r}.")
    y, p = _inputs(y_true, probability)
    patients = patient_codes(group, y.size)
    classes = max(2, p.shape[2])
    measure = MEASURES[metric]
    strata = y if measure.by_class else np.zeros_like(y)
    with np.errstate(invalid="ignore"):  # NaN probabilities stay NaN
        if measure.ratios is None:
            estimate, values = _macro_auc(y, p, classes)
        else:
            estimate, values = _ratio_influence(*measure.ratios(y, p, threshold))
        count = classes if measure.by_class else 1
        factors, counts = clustered_factors(values, strata, patients, count)
    return Influence(
        metric=metric,
        estimate=estimate,
        factors=factors,
        n_images=y.size,
        n_patients=int(patients.max(initial=-1)) + 1,
        reason=why_undefined(counts, estimate),
    )


def _inputs(y_true: ArrayLike, probability: ArrayLike) -> tuple[Ints, Floats]:
    """Return labels [N] and probabilities [R, N, L], L = 1 for two classes."""
    p = np.asarray(probability, dtype=np.float64)
    p = p.reshape(1, -1) if p.ndim < 2 else p
    p = p[:, :, None] if p.ndim == 2 else p
    p = p[:, :, 1:] if p.ndim == 3 and p.shape[2] == 2 else p
    images = np.atleast_1d(np.asarray(y_true)).size
    if p.ndim != 3 or p.shape[1] != images or p.shape[2] == 0:
        raise UserError(
            f"`probability` must be [runs, images] or [runs, images, labels] for {images} images, "
            f"got shape {np.shape(probability)}."
        )
    return class_indices(y_true, max(2, p.shape[2])), p


def _ratio_influence(numerator: Floats, denominator: Floats) -> tuple[Floats, Floats]:
    """Return the mean ratio of each run, [R], and the influence of each image on it, [R, N]."""
    estimate = np.zeros(numerator.shape[1])
    values = np.zeros(numerator.shape[1:])
    denominator = np.broadcast_to(denominator, numerator.shape)
    for top, bottom in zip(numerator, denominator, strict=True):
        # added image by image: another order would change the last digit of stored results
        whole = np.asfortranarray(bottom).sum(axis=1)
        ratio = np.divide(
            np.asfortranarray(top).sum(axis=1), whole, out=np.full(whole.shape, NAN),
            where=whole > 0,
        )  # fmt: skip
        estimate += ratio
        values += (top - ratio[:, None] * bottom) / (len(numerator) * whole[:, None])
    return estimate / len(numerator), values


def _own(y: Ints, p: Floats) -> Floats:
    """Return the probability of each image's own label, [R, N]."""
    if p.shape[2] == 1:
        return np.where(y == 1, p[:, :, 0], 1 - p[:, :, 0])
    return p[:, np.arange(y.size), y]


def _called(p: Floats, threshold: float = 0.5) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the predicted label of each image, [R, N], and whether it is known.

    Args:
        p: float [R, N, L], L = 1 for the probability of label 1.
        threshold: with two classes, label 1 is predicted from this probability up.
    """
    known = np.asarray(~np.isnan(p).any(axis=2), bool)
    called = p[:, :, -1] >= threshold if p.shape[2] <= 2 else p.argmax(axis=2)
    return np.asarray(called, np.int64), known


def _right(y: Ints, p: Floats, threshold: float) -> Floats:
    called, known = _called(p, threshold)
    return np.where(known, called == y, NAN)


def _accuracy(y: Ints, p: Floats, threshold: float) -> tuple[Floats, Floats]:
    return _right(y, p, threshold)[None], np.ones((1, 1, y.size))


def _balanced_accuracy(y: Ints, p: Floats, threshold: float) -> tuple[Floats, Floats]:
    own = _is_label(y, p)
    return np.where(own, _right(y, p, threshold), 0.0), own.astype(np.float64)


def _f1_macro(y: Ints, p: Floats, threshold: float) -> tuple[Floats, Floats]:
    """Return 2 TP_k = 2 [y = k and called = k], and [y = k] + [called = k], by label k."""
    own = _is_label(y, p)
    called, known = _called(p, threshold)
    said = called == np.arange(len(own))[:, None, None]
    return np.where(known, 2.0 * (own & said), NAN), own.astype(np.float64) + said


def _brier(y: Ints, p: Floats, threshold: float) -> tuple[Floats, Floats]:
    own = _own(y, p)
    if p.shape[2] == 1:
        return ((1 - own) ** 2)[None], np.ones((1, 1, y.size))
    return (((p**2).sum(axis=2) - 2 * own + 1) / 2)[None], np.ones((1, 1, y.size))


def _log_loss(y: Ints, p: Floats, threshold: float) -> tuple[Floats, Floats]:
    clipped = np.clip(_own(y, p), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(-np.log(clipped))[None], np.ones((1, 1, y.size))


def _is_label(y: Ints, p: Floats) -> NDArray[np.bool_]:
    """Return whether an image has a label, [L, 1, N]."""
    return np.asarray(np.arange(max(2, p.shape[2]))[:, None, None] == y, bool)


def _macro_auc(y: Ints, p: Floats, classes: int) -> tuple[Floats, Floats]:
    if p.shape[2] == 1:
        return auc_influence(y == 1, p[:, :, 0])
    parts = [auc_influence(y == index, p[:, :, index]) for index in range(classes)]
    estimate = np.mean([area for area, _ in parts], axis=0)
    values = sum((values for _, values in parts), np.zeros(p.shape[:2]))
    return estimate, values / classes


MEASURES = {
    "auc": Measure(ratios=None, by_class=True),
    "accuracy": Measure(ratios=_accuracy),
    "balanced_accuracy": Measure(ratios=_balanced_accuracy, by_class=True),
    "brier": Measure(ratios=_brier),
    "log_loss": Measure(ratios=_log_loss),
    "f1_macro": Measure(ratios=_f1_macro),
}
