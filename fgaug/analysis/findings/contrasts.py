"""Contrasts: joint tests of weighted sums of arms, such as each arm against its twin.

Both adjusted tests by max-T and a joint F test, over seeds and patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from fgaug.stats import Arms
from fgaug.stats.arms import SMALL
from fgaug.stats.arrays import NAN, ROUNDING, Floats
from fgaug.stats.inference import quantile, two_sided
from fgaug.stats.max_t import JointT


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """K weighted sums of arms over seeds and patients (level E2); float [K]."""

    estimate: Floats
    se: Floats
    df: Floats
    statistic: Floats
    seed_part: Floats  # of the variance
    case_part: Floats
    p_raw: Floats  # two-sided, unadjusted
    p_value: Floats  # adjusted for all K by the largest |t|
    ci_low: Floats  # simultaneous
    ci_high: Floats
    reason: str | None


def together(arms: Arms, weights: Floats, *, level: float) -> Together:
    """Return the tests of several contrasts of arms, with jointly adjusted p values.

    Sigma = s2 W diag(1 / S) W' + W C W', with s2 the pooled seed variance and C the covariance of
    the arms over patients. p values use the largest |t| of the multivariate t with Sigma's
    correlation and the smallest Satterthwaite df, as in `stats.or_max_t`, where W is [-1, I].
    Hothorn, Bretz and Westfall 2008 (Biometrical Journal 50:346).

    Args:
        arms: all arms that have a weight or contribute to the variance of seeds.
        weights: float [K, A].
        level: level of the simultaneous intervals.
    """
    w = np.asarray(weights, np.float64)
    scale = float(np.abs(arms.mean).max())
    pooled = arms.pooled_seed_variance
    pooled = 0.0 if pooled <= (ROUNDING * scale) ** 2 else pooled
    seed = pooled * (w / arms.n_seeds) @ w.T
    case = positive(w @ arms.case @ w.T, float(np.abs(arms.case).max()))
    sigma = seed + case
    estimate = w @ arms.mean
    estimate = np.where(np.abs(estimate) <= ROUNDING * scale, 0.0, estimate)
    variance, case_part, seed_part = (np.diag(part).copy() for part in (sigma, case, seed))
    df = degrees(seed_part, case_part, arms)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(variance > 0, estimate / np.sqrt(variance), NAN)
    t = np.where((variance == 0) & (estimate == 0), 0.0, t)
    joint = JointT(sigma, float(df.min()))
    p_raw, critical = two_sided(t, df), joint.critical(1 - level)
    adjusted = joint.tails(np.abs(t))
    half = np.where(variance > 0, critical * np.sqrt(variance), 0 * variance)
    return Together(
        estimate=estimate,
        se=np.sqrt(variance),
        df=df,
        statistic=t,
        seed_part=seed_part,
        case_part=case_part,
        p_raw=p_raw,
        p_value=np.maximum(adjusted, p_raw),
        ci_low=estimate - half,
        ci_high=estimate + half,
        reason=arms.reason or (None if arms.seed_df else "every arm has one seed"),
    )


def alone(estimate: Floats, se: Floats, df: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the unadjusted interval of each estimate."""
    critical = np.array([quantile(0.5 + level / 2, float(d)) if d > 0 else NAN for d in df])
    half = np.where(se > 0, critical * se, 0 * se)
    return estimate - half, estimate + half


def positive(matrix: Floats, terms: float) -> Floats:
    """Return a covariance without negative eigenvalues and rounding errors."""
    if not np.isfinite(matrix).all():
        return np.full_like(matrix, NAN)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values[values <= SMALL * terms] = 0.0
    return np.asarray((vectors * values) @ vectors.T)


def degrees(seed_part: Floats, case_part: Floats, arms: Arms) -> Floats:
    """Return Satterthwaite's degrees of freedom of each variance, [K]."""
    spare = arms.n_patients - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        below = seed_part**2 / arms.seed_df + case_part**2 / spare
        df = (seed_part + case_part) ** 2 / below
    return np.where(seed_part + case_part == 0, arms.seed_df + float(spare), df)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wald:
    """Test of the hypothesis that several weighted sums of arms are all 0."""

    statistic: float  # F
    df: int
    df_error: float
    p: float
    reason: str | None


def wald(arms: Arms, weights: Floats, *, patients: bool) -> Wald:
    """Return the F test of W m = 0, with m the means of the arms.

    F = (W m)' V^-1 (W m) / q, V = s2 W diag(1 / S) W' + W C W'. If V comes from seeds only, F has
    exactly an F distribution on q and sum(S - 1) df (the variance is one number). If it comes from
    patients only, C is a whole estimated matrix and F (G - q) / (G - 1) has Hotelling's
    distribution, F on q and G - q df. In between the two are mixed by the patients' share pi of V:
    nu by Satterthwaite, d = pi (q - 1), and F (nu - d) / nu on q and nu - d df.

    Args:
        arms: the result of `arms_of`.
        weights: float [q, A], with independent rows.
        patients: whether patients are random as well (E2), or only seeds (E1).
    """
    w = np.asarray(weights, float)
    rank = len(w)
    seed = arms.pooled_seed_variance * (w / arms.n_seeds) @ w.T
    case = np.zeros_like(seed)
    if patients:
        case = positive(w @ arms.case @ w.T, float(np.abs(arms.case).max()))
    whole, found = seed + case, w @ arms.mean
    if not np.isfinite(whole).all():
        return Wald(statistic=NAN, df=rank, df_error=NAN, p=NAN, reason=_why(arms))
    scale = float(np.abs(arms.mean).max())
    if np.linalg.eigvalsh(whole).min() <= SMALL * scale**2:
        same = bool(np.abs(found).max() <= 1e-12 * scale)
        reason = None if same else "no variance between seeds or patients"
        p = 1.0 if same else NAN
        return Wald(statistic=0.0 if same else NAN, df=rank, df_error=NAN, p=p, reason=reason)
    inverse = np.linalg.inv(whole)
    share = float(np.clip(np.trace(inverse @ case) / rank, 0, 1))
    below = (1 - share) ** 2 / arms.seed_df + share**2 / (arms.n_patients - 1)
    nu = 1 / below
    left = nu - share * (rank - 1)
    if left <= 0:
        reason = f"{arms.n_patients} patients are too few for {rank} simultaneous comparisons"
        return Wald(statistic=NAN, df=rank, df_error=left, p=NAN, reason=reason)
    f = float(found @ inverse @ found) / rank * left / nu
    p = float(special.fdtrc(rank, left, f))
    return Wald(statistic=f, df=rank, df_error=float(left), p=p, reason=None)


def _why(arms: Arms) -> str:
    return arms.reason or ("every arm has one seed" if not arms.seed_df else "undefined")
