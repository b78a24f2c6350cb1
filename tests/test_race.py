"""Seed racing: the stated error rate by simulation, the same decisions in any order."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fgaug.study.tune.policy import Arm, CellProgress, Decision
from fgaug.study.tune.seed_racing import SeedRace, beaten

Array = np.ndarray[Any, Any]
FAILED = CellProgress(status="failed", curve=())
ROUNDS = 20


def arm(name: str, seeds: int, stoppable: bool = True) -> Arm:
    cell_ids = tuple(f"{name}.{seed}" for seed in range(seeds))
    return Arm(arm_id=name, cell_ids=cell_ids, stoppable=stoppable)


def arms(count: int, seeds: int) -> list[Arm]:
    return [arm(f"a{i}", seeds) for i in range(count)]


def cell(value: float) -> CellProgress:
    return CellProgress(status="ok", curve=((0.5, value - 1), (1.0, value)))


def disk(values: Array, grid: Sequence[Arm]) -> dict[str, CellProgress]:
    """Return every cell at its end; NaN here is a cell that failed."""
    return {
        name: FAILED if math.isnan(value) else cell(value)
        for one, row in zip(grid, values.tolist(), strict=True)
        for name, value in zip(one.cell_ids, row, strict=False)
    }


def work(
    policy: SeedRace,
    truth: Mapping[str, CellProgress],
    rng: random.Random,
    seen: dict[str, CellProgress] | None = None,
    stop_after: int = 10_000,
) -> tuple[dict[str, CellProgress], Decision]:
    """Let three workers take cells in the policy's order and end them in any order."""
    seen = {} if seen is None else seen
    running: list[str] = []
    for _ in range(stop_after):
        decision = policy.decide(seen)
        running += [
            leg.cell_id for leg in decision.legs if leg.cell_id not in running and leg.until == 1
        ][: 3 - len(running)]
        if not running:
            break
        name = running.pop(rng.randrange(len(running)))
        seen[name] = truth[name]
    return seen, policy.decide(seen)


def drawn(rng: np.random.Generator, quality: Array, seed_sd: float, correlation: float) -> Array:
    """Return values (arms, seeds) whose seeds agree between arms by `correlation`."""
    common = rng.normal(0, math.sqrt(correlation), (1, ROUNDS))
    own = rng.normal(0, math.sqrt(1 - correlation), (len(quality), ROUNDS))
    values: Array = quality[:, None] + seed_sd * (common + own)
    return values


def races(
    policy: SeedRace, quality: Array, correlation: float, count: int, spread: float = 0.0
) -> tuple[float, float]:
    """Return the share of races that dropped the best arm, and the share of runs saved."""
    rng = np.random.default_rng(5)
    grid = arms(len(quality), ROUNDS)
    lost, saved = 0, 0
    for _ in range(count):
        qualities = quality + rng.normal(0, spread, len(quality))
        values = drawn(rng, qualities, 0.01, correlation)
        stopped = policy.decide(disk(values, grid)).stopped
        lost += f"a{qualities.argmax()}" in stopped
        saved += sum(ROUNDS - 1 - after for after in stopped.values())
    return lost / count, saved / count / len(quality) / ROUNDS


@pytest.fixture(scope="module")
def race_of_36() -> SeedRace:
    return SeedRace(arms(36, ROUNDS))


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.45), (0.3, 0.52), (0.6, 0.6)])
def test_the_best_of_36_is_kept_and_runs_are_saved(
    race_of_36: SeedRace, correlation: float, least: float
) -> None:
    """Shares of the docstring's table; what is saved grows with the pairing."""
    lost, saved = races(race_of_36, np.zeros(36), correlation, count=400, spread=0.01)
    assert lost == 0
    assert least < saved < least + 0.12


def test_noisy_seeds_still_save_a_third(race_of_36: SeedRace) -> None:
    lost, saved = races(race_of_36, np.zeros(36), 0.3, count=400, spread=0.005)
    assert lost <= 0.02
    assert 0.22 < saved < 0.36


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_an_error_is_as_rare_as_stated_where_all_arms_are_equal(
    race_of_36: SeedRace, correlation: float
) -> None:
    """The hardest case: the best is better by nothing."""
    quality = np.zeros(36)
    quality[7] = 1e-12
    lost, saved = races(race_of_36, quality, correlation, count=1000)
    assert lost <= 0.05
    assert saved < 0.02


def test_fast_saves_more_and_errs_more() -> None:
    lost, saved = races(SeedRace(arms(36, ROUNDS), fast=True), np.zeros(36), 0.3, 400, 0.01)
    assert 0.7 < saved < 0.85
    assert 0.01 < lost < 0.2


def test_beaten_is_the_larger_of_two_textbook_tests() -> None:
    """Against scipy's paired test for an arm of large noise, and the block design for the rest."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (5, 8)) + rng.normal(0, 3, (1, 8)) + np.arange(5)[:, None]
    values[0] += rng.normal(0, 4, 8)
    leader = int(values.mean(axis=1).argmax())
    centred = values - values.mean(axis=0) - values.mean(axis=1)[:, None] + values.mean()
    residual = (centred**2).sum() / (4 * 7)
    for i in set(range(5)) - {leader}:
        behind = values[leader] - values[i]
        paired = stats.ttest_rel(values[leader], values[i]).statistic
        block = behind.mean() / math.sqrt(residual * 2 / 8)
        p = stats.t.sf(min(paired, block), 4 * 7)
        assert beaten(values, p * 1.001)[i]
        assert not beaten(values, p * 0.999)[i]
    shifted = values + rng.normal(0, 50, (1, 8))  # what seeds have in common does not matter
    assert (beaten(shifted, 0.05) == beaten(values, 0.05)).all()


def test_values_without_noise() -> None:
    same = np.full((3, 4), 0.9)
    assert not beaten(same, 0.01).any()
    same[1] = 0.8
    assert beaten(same, 0.01).tolist() == [False, True, False]
    assert not beaten(np.full((3, 4), np.nan), 0.5).any()
    assert not beaten(np.ones((3, 1)), 0.5).any()
    assert not beaten(np.ones((1, 3)), 0.5).any()


def clear(count: int, seeds: int) -> Array:
    """Return values where the later arm is far better."""
    noise = np.random.default_rng(1).normal(0, 0.001, (count, seeds))
    values: Array = np.arange(count)[:, None] + noise
    return values


def test_rounds_and_their_order() -> None:
    grid = [arm("baseline", 5, stoppable=False), *arms(3, 5)]
    policy = SeedRace(grid)
    names = [leg.cell_id for leg in policy.decide({}).legs]
    first = [f"a{i}.{seed}" for seed in range(3) for i in range(3)]  # no look before three seeds
    assert names == [*first, *(f"baseline.{seed}" for seed in range(5))]
    truth = disk(clear(3, 5), grid[1:])
    seen = {name: truth[name] for name in first}
    decision = policy.decide(seen)
    assert decision.stopped == {"a0": 2, "a1": 2}
    assert [leg.cell_id for leg in decision.legs][:2] == ["a2.3", "baseline.0"]
    del seen["a0.2"]
    assert policy.decide(seen).stopped == {}  # the round is not over


def test_what_is_not_stoppable_gets_every_seed_and_leads_nobody() -> None:
    grid = [arm("baseline", 5, stoppable=False), *arms(2, 5)]
    rng = np.random.default_rng(0)
    values = np.vstack([np.full((1, 5), 99.0), rng.normal(0, 1, (2, 5))])
    seen, decision = work(SeedRace(grid), disk(values, grid), random.Random(0))
    assert decision.stopped == {}
    assert sum(name.startswith("baseline") for name in seen) == 5


def test_the_last_round_drops_none() -> None:
    """An arm that has all its seeds was not cut short."""
    grid = arms(4, 3)
    truth = disk(clear(4, 3), grid)
    assert SeedRace(grid).decide(truth) == Decision(legs=(), stopped={}, complete=True)
    grid = [*arms(3, 5), arm("short", 3)]
    decision = SeedRace(grid).decide(disk(clear(4, 5), grid))
    assert decision.stopped == {"a0": 2, "a1": 2, "a2": 2}
    values = clear(4, 5)[::-1]
    assert "short" not in SeedRace(grid).decide(disk(values, grid)).stopped


def test_failed_seeds_are_left_out_and_too_many_end_an_arm() -> None:
    grid = arms(3, 5)
    values = clear(3, 5)
    values[2, 0] = np.nan  # two seeds left of the best: it leads from the next look on
    assert SeedRace(grid).decide(disk(values, grid)).stopped == {"a0": 2}
    values[2, 1] = np.nan
    values[2, :3] = np.nan
    assert SeedRace(grid).decide(disk(values, grid)).stopped["a2"] == 2
    everything = np.full((3, 5), np.nan)
    decision = SeedRace(grid).decide(disk(everything, grid))
    assert decision == Decision(legs=(), stopped={"a0": 2, "a1": 2, "a2": 2}, complete=True)


def test_a_value_that_is_not_finite_is_last() -> None:
    grid = arms(4, 5)
    rng = np.random.default_rng(0)
    truth = disk(rng.normal(0, 1, (4, 5)), grid)
    truth["a1.1"] = cell(math.nan)
    assert SeedRace(grid).decide(truth).stopped == {"a1": 2}
    nothing = {name: CellProgress(status="ok", curve=()) for name in truth}
    assert SeedRace(grid).decide(nothing).stopped == {}


@given(
    st.integers(0, 6),
    st.integers(2, 3),
    st.integers(0, 4),
    st.integers(0, 40),
    st.integers(0, 2**32),
)
@settings(max_examples=100)
def test_any_order_and_any_cut_decide_the_same_and_run_no_more(
    count: int, min_seeds: int, more: int, cut: int, draw: int
) -> None:
    rng, noise = random.Random(draw), np.random.default_rng(draw)
    grid = [*arms(count, min_seeds + more), arm("drop", 2, stoppable=False)]
    values = noise.normal(0, 0.3, (count + 1, min_seeds + more)) + noise.normal(
        0, 1, (count + 1, 1)
    )
    values[noise.random(values.shape) < 0.08] = np.nan
    truth = disk(values, grid)
    policy = SeedRace(grid, min_seeds=min_seeds, level=0.3, fast=True)
    wanted = policy.decide(truth).stopped  # everything known at once
    seen, before = work(policy, truth, rng, stop_after=cut)
    again = SeedRace(grid, min_seeds=min_seeds, level=0.3, fast=True)
    assert again.decide(dict(reversed(seen.items()))) == before
    assert before.stopped.items() <= wanted.items()
    seen, after = work(again, truth, rng, seen=seen)
    assert after.complete
    assert after.stopped == wanted
    for one in grid:
        given_seeds = wanted.get(one.arm_id, len(one.cell_ids) - 1) + 1
        assert [name in seen for name in one.cell_ids] == [
            i < given_seeds for i in range(len(one.cell_ids))
        ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_seeds": 1}, "`min_seeds` must be at least 2 in a race, got 1"),
        ({"min_seeds": 6}, "`min_seeds` is 6, but an arm has 5 seeds"),
        ({"level": 0.0}, "`level` must be between 0 and 0.5, got 0"),
        ({"level": math.nan}, "`level` must be between 0 and 0.5, got nan"),
    ],
)
def test_what_cannot_be_raced_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeedRace(arms(2, 5), **options)


def test_no_arms_are_complete_at_once() -> None:
    assert SeedRace([]).decide({}) == Decision(legs=(), stopped={}, complete=True)


def test_10_000_cells_are_decided_quickly() -> None:
    grid = arms(2000, 5)
    policy = SeedRace(grid)
    whole = disk(np.random.default_rng(0).normal(0, 1, (2000, 5)), grid)
    for seen in ({}, whole):
        took = []
        for _ in range(5):
            start = time.perf_counter()
            policy.decide(seen)
            took.append(time.perf_counter() - start)
        assert min(took) < 0.1
