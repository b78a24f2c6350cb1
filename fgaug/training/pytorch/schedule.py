"""The one-cycle schedule in closed form (Smith 2018, arXiv:1803.09820; fastai's constants)."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOMENTUM_HIGH, MOMENTUM_LOW = 0.95, 0.85
FINAL_DIVISOR = 1e5


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle:
    """One phase of training: warm-up over `pct_start` of `steps`, then annealing to almost 0."""

    peaks: tuple[float, ...]  # highest learning rate of each parameter group, first layers first
    steps: int
    pct_start: float  # share of the steps used for warm-up
    divisor: float  # the initial rate is the peak divided by this

    def at(self, step: int) -> tuple[tuple[float, ...], float]:
        """Return each group's learning rate, and beta1, at `step` in 0..steps-1."""
        done = step / self.steps
        if done < self.pct_start:
            part = done / self.pct_start
            rates = (_cosine(peak / self.divisor, peak, part) for peak in self.peaks)
            return tuple(rates), _cosine(MOMENTUM_HIGH, MOMENTUM_LOW, part)
        part = (done - self.pct_start) / (1 - self.pct_start)
        rates = (_cosine(peak, peak / FINAL_DIVISOR, part) for peak in self.peaks)
        return tuple(rates), _cosine(MOMENTUM_LOW, MOMENTUM_HIGH, part)


def frozen_cycle(learning_rate: float, groups: int, steps: int) -> OneCycle:
    """Return the frozen phase's cycle: the body's norm layers at a tenth of the head's rate."""
    peaks = (learning_rate / 10,) * (groups - 1) + (learning_rate,)
    return OneCycle(peaks=peaks, steps=steps, pct_start=0.99, divisor=25)


def unfrozen_cycle(learning_rate: float, lr_mult: float, groups: int, steps: int) -> OneCycle:
    """Return the unfrozen phase's cycle: half the rate, decreasing towards the first layers."""
    head = learning_rate / 2
    last = max(1, groups - 1)
    peaks = tuple(head / lr_mult ** (1 - group / last) for group in range(groups))
    return OneCycle(peaks=peaks, steps=steps, pct_start=0.3, divisor=5)


def _cosine(start: float, end: float, part: float) -> float:
    return start + (1 - math.cos(math.pi * part)) * (end - start) / 2
