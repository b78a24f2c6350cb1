"""What a plan cannot reach whatever happens, and what a gain would need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fgaug.grid.analysis_plan import seeds_of_baseline
from fgaug.stats import Plan, can_ever_be_significant, ceiling, power, seeds_for, smallest_gain

POWER = 0.8
MOST_PATIENTS = 10**7
CROWDED = 1.2  # arms cost this much of the smallest gain of one arm alone: worth a word
TESTS = {
    "rank_holm": "rank or permutation tests of seeds, by Holm,",
    "sign_flip_holm": "sign flips of common seeds, by Holm,",
    "sign_flip_max_t": "sign flips of common seeds, joint,",
}


def warnings_of(
    plan: Plan, gains: Sequence[float], *, expected: float | None = None
) -> Iterable[str]:
    """Yield what is wrong with a plan, a sentence each.

    Args:
        plan: the comparison.
        gains: that somebody hopes for.
        expected: the baseline's metric where larger is better, for the room above it.
    """
    least = smallest_gain(plan)
    if math.isnan(least):
        yield (
            "one run an arm and one of the baseline: no test of recipes can be significant, "
            "whatever happens. Give every arm 3 seeds or more"
        )
    elif plan.seeds == 1:
        yield (
            "one seed an arm: its spread is taken from the baseline's runs, and a failed run "
            "loses the arm. Give 3 seeds or more"
        )
    yield from _out_of_reach(plan)
    if expected is not None and least > 1 - expected:
        yield (
            f"the smallest visible gain, {least:.3f}, is more than the room above the baseline, "
            f"{1 - expected:.3f}: not even a perfect arm would be seen"
        )
    alone = smallest_gain(replace(plan, arms=1))
    if least > CROWDED * alone:
        yield (
            f"{plan.arms} arms cost power: the smallest visible gain is {least:.4f} where one arm "
            f"alone would have {alone:.4f}. Compare fewer, or screen and confirm in two stages"
        )
    for gain in gains:
        yield from _of_gain(plan, gain)


def _out_of_reach(plan: Plan) -> Iterable[str]:
    """Yield the tests of seeds alone that no outcome of this plan makes significant."""
    over = f" over {plan.arms} arms" if plan.arms > 1 else ""
    for test, words in TESTS.items():
        if test == "sign_flip_max_t" and not over:
            continue  # one arm: the same as with Holm
        reach = can_ever_be_significant(
            test,
            seeds=plan.seeds,
            # as many as an arm has grow with it
            baseline_seeds=None if plan.baseline_seeds == plan.seeds else plan.baseline_seeds,
            arms=plan.arms,
            alpha=plan.alpha,
        )
        if not reach.possible:
            yield (
                f"{words} cannot reach {plan.alpha:g}{over}, whatever happens: "
                f"their smallest p is {reach.smallest_p:.2g}, and they need {reach.seeds_needed} "
                "seeds an arm (t and max-T, the tests of `report`, have no such bound)"
            )


def _of_gain(plan: Plan, gain: float) -> Iterable[str]:
    """Yield what a gain would need where the plan has power below POWER for it."""
    if power(plan, gain) >= POWER:
        return
    needed = seeds_for(plan, gain, power=POWER) if plan.seed_sd else None
    if needed is not None:
        base = seeds_of_baseline(plan.arms, needed)
        yield f"a gain of {gain:g} needs {needed} seeds an arm and {base} of the baseline"
    elif ceiling(plan, gain) < POWER:
        patients = _patients_for(plan, gain)
        many = f"about {patients} patients" if patients else "far more patients"
        yield (
            f"a gain of {gain:g} has power {ceiling(plan, gain):.2f} at most with "
            f"{plan.patients} patients, whatever the seeds; it needs {many} and enough seeds"
        )
    else:
        yield f"a gain of {gain:g} needs more than 1,000 seeds an arm"


def _patients_for(plan: Plan, gain: float) -> int | None:
    """Return the patients from which on enough seeds see the gain, None beyond MOST_PATIENTS."""
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
