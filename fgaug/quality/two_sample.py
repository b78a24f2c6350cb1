"""Classifier two-sample test: can two sets of images be distinguished?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgaug.errors import UserError
from fgaug.quality.snapshots.training_filter import STRENGTH, out_of_fold
from fgaug.stats import influence_of
from fgaug.stats.inference import quantile

MIN_PATIENTS = 10  # per set
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldApart:
    """How well two sets can be distinguished; 0.5 is chance."""

    n_first: int
    n_second: int
    auc: float
    auc_low: float  # LEVEL, over new patients
    auc_high: float
    accuracy: float  # balanced: the mean over both sets
    accuracy_low: float
    accuracy_high: float


def two_sample_test(
    first: np.ndarray,
    second: np.ndarray,
    groups_first: np.ndarray,
    groups_second: np.ndarray,
    *,
    strength: float = STRENGTH,
    shared: bool = False,
    seed: int = 0,
) -> ToldApart:
    """Return how well logistic regression distinguishes two sets, cross-validated by patient.

    Intervals are for new patients with the classifiers fixed (Obuchowski 1997 for the AUC, see
    `stats.influence_of`), clipped to 0..1.

    Args:
        first: float [N, D].
        second: float [M, D].
        groups_first: patient of each image, [N]; a fake is its own patient.
        groups_second: [M].
        strength: see `training_filter.out_of_fold`.
        shared: whether equal names in both sets are the same group, such as a z_seed of two
            networks; otherwise the sets share no group.
        seed: random seed of the folds.

    Raises:
        UserError: a set has fewer than MIN_PATIENTS groups.
    """
    for groups in (groups_first, groups_second):
        if (count := len(np.unique(groups))) < MIN_PATIENTS:
            raise UserError(
                f"A two-sample test needs at least {MIN_PATIENTS} patients (or fakes) per set, "
                f"got {count}."
            )
    tags = ("", "") if shared else ("a", "b")
    named = [
        f"{tag}{group}"
        for tag, groups in zip(tags, (groups_first, groups_second), strict=True)
        for group in groups.tolist()
    ]
    groups = np.unique(named, return_inverse=True)[1]
    classes = np.repeat([0, 1], [len(first), len(second)])
    features = np.concatenate([first, second])
    second_of = out_of_fold(features, classes, groups, seed, strength)[:, 1]
    found = {
        metric: _interval(metric, classes, second_of, groups)
        for metric in ("auc", "balanced_accuracy")
    }
    (auc, auc_low, auc_high), (right, low, high) = found.values()
    return ToldApart(
        n_first=len(first),
        n_second=len(second),
        auc=auc,
        auc_low=auc_low,
        auc_high=auc_high,
        accuracy=right,
        accuracy_low=low,
        accuracy_high=high,
    )


def _interval(
    metric: str, classes: np.ndarray, probability: np.ndarray, groups: np.ndarray
) -> tuple[float, float, float]:
    found = influence_of(metric, classes, probability, group=groups)
    value = float(found.estimate[0])
    reach = quantile((1 + LEVEL) / 2, float("inf")) * float(np.sqrt(found.covariance()[0, 0]))
    return value, max(0.0, value - reach), min(1.0, value + reach)
