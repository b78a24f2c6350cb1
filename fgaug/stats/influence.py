"""Every metric as one estimate per run, and the influence of each patient on it.

The tests over seeds and patients use `Influence.factors[r] @ Influence.factors[s]`, the covariance
over draws of new patients of the estimates of runs r and s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints, class_indices, patient_codes
from fgaug.stats.clusters import clustered_factors, why_undefined
from fgaug.stats.roc import auc_influence

METRICS = ("auc", "accuracy", "balanced_accuracy", "brier", "log_loss")
SMALLEST_PROBABILITY = 1e-15  # clipping before the logarithm


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
    own class, which for two labels is the binary one. Means over images: (l_i - mean) / N. The
    mean recall over classes (balanced accuracy): (l_i - recall) / (L n_class).

    Raises:
        UserError: the metric is unknown, or shapes do not match.
    """
    if metric not in METRICS:
        raise UserError(f"`metric` must be one of {', '.join(METRICS)}, got {metric!r}.")
    y, p = _inputs(y_true, probability)
    patients = patient_codes(group, y.size)
    classes = max(2, p.shape[2])
    by_class = metric in ("auc", "balanced_accuracy")
    strata = y if by_class else np.zeros_like(y)
    with np.errstate(invalid="ignore"):  # NaN probabilities stay NaN
        if metric == "auc":
            estimate, values = _macro_auc(y, p, classes)
        else:
            losses = _losses(metric, y, p, threshold)
            estimate, values = _class_means(losses, strata, classes if by_class else 1)
        factors, counts = clustered_factors(values, strata, patients, classes if by_class else 1)
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


def _losses(metric: str, y: Ints, p: Floats, threshold: float) -> Floats:
    """Return the contribution of each image to the metric's mean, [R, N]."""
    binary = p.shape[2] == 1
    own = np.where(y == 1, p[:, :, 0], 1 - p[:, :, 0]) if binary else p[:, np.arange(y.size), y]
    if metric == "log_loss":
        return np.asarray(-np.log(np.clip(own, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)))
    if metric == "brier":
        if binary:
            return np.asarray((1 - own) ** 2)
        return np.asarray(((p**2).sum(axis=2) - 2 * own + 1) / 2)
    called = p[:, :, 0] >= threshold if binary else p.argmax(axis=2)
    return np.where(np.isnan(p).any(axis=2), NAN, called == y)


def _class_means(losses: Floats, strata: Ints, classes: int) -> tuple[Floats, Floats]:
    """Return the mean over strata of their mean loss, [R], and each image's influence, [R, N]."""
    sizes = np.bincount(strata, minlength=classes)
    if not sizes.all():
        return np.full(len(losses), NAN), np.full(losses.shape, NAN)
    means = np.stack([losses[:, strata == index].mean(axis=1) for index in range(classes)])
    values = (losses - means.T[:, strata]) / (classes * sizes[strata])
    return means.mean(axis=0), values


def _macro_auc(y: Ints, p: Floats, classes: int) -> tuple[Floats, Floats]:
    if p.shape[2] == 1:
        return auc_influence(y == 1, p[:, :, 0])
    parts = [auc_influence(y == index, p[:, :, index]) for index in range(classes)]
    estimate = np.mean([area for area, _ in parts], axis=0)
    values = sum((values for _, values in parts), np.zeros(p.shape[:2]))
    return estimate, values / classes
