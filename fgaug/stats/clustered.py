"""Two trained models with several images per patient: mean differences, clustered McNemar.

Level E0, as in `paired`: these two networks on new patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, missing, patient_codes, sample
from fgaug.stats.inference import TTest, t_test
from fgaug.stats.paired import paired_answers


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanDifference:
    """A difference of means over images, with standard errors by patient and by image."""

    test: TTest  # t with G - 1 degrees of freedom
    se_naive: float  # as if every image were a patient
    n_images: int
    n_patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The clustered McNemar score test."""

    z: float
    p_value: float  # two-sided, normal
    reason: str | None


def mean_difference(
    values_a: ArrayLike,
    values_b: ArrayLike,
    group: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> MeanDifference:
    """Return the difference of two means over the same images, tested over patients.

    se^2 = G / (G - 1) sum_g (D_g - d k_g)^2 / N^2 with D_g the summed difference and k_g the
    images of patient g: the linearised (ratio) variance of cluster sampling (Cochran 1977,
    equation 9.10; Liang and Zeger 1986 for this model). t with G - 1 degrees of freedom.

    Args:
        values_a: float [N]: correctness (1.0, 0.0), squared error, log loss ... of each image.
        values_b: float [N], as `values_a`.
        group: patient of each image; None if every image is its own patient.
        level: confidence level of the interval.

    NaN with fewer than two patients or non-finite values; equal values give p = 1.

    Raises:
        UserError: the arrays have different lengths.
    """
    a, b = sample(values_a, "values_a"), sample(values_b, "values_b")
    if a.size != b.size:
        raise UserError(f"Both models need the same images, got {a.size} and {b.size} values.")
    patients = patient_codes(group, a.size)
    n, count = a.size, int(patients.max(initial=-1)) + 1
    reason = missing(a=a, b=b)
    d = a - b
    mean = float(d.mean()) if reason is None else NAN
    se = naive = NAN
    if reason is None and count > 1:
        residuals = np.bincount(patients, weights=d - mean)
        se = float(np.sqrt(count / (count - 1) * (residuals**2).sum()) / n)
        naive = float(d.std(ddof=1) / np.sqrt(n))
    elif reason is None:
        reason = "a single patient gives no standard error"
    scale = float(max(np.abs(a).max(), np.abs(b).max())) if n and reason is None else 0.0
    return MeanDifference(
        test=t_test(mean, se, count - 1, level=level, scale=scale, reason=reason),
        se_naive=naive,
        n_images=n,
        n_patients=count,
    )


def net_right(
    right_a: ArrayLike, right_b: ArrayLike, group: ArrayLike | None
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return per patient the images that only A has right minus those that only B has, int [G].

    Args:
        right_a: bool [N]; right_b: bool [N].
        group: patient of each image. The result is in order of first appearance.

    Raises:
        UserError: the arrays have different lengths, or an image has no answer (NaN).
    """
    a, b = paired_answers(right_a, right_b)
    return np.rint(np.bincount(patient_codes(group, a.size), weights=a - b)).astype(np.int64)


def clustered_mcnemar(net: ArrayLike) -> Score:
    """Return the score test of net right answers per patient: z = sum D_g / sqrt(sum D_g^2).

    The unweighted clustered McNemar test of Durkalski et al. 2003 (Statistics in Medicine
    22:2417); with one image per patient it is the uncorrected McNemar test. Below 50 patients
    prefer `sign_flip(net)`, which is exact. Without discordant images z is 0 and p is 1.

    Args:
        net: D_g of each patient, [G], from `net_right`.
    """
    d = sample(net, "net")
    if reason := missing(net=d):
        return Score(z=NAN, p_value=NAN, reason=reason)
    squares = float((d**2).sum())
    z = float(d.sum()) / squares**0.5 if squares else 0.0
    return Score(z=z, p_value=float(2 * special.ndtr(-abs(z))), reason=None)
