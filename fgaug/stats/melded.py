"""The exact interval of a paired difference of proportions: Fay and Lumbard 2021.  [stats]"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from fgaug.stats.arrays import Floats

NODES = 200  # of the quadrature
FAR = 1e-14  # tails that it leaves out


def fay_lumbard(b: int, c: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of (b - c) / n that agrees with the exact McNemar p.

    The difference is share * (2 favour - 1), share the part of discordant images and favour the
    part of them that A alone has right. Their Clopper-Pearson limits come from beta
    distributions: of m = b + c among n, Beta(m, n - m + 1) below and Beta(m + 1, n - m) above; of
    b among m, Beta(b, c + 1) and Beta(b + 1, c). A limit of the product melds them: the lower one
    is the alpha / 2 quantile with the lower favour, and the share that makes the product smaller.
    Fay and Lumbard 2021 (Statistics in Medicine 40:1147); program exact2x2, mcnemarExactDP.

    Args:
        b: images that A alone has right; c: that B alone has right.
        n: images in all, at least 1.
        level: of the interval.
    """
    alpha = (1 - level) / 2
    return _lower(b, c, n, alpha), -_lower(c, b, n, alpha)


def _lower(b: int, c: int, n: int, alpha: float) -> float:
    """Return the alpha quantile of share * (2 favour - 1) for the lower limit."""
    m = b + c
    if b == 0:  # favour is 0: the product is minus the larger share
        return -1.0 if m == n else -float(special.betaincinv(m + 1, n - m, 1 - alpha))
    law = (b, c + 1)  # whole numbers from 1 on: the density is a polynomial
    low, high = special.betaincinv(*law, FAR), special.betainccinv(*law, FAR)
    x, weight = np.polynomial.legendre.leggauss(NODES)

    def mean(start: float, end: float, limit: float, above: bool) -> float:
        """Return the integral over favour from start to end of the share's chance."""
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
        kink = (1 + limit) / 2  # beyond this favour even a share of 1 is too little
        if limit < 0:  # the larger share makes a negative product smaller
            return mean(0, kink, limit, above=True)
        return float(special.betainc(*law, kink)) + mean(kink, 1, limit, above=False)

    return float(optimize.brentq(lambda limit: cdf(limit) - alpha, -1, 1, xtol=1e-10))


def _share_above(share: Floats, a: int, b: int) -> Floats:
    """Return P(X >= share) of Beta(a, b); b = 0 is the point 1."""
    return np.asarray(special.betaincc(a, b, share)) if b else np.ones_like(share)
