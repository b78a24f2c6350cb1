"""How many seeds: power and smallest visible gain of a planned comparison.  [stats, `power`]"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from fgaug.errors import UserError
from fgaug.stats.arms import satterthwaite
from fgaug.stats.arrays import NAN
from fgaug.stats.inference import quantile
from fgaug.stats.many_to_one import MaxOfArms, scale_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A comparison of equal arms with one baseline, before it is run."""

    arms: int  # compared with the baseline, K
    seeds: int  # of each arm
    baseline_seeds: int
    seed_sd: float  # of the metric between seeds
    case_variance: float = 0.0  # over patients, of one arm minus the baseline; 0: these patients
    patients: int | None = None  # G, that case_variance was estimated from; None: taken as known
    alpha: float = 0.05  # two-sided, for all arms together

    def __post_init__(self) -> None:
        """Refuse sizes and shares that no plan has.

        Raises:
            UserError: naming the field.
        """
        for name, least in (("arms", 1), ("seeds", 1), ("baseline_seeds", 1)):
            if getattr(self, name) < least:
                raise UserError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if not self.seed_sd >= 0 or not self.case_variance >= 0:
            raise UserError("`seed_sd` and `case_variance` must be 0 or more. Take a pilot's.")
        if not self.seed_sd and not self.case_variance:
            raise UserError("`seed_sd` and `case_variance` are both 0: any gain would be visible.")
        if self.patients is not None and self.patients < 2:
            raise UserError(f"`patients` must be at least 2, got {self.patients}.")
        if not 0 < self.alpha < 1:
            raise UserError(f"`alpha` must lie between 0 and 1, got {self.alpha:g}. Give 0.05.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whether a test can be significant at all, whatever the numbers turn out to be."""

    smallest_p: float  # two-sided, adjusted
    possible: bool  # smallest_p <= alpha
    seeds_needed: int  # of each arm (and of the baseline, where it has as many), at least


def power(plan: Plan, gain: float) -> float:
    """Return the chance that one arm, truly better by `gain`, is significant after adjustment.

    Noncentral t with gain / sqrt(V), V = sigma^2 (1 / n + 1 / n_0) + Q, beyond the two-sided
    critical value of all K arms (Dunnett; with patients the arms' differences share half of Q, as
    arms alike do). Df: sum(S - 1), with patients Satterthwaite's.

    Args:
        plan: the comparison.
        gain: in units of `seed_sd`; its sign does not matter.

    NaN where one seed everywhere leaves no degrees of freedom.
    """
    variance, df, critical = _test_of(plan)
    return _beyond(abs(gain) / math.sqrt(variance), df, critical)


def smallest_gain(plan: Plan, *, power: float = 0.8) -> float:
    """Return the gain that is significant with chance `power`, in units of `seed_sd`.

    Raises:
        UserError: for a power that is not between alpha and 1.
    """
    if not plan.alpha < power < 1:
        raise UserError(f"`power` must lie between {plan.alpha:g} and 1, got {power:g}. Give 0.8.")
    variance, df, critical = _test_of(plan)
    return _shift(df, critical, power) * math.sqrt(variance)


def ceiling(plan: Plan, gain: float) -> float:
    """Return the power that no number of seeds can exceed: patients alone are left, V = Q.

    1 where `case_variance` is 0.
    """
    if not plan.case_variance:
        return 1.0
    df = plan.patients - 1.0 if plan.patients else math.inf
    critical = MaxOfArms(np.full(plan.arms, 0.5), df).critical(plan.alpha)
    return _beyond(abs(gain) / math.sqrt(plan.case_variance), df, critical)


def seeds_for(plan: Plan, gain: float, *, power: float = 0.8, most: int = 1000) -> int | None:
    """Return the seeds an arm that reach this power, the baseline having sqrt(K) times as many.

    The square-root rule spends seeds best (Bechhofer and Nocturne 1972; Dunnett 1955). None
    where `most` seeds do not do it, for example above the `ceiling`.

    Args:
        plan: its own numbers of seeds are ignored.
        gain: in units of `seed_sd`.
        power: wanted.
        most: seeds an arm tried.
    """

    def reached(seeds: int) -> bool:
        baseline = math.ceil(seeds * math.sqrt(plan.arms))
        return _power_with(plan, seeds, baseline, gain) >= power

    if not reached(most):
        return None
    low, high = 1, most  # power rises with seeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def can_ever_be_significant(
    test: str, *, seeds: int, baseline_seeds: int | None = None, arms: int = 1, alpha: float = 0.05
) -> Reach:
    """Return the smallest p that a rank or sign-flip test of this size can give.

    Ranks or permutations of n and n_0 runs: 2 / C(n + n_0, n). Sign flips of n common seeds:
    2 / 2^n. Holm over K arms multiplies the smallest by K; a joint max-T does not.

    Args:
        test: `rank_holm`, `sign_flip_holm`, or `sign_flip_max_t`.
        seeds: of each arm.
        baseline_seeds: of the baseline (`rank_holm`); None for as many.
        arms: K.
        alpha: two-sided.

    Raises:
        UserError: for another test, or sizes below 1.
    """
    if test not in ("rank_holm", "sign_flip_holm", "sign_flip_max_t"):
        raise UserError(
            f"`test` must be rank_holm, sign_flip_holm or sign_flip_max_t, got {test!r}."
        )
    if seeds < 1 or arms < 1 or (baseline_seeds is not None and baseline_seeds < 1):
        raise UserError("`seeds`, `baseline_seeds` and `arms` must be at least 1.")

    def smallest(n: int) -> float:
        ranks = test == "rank_holm"
        p = 2 / math.comb(n + (baseline_seeds or n), n) if ranks else 2.0 ** (1 - n)
        return min(1.0, p * (1 if test == "sign_flip_max_t" else arms))

    needed = next(n for n in range(1, 10_000) if smallest(n) <= alpha)
    p = smallest(seeds)
    return Reach(smallest_p=p, possible=p <= alpha, seeds_needed=needed)


def _power_with(plan: Plan, seeds: int, baseline_seeds: int, gain: float) -> float:
    changed = Plan(
        arms=plan.arms,
        seeds=seeds,
        baseline_seeds=baseline_seeds,
        seed_sd=plan.seed_sd,
        case_variance=plan.case_variance,
        patients=plan.patients,
        alpha=plan.alpha,
    )
    return power(changed, gain)


def _test_of(plan: Plan) -> tuple[float, float, float]:
    """Return variance, degrees of freedom and critical value of one arm's difference."""
    own = plan.seed_sd**2 / plan.seeds
    shared = plan.seed_sd**2 / plan.baseline_seeds
    q = plan.case_variance
    seed_df = plan.arms * (plan.seeds - 1) + plan.baseline_seeds - 1
    if not seed_df:
        return own + shared + q, NAN, NAN
    if plan.patients is None:
        df = seed_df * ((own + shared + q) / (own + shared)) ** 2 if plan.seed_sd else math.inf
    else:
        df = satterthwaite([(own + shared, seed_df), (q, plan.patients - 1)])
    variance = own + shared + q
    law = MaxOfArms(np.full(plan.arms, (shared + q / 2) / variance), df)
    return variance, df, law.critical(plan.alpha)


def _beyond(shift: float, df: float, critical: float) -> float:
    """Return P(|T| >= critical), T noncentral t with this shift."""
    if math.isnan(critical):
        return NAN
    scale, weight = scale_nodes(df)  # given the estimated over the true sd, T is normal
    limit = critical * scale
    return float(weight @ (special.ndtr(shift - limit) + special.ndtr(-shift - limit)))


def _shift(df: float, critical: float, power: float) -> float:
    if math.isnan(critical):
        return NAN
    top = 2 * (critical + quantile(power, df)) + 10
    return float(optimize.brentq(lambda s: _beyond(s, df, critical) - power, 0, top))
