"""Seed racing: seeds are added round by round, arms that fell behind get no more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from fgaug.study.tune.policy import (
    NOTHING,
    Arm,
    CellProgress,
    Decision,
    Segment,
    check_seeds,
    legs_to_the_end,
    value_at,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class SeedRace:
    """Every seed runs to its end; an arm far enough behind the leader gets no more seeds.

    Round r trains the r-th seed of every arm that is still in. After each round from `min_seeds`
    seeds on, an arm is out if its mean difference to the leader (best mean) over the n seeds that
    both have exceeds `t(1 - a, df) * sqrt(v / n)`, one-sided, with

    - `a = level / (K * rounds)`, K all stoppable arms, rounds all seeds;
    - v the larger of twice the residual variance of arms still in by seeds (two-way, df =
      (arms - 1) * (n - 1)) and the variance of this pair's own differences.

    **Error rate.** Where values are arm + seed + normal noise of one size, the best arm can only
    be dropped by one of K arms in one of the rounds, so P(the truly best is ever dropped) <=
    `level` (union bound; exact but for the choice of the arms in v). Simulated with 36 equal arms
    and 20 seeds: 0.010. If the best arm has twice the others' noise: 0.065; v without the pair's
    own variance gives 0.17 to 0.20. `fast` takes `a = level` at every look: no such bound, only
    for screening before fresh seeds.

    **Why paired.** The r-th cells of all arms share their seed: weights, batch order, draws.
    Shares of runs saved in 2,000 simulated races of 36 arms of SD 1 and 20 seeds, by SD of the
    seeds and correlation within a seed; the best was dropped in at most 0.1 % of races, by `fast`
    in the share in brackets.

    =============================  =====  =======  =======  =======
    SD, correlation                1, 0   1, 0.3   1, 0.6   2, 0.3
    this                           51 %   58 %     65 %     29 %
    unpaired, pooled variance      55 %   54 %     53 %     21 %
    paired, own variance, df n-1   33 %   40 %     48 %     16 %
    this, `fast`                   77 %   78 %     79 %     71 %
    (best dropped by `fast`)       (11)   (8)      (7)      (15)
    =============================  =====  =======  =======  =======

    The last round drops none: an arm that has all its seeds is no shorter than the others. An arm
    that can no longer have `min_seeds` finished seeds is out at the next look; so is one with a
    value that is not finite, if another arm has none.
    Failed seeds are left out on both sides of a difference. Arms that are not stoppable get all
    their seeds, after the round's, and are compared with none: racing only ever stops losing arms,
    so a later test against the baseline keeps its level (with all K arms in its multiplicity).
    """

    def __init__(
        self, arms: Sequence[Arm], min_seeds: int = 3, level: float = 0.05, fast: bool = False
    ) -> None:
        """Take the arms; the r-th cell of each must have the same seed.

        Raises:
            ValueError: for a `level` outside 0..0.5, or fewer than 2 or `min_seeds` seeds.
        """
        if not 0 < level < 0.5:
            raise ValueError(f"`level` must lie between 0 and 0.5, got {level:g}. Give 0.05.")
        if min_seeds < 2:
            raise ValueError(f"`min_seeds` of a race must be at least 2, got {min_seeds}.")
        check_seeds(arms, min_seeds)
        self.min_seeds = min_seeds
        self.stoppable = [arm for arm in arms if arm.stoppable]
        self.others = [arm for arm in arms if not arm.stoppable]
        self.seeds = np.array([len(arm.cell_ids) for arm in self.stoppable], dtype=np.int64)
        self.rounds = int(self.seeds.max(initial=0))
        self.alpha = level if fast else level / max(1, len(self.stoppable) * self.rounds)

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return the round's cells, then those of arms that are not stoppable.

        The first `min_seeds` seeds of every arm are certain to be needed and make one round.
        """
        over, values = self._results(seen)
        inside = np.ones(len(self.stoppable), dtype=np.bool_)
        stopped: dict[str, int] = {}
        given = self.rounds
        for given in range(self.min_seeds, self.rounds):
            if not over[inside, :given].all():
                break
            out = inside & (self.seeds > given)
            out &= self._out(inside, values[:, :given])
            stopped |= {self.stoppable[i].arm_id: given - 1 for i in np.flatnonzero(out)}
            inside &= ~out
        else:
            given = self.rounds
        needed = ~over[:, :given] & inside[:, None]
        legs = [
            Segment(cell_id=self.stoppable[arm].cell_ids[seed], until=1.0)
            for seed, arm in zip(*np.nonzero(needed.T), strict=True)
        ]
        legs += legs_to_the_end(self.others, seen)
        return Decision(legs=tuple(legs), stopped=stopped, complete=not legs)

    def _results(self, seen: Mapping[str, CellProgress]) -> tuple[Bools, Floats]:
        """Return arms by seeds: whether nothing is left to train, and the final value.

        NaN is no value (failed, or not yet over), -inf one that is not finite. Seeds that an arm
        of fewer seeds lacks are over and without value.
        """
        over = np.ones((len(self.stoppable), self.rounds), dtype=np.bool_)
        values = np.full(over.shape, np.nan)
        for i, arm in enumerate(self.stoppable):
            for j, cell_id in enumerate(arm.cell_ids):
                cell = seen.get(cell_id, NOTHING)
                over[i, j] = cell.over
                if cell.status == "ok":
                    value = value_at(cell, 1.0)
                    values[i, j] = value if value is not None and math.isfinite(value) else -np.inf
        return over, values

    def _out(self, inside: Bools, values: Floats) -> Bools:
        """Return which arms the seeds given so far speak against."""
        has = ~np.isnan(values)
        n = has.sum(axis=1)
        out: Bools = self.seeds - (values.shape[1] - n) < self.min_seeds  # too many failed
        broken = (values == -np.inf).any(axis=1)
        ranked = inside & ~broken & (n >= self.min_seeds)
        if ranked.any():
            out |= broken | beaten(np.where(ranked[:, None], values, np.nan), self.alpha)
        return out


def beaten(values: Floats, alpha: float) -> Bools:
    """Return which arms (rows) lie behind the best one, seed by seed (columns), at `alpha`.

    NaN is a value that is lacking; an arm without any is not beaten. The rule is `SeedRace`'s.
    """
    has = ~np.isnan(values)
    whole = values[has.all(axis=1)]
    if len(whole) < 2 or values.shape[1] < 2:
        return np.zeros(len(values), dtype=np.bool_)
    rest = whole - whole.mean(axis=1, keepdims=True)
    rest -= rest.mean(axis=0, keepdims=True)
    df = (len(whole) - 1) * (values.shape[1] - 1)
    pooled = 2 * (rest**2).sum() / df

    n = has.sum(axis=1)
    means = np.where(has, values, 0).sum(axis=1) / np.maximum(n, 1)
    leader = values[np.argmax(np.where(n > 0, means, -np.inf))]
    behind = leader - values
    shared = ~np.isnan(behind)
    n = shared.sum(axis=1)
    mean = np.where(shared, behind, 0).sum(axis=1) / np.maximum(n, 1)
    spread = np.where(shared, behind - mean[:, None], 0)
    own = (spread**2).sum(axis=1) / np.maximum(n - 1, 1)
    limit = -stdtrit(df, alpha) * np.sqrt(np.maximum(pooled, own) / np.maximum(n, 1))
    far: Bools = (n >= 2) & (mean > limit)
    return far
