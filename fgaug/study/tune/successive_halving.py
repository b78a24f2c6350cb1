"""Successive halving over arms: worse arms stop early, with all their seeds.

Jamieson & Talwalkar 2016 (arXiv:1502.07943) give the rule: train all a little, keep the best
fraction, train it longer. Li et al. 2020 (arXiv:1810.05934) make it asynchronous by promoting from
the results at hand, so the outcome depends on the order of arrival. Here arms are compared, not
trials, and the decisions are those of the synchronous rule; only the work is asynchronous.
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
    """The state of the arms at one rung."""

    ranked: list[Arm]  # complete at the rung, best first
    waiting: dict[str, list[str]]  # cells that have not reached the rung, by arm_id
    out: list[Arm]  # with too many failed seeds


class ArmHalving:
    """Synchronous successive halving over arms, executed asynchronously.

    The budget has `rungs` levels, `eta ** -(rungs - 1), ..., 1 / eta, 1`. At each level except the
    last, the n arms that reach it are ranked by the mean over seeds of their value at the level
    (`value_at`); the best `max(1, n // eta)` continue, the others stop with all their seeds. Ties
    rank in the order of the arms; a mean that is not finite ranks last. With eta 3 and rungs 3, 36
    arms become 12 and then 4, for 7/27 of the steps of the whole grid.

    A seed that failed after a level still counts at that level. An arm with fewer than `min_seeds`
    seeds left is dropped at the rung, before the ranking.

    An arm is promoted as soon as it would be among the best even if all incomplete arms turned out
    better, and stopped as soon as enough complete arms are better. Both are certain, so later
    results cannot change them. An arm is stopped only after all its seeds have reached the rung.

    Arms that are not stoppable are trained fully and compared with none. If the grid is extended
    later, everything is decided again from the same curves: a stopped arm may resume from its
    checkpoints, and fully trained arms take part at no cost.
    """

    def __init__(
        self, arms: Sequence[Arm], eta: int = 3, rungs: int = 3, min_seeds: int = 2
    ) -> None:
        """Set up successive halving; the cells of each arm must be ordered by seed.

        Raises:
            ValueError: `eta` is below 2, `rungs` below 1, or an arm has too few seeds.
        """
        if eta < 2:
            raise ValueError(f"`eta` must be at least 2, got {eta}: one in `eta` arms continues.")
        if rungs < 1:
            raise ValueError(f"`rungs` must be at least 1, got {rungs}. Give for example 3.")
        check_seeds(arms, min_seeds)
        self.eta, self.min_seeds = eta, min_seeds
        self.levels = levels_of(eta, rungs)
        self.stoppable = [arm for arm in arms if arm.stoppable]
        self.others = [arm for arm in arms if not arm.stoppable]

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return what may run now: lowest rung first, arms that are not stoppable last.

        Above the lowest incomplete rung, only arms that are certain of promotion may run.
        """
        legs: list[Segment] = []
        stopped: dict[str, int] = {}
        inside = self.stoppable  # arms certain to be in this rung, in their original order
        most = len(inside)  # arms that may be in it once lower rungs are complete
        for rung, level in enumerate(self.levels[:-1]):
            at = self._standing(inside, level, seen)
            cells = seeds_outermost(at.waiting.values())
            legs += (Segment(cell_id=cell_id, until=level) for cell_id in cells)
            # If fewer than `most` arms arrive, `places` falls by at most one for each missing arm,
            # and so does the number of arms that may turn out better: certain stays certain.
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
            if len(values) + len(waiting) < self.min_seeds * arm.folds:
                standing.out.append(arm)
            elif waiting:
                standing.waiting[arm.arm_id] = waiting
            else:
                means.append((_mean(values), arm))
        means.sort(key=lambda measured: -measured[0])  # stable: equal means keep the arms' order
        standing.ranked.extend(arm for _, arm in means)
        return standing


def _mean(values: Sequence[float]) -> float:
    """Return the mean, independent of the order of the values; -inf if any is not finite."""
    if not all(map(math.isfinite, values)):
        return -math.inf
    return math.fsum(values) / len(values)
