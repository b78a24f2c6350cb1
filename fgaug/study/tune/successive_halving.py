"""Successive halving over arms: the worse ones stop early, all seeds together.

Jamieson & Talwalkar 2016 (arXiv:1502.07943) give the rule: train all a little, keep the best part,
train those longer. Li et al. 2020 (arXiv:1810.05934) let it run without waiting by promoting on
what happens to be there, so the outcome hangs on who came first. Here arms are compared, not
trials, and the decisions are those of the waiting form; only the work does not wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgaug.study.tune.policy import (
    NOTHING,
    Arm,
    CellProgress,
    Decision,
    Segment,
    check_seeds,
    legs_to_the_end,
    levels_of,
    seeds_outermost,
    value_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """How arms stand at one rung."""

    ranked: list[Arm]  # measured, best first
    waiting: dict[str, list[str]]  # cells that have not come so far, by arms that lack them
    out: list[Arm]  # too many seeds failed


class ArmHalving:
    """Synchronous successive halving over arms, worked off without waiting.

    The budget has `rungs` levels, `eta ** -(rungs - 1), ..., 1 / eta, 1`. At each but the last,
    the n arms that came so far are ranked by the mean over their seeds of the value at the level
    (`value_at`); the best `max(1, n // eta)` go on, the others stop with all their seeds. Equal
    means rank in the order of the arms; a mean that is not finite ranks last. 36 arms become 12
    and 4 (eta 3, rungs 3) for 7/27 of the steps of the whole grid.

    A seed that failed beyond a level counts at that level; one that failed before it does not. An
    arm of which fewer than `min_seeds` seeds are left is out at that rung, before any ranking.

    An arm is sure of its promotion once it would be among the best even if all that are not yet
    measured came out better, and it is beaten once as many as may go on are better. Both are
    known, not guessed, so they hold whatever comes later. A beaten arm has been measured, that is
    all its seeds have reached the rung: no seed is ever cut that its own rung still needs.

    Arms that are not stoppable run to their end and are compared with none. If the grid grows
    later, everything is decided anew from the same curves: an arm that was stopped may go on from
    its checkpoints, and arms that are trained to their end already take part at no cost.
    """

    def __init__(
        self, arms: Sequence[Arm], eta: int = 3, rungs: int = 3, min_seeds: int = 2
    ) -> None:
        """Take the arms, each with its cells in the order of seeds.

        Raises:
            ValueError: for an `eta` below 2, no rung, or an arm of fewer than `min_seeds` seeds.
        """
        if eta < 2:
            raise ValueError(f"`eta` must be at least 2, got {eta}: one in `eta` arms goes on.")
        if rungs < 1:
            raise ValueError(f"`rungs` must be at least 1, got {rungs}. Give for example 3.")
        check_seeds(arms, min_seeds)
        self.eta, self.min_seeds = eta, min_seeds
        self.levels = levels_of(eta, rungs)
        self.stoppable = [arm for arm in arms if arm.stoppable]
        self.others = [arm for arm in arms if not arm.stoppable]

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return what may run now: the lowest rung first, what is not stoppable last.

        Above the lowest rung that is still open stand only arms that are sure to be there.
        """
        legs: list[Segment] = []
        stopped: dict[str, int] = {}
        inside = self.stoppable  # sure to be in this rung, in the order of the arms
        most = len(inside)  # that may be in it once the rungs below are settled
        for rung, level in enumerate(self.levels[:-1]):
            at = self._standing(inside, level, seen)
            cells = seeds_outermost(at.waiting.values())
            legs += (Segment(cell_id=cell_id, until=level) for cell_id in cells)
            # If fewer than `most` come, `places` falls by at most one for each that does not, and
            # so does the number of those who may still come out better: what is sure stays sure.
            places = max(1, most // self.eta)
            unknown = most - len(inside) + len(at.waiting)
            stopped |= {arm.arm_id: rung for arm in (*at.out, *at.ranked[places:])}
            promoted = {arm.arm_id for arm in at.ranked[: max(0, places - unknown)]}
            most = min(places, len(at.ranked) + unknown)
            inside = [arm for arm in inside if arm.arm_id in promoted]
        legs += legs_to_the_end(inside, seen)
        legs += legs_to_the_end(self.others, seen)
        return Decision(legs=tuple(legs), stopped=stopped, complete=not legs)

    def _standing(
        self, inside: Sequence[Arm], level: float, seen: Mapping[str, CellProgress]
    ) -> _Standing:
        means: list[tuple[float, Arm]] = []
        standing = _Standing(ranked=[], waiting={}, out=[])
        for arm in inside:
            values: list[float] = []
            waiting: list[str] = []
            for cell_id in arm.cell_ids:
                cell = seen.get(cell_id, NOTHING)
                value = value_at(cell, level)
                if value is not None:
                    values.append(value)
                elif cell.status != "failed":
                    waiting.append(cell_id)
            if len(values) + len(waiting) < self.min_seeds:
                standing.out.append(arm)
            elif waiting:
                standing.waiting[arm.arm_id] = waiting
            else:
                means.append((_mean(values), arm))
        means.sort(key=lambda measured: -measured[0])  # stable: equal means keep the arms' order
        standing.ranked.extend(arm for _, arm in means)
        return standing


def _mean(values: Sequence[float]) -> float:
    """Return the mean, the same for any order of the values; -inf if one is not finite."""
    if not all(map(math.isfinite, values)):
        return -math.inf
    return math.fsum(values) / len(values)
