"""Many arms against one baseline, adjusted jointly: max-T over seeds and patients."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import interpolate, optimize, special
from scipy.stats import qmc

from fgaug.errors import UserError
from fgaug.stats.arms import Arms, case_of_differences
from fgaug.stats.arrays import NAN, ROUNDING, Floats, Ints
from fgaug.stats.inference import check_level, quantile, two_sided

DIRECTIONS = 2**17  # drawn for the joint distribution of the t statistics
REACHES = 2**25  # maximum of arms times directions: above 256 arms there are fewer directions
SEED = 22  # of those draws, so that p values are reproducible
BLOCK = 2**13  # directions drawn at a time
KNOTS = 2_000  # means that summarise them, besides at least as many of the largest values
BINS = 2**12  # of equal width, for all elements of the directions
FEW = 500  # directions that estimate the coefficient of the control variate
FEWER = 2**15  # maximum of arms times those directions
MANY = 200  # p values beyond which they are interpolated
SQUARES, NODES = (-20.0, 40.0), 2**14  # logarithms of squared radii, and the places among them
SLOPES = 25  # of those for which the coefficient of the control variate is estimated
Knots: TypeAlias = tuple[Floats, Floats]  # values and their weights


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxT:
    """K arms against a baseline over seeds and patients; float [K] in the order of the arms."""

    difference: Floats  # arm minus baseline
    se: Floats
    statistic: Floats
    df: Floats  # of each arm's own test
    seed_part: Floats  # part of the variance that shrinks with more seeds
    case_part: Floats  # part that shrinks only with more patients
    p_raw: Floats  # two-sided, unadjusted
    p_value: Floats  # adjusted for all K, two-sided
    ci_low: Floats  # simultaneous; excludes 0 exactly if p_value < 1 - level
    ci_high: Floats
    critical: float  # of max |t|
    correlation: Floats  # [K, K], of the t statistics
    seed_variance: float  # pooled over all arms; NaN if not pooled
    seed_df: int
    reason: str | None


def or_max_t(arms: Arms, baseline: int = 0, *, pool: bool = True, level: float = 0.95) -> MaxT:
    """Return every arm against the baseline with jointly adjusted p values and intervals.

    Sigma = diag(s2 / S_k) + s2 / S_0 11' + Q, with s2 the pooled seed variance and Q = A C A' the
    covariance over patients of the differences, A = [-1, I_K], eigenvalues clipped at 0. df_k =
    V_k^2 / (seed_k^2 / sum(S - 1) + Q_kk^2 / (G - 1)); p_k = P(max_j |T_j| >= |t_k|) with T the
    multivariate t with Sigma's correlation and the smallest df (Hothorn, Bretz and Westfall 2008,
    Biometrical Journal 50:346, with the model of Obuchowski and Rockette). In simulations of 12
    arms without effect the family-wise error was 0.024-0.050.

    Args:
        arms: the result of `arms_of`; all arms but the baseline are compared.
        baseline: index of the baseline.
        pool: whether all arms share one seed variance; without pooling, 3 seeds are few.
        level: confidence level of the simultaneous intervals.

    Identical runs give p = 1. An arm that differs with a variance of 0, or has an unknown variance
    (one seed, not pooled), is NaN and is left out of the joint distribution.

    Raises:
        UserError: there is no arm besides the baseline.
    """
    check_level(level)
    others = np.delete(np.arange(arms.mean.size), baseline)
    if not others.size:
        raise UserError("A comparison needs a baseline and at least one arm, got no arm.")
    order = np.concatenate([[baseline], others])
    case = case_of_differences(arms.case[np.ix_(order, order)])
    scale = float(np.abs(arms.mean).max())
    seed = _seed_parts(arms, order, pool)
    seed = np.where(seed <= (ROUNDING * scale) ** 2, 0.0, seed)
    difference = arms.mean[others] - arms.mean[baseline]
    difference = np.where(np.abs(difference) <= ROUNDING * scale, 0.0, difference)
    sigma = np.diag(seed[1:]) + seed[0] + case
    variance, case_part = np.diag(sigma).copy(), np.diag(case).copy()
    df = _degrees(arms, order, seed, case_part, pool)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(variance > 0, difference / np.sqrt(variance), NAN)
    t = np.where((variance == 0) & (difference == 0), 0.0, t)
    known = df[~np.isnan(df)]
    joint = JointT(sigma, float(known.min()) if known.size else NAN)
    p_raw, critical = two_sided(t, df), joint.critical(1 - level)
    adjusted = joint.tails(np.abs(t))
    half = np.where(np.isnan(t), NAN, np.where(variance > 0, critical * np.sqrt(variance), 0.0))
    return MaxT(
        difference=difference,
        se=np.sqrt(variance),
        statistic=t,
        df=df,
        seed_part=seed[1:] + seed[0],
        case_part=case_part,
        p_raw=p_raw,
        p_value=np.maximum(adjusted, p_raw),  # Monte Carlo error could leave it slightly below
        ci_low=difference - half,
        ci_high=difference + half,
        critical=critical,
        correlation=joint.correlation,
        seed_variance=arms.pooled_seed_variance if pool else NAN,
        seed_df=arms.seed_df,
        reason=_reason(arms, t, variance, pool),
    )


class JointT:
    """The distribution of the largest of K correlated t statistics with one common df."""

    def __init__(self, sigma: Floats, df: float) -> None:
        """Draw the distribution for a covariance.

        A multivariate t is L u sqrt(K F), with u a direction, uniform on the sphere, and F
        Fisher's F on K and df. Only directions are drawn, 131,072 of a Sobol sequence with a fixed
        scramble; the radius is integrated exactly (Genz and Bretz 2009, section 4.1). The sum of
        the same integral over arms has a known mean, K times the p of one arm, and serves as
        control variate: in the far tail, where it nearly equals that of the largest arm, p is
        practically exact, and it is never 0. Compared with Dunnett's integral, p is off by less
        than 1e-4 for 12 arms and 1e-3 for 36.

        Args:
            sigma: float [K, K]; statistics with a variance of 0 are always 0 and ignored, as are
                those with a variance of NaN.
            df: degrees of freedom; infinity for a normal distribution.
        """
        self.df = df
        spread = np.sqrt(np.diag(sigma))
        varies = spread > 0
        self.correlation = np.eye(len(sigma)) + 0 * sigma
        inner = np.ix_(varies, varies)
        self.correlation[inner] = sigma[inner] / np.outer(spread[varies], spread[varies])
        self.dimension = int(varies.sum())
        self.defined = bool(np.isfinite(spread).any() and df > 0)
        if self.defined and self.dimension > 1:
            self.largest, self.every, self.few = _reaches(self.correlation[inner])

    def tail(self, value: float, slope: float | None = None) -> float:
        """Return P(max |T_k| >= value); K = 1: Student's t.

        Args:
            value: at least 0; NaN stays NaN.
            slope: coefficient of the control variate; None estimates it.
        """
        if not self.defined or np.isnan(value):
            return NAN
        if self.dimension < 2:
            return float(two_sided(value, self.df)) if self.dimension else 1.0
        known = self.dimension * float(two_sided(value, self.df))
        largest, every = (
            weight @ self._beyond(value, x) for x, weight in (self.largest, self.every)
        )
        slope = self._slope(value) if slope is None else slope
        return float(np.clip(largest - slope * (every - known), known / self.dimension, known))

    def _slope(self, value: float) -> float:
        """Return the coefficient of the control variate; any value leaves `tail` unbiased."""
        few = self._beyond(value, self.few)
        top, total = few.max(axis=1), few.sum(axis=1)
        spread = float(total.var())
        return float(np.cov(top, total, ddof=0)[0, 1]) / spread if spread > 0 else 1.0

    def tails(self, values: Floats) -> Floats:
        """Return `tail` of each value, interpolated between MANY nodes if there are more values.

        The logarithm of p is smooth and decreasing: between nodes it is off by less than 1e-4.
        """
        known = values[np.isfinite(values)]
        if not self.defined or known.size <= MANY:
            return np.array([self.tail(float(value)) for value in values])
        nodes = np.linspace(known.min(), known.max() + ROUNDING, MANY)
        slopes = np.ones(MANY)
        if self.dimension > 1:
            some = np.linspace(nodes[0], nodes[-1], SLOPES)
            slopes = np.interp(nodes, some, [self._slope(float(node)) for node in some])
        found = [self.tail(*map(float, pair)) for pair in zip(nodes, slopes, strict=True)]
        logs = np.log(np.maximum(found, np.finfo(float).tiny))
        result = np.full(values.shape, NAN)
        curve = interpolate.PchipInterpolator(nodes, logs)
        result[np.isfinite(values)] = np.exp(np.minimum(curve(known), 0.0))
        return result

    def _beyond(self, value: float, reach: Floats) -> Floats:
        """Return the probability that radius times reach is at least `value`."""
        with np.errstate(divide="ignore"):
            squares = 2 * (np.log(value) - np.log(reach))
        return np.asarray(np.exp(self._log_radius(np.clip(squares, *SQUARES))))

    @functools.cached_property
    def _log_radius(self) -> interpolate.PchipInterpolator:
        """The log probability that the squared radius exceeds exp(x), within 1e-6.

        Each tail needs it at some ten thousand places; exactly, that takes ten times as long.
        """
        nodes = np.linspace(*SQUARES, NODES)
        squares = np.exp(nodes)
        if np.isinf(self.df):
            tail = special.chdtrc(self.dimension, squares)
        else:
            tail = special.fdtrc(self.dimension, self.df, squares / self.dimension)
        tail[0] = 1.0  # exactly, for a value of 0
        return interpolate.PchipInterpolator(nodes, np.log(np.maximum(tail, np.finfo(float).tiny)))

    def critical(self, alpha: float) -> float:
        """Return the value that max |T_k| exceeds with probability `alpha`."""
        if not self.defined:
            return NAN
        low, high = (quantile(1 - alpha / 2 / k, self.df) for k in (1, max(1, self.dimension)))
        if self.dimension < 2:
            return low
        # between the value for one arm and Bonferroni's, with room for Monte Carlo error
        return float(
            optimize.brentq(lambda c: self.tail(c) - alpha, 0.98 * low, 1.02 * high, xtol=1e-10)
        )


def _reaches(correlation: Floats) -> tuple[Knots, Knots, Floats]:
    """Return |L u| over directions u: its largest element, all elements, and a few whole rows.

    The first two are knots with weights that sum to 1 and to K, the rows are [FEW, K].
    """
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    points = qmc.Sobol(len(root), rng=SEED)
    largest, every, few = [], _Summary(), np.empty(0)
    rows = max(20, min(FEW, FEWER // len(root)))
    for _ in range(_blocks(len(root))):
        u = special.ndtri(points.random(BLOCK))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        reach = np.abs(u @ root.T)
        largest.append(reach.max(axis=1))
        every.add(reach.ravel())
        few = reach[:rows]
    return _knots(np.concatenate(largest), 1), every.knots(len(root)), few


class _Summary:
    """A weighted summary of more values in [0, 1] than fit in memory: `_knots`, block by block."""

    def __init__(self) -> None:
        self.count, self.total = np.zeros(BINS), np.zeros(BINS)
        self.top = np.empty(0)  # the largest values

    def add(self, values: Floats) -> None:
        place = _bin_of(values)
        self.count += np.bincount(place, minlength=BINS)
        self.total += np.bincount(place, weights=values, minlength=BINS)
        if self.top.size == KNOTS:
            values = values[values > self.top[0]]
        top = np.concatenate([self.top, values])
        cut = max(0, top.size - KNOTS)
        self.top = np.partition(top, cut)[cut:] if cut else top

    def knots(self, mass: float) -> Knots:
        """Return the largest values exactly, and the mean of the others in each bin."""
        place = _bin_of(self.top)
        count = self.count - np.bincount(place, minlength=BINS)
        total = self.total - np.bincount(place, weights=self.top, minlength=BINS)
        full = count > 0
        weight = np.concatenate([count[full], np.ones(self.top.size)])
        means = total[full] / count[full]
        return np.concatenate([means, self.top]), weight * (mass / weight.sum())


def _bin_of(values: Floats) -> Ints:
    # rows of the root have length 1, but for rounding
    return np.minimum((values * BINS).astype(np.int64), BINS - 1)


def _blocks(arms: int) -> int:
    """Return the number of blocks of directions: a power of two, as a Sobol sequence requires."""
    wanted = min(DIRECTIONS, 1 << int(np.log2(REACHES / arms)))
    return max(1, wanted // BLOCK)


def _knots(values: Floats, mass: float) -> Knots:
    """Return a weighted summary of many values: the largest exactly, means of the rest."""
    cut = values.size - values.size % KNOTS - KNOTS
    values = np.partition(values, cut)
    rest = np.sort(values[:cut]).reshape(KNOTS, -1)
    knots = np.concatenate([rest.mean(axis=1), values[cut:]])
    weight = np.repeat([rest.shape[1], 1.0], [KNOTS, values.size - cut]) * (mass / values.size)
    return knots, weight


def _seed_parts(arms: Arms, order: Ints, pool: bool) -> Floats:
    """Return the seed variance of each arm's mean, [1 + K], the baseline first."""
    each = np.full(order.size, arms.pooled_seed_variance) if pool else arms.seed_variance[order]
    return np.asarray(each / arms.n_seeds[order])


def _degrees(arms: Arms, order: Ints, seed: Floats, case_part: Floats, pool: bool) -> Floats:
    """Return Satterthwaite's degrees of freedom of each difference, [K]."""
    spare = arms.n_seeds[order] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        if pool:
            below = (seed[1:] + seed[0]) ** 2 / arms.seed_df
        else:
            below = seed[1:] ** 2 / spare[1:] + seed[0] ** 2 / spare[0]
        variance = seed[1:] + seed[0] + case_part
        df = variance**2 / (below + case_part**2 / (arms.n_patients - 1))
    # a variance of 0 is known: any df works that does not reduce the common minimum
    return np.where(variance == 0, arms.seed_df + arms.n_patients - 1.0, df)


def _reason(arms: Arms, t: Floats, variance: Floats, pool: bool) -> str | None:
    if arms.reason:
        return arms.reason
    if not arms.seed_df:
        return "every arm has one seed: no seed variance"
    if not pool and (arms.n_seeds < 2).any():
        return "an arm has one seed, and variances are not pooled"
    bad = np.isnan(t) & (variance == 0)
    return f"no variance in {bad.sum()} arms that differ from the baseline" if bad.any() else None
