"""What a comparison could still show: with more seeds, or with more patients only.

comparisons -> [outlook] -> verdicts
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import pandas as pd

from fgaug.analysis_plan import AnalysisPlan, seeds_of_baseline
from fgaug.stats import Plan, smallest_gain
from fgaug.stats.arrays import NAN

POWER = 0.8
STEPS = (3, 4, 5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160)  # seeds an arm that are tried
ENDLESS = 10**6  # seeds that leave the patients alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The gains that the arms of a family can show, in units of the metric, with 80 % power."""

    now: float
    by_seeds: tuple[tuple[int, float], ...]  # seeds an arm, baseline sqrt(K) times as many
    floor: float  # with any number of seeds on these patients

    def seeds_for(self, gain: float) -> int | None:
        """Return the seeds an arm that show this gain; None where none of those tried do."""
        return next((seeds for seeds, least in self.by_seeds if least <= gain), None)


def outlook_of(rows: pd.DataFrame, plan: AnalysisPlan, families: int) -> Outlook:
    """Return the outlook of a family by its primary comparisons.

    The variance over patients is the median of the arms', that of seeds the pooled one.

    Args:
        rows: of one family and what it is compared with; those with a result count.
        plan: its alpha is shared by the families.
        families: how many.
    """
    known = rows[rows["se"].gt(0)]
    if known.empty:
        return Outlook(now=NAN, by_seeds=(), floor=NAN)
    middle = known.iloc[(known["n_seeds"] - known["n_seeds"].median()).abs().argmin()]
    runs = 1 / middle["n_seeds"] + 1 / middle["n_seeds_against"]
    design = Plan(
        arms=len(rows),
        seeds=int(middle["n_seeds"]),
        baseline_seeds=int(middle["n_seeds_against"]),
        seed_sd=_rounded(math.sqrt(max(0.0, middle["seed_part"]) / runs)),
        case_variance=_rounded(float(known["case_part"].median())),
        patients=int(middle["n_patients"]),
        alpha=plan.alpha / families,
    )
    tried = tuple((seeds, _gain(_with(design, seeds))) for seeds in STEPS)
    return Outlook(now=_gain(design), by_seeds=tried, floor=_gain(_with(design, ENDLESS)))


def _with(design: Plan, seeds: int) -> Plan:
    return replace(design, seeds=seeds, baseline_seeds=seeds_of_baseline(design.arms, seeds))


@lru_cache(maxsize=4096)
def _gain(design: Plan) -> float:
    return smallest_gain(design, power=POWER)


def _rounded(value: float) -> float:
    """Return a number of four digits: families alike are then planned once."""
    return float(f"{value:.4g}")
