"""Two arms over seeds and patients: is this recipe better on new patients? (level E2)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgaug.errors import UserError
from fgaug.stats.arms import arms_of, not_negative, satterthwaite
from fgaug.stats.arrays import NAN, ROUNDING
from fgaug.stats.inference import TTest, t_test
from fgaug.stats.influence import Influence


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """Test of arm A against arm B, each with its own seeds."""

    test: TTest
    seed_part: float  # part of the variance that shrinks with more seeds
    case_part: float  # part that shrinks only with more patients


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorial:
    """Test of arm A against arm B over common seeds."""

    test: TTest  # statistic: t, whose square is `f`; df: Hillis's denominator
    ms_arm: float  # mean square of the arms
    ms_arm_seed: float  # mean square of arm by seed
    f: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBlocks:
    """Covariances over patients in the notation of Obuchowski and Rockette."""

    error_variance: float  # mean variance of a run
    cov1: float  # same seed, other arm; NaN without common seeds
    cov2: float  # other seed, same arm: mean of the two below
    cov2_a: float
    cov2_b: float
    cov3: float  # other seed, other arm; NaN without common seeds
    cov3_all_pairs: float  # other arm, any seeds


def nested(a: Influence, b: Influence, *, level: float = 0.95) -> Nested:
    """Return the test of two arms with independent seeds and separate seed variances.

    V = s2_A / S_A + s2_B / S_B + max(0, c_AA + c_BB - 2 c_AB), c the mean covariance over patients
    of different runs; df = V^2 / [(s2_A / S_A)^2 / (S_A - 1) + (s2_B / S_B)^2 / (S_B - 1)]
    (Obuchowski and Rockette 1995, Commun Stat Simul 24:285; degrees of freedom as Hillis 2007).

    Args:
        a: influence of arm A's runs; b: of arm B's, on the same images and patients.
        level: confidence level of the interval.

    Identical runs give p = 1. NaN with a single seed on one side, which has neither a pair of runs
    for the covariance over patients nor a seed variance; `contrast` pools the variance instead.

    Raises:
        UserError: the images differ.
    """
    arms = arms_of(_together(a, b), np.repeat([0, 1], [len(a.estimate), len(b.estimate)]))
    parts = arms.seed_variance / arms.n_seeds
    case = arms.case
    case_part = not_negative(
        float(case[0, 0] + case[1, 1] - 2 * case[0, 1]), float(case[0, 0] + case[1, 1])
    )
    if (arms.n_seeds < 2).any():
        case_part = NAN
    scale = float(np.abs(arms.mean).max())
    parts = np.where(parts <= (ROUNDING * scale) ** 2, 0.0, parts)
    seed_part = float(parts.sum())
    df = satterthwaite([(float(v), int(n) - 1) for v, n in zip(parts, arms.n_seeds, strict=True)])
    total = seed_part + case_part
    if seed_part > 0:  # the part from patients is treated as known
        df *= (total / seed_part) ** 2
    elif seed_part == 0 and case_part > 0:
        df = float("inf")
    elif np.isnan(seed_part):
        df = NAN
    reason = arms.reason or (None if (arms.n_seeds > 1).all() else "an arm has one seed")
    test = t_test(
        float(arms.mean[0] - arms.mean[1]), total**0.5, df, level=level, scale=scale, reason=reason
    )
    return Nested(test=test, seed_part=seed_part, case_part=case_part)


def factorial(a: Influence, b: Influence, *, level: float = 0.95) -> Factorial:
    """Return the test of two arms over common seeds: run i of A and run i of B share a seed.

    F = MS(T) / [MS(TR) + S max(cov2 - cov3, 0)] on 1 and ddf = [..]^2 / [MS(TR)^2 / (S - 1)]
    degrees of freedom (Hillis 2007, Statistics in Medicine 26:596; as R's MRMCaov).

    Args:
        a: influence of arm A's runs, in the order of the seeds; b: of arm B's.
        level: confidence level of the interval.

    NaN for one seed, or for arms with different numbers of seeds.

    Raises:
        UserError: the images differ.
    """
    blocks = error_blocks(a, b)
    x = np.full((2, 1), NAN)
    reason = a.reason or b.reason
    if len(a.estimate) == len(b.estimate):
        x = np.stack([a.estimate, b.estimate])
    else:
        reason = reason or "the arms have different numbers of seeds"
    seeds = x.shape[1]
    if seeds < 2:
        reason = reason or "a single seed has no variance"
    differences = x[0] - x[1]
    d = float(differences.mean())
    ms_arm = seeds * d * d / 2
    ms_arm_seed = float(((differences - d) ** 2).sum() / (2 * (seeds - 1))) if seeds > 1 else NAN
    extra = seeds * not_negative(blocks.cov2 - blocks.cov3, abs(blocks.cov2) + abs(blocks.cov3))
    below = ms_arm_seed + extra
    df = float("nan")
    if below >= 0:
        df = below**2 / (ms_arm_seed**2 / (seeds - 1)) if ms_arm_seed else float("inf")
    scale = float(np.abs(x).max())
    test = t_test(d, (2 / seeds * below) ** 0.5, df, level=level, scale=scale, reason=reason)
    return Factorial(test=test, ms_arm=ms_arm, ms_arm_seed=ms_arm_seed, f=test.statistic**2)


def error_blocks(a: Influence, b: Influence) -> ErrorBlocks:
    """Return the covariances over patients of the runs of two arms.

    Args:
        a: influence of arm A's runs; b: of arm B's. With equal numbers, runs i share a seed.

    Raises:
        UserError: the images differ.
    """
    both = _together(a, b)
    arms = arms_of(both, np.repeat([0, 1], [len(a.estimate), len(b.estimate)]))
    own = [float(arms.case[i, i]) if arms.n_seeds[i] > 1 else NAN for i in (0, 1)]
    cov1 = cov3 = NAN
    seeds = len(a.estimate)
    if seeds == len(b.estimate):
        cov1 = float((a.factors * b.factors).sum(axis=1).mean())
        if seeds > 1:
            cov3 = (float(arms.case[0, 1]) * seeds - cov1) / (seeds - 1)
    return ErrorBlocks(
        error_variance=float((both.factors**2).sum(axis=1).mean()),
        cov1=cov1,
        cov2=(own[0] + own[1]) / 2,
        cov2_a=own[0],
        cov2_b=own[1],
        cov3=cov3,
        cov3_all_pairs=float(arms.case[0, 1]),
    )


def _together(a: Influence, b: Influence) -> Influence:
    """Return the runs of A, then those of B."""
    if (a.n_images, a.n_patients, a.metric) != (b.n_images, b.n_patients, b.metric):
        raise UserError(
            f"Both arms need the same metric on the same images, got {a.metric} on {a.n_images} "
            f"and {b.metric} on {b.n_images}."
        )
    return Influence(
        metric=a.metric,
        estimate=np.concatenate([a.estimate, b.estimate]),
        factors=np.concatenate([a.factors, b.factors]),
        n_images=a.n_images,
        n_patients=a.n_patients,
        reason=a.reason or b.reason,
    )
