"""Adjusting p values for multiple tests: Bonferroni, Holm, Hochberg, Benjamini-Hochberg."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import Floats, sample

METHODS = ("bonferroni", "holm", "hochberg", "bh")


def adjust(p_values: ArrayLike, method: str = "holm") -> Floats:
    """Return adjusted p values in the given order, float [K]; NaN stays NaN and is not counted.

    A pruned arm belongs to the family: give it p = 1 rather than NaN.

    Args:
        p_values: float [K] within 0..1.
        method: `bonferroni`; `holm` (1979, Scand. J. Stat. 6:65), step-down; `hochberg` (1988,
            Biometrika 75:800), step-up, for independent or positively dependent tests; `bh`
            (Benjamini and Hochberg 1995, JRSS B 57:289), the false discovery rate.

    Raises:
        UserError: the method is unknown, or a p value is outside 0..1.
    """
    if method not in METHODS:
        raise UserError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
    p = sample(p_values, "p_values")
    known = ~np.isnan(p)
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise UserError(f"p values must lie within 0..1, got {p[known].min()}..{p[known].max()}.")
    adjusted = p.copy()
    order = np.argsort(p[known], kind="stable")
    ranked = p[known][order]
    count, rank = ranked.size, np.arange(ranked.size)
    if method == "bonferroni":
        steps = ranked * count
    elif method == "holm":
        steps = np.maximum.accumulate(ranked * (count - rank))
    else:
        factor = count - rank if method == "hochberg" else count / (rank + 1)
        steps = np.minimum.accumulate((ranked * factor)[::-1])[::-1]
    back = np.empty(count)
    back[order] = np.minimum(steps, 1)
    adjusted[known] = back
    return adjusted
