"""McNemar's test from published accuracies: what the paired answers may have been.

Two accuracies on the same images fix how many more one has right, not how often they disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgaug.analysis.compare.two_models import ALPHA, SINGLE_RUNS
from fgaug.errors import UserError
from fgaug.stats import mcnemar
from fgaug.stats.arrays import Ints
from fgaug.stats.paired import McNemar


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """The bounds of McNemar's test over every table with these margins; A minus B."""

    level: str  # E0
    claim: str
    fewest: McNemar  # the two disagree as seldom as they can: the smallest p
    most: McNemar  # as often as they can: the largest p
    tables: tuple[Ints, Ints]  # of `fewest` and `most`, [[both, only A], [only B, neither]]
    possible: int  # tables in all
    significant: int  # of them, whose exact p is at most ALPHA


def margin_bounds(right_a: int, right_b: int, images: int) -> Margins:
    """Return the bounds of McNemar's p when only the two numbers of right answers are known.

    With d = right_a - right_b fixed, c images that B alone has right and c + d that A alone has,
    c runs from max(0, -d) to min(images - right_a, right_b). Both p rise with c: two more
    discordant images move the random walk of their signs further than d only if it already
    was within one step of it.

    Raises:
        UserError: for counts that no two models can have.
    """
    if images < 1 or not (0 <= right_a <= images and 0 <= right_b <= images):
        raise UserError(
            f"The right answers must lie between 0 and the images, got {right_a} and {right_b} "
            f"of {images}. Give, for example, 270/300,246/300."
        )
    difference = right_a - right_b
    low, high = max(0, -difference), min(images - right_a, right_b)

    def table(only_b: int) -> Ints:
        only_a = only_b + difference
        both = right_a - only_a
        return np.array([[both, only_a], [only_b, images - both - only_a - only_b]], np.int64)

    # the last c whose p is at most ALPHA, by bisection
    start, end = low - 1, high
    while start < end:
        middle = (start + end + 1) // 2
        if mcnemar(table(middle)).p_exact <= ALPHA:
            start = middle
        else:
            end = middle - 1
    return Margins(
        level="E0",
        claim=SINGLE_RUNS,
        fewest=mcnemar(table(low)),
        most=mcnemar(table(high)),
        tables=(table(low), table(high)),
        possible=high - low + 1,
        significant=start - low + 1,
    )
