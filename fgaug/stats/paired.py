"""Two trained models on the same images, right or wrong: McNemar's tests and intervals.

Level E0: two single runs, which say nothing about their recipes; that needs several seeds. The
exact interval of a paired difference of proportions is that of Fay and Lumbard 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints, sample
from fgaug.stats.inference import check_level, quantile

NODES = 200  # of the quadrature
FAR = 1e-14  # tail probability outside the quadrature


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Two accuracies on the same n images and the tests of their difference (A minus B)."""

    statistic: float  # exact: the smaller discordant count; else chi-square with correction
    p_value: float  # exact, or that of the corrected chi-square
    n: int
    discordant: int  # images that only one model has right
    accuracy_a: float
    accuracy_b: float
    difference: float
    p_exact: float  # binomial; conservative
    p_mid: float  # mid-p: the recommended one (Fagerland 2013)
    chi2_uncorrected: float
    p_uncorrected: float
    chi2_yates: float
    p_yates: float
    wald: tuple[float, float]  # may exceed -1..1 for a tiny table
    bonett_price: tuple[float, float]
    fay_lumbard: tuple[float, float]  # exact; excludes 0 if p_exact < 1 - level
    reason: str | None  # why something is NaN


def mcnemar(table: ArrayLike, exact: bool = True, *, level: float = 0.95) -> McNemar:
    """Return McNemar's tests of two models on the same images, one image per patient.

    With b images only A has right and c only B, under equal accuracy b is Binomial(b + c, 1/2):
    p_exact = min(1, 2 P(X <= min(b, c))), p_mid = 2 P(X <= min) - P(X = min) (Fagerland, Lydersen
    and Laake 2013, BMC Med Res Methodol 13:91); mid-p is 1 at b = c, both are 1 at b + c = 0. The
    chi-square is (b - c)^2 / (b + c), corrected (|b - c| - 1)^2 / (b + c) but 0 at b = c, as in R;
    undefined at b + c = 0. Intervals: Wald; Bonett and Price 2012 (J Educ Behav Stat 37:479),
    which is Wald's with one image added to b and to c; Fay and Lumbard 2021 (see `fay_lumbard`).

    Args:
        table: [[both right, only A right], [only B right, both wrong]], counts of images.
        exact: whether `statistic` and `p_value` are those of the exact or the chi-square test.
        level: confidence level of the intervals.

    Raises:
        UserError: the shape is wrong, or a count is negative or not whole.
    """
    check_level(level)
    counts = _counts(table)
    (both, b), (c, _) = counts.tolist()
    n, m = int(counts.sum()), b + c
    if n == 0:
        return _undefined("the table holds no images")
    p_exact, p_mid = _binomial(b, c)
    chi2, yates = ((b - c) ** 2 / m, max(0, abs(b - c) - 1) ** 2 / m) if m else (NAN, NAN)
    p_chi2, p_yates = (float(special.chdtrc(1, value)) for value in (chi2, yates))
    return McNemar(
        statistic=float(min(b, c)) if exact else yates,
        p_value=p_exact if exact else p_yates,
        n=n,
        discordant=m,
        accuracy_a=(both + b) / n,
        accuracy_b=(both + c) / n,
        difference=(b - c) / n,
        p_exact=p_exact,
        p_mid=p_mid,
        chi2_uncorrected=chi2,
        p_uncorrected=p_chi2,
        chi2_yates=yates,
        p_yates=p_yates,
        wald=_wald(b / n, c / n, n, level),
        bonett_price=_wald((b + 1) / (n + 2), (c + 1) / (n + 2), n + 2, level),
        fay_lumbard=fay_lumbard(b, c, n, level=level),
        reason=None if m else "no discordant images: the chi-square is undefined",
    )


def agreement(right_a: ArrayLike, right_b: ArrayLike) -> Ints:
    """Return the table that `mcnemar` takes, int [2, 2], from right or wrong answers.

    Args:
        right_a: bool [N] (or 1.0 and 0.0), whether A has the image right; right_b: the same for B.

    Raises:
        UserError: the arrays have different lengths, or an image has no answer (NaN).
    """
    a, b = (answers.astype(bool) for answers in paired_answers(right_a, right_b))
    return np.array([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]], np.int64)


def paired_answers(right_a: ArrayLike, right_b: ArrayLike) -> tuple[Floats, Floats]:
    """Return both models' answers, 1.0 right and 0.0 wrong, [N]; arguments as in `agreement`.

    Raises:
        UserError: the arrays have different lengths, or an image has no answer (NaN).
    """
    a, b = sample(right_a, "right_a"), sample(right_b, "right_b")
    if a.size != b.size:
        raise UserError(f"Both models need the same images, got {a.size} and {b.size} answers.")
    if unanswered := int((np.isnan(a) | np.isnan(b)).sum()):
        raise UserError(
            f"Both models need an answer for every image, got none (NaN) for {unanswered} of "
            f"{a.size}. Predict these again, or leave them out on both sides."
        )
    return a, b


def called_right(y_true: ArrayLike, probability: ArrayLike, threshold: float = 0.5) -> Floats:
    """Return 1.0 for a right and 0.0 for a wrong prediction, which is 1 from `threshold` up.

    Args:
        y_true: int [N], 0 or 1.
        probability: of label 1, float [N] or [R, N]. NaN stays NaN.
    """
    p = np.asarray(probability, dtype=np.float64)
    right = (p >= threshold) == (np.asarray(y_true) == 1)
    return np.where(np.isnan(p), NAN, right.astype(np.float64))


def _counts(table: ArrayLike) -> Ints:
    values = np.asarray(table, dtype=np.float64)
    if values.shape != (2, 2) or not ((values >= 0) & (values == np.floor(values))).all():
        raise UserError(
            f"`table` must be [[both right, only A], [only B, both wrong]] in whole images, got "
            f"{np.asarray(table).tolist()}."
        )
    return values.astype(np.int64)


def _binomial(b: int, c: int) -> tuple[float, float]:
    """Return the exact and the mid p."""
    m, least = b + c, min(b, c)
    if b == c:
        return 1.0, 1.0
    cdf = float(special.bdtr(least, m, 0.5))
    ways = -special.betaln(least + 1, m - least + 1) - np.log(m + 1)  # log of m over least
    return min(1.0, 2 * cdf), 2 * cdf - float(np.exp(ways - m * np.log(2)))


def _wald(share_b: float, share_c: float, n: int, level: float) -> tuple[float, float]:
    d = share_b - share_c
    # rounding can leave a tiny negative number where all images are discordant one way
    se = (max(0.0, share_b + share_c - d * d) / n) ** 0.5
    half = quantile(0.5 + level / 2, np.inf) * se
    return d - half, d + half


def _undefined(reason: str) -> McNemar:
    pair = (NAN, NAN)
    return McNemar(
        statistic=NAN,
        p_value=NAN,
        n=0,
        discordant=0,
        accuracy_a=NAN,
        accuracy_b=NAN,
        difference=NAN,
        p_exact=NAN,
        p_mid=NAN,
        chi2_uncorrected=NAN,
        p_uncorrected=NAN,
        chi2_yates=NAN,
        p_yates=NAN,
        wald=pair,
        bonett_price=pair,
        fay_lumbard=pair,
        reason=reason,
    )


def fay_lumbard(b: int, c: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of (b - c) / n that agrees with the exact McNemar p.

    The difference is share * (2 favour - 1), where share is the proportion of discordant images
    and favour the proportion of these that only A has right. Their Clopper-Pearson limits come
    from beta distributions: for m = b + c out of n, Beta(m, n - m + 1) below and Beta(m + 1, n -
    m) above; for b out of m, Beta(b, c + 1) and Beta(b + 1, c). A limit of the product melds them:
    the lower one is the alpha / 2 quantile with the lower favour and the share that makes the
    product smaller. Fay and Lumbard 2021 (Statistics in Medicine 40:1147); program exact2x2,
    mcnemarExactDP.

    Args:
        b: images that only A has right; c: that only B has right.
        n: number of all images, at least 1.
        level: confidence level of the interval.
    """
    alpha = (1 - level) / 2
    return _lower(b, c, n, alpha), -_lower(c, b, n, alpha)


def _lower(b: int, c: int, n: int, alpha: float) -> float:
    """Return the alpha quantile of share * (2 favour - 1) for the lower limit."""
    m = b + c
    if b == 0:  # favour is 0: the product is minus the larger share
        return -1.0 if m == n else -float(special.betaincinv(m + 1, n - m, 1 - alpha))
    law = (b, c + 1)  # whole numbers from 1 up: the density is a polynomial
    low, high = special.betaincinv(*law, FAR), special.betainccinv(*law, FAR)
    x, weight = np.polynomial.legendre.leggauss(NODES)

    def mean(start: float, end: float, limit: float, above: bool) -> float:
        """Return the integral of the share's probability over favour from start to end."""
        start, end = max(start, low), min(end, high)
        if start >= end:
            return 0.0
        favour = start + (end - start) * (x + 1) / 2
        logs = special.xlogy(b - 1, favour) + special.xlog1py(c, -favour) - special.betaln(*law)
        share = np.clip(limit / (2 * favour - 1), 0, 1)
        if above:
            chance = _share_above(share, m + 1, n - m)
        else:
            chance = special.betainc(m, n - m + 1, share)
        return float((weight * np.exp(logs) * chance).sum() * (end - start) / 2)

    def cdf(limit: float) -> float:
        kink = (1 + limit) / 2  # beyond this favour even a share of 1 is too small
        if limit < 0:  # the larger share makes a negative product smaller
            return mean(0, kink, limit, above=True)
        return float(special.betainc(*law, kink)) + mean(kink, 1, limit, above=False)

    return float(optimize.brentq(lambda limit: cdf(limit) - alpha, -1, 1, xtol=1e-10))


def _share_above(share: Floats, a: int, b: int) -> Floats:
    """Return P(X >= share) of Beta(a, b); b = 0 is the point 1."""
    return np.asarray(special.betaincc(a, b, share)) if b else np.ones_like(share)
