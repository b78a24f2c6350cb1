"""Picked: what remains of the best of many means once its luck is gone.  [picked] -> best_cell

All by quadrature or closed form: no draws, no rng. Means are independent and normal about their
truths with one known error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from fgaug.stats.arrays import NAN, Floats
from fgaug.stats.inference import quantile
from fgaug.stats.many_to_one import MaxOfArms

NODES = 400  # of the integrals over a standard normal
REACH = 9.0  # standard deviations that they span on either side


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """Means drawn towards a simpler model of the truths."""

    truth: Floats  # in the shape of the means
    weight: float  # kept of what departs from the model, 0..1
    error: float  # standard error of one truth


def shrunk_to_mean(means: Floats, se: float) -> Shrunk:
    """Return means shrunk to their mean, [K] (Efron and Morris 1973, JASA 68:117).

    The variance of the truths is that of the means less se^2, at least 0; a mean keeps its share
    of the whole. One error se for all.
    """
    rest = means - means.mean()
    return _shrunk(means.mean() + 0 * means, rest, float(means.var(ddof=1)), 1 / means.size, se)


def shrunk_to_sum(grid: Floats, se: float) -> Shrunk:
    """Return means shrunk to row mean + column mean - grand mean, [P, R], with their error.

    As `shrunk_to_mean`, of the residuals, on (P - 1)(R - 1) degrees of freedom.
    """
    rows, columns = grid.mean(axis=1, keepdims=True), grid.mean(axis=0, keepdims=True)
    surface = rows + columns - grid.mean()
    rest, (p, r) = grid - surface, grid.shape
    spread = float((rest**2).sum()) / ((p - 1) * (r - 1))
    return _shrunk(surface, rest, spread, (p + r - 1) / grid.size, se)


def optimism_of(truth: Floats, se: float) -> float:
    """Return how much the best of these cells looks better than it is, on average.

    E(X_k - truth_k) of the k with the largest X, X normal about the truths with one error: what a
    parametric bootstrap estimates by draws, here sum_k of the integral of se z phi(z)
    prod_j Phi((truth_k + se z - truth_j) / se) over the other cells j.

    Args:
        truth: float [K].
        se: of a mean.
    """
    z, weight = _normal()
    total = 0.0
    for k in range(truth.size):
        apart = (truth[k] - np.delete(truth, k)) / se
        others = special.log_ndtr(z[:, None] + apart).sum(axis=1)
        total += float(weight @ (z * np.exp(others)))
    return se * total


def null_best(count: int, se: float) -> tuple[float, float]:
    """Return mean and 95th percentile of the best gain of cells that equal the baseline.

    Args:
        count: of cells.
        se: of the mean of a cell and of the baseline.
    """
    z, weight = _normal()

    def missed(gain: float) -> float:
        return float(weight @ special.ndtr(gain + z) ** count) - 0.95

    return optimism_of(np.zeros(count), se), se * float(optimize.brentq(missed, -REACH, REACH))


def given_the_pick(means: Floats, se: float) -> tuple[float, float, float]:
    """Return the best truth, median-unbiased given that it beat the runner-up, with 95 % interval.

    X of the best cell is normal about its truth, cut off below at the runner-up's mean; the truths
    at which P(X <= seen | X > runner-up) is .5, .975 and .025 (the conditional interval of
    Andrews, Kitagawa and McCloskey 2024, QJE 139:305, for independent means). Wide where the
    runner-up is close. NaN where it is a tie.

    Args:
        means: float [K].
        se: of a mean.
    """
    second, best = np.sort(means)[-2:]
    if best == second:
        return NAN, NAN, NAN

    # P(X > seen | X > runner-up) falls faster than an exponential: 1/80 lies within this bracket
    down = second - 10 * se - se**2 * np.log(80) / (best - second)

    def truth_at(probability: float) -> float:
        def apart(truth: float) -> float:
            passed = special.log_ndtr((truth - second) / se)
            below = -np.expm1(special.log_ndtr((truth - best) / se) - passed)
            return float(below) - probability

        return float(optimize.brentq(apart, down, best + 10 * se))

    return truth_at(0.5), truth_at(0.975), truth_at(0.025)


def one_sided_critical(count: int, df: float, *, alpha: float = 0.05) -> float:
    """Return what the largest of `count` t statistics exceeds with probability `alpha`.

    Equal numbers of seeds in all cells and the baseline.
    """
    law = MaxOfArms(np.full(count, 0.5), df)
    low, high = (quantile(1 - alpha / k, df) for k in (1, count))
    return float(
        optimize.brentq(lambda value: law.tail(value, sided=1) - alpha, low - 1e-9, high + 1e-9)
    )


def _shrunk(model: Floats, rest: Floats, spread: float, leverage: float, se: float) -> Shrunk:
    """Return model + weight rest.

    The error of a truth has the posterior's part, weight se^2, and the model's own,
    (1 - weight)^2 h se^2, h the share of its parameters in the means.
    """
    weight = max(0.0, 1 - se**2 / spread) if spread else 0.0
    error = se * (weight + (1 - weight) ** 2 * leverage) ** 0.5
    return Shrunk(truth=model + weight * rest, weight=weight, error=error)


def _normal() -> tuple[Floats, Floats]:
    """Return nodes and weights of a standard normal."""
    x, weight = np.polynomial.legendre.leggauss(NODES)
    weight = weight * np.exp(-((REACH * x) ** 2) / 2)
    return REACH * x, weight / weight.sum()
