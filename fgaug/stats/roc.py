"""Area under the ROC curve: placements, DeLong's test, patients as clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.stats import rankdata

from fgaug.stats.arrays import NAN, Bools, Floats, class_indices, patient_codes, run_scores
from fgaug.stats.clusters import clustered_factors, why_undefined
from fgaug.stats.inference import check_level, quantile, t_test

_BLOCK = 4_000_000  # scores ranked at a time: a few temporary arrays of 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class DeLong:
    """Two correlated AUCs on the same images, and the test of their difference (A minus B)."""

    auc_a: float
    auc_b: float
    difference: float
    var_a: float  # of auc_a, over patients
    var_b: float
    cov_ab: float
    se: float  # of the difference
    z: float
    p_value: float  # two-sided, normal
    ci_low: float  # of the difference; not clipped
    ci_high: float
    ci_auc_a: tuple[float, float]  # clipped to 0..1, as pROC does
    ci_auc_b: tuple[float, float]
    n_patients: int
    n_patients_with_pos: int
    n_patients_with_neg: int
    reason: str | None  # why something is NaN


@dataclass(frozen=True, slots=True, kw_only=True)
class AucInterval:
    """One AUC with its standard error and intervals."""

    auc: float
    se: float
    ci_low: float  # normal, clipped to 0..1
    ci_high: float
    logit_low: float  # normal on the logit: stays within 0..1 and is better near 1
    logit_high: float
    reason: str | None


def delong(
    y_true: ArrayLike,
    p_a: ArrayLike,
    p_b: ArrayLike,
    *,
    group: ArrayLike | None = None,
    level: float = 0.95,
) -> DeLong:
    """Return two AUCs and DeLong's test of their difference; clustered by patient with `group`.

    Tests whether these two trained networks differ on new patients; says nothing about their
    recipes. Equal scores give z 0 and p 1; fewer than two patients with, or without, the second
    label give NaN and a reason. An AUC below 0.5 is not flipped.

    Args:
        y_true: int [N], 0 or 1.
        p_a: scores of A, float [N], larger for label 1; any scale.
        p_b: scores of B on the same images.
        group: the patient of each image, [N]; None if every image is its own patient.
        level: confidence level of the intervals.

    Sources: DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837), by midranks as in Sun and
    Xu 2014 (IEEE SPL 21:1389); with patients Obuchowski 1997 (Biometrics 53:567), which is
    DeLong's where every patient has one image.

    Raises:
        UserError: the arrays have different lengths, or a label is not 0 or 1.
    """
    check_level(level)
    y = class_indices(y_true, 2)
    scores = np.concatenate([run_scores(p_a, y.size, "p_a"), run_scores(p_b, y.size, "p_b")])
    patients = patient_codes(group, y.size)
    estimate, influence = auc_influence(y == 1, scores)
    factors, counts = clustered_factors(influence, y, patients, 2)
    reason = why_undefined(counts, estimate)
    apart = factors[0] - factors[1]  # exactly 0 for scores in the same order
    test = t_test(
        float(estimate[0] - estimate[1]),
        float(np.linalg.norm(apart)),
        np.inf,
        level=level,
        scale=float(np.linalg.norm(factors)),
        reason=reason,
    )
    cov = factors @ factors.T
    return DeLong(
        auc_a=float(estimate[0]),
        auc_b=float(estimate[1]),
        difference=test.difference,
        var_a=float(cov[0, 0]),
        var_b=float(cov[1, 1]),
        cov_ab=float(cov[0, 1]),
        se=test.se,
        z=test.statistic,
        p_value=test.p_value,
        ci_low=test.ci_low,
        ci_high=test.ci_high,
        ci_auc_a=_clipped(float(estimate[0]), float(cov[0, 0]), level),
        ci_auc_b=_clipped(float(estimate[1]), float(cov[1, 1]), level),
        n_patients=int(patients.max(initial=-1)) + 1,
        n_patients_with_pos=counts[1],
        n_patients_with_neg=counts[0],
        reason=test.reason,
    )


def auc_interval(
    y_true: ArrayLike, scores: ArrayLike, *, group: ArrayLike | None = None, level: float = 0.95
) -> AucInterval:
    """Return one AUC with a normal and a logit interval; arguments and errors as in `delong`.

    The logit interval is expit(logit A -/+ z se / (A (1 - A))) (Pepe 2003, section 5.2.3); NaN
    for an AUC of 0 or 1, where DeLong's variance is 0.
    """
    one = delong(y_true, scores, scores, group=group, level=level)
    se = float(np.sqrt(one.var_a))
    low = high = NAN
    if 0 < one.auc_a < 1:
        half = quantile(0.5 + level / 2, np.inf) * se / (one.auc_a * (1 - one.auc_a))
        centre = special.logit(one.auc_a)
        low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
    return AucInterval(
        auc=one.auc_a,
        se=se,
        ci_low=one.ci_auc_a[0],
        ci_high=one.ci_auc_a[1],
        logit_low=low,
        logit_high=high,
        reason=one.reason,
    )


def auc(y_true: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the AUC of each run, float [R]: P(score of a 1 > score of a 0), ties half.

    Args:
        y_true: int [N], 0 or 1.
        scores: float [R, N] or [N].

    NaN if all labels are of one class, and for runs with NaN scores.

    Raises:
        UserError: as in `delong`.
    """
    y = class_indices(y_true, 2)
    return _areas(y == 1, run_scores(scores, y.size, "scores"))


def auc_influence(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """Return the AUC of each run, [R], and the influence of each image on it, [R, N].

    For a positive i it is (V10_i - AUC) / m, for a negative j (V01_j - AUC) / n, with placements
    V10_i = (R_all(i) - R_pos(i)) / n and V01_j = 1 - (R_all(j) - R_neg(j)) / m, R() midranks
    (Sun and Xu 2014, equations 6-9).

    Args:
        positive: bool [N].
        scores: float [R, N].
    """
    m, n = int(positive.sum()), int((~positive).sum())
    influence = np.full(scores.shape, NAN)
    if not m or not n:
        return np.full(len(scores), NAN), influence
    estimate = np.empty(len(scores))
    rows = max(1, _BLOCK // positive.size)
    for start in range(0, len(scores), rows):
        part = slice(start, start + rows)
        block = scores[part]
        among_all = rankdata(block, axis=1)
        area = _area(among_all[:, positive], m, n)
        above = (among_all[:, positive] - rankdata(block[:, positive], axis=1)) / n
        below = 1 - (among_all[:, ~positive] - rankdata(block[:, ~positive], axis=1)) / m
        estimate[part] = area
        influence[part, positive] = (above - area[:, None]) / m
        influence[part, ~positive] = (below - area[:, None]) / n
    return estimate, influence


def _areas(positive: Bools, scores: Floats) -> Floats:
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return np.full(len(scores), NAN)
    rows = max(1, _BLOCK // positive.size)
    blocks = [
        _area(rankdata(scores[start : start + rows], axis=1)[:, positive], m, n)
        for start in range(0, len(scores), rows)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _area(ranks: Floats, m: int, n: int) -> Floats:
    """Return AUCs from the midranks of the positives, [R, m].

    Sums of halves are exact, so equal areas are equal numbers and their difference is 0.
    """
    return np.asarray((ranks.sum(axis=1) - m * (m + 1) / 2) / (m * n))


def _clipped(estimate: float, variance: float, level: float) -> tuple[float, float]:
    half = quantile(0.5 + level / 2, np.inf) * np.sqrt(variance)
    return float(np.clip(estimate - half, 0, 1)), float(np.clip(estimate + half, 0, 1))
