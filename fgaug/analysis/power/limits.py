"""Limits of a plan: what it cannot detect, and what a gain would require."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fgaug.grid.analysis_plan import seeds_of_baseline
from fgaug.stats import Plan, can_ever_be_significant, ceiling, power, seeds_for, smallest_gain

POWER = 0.8
MOST_PATIENTS = 10**7
CROWDED = 1.2  # warn if the number of arms raises the smallest detectable gain by this factor
TESTS = {
    "rank_holm": "rank or permutation tests over seeds with Holm",
    "sign_flip_holm": "sign-flip tests over common seeds with Holm",
    "sign_flip_max_t": "joint sign-flip tests over common seeds",
}


def warnings_of(
    plan: Plan, gains: Sequence[float], *, expected: float | None = None
) -> Iterable[str]:
    """Yield the problems of a plan, one sentence each.

    Args:
        plan: the comparison.
        gains: the gains to detect.
        expected: the baseline's metric if higher is better, which limits the possible gain.
    """
    least = smallest_gain(plan)
    if math.isnan(least):
        yield (
            "one run per arm and one of the baseline: no test of recipes can be significant, "
            "whatever the results. Give every arm 3 seeds or more"
        )
    elif plan.seeds == 1:
        yield (
            "one seed per arm: the variance between seeds is estimated from the baseline's "
            "runs, and a failed run loses its arm. Give 3 seeds or more"
        )
    yield from _out_of_reach(plan)
    if expected is not None and least > 1 - expected:
        yield (
            f"the smallest detectable gain, {least:.3f}, exceeds the possible gain over the "
            f"baseline, {1 - expected:.3f}: even a perfect arm would not be detected"
        )
    alone = smallest_gain(replace(plan, arms=1))
    if least > CROWDED * alone:
        yield (
            f"{plan.arms} arms cost power: the smallest detectable gain is {least:.4f}, against "
            f"{alone:.4f} for a single arm. Compare fewer arms, or screen and confirm in two "
            "stages"
        )
    for gain in gains:
        yield from _of_gain(plan, gain)


def _out_of_reach(plan: Plan) -> Iterable[str]:
    """Yield the tests over seeds that cannot be significant for any result of this plan."""
    over = f" over {plan.arms} arms" if plan.arms > 1 else ""
    for test, words in TESTS.items():
        if test == "sign_flip_max_t" and not over:
            continue  # one arm: the same as with Holm
        reach = can_ever_be_significant(
            test,
            seeds=plan.seeds,
            # a baseline with as many seeds as an arm grows with it
            baseline_seeds=None if plan.baseline_seeds == plan.seeds else plan.baseline_seeds,
            arms=plan.arms,
            alpha=plan.alpha,
        )
        if not reach.possible:
            yield (
                f"{words} cannot reach {plan.alpha:g}{over}, whatever the results: their "
                f"smallest possible p is {reach.smallest_p:.2g}, and they need "
                f"{reach.seeds_needed} seeds per arm (t and max-T, the tests of `report`, have "
                "no such limit)"
            )


def _of_gain(plan: Plan, gain: float) -> Iterable[str]:
    """Yield the requirements of a gain for which the plan has power below POWER."""
    if power(plan, gain) >= POWER:
        return
    needed = seeds_for(plan, gain, power=POWER) if plan.seed_sd else None
    if needed is not None:
        base = seeds_of_baseline(plan.arms, needed)
        yield f"a gain of {gain:g} needs {needed} seeds per arm and {base} for the baseline"
    elif ceiling(plan, gain) < POWER:
        patients = _patients_for(plan, gain)
        many = f"about {patients} patients" if patients else "far more patients"
        yield (
            f"the power for a gain of {gain:g} is at most {ceiling(plan, gain):.2f} with "
            f"{plan.patients} patients and any number of seeds; it needs {many} and enough seeds"
        )
    else:
        yield f"a gain of {gain:g} needs more than 1,000 seeds per arm"


def _patients_for(plan: Plan, gain: float) -> int | None:
    """Return the patients needed to detect a gain with enough seeds, None beyond MOST_PATIENTS."""
    assert plan.patients is not None  # else there is no ceiling
    of_one = plan.case_variance * plan.patients

    def reached(count: int) -> bool:
        return ceiling(replace(plan, case_variance=of_one / count, patients=count), gain) >= POWER

    low, high = plan.patients, MOST_PATIENTS
    if not reached(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
