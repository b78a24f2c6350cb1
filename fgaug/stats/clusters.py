"""Patients as clusters: vectors of influence summed by patient, whose products are covariances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fgaug.stats.arrays import NAN, Floats, Ints


def patient_sums(influence: Floats, strata: Ints, patients: Ints, count: int) -> Floats:
    """Return the influence summed over each patient's images of each stratum, [R, count, G].

    Args:
        influence: float [R, N].
        strata: int [N], 0..count - 1: the class of each image, or all 0.
        patients: int [N], 0..G - 1.
        count: number of strata.
    """
    n_patients = int(patients.max(initial=-1)) + 1
    code = strata * n_patients + patients
    order = np.argsort(code, kind="stable")
    present, starts = np.unique(code[order], return_index=True)
    sums = np.zeros((len(influence), count * n_patients))
    if present.size:
        sums[:, present] = np.add.reduceat(influence[:, order], starts, axis=1)
    return sums.reshape(len(influence), count, n_patients)


def clustered_factors(
    influence: Floats, strata: Ints, patients: Ints, count: int
) -> tuple[Floats, tuple[int, ...]]:
    """Return a vector for each run, [R, D], and the patients in each stratum.

    The product of two runs' vectors is the covariance of their estimates over patients,

        C_rs = sum_l I_l / (I_l - 1) sum_g U_rlg U_slg + G / (G - 1) sum_{l != m} U_rlg U_smg

    with U_rlg the influence of patient g's images of stratum l, I_l patients in stratum l, G in
    all: Obuchowski 1997 (Biometrics 53:567), equations for S10, S01 and S11, for the classes of an
    AUC; the linearised variance of a mean for one stratum. As I_l <= G the weights are
    G / (G - 1) everywhere plus something non-negative on the diagonal, so the vectors exist, no
    variance is negative, and averages over thousands of runs need no matrix of run pairs.
    All NaN if a stratum has fewer than two patients.

    Args:
        influence, strata, patients, count: as in `patient_sums`.
    """
    sums = patient_sums(influence, strata, patients, count)
    seen = np.zeros((count, sums.shape[2]), dtype=bool)
    seen[strata, patients] = True
    counts = tuple(int(number) for number in seen.sum(axis=1))
    if min(counts) < 2:
        return np.full((len(influence), 1), NAN), counts
    whole = sums.shape[2] / (sums.shape[2] - 1)
    parts = [np.sqrt(whole) * sums.sum(axis=1)]
    for index, number in enumerate(counts):
        if number < sums.shape[2]:
            own = np.sqrt(number / (number - 1) - whole)
            parts.append(own * sums[:, index][:, seen[index]])
    return np.concatenate(parts, axis=1), counts


def why_undefined(counts: Sequence[int], estimate: Floats) -> str | None:
    """Return why covariances are NaN, or None.

    Args:
        counts: patients in each stratum.
        estimate: float [R], NaN for runs with unusable scores.
    """
    if min(counts) == 0:
        return f"no image of class {list(counts).index(0)}" if len(counts) > 1 else "no image"
    if min(counts) < 2:
        where = f" of class {list(counts).index(min(counts))}" if len(counts) > 1 else ""
        return f"only one patient has images{where}"
    if bad := int(np.sum(~np.isfinite(estimate))):
        return f"{bad} of {len(estimate)} runs have scores that are not finite"
    return None
