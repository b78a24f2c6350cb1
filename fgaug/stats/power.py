"""Number of seeds, power and smallest detectable gain of a planned comparison."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from fgaug.errors import UserError
from fgaug.stats.arms import satterthwaite
from fgaug.stats.arrays import NAN
from fgaug.stats.dunnett import MaxOfArms, normal_nodes, scale_nodes
from fgaug.stats.inference import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A comparison of equal arms with one baseline, before it is run."""

    arms: int  # K, compared with the baseline
    seeds: int  # of each arm
    baseline_seeds: int
    seed_sd: float  # of the metric between seeds
    case_variance: float = 0.0  # over patients, of one arm minus the baseline; 0: these patients
    patients: int | None = None  # G, from which case_variance was estimated; None: known
    alpha: float = 0.05  # two-sided, over all arms

    def __post_init__(self) -> None:
        """Refuse impossible sizes and shares.

        Raises:
            UserError: names the field.
        """
        for name, least in (("arms", 1), ("seeds", 1), ("baseline_seeds", 1)):
            if getattr(self, name) < least:
                raise UserError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if not self.seed_sd >= 0 or not self.case_variance >= 0:
            raise UserError(
                "`seed_sd` and `case_variance` must be 0 or more. Use those of a pilot."
            )
        if not self.seed_sd and not self.case_variance:
            raise UserError(
                "`seed_sd` and `case_variance` are both 0: any gain would be detectable."
            )
        if self.patients is not None and self.patients < 2:
            raise UserError(f"`patients` must be at least 2, got {self.patients}.")
        if not 0 < self.alpha < 1:
            raise UserError(f"`alpha` must lie between 0 and 1, got {self.alpha:g}. Give 0.05.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectableGain:
    """Whether a test can be significant at all, whatever the results."""

    smallest_p: float  # two-sided, adjusted
    possible: bool  # smallest_p <= alpha
    seeds_needed: int  # minimum per arm (and for the baseline, if it has as many)


def power(plan: Plan, gain: float) -> float:
    """Return the power to find one arm, truly better by `gain`, significant after adjustment.

    Noncentral t with gain / sqrt(V), V = sigma^2 (1 / n + 1 / n_0) + Q, beyond the two-sided
    critical value for all K arms (Dunnett; with patients the differences of the arms share half of
    Q, as for similar arms). Df: sum(S - 1), or Satterthwaite's with patients.

    Args:
        plan: the comparison.
        gain: in units of `seed_sd`; its sign does not matter.

    NaN if single seeds leave no degrees of freedom.
    """
    variance, df, critical = _test_of(plan)
    return _beyond(abs(gain) / math.sqrt(variance), df, critical)


def smallest_gain(plan: Plan, *, power: float = 0.8) -> float:
    """Return the gain that is significant with probability `power`, in units of `seed_sd`.

    Raises:
        UserError: the power is not between alpha and 1.
    """
    if not plan.alpha < power < 1:
        raise UserError(f"`power` must lie between {plan.alpha:g} and 1, got {power:g}. Give 0.8.")
    variance, df, critical = _test_of(plan)
    return _shift(df, critical, power) * math.sqrt(variance)


def ceiling(plan: Plan, gain: float) -> float:
    """Return the limit of the power for any number of seeds: only patients remain, V = Q.

    It is 1 if `case_variance` is 0.
    """
    if not plan.case_variance:
        return 1.0
    df = plan.patients - 1.0 if plan.patients else math.inf
    critical = MaxOfArms(np.full(plan.arms, 0.5), df).critical(plan.alpha)
    return _beyond(abs(gain) / math.sqrt(plan.case_variance), df, critical)


def seeds_for(plan: Plan, gain: float, *, power: float = 0.8, most: int = 1000) -> int | None:
    """Return the seeds per arm that reach this power, with sqrt(K) times as many for the baseline.

    The square-root rule allocates seeds optimally (Bechhofer and Nocturne 1972; Dunnett 1955).
    None if `most` seeds do not suffice, for example above the `ceiling`.

    Args:
        plan: the comparison; its own numbers of seeds are ignored.
        gain: in units of `seed_sd`.
        power: the required power.
        most: the largest number of seeds per arm to try.
    """

    def reached(seeds: int) -> bool:
        baseline = math.ceil(seeds * math.sqrt(plan.arms))
        return _power_with(plan, seeds, baseline, gain) >= power

    if not reached(most):
        return None
    low, high = 0, most  # power rises with seeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def selected(screen: Plan, top: int, gain: float) -> float:
    """Return the probability that one arm, truly better by `gain`, is among the `top` screened.

    Assumes that the K - 1 other arms equal the baseline. Means over seeds are normal with variance
    sigma^2 / n + Q / 2 (each arm's own half of the variance over patients, as in `power`).
    Integrates over that arm's mean: at most top - 1 of the others, binomial, lie above it.

    Args:
        screen: the screening; its baseline does not matter.
        top: number of arms that are confirmed.
        gain: in units of `seed_sd`, in the better direction.
    """
    others = screen.arms - 1
    if top > others:
        return 1.0
    sd = math.sqrt(screen.seed_sd**2 / screen.seeds + screen.case_variance / 2)
    z, weight = normal_nodes()
    above = special.ndtr(-(z + gain / sd))  # probability for each other arm
    return float(weight @ special.bdtr(top - 1, others, above))


def two_stage_power(screen: Plan, confirm: Plan, gain: float) -> float:
    """Return the probability that the arm truly better by `gain` is selected and then significant.

    The product of `selected` and the `power` of the second stage: fresh seeds and other patients
    make the stages independent. Exact for the normal model; with patients, up to the variance of
    the screening's estimated Q, which selecting the largest means does not use.

    Args:
        screen: all K arms; its alpha is ignored, as nothing is tested there.
        confirm: the second stage; its `arms` are the best of the screening.
        gain: in units of `seed_sd`, in the better direction.
    """
    return selected(screen, confirm.arms, gain) * power(confirm, gain)


def smallest_two_stage_gain(screen: Plan, confirm: Plan, *, power: float = 0.8) -> float:
    """Return the gain that two stages detect with probability `power`, in units of `seed_sd`.

    NaN if the second stage has no degrees of freedom.

    Raises:
        UserError: as in `smallest_gain`.
    """
    low = smallest_gain(confirm, power=power)  # what the second stage needs on its own
    if math.isnan(low) or selected(screen, confirm.arms, low) == 1:
        return low
    high = 2 * low
    while two_stage_power(screen, confirm, high) < power:
        high *= 2
    found = optimize.brentq(lambda gain: two_stage_power(screen, confirm, gain) - power, low, high)
    return float(found)


def can_ever_be_significant(
    test: str, *, seeds: int, baseline_seeds: int | None = None, arms: int = 1, alpha: float = 0.05
) -> DetectableGain:
    """Return the smallest p that a rank or sign-flip test of this size can give.

    Ranks or permutations of n and n_0 runs: 2 / C(n + n_0, n). Sign flips of n common seeds:
    2 / 2^n. Holm over K arms multiplies the smallest by K; a joint max-T does not.

    Args:
        test: `rank_holm`, `sign_flip_holm`, or `sign_flip_max_t`.
        seeds: seeds per arm.
        baseline_seeds: seeds of the baseline (`rank_holm`); by default as many.
        arms: K.
        alpha: two-sided.

    Raises:
        UserError: the test is unknown, a size is below 1, or alpha is outside 0..1.
    """
    if test not in ("rank_holm", "sign_flip_holm", "sign_flip_max_t"):
        raise UserError(
            f"`test` must be rank_holm, sign_flip_holm or sign_flip_max_t, got {test!r}."
        )
    if seeds < 1 or arms < 1 or (baseline_seeds is not None and baseline_seeds < 1):
        raise UserError("`seeds`, `baseline_seeds` and `arms` must be at least 1.")
    if not 0 < alpha < 1:
        raise UserError(f"`alpha` must lie between 0 and 1, got {alpha:g}. Give 0.05.")

    def smallest(n: int) -> float:
        ranks = test == "rank_holm"
        p = 2 / math.comb(n + (baseline_seeds or n), n) if ranks else 2.0 ** (1 - n)
        return min(1.0, p * (1 if test == "sign_flip_max_t" else arms))

    enough = 1
    while smallest(enough) > alpha:  # p falls towards 0 with seeds
        enough *= 2
    needed = bisect_left(range(enough + 1), True, lo=1, key=lambda n: smallest(n) <= alpha)
    p = smallest(seeds)
    return DetectableGain(smallest_p=p, possible=p <= alpha, seeds_needed=needed)


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


@lru_cache(maxsize=256)  # one plan is evaluated for several gains
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
    """Return P(|T| >= critical) for a noncentral t with this shift."""
    if math.isnan(critical):
        return NAN
    scale, weight = scale_nodes(df)  # given the ratio of estimated to true sd, T is normal
    limit = critical * scale
    return float(weight @ (special.ndtr(shift - limit) + special.ndtr(-shift - limit)))


def _shift(df: float, critical: float, power: float) -> float:
    if math.isnan(critical):
        return NAN
    top = 2 * (critical + quantile(power, df)) + 10
    return float(optimize.brentq(lambda s: _beyond(s, df, critical) - power, 0, top))
