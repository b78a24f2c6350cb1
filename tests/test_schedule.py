"""One cycle: fastai's rates of every step, and its corners."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from fgaug.training.pytorch.schedule import OneCycle, frozen_cycle, unfrozen_cycle

GOLDEN = Path(__file__).parent / "data" / "fastai" / "schedule_fastai_3groups.csv"


def test_fastai_rates() -> None:
    with GOLDEN.open(newline="") as file:
        rows = list(csv.DictReader(file))
    frozen, unfrozen = frozen_cycle(2e-3, 3, 5), unfrozen_cycle(2e-3, 100, 3, 100)
    ours = [frozen.at(step) for step in range(5)] + [unfrozen.at(step) for step in range(100)]
    assert len(rows) == len(ours)
    for row, (rates, beta1) in zip(rows, ours, strict=True):
        assert rates == pytest.approx([float(row[f"lr{i}"]) for i in range(3)], rel=1e-5)
        assert beta1 == pytest.approx(float(row["mom"]), rel=1e-5)


def test_two_groups() -> None:
    assert frozen_cycle(2e-3, 2, 10).peaks == pytest.approx((2e-4, 2e-3))
    assert unfrozen_cycle(2e-3, 100, 2, 10).peaks == pytest.approx((1e-5, 1e-3))


def test_three_groups() -> None:
    assert frozen_cycle(2e-3, 3, 10).peaks == pytest.approx((2e-4, 2e-4, 2e-3))
    assert unfrozen_cycle(2e-3, 100, 3, 10).peaks == pytest.approx((1e-5, 1e-4, 1e-3))


def test_one_group_learns_at_the_heads_rate() -> None:
    assert frozen_cycle(2e-3, 1, 10).peaks == (2e-3,)
    assert unfrozen_cycle(2e-3, 1, 1, 10).peaks == (1e-3,)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_few_steps(steps: int) -> None:
    for cycle in (frozen_cycle(2e-3, 2, steps), unfrozen_cycle(2e-3, 100, 2, steps)):
        found = [cycle.at(step) for step in range(steps)]
        first_rates, first_beta1 = found[0]
        assert first_rates == pytest.approx([peak / cycle.divisor for peak in cycle.peaks])
        assert first_beta1 == 0.95
        for rates, beta1 in found:
            assert all(0 < rate <= peak for rate, peak in zip(rates, cycle.peaks, strict=True))
            assert 0.85 <= beta1 <= 0.95


def test_it_rises_then_falls() -> None:
    cycle = OneCycle(peaks=(1.0,), steps=100, pct_start=0.3, divisor=5)
    rates = [cycle.at(step)[0][0] for step in range(100)]
    assert rates[30] == 1.0
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[99] == pytest.approx((1 - math.cos(math.pi * 69 / 70)) * (1e-5 - 1) / 2 + 1)
