"""McNemar's test from published accuracies: bounds over all possible paired answers.

Two accuracies on the same images determine their difference, but not how often they disagree.
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
    """Bounds of McNemar's test over all tables with given margins; differences are A minus B."""

    level: str  # E0
    claim: str
    fewest: McNemar  # as few disagreements as possible: the smallest p
    most: McNemar  # as many as possible: the largest p
    tables: tuple[Ints, Ints]  # of `fewest` and `most`, [[both, only A], [only B, neither]]
    possible: int  # number of tables
    significant: int  # tables whose exact p is at most ALPHA


def margin_bounds(right_a: int, right_b: int, images: int) -> Margins:
    """Return the bounds of McNemar's p given only the two numbers of correct answers.

    Let d = right_a - right_b, and let only B be right on c images, so only A on c + d. Then c
    runs from max(0, -d) to min(images - right_a, right_b). Both p rise with c: two more
    discordant images move the random walk of their signs further than d only if it already
    was within one step of it.

    Raises:
        UserError: the counts are impossible.
    """
    if images < 1 or not (0 <= right_a <= images and 0 <= right_b <= images):
        raise UserError(
            "The numbers of correct answers must lie between 0 and the number of images, got "
            f"{right_a} and {right_b} of {images}. Give, for example, 270/300,246/300."
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
