"""Assumptions of a plan without a pilot run: sd between seeds, variance over patients.

The defaults come from published fetal-ultrasound runs, and each is printed as an assumption.
"""

from __future__ import annotations

import math

from fgaug.analysis.power.designs import StudyDesign
from fgaug.errors import UserError
from fgaug.stats import METRICS

SEED_SD = {"accuracy": 0.0068, "auc": 0.0055}  # sample sd between seeds, pooled over its 37 arms
EXPECTED = {"accuracy": 0.80, "balanced_accuracy": 0.80, "auc": 0.85}  # baseline's metric
# Of the errors of two recipes over patients. For two accuracies near 0.8 on 1,400 images, 0.89 to
# 0.96 corresponds to a standard error of the difference of 0.005 to 0.003.
CORRELATION = 0.9


def patient_variance(
    metric: str,
    patients: int,
    *,
    expected: float,
    correlation: float = CORRELATION,
    positives: float = 0.5,
) -> float:
    """Return the variance over patients of one recipe's metric minus the baseline's.

    2 (1 - correlation) Var, where Var is the variance of one recipe on patients with one image
    each: p (1 - p) / G for accuracy, its mean over two labels for balanced accuracy, and that of
    Hanley and McNeil 1982 (Radiology 143:29) for AUC. This is a guess; a pilot run measures it.

    Args:
        metric: accuracy, balanced_accuracy or auc.
        patients: G, at least 4.
        expected: the baseline's metric, between 0 and 1.
        correlation: correlation of the two recipes' errors over patients, from 0 to below 1.
        positives: share of patients with the second label, between 0 and 1.

    Raises:
        UserError: the metric is another one, or a number is outside these bounds.
    """
    if metric not in EXPECTED:
        raise UserError(
            f"Without a pilot run `metric` must be one of {', '.join(EXPECTED)}, got {metric}: "
            "the variance of other metrics is unknown. Give --run."
        )
    for name, value in (("expected", expected), ("positives", positives)):
        if not 0 < value < 1:
            raise UserError(f"--{name} must lie between 0 and 1, got {value:g}.")
    if not 0 <= correlation < 1:
        raise UserError(f"--correlation must be 0 or more and below 1, got {correlation:g}.")
    m, n = patients * positives, patients * (1 - positives)
    if min(m, n) < 2:
        raise UserError(
            f"Each label needs at least 2 patients, got {m:g} and {n:g}. Give more --patients, "
            "or another --positives."
        )
    p = expected
    if metric == "accuracy":
        one = p * (1 - p) / patients
    elif metric == "balanced_accuracy":
        one = p * (1 - p) * (1 / m + 1 / n) / 4
    else:
        q1, q2 = p / (2 - p), 2 * p * p / (1 + p)
        one = (p * (1 - p) + (m - 1) * (q1 - p * p) + (n - 1) * (q2 - p * p)) / (m * n)
    return 2 * (1 - correlation) * one


def assumed(
    metric: str,
    arms: int,
    patients: int | None,
    *,
    seed_sd: float | None = None,
    expected: float | None = None,
    correlation: float | None = None,
    positives: float | None = None,
) -> tuple[StudyDesign, tuple[str, ...]]:
    """Return a study design without a pilot, and notes that list every assumed number.

    Args:
        metric: one of METRICS.
        arms: number of arms compared with the baseline.
        patients: number of patients in the planned evaluation; None ignores them (level E1).
        seed_sd: sample sd between seeds.
        expected, correlation, positives: as in `patient_variance`; without patients, `expected`
            only limits the possible gain.

    Raises:
        UserError: a number is impossible, or the sd of the metric between seeds is unknown.
    """
    if metric not in METRICS:
        raise UserError(f"--metric must be one of {', '.join(METRICS)}, got {metric}.")
    notes = []
    if seed_sd is None:
        if metric not in SEED_SD:
            raise UserError(f"The sd of {metric} between seeds is unknown. Give --seed-sd.")
        seed_sd = SEED_SD[metric]
        notes.append(
            f"assumed: sd between seeds {seed_sd:g}, from published runs; give --seed-sd or --run"
        )
    variance = 0.0
    if patients is None:
        notes.append("patients are ignored: for new patients (E2) larger gains are needed")
    else:
        base = EXPECTED.get(metric, 0.5) if expected is None else expected
        if expected is None:
            notes.append(f"assumed: a baseline of {base:g}; give --expected or --run")
        if correlation is None:
            notes.append(
                "assumed: the errors of two recipes over patients have a correlation of "
                f"{CORRELATION:g}; the result depends strongly on it: preferably give --run"
            )
        variance = patient_variance(
            metric,
            patients,
            expected=base,
            correlation=CORRELATION if correlation is None else correlation,
            positives=0.5 if positives is None else positives,
        )
        notes.append(f"sd over {patients} patients, arm minus baseline: {math.sqrt(variance):.4g}")
    given = StudyDesign(
        metric=metric,
        arms=arms,
        seed_sd=seed_sd,
        patient_variance=variance,
        patients=patients,
        expected=expected,
    )
    return given, tuple(notes)
