"""Planned comparisons: power, smallest gains, numbers of seeds, tests that cannot say yes."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from fgaug import stats
from fgaug.errors import UserError

SEED_SD = 0.0068
# Power of exact Dunnett, two-sided 5 %, that sd between seeds, on these patients
TABLE = [
    # arms, seeds, baseline seeds, power at +0.5, +0.75, +1.0, +1.5 points
    (36, 5, 5, (0.03, 0.09, 0.22, 0.65)),
    (36, 5, 30, (0.05, 0.18, 0.43, 0.91)),
    (36, 10, 60, (0.15, 0.51, 0.86, 1.0)),
    (36, 20, 20, (0.23, 0.66, 0.94, 1.0)),
    (3, 10, 17, (0.28, 0.62, 0.89, 1.0)),
    (3, 20, 34, (0.58, 0.93, 0.99, 1.0)),
    (1, 20, 20, (0.62, 0.92, 0.99, 1.0)),
]


def plan(**changes: Any) -> stats.Plan:
    return stats.Plan(
        **{"arms": 3, "seeds": 5, "baseline_seeds": 9, "seed_sd": SEED_SD, **changes}
    )


@pytest.mark.parametrize(("arms", "seeds", "baseline", "powers"), TABLE)
def test_power_of_the_designs_in_the_method(
    arms: int, seeds: int, baseline: int, powers: tuple[float, ...]
) -> None:
    design = plan(arms=arms, seeds=seeds, baseline_seeds=baseline)
    ours = [stats.power(design, gain) for gain in (0.005, 0.0075, 0.010, 0.015)]
    np.testing.assert_allclose(ours, powers, atol=0.011)


def test_power_of_one_arm_is_the_noncentral_t_s() -> None:
    design = plan(arms=1, seeds=6, baseline_seeds=8)
    shift = 0.01 / (SEED_SD * math.sqrt(1 / 6 + 1 / 8))
    critical = scipy_stats.t.ppf(0.975, 12)
    law = scipy_stats.nct(12, shift)
    assert stats.power(design, 0.01) == pytest.approx(law.sf(critical) + law.cdf(-critical))
    assert stats.power(design, -0.01) == stats.power(design, 0.01)
    assert stats.power(design, 0.0) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "changes",
    [{}, {"arms": 36}, {"case_variance": 1e-5}, {"case_variance": 1e-5, "patients": 100}],
)
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95])
def test_smallest_gain_and_power_are_inverse(changes: dict[str, Any], wanted: float) -> None:
    design = plan(**changes)
    gain = stats.smallest_gain(design, power=wanted)
    assert stats.power(design, gain) == pytest.approx(wanted, abs=1e-9)
    assert stats.smallest_gain(plan(**changes, seeds=20, baseline_seeds=40), power=wanted) < gain


@pytest.mark.parametrize(("arms", "gain"), [(1, 0.01), (3, 0.01), (36, 0.01), (4, 0.1)])
def test_seeds_for_are_the_fewest(arms: int, gain: float) -> None:
    design = plan(arms=arms)
    seeds = stats.seeds_for(design, gain, power=0.8)
    assert seeds is not None

    def reached(n: int) -> bool:
        baseline = math.ceil(n * math.sqrt(arms))
        return stats.power(plan(arms=arms, seeds=n, baseline_seeds=baseline), gain) >= 0.8

    assert reached(seeds)
    assert seeds == 1 or not reached(seeds - 1)


def test_one_seed_an_arm_can_be_enough() -> None:
    # 36 arms of one seed and a baseline of six, and a gain of many standard deviations
    assert stats.seeds_for(plan(arms=36), 0.2) == 1


def test_patients_set_a_ceiling_that_seeds_do_not_lift() -> None:
    design = plan(case_variance=2e-5, patients=150)
    top = stats.ceiling(design, 0.01)
    many = plan(case_variance=2e-5, patients=150, seeds=3000, baseline_seeds=6000)
    assert stats.power(many, 0.01) == pytest.approx(top, abs=0.005)
    assert stats.power(design, 0.01) < top < 0.8
    assert stats.seeds_for(design, 0.01) is None
    assert stats.ceiling(plan(), 0.01) == 1.0


def test_one_seed_everywhere_has_no_power_to_state() -> None:
    alone = plan(seeds=1, baseline_seeds=1)
    assert math.isnan(stats.power(alone, 0.01))
    assert math.isnan(stats.smallest_gain(alone))


@pytest.mark.parametrize(
    ("test", "seeds", "arms", "smallest", "needed"),
    [
        ("rank_holm", 5, 36, 36 * 2 / 252, 7),
        ("rank_holm", 5, 1, 2 / 252, 4),
        ("sign_flip_holm", 6, 1, 2 / 64, 6),
        ("sign_flip_holm", 8, 36, 36 * 2 / 256, 11),
        ("sign_flip_max_t", 5, 36, 2 / 32, 6),
    ],
)
def test_tests_that_cannot_say_yes(
    test: str, seeds: int, arms: int, smallest: float, needed: int
) -> None:
    reach = stats.can_ever_be_significant(test, seeds=seeds, arms=arms)
    assert reach.smallest_p == pytest.approx(min(1, smallest))
    assert reach.seeds_needed == needed
    assert reach.possible == (seeds >= needed)


def test_smallest_p_is_what_the_tests_give() -> None:
    best = stats.rank_sum([5, 6, 7], [1, 2, 3, 4])
    reach = stats.can_ever_be_significant("rank_holm", seeds=3, baseline_seeds=4)
    assert reach.smallest_p == pytest.approx(best)
    ways = len(list(combinations(range(7), 3)))
    assert best == pytest.approx(2 / ways)
    flips = stats.can_ever_be_significant("sign_flip_holm", seeds=4)
    assert flips.smallest_p == stats.sign_flip([0.1, 0.2, 0.3, 0.4])


def test_seeds_needed_against_a_baseline_of_one_seed() -> None:
    # 2 / (n + 1) times 1,000 arms: tens of thousands of seeds, which is the answer
    reach = stats.can_ever_be_significant("rank_holm", seeds=5, baseline_seeds=1, arms=1000)
    assert reach.seeds_needed == 39_999


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": 0}, "`arms` must be at least 1, got 0"),
        ({"seeds": 0}, "`seeds` must be at least 1"),
        ({"seed_sd": -1.0}, "must be 0 or more"),
        ({"seed_sd": math.nan}, "must be 0 or more"),
        ({"seed_sd": 0.0}, "any gain would be detectable"),
        ({"patients": 1}, "`patients` must be at least 2"),
        ({"alpha": 1.0}, "`alpha` must lie between 0 and 1"),
    ],
)
def test_plans_without_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(**changes)


def test_questions_without_sense_are_refused() -> None:
    with pytest.raises(UserError, match=r"between 0\.05 and 1, got 0\.01"):
        stats.smallest_gain(plan(), power=0.01)
    with pytest.raises(UserError, match="rank_holm, sign_flip_holm or sign_flip_max_t"):
        stats.can_ever_be_significant("ranks", seeds=5)
    with pytest.raises(UserError, match="must be at least 1"):
        stats.can_ever_be_significant("rank_holm", seeds=0)
    with pytest.raises(UserError, match="`alpha` must lie between 0 and 1"):
        stats.can_ever_be_significant("rank_holm", seeds=5, baseline_seeds=1, alpha=0.0)
