"""Several weighted sums of arms at once: the F test over seeds and patients.  [analysis]"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from fgaug.analysis.contrasts import positive
from fgaug.stats import Arms
from fgaug.stats.arms import SMALL
from fgaug.stats.arrays import NAN, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Wald:
    """The test that several weighted sums of arms are all 0."""

    statistic: float  # F
    df: int
    df_error: float
    p: float
    reason: str | None


def wald(arms: Arms, weights: Floats, *, patients: bool) -> Wald:
    """Return the F test that all of W m are 0, m the arms' means.

    F = (W m)' V^-1 (W m) / q, V = s2 W diag(1 / S) W' + W C W'. Where V is of seeds alone it has
    exactly F's law on q and sum(S - 1) (the variance is one number); where it is of patients
    alone, Hotelling's, F (G - q) / (G - 1) on q and G - q, as C is a whole estimated matrix. In
    between the two are mixed by the patients' share pi of V: nu by Satterthwaite, d = pi (q - 1),
    F (nu - d) / nu on q and nu - d.

    Args:
        arms: of `arms_of`.
        weights: float [q, A], rows independent.
        patients: whether patients are random too (E2), else seeds alone (E1).
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
        reason = None if same else "no spread between seeds or patients"
        p = 1.0 if same else NAN
        return Wald(statistic=0.0 if same else NAN, df=rank, df_error=NAN, p=p, reason=reason)
    inverse = np.linalg.inv(whole)
    share = float(np.clip(np.trace(inverse @ case) / rank, 0, 1))
    below = (1 - share) ** 2 / arms.seed_df + share**2 / (arms.n_patients - 1)
    nu = 1 / below
    left = nu - share * (rank - 1)
    if left <= 0:
        reason = f"{arms.n_patients} patients are too few for {rank} comparisons at once"
        return Wald(statistic=NAN, df=rank, df_error=left, p=NAN, reason=reason)
    f = float(found @ inverse @ found) / rank * left / nu
    p = float(special.fdtrc(rank, left, f))
    return Wald(statistic=f, df=rank, df_error=float(left), p=p, reason=None)


def _why(arms: Arms) -> str:
    return arms.reason or ("every arm has one seed" if not arms.seed_df else "undefined")
