"""The best published cell: its gain corrected for selection (level E1).

Computed by quadrature or in closed form, without random draws: means are independent and normal
about their true values with one known standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special

from fgaug.analysis.published.comparisons import against_baseline
from fgaug.analysis.published.source import SEEDS, Thesis, spread_of
from fgaug.stats.arrays import NAN, Floats
from fgaug.stats.dunnett import MaxOfArms
from fgaug.stats.inference import quantile
from fgaug.stats.seeds import Spread

_BOOTSTRAP = "parametric bootstrap, true means shrunk to"
_BAYES = "empirical Bayes, to"
_LEFT_OUT = "ratio selected on the other psis, scored on the one left out"
_PICK = "conditional on selection, median-unbiased, baseline treated as exact"
NODES = 400  # of the integrals over a standard normal
REACH = 9.0  # integration range in standard deviations on either side


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """One estimate of the best cell's gain, with a 95% interval or NaN."""

    key: str
    words: str
    value: float
    low: float = NAN
    high: float = NAN
    corrected: bool = True  # for selection


@dataclass(frozen=True, slots=True, kw_only=True)
class BestCell:
    """The cell with the highest mean, and estimates of its true gain over the baseline."""

    metric: str
    psi: float
    ratio: float
    baseline: float  # its mean
    pooled_sd: float  # sample sd over seeds, over all cells and the baseline
    df: float
    null_mean: float  # expected gain of the best of as many cells without any effect
    null_p95: float
    one_sided_low: float  # Dunnett's one-sided 95% lower bound
    gains: tuple[Gain, ...]  # published, corrected ones, simultaneous interval
    tau: float  # sd of the true means about their mean
    weight: float  # share retained of the deviations from psi + ratio
    best_after: tuple[float, float, float]  # psi, ratio and gain of the best cell after shrinkage
    optimism: dict[str, float]  # of the parametric bootstraps, by shrinkage target
    others: pd.DataFrame  # psi left out, ratio selected on the others, gain on it

    def gain(self, key: str) -> Gain:
        """Return the gain with this key."""
        return next(found for found in self.gains if found.key == key)

    def with_images(self, error: float) -> tuple[float, float]:
        """Return a 95% interval of the gain shrunk to psi + ratio, with image sampling.

        The seed error is that of two means without shrinkage.

        Args:
            error: assumed standard error of the difference over images (not published).
        """
        middle = self.gain("eb_additive").value
        seeds = self.pooled_sd * (2 / SEEDS) ** 0.5
        half = quantile(0.975, self.df) * (seeds**2 + error**2) ** 0.5
        return middle - half, middle + half


def best_cell(thesis: Thesis, metric: str) -> BestCell:
    """Return the best published cell with all corrections of its gain.

    Args:
        thesis: the thesis's tables.
        metric: `acc` or `auc`.
    """
    cells = thesis.cells.sort_values(["psi", "ratio"])
    grid = cells[f"{metric}_mean"].to_numpy(float).reshape(cells["psi"].nunique(), -1)
    means, baseline = grid.ravel(), spread_of(thesis.baseline, metric)
    dunnett = against_baseline(thesis, metric).dunnett
    se, critical = dunnett.pooled_sd / SEEDS**0.5, one_sided_critical(means.size, dunnett.df)
    to_mean, to_sum = shrunk_to_mean(means, se), shrunk_to_sum(grid, se)
    shrunk = to_sum.truth.ravel()
    optimism = {
        "grand": optimism_of(to_mean.truth, se),
        "additive": optimism_of(shrunk, se),
        "rawmeans": optimism_of(means, se),
    }
    k, after, others = int(means.argmax()), int(shrunk.argmax()), left_out(cells, metric, baseline)
    naive = float(means[k] - baseline.mean)
    posterior = quantile(0.975, dunnett.df) * (to_sum.error**2 + se**2) ** 0.5
    rows = [
        ("naive", "as published", naive, NAN),
        ("bootstrap_grand", f"{_BOOTSTRAP} the grand mean", naive - optimism["grand"], NAN),
        ("bootstrap_additive", f"{_BOOTSTRAP} psi + ratio", naive - optimism["additive"], NAN),
        ("eb_grand", f"{_BAYES} the grand mean", to_mean.truth[k] - baseline.mean, NAN),
        ("eb_additive", f"{_BAYES} psi + ratio", shrunk[k] - baseline.mean, posterior),
        ("leave_one_psi_out", _LEFT_OUT, others["gain"].mean(), NAN),
        ("dunnett", "simultaneous interval (Dunnett)", naive, dunnett.critical * dunnett.se[0]),
    ]
    middle, low, high = (truth - baseline.mean for truth in given_the_pick(means, se))
    gains = [
        Gain(
            key=key,
            words=words,
            value=float(value),
            low=float(value - half),
            high=float(value + half),
            corrected=key not in ("naive", "dunnett"),
        )
        for key, words, value, half in rows
    ]
    gains.insert(-1, Gain(key="conditional", words=_PICK, value=middle, low=low, high=high))
    mean, p95 = null_best(means.size, se)
    return BestCell(
        metric=metric,
        psi=float(cells["psi"].iloc[k]),
        ratio=float(cells["ratio"].iloc[k]),
        baseline=baseline.mean,
        pooled_sd=dunnett.pooled_sd,
        df=dunnett.df,
        null_mean=mean,
        null_p95=p95,
        one_sided_low=float(naive - critical * dunnett.se[0]),
        gains=tuple(gains),
        tau=max(0.0, float(means.var(ddof=1)) - se**2) ** 0.5,
        weight=to_sum.weight,
        best_after=(
            float(cells["psi"].iloc[after]),
            float(cells["ratio"].iloc[after]),
            float(shrunk[after] - baseline.mean),
        ),
        optimism=optimism,
        others=others,
    )


def left_out(cells: pd.DataFrame, metric: str, baseline: Spread) -> pd.DataFrame:
    """Return each psi with the ratio that is best on the other psis, and its gain there.

    Columns: psi, ratio, gain (mean of that cell minus the baseline).
    """
    table = cells.pivot(index="psi", columns="ratio", values=f"{metric}_mean")
    rows = []
    for psi in table.index:
        ratio = table.drop(index=psi).mean().idxmax()
        rows.append({"psi": psi, "ratio": ratio, "gain": table.loc[psi, ratio] - baseline.mean})
    return pd.DataFrame(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """Means shrunk towards a simpler model of the true means."""

    truth: Floats  # in the shape of the means
    weight: float  # share retained of the deviations from the model, 0..1
    error: float  # standard error of one shrunken mean


def shrunk_to_mean(means: Floats, se: float) -> Shrunk:
    """Return means shrunk to their mean, [K] (Efron and Morris 1973, JASA 68:117).

    The variance of the true means is that of the means less se^2, at least 0; deviations are
    scaled by its share of the total. All means have the standard error se.
    """
    rest = means - means.mean()
    return _shrunk(means.mean() + 0 * means, rest, float(means.var(ddof=1)), 1 / means.size, se)


def shrunk_to_sum(grid: Floats, se: float) -> Shrunk:
    """Return means shrunk to row mean + column mean - grand mean, [P, R], with their error.

    As `shrunk_to_mean`, for the residuals on (P - 1)(R - 1) degrees of freedom.
    """
    rows, columns = grid.mean(axis=1, keepdims=True), grid.mean(axis=0, keepdims=True)
    surface = rows + columns - grid.mean()
    rest, (p, r) = grid - surface, grid.shape
    spread = float((rest**2).sum()) / ((p - 1) * (r - 1))
    return _shrunk(surface, rest, spread, (p + r - 1) / grid.size, se)


def optimism_of(truth: Floats, se: float) -> float:
    """Return the expected optimism of the best of these cells.

    E(X_k - truth_k) for the k with the largest X, with X normal about the true means. A parametric
    bootstrap estimates it by draws; here it is sum_k of the integral of se z phi(z)
    prod_j Phi((truth_k + se z - truth_j) / se) over the other cells j.

    Args:
        truth: true means, float [K].
        se: standard error of a mean.
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
        count: number of cells.
        se: standard error of the mean of a cell, and of the baseline.
    """
    z, weight = _normal()

    def missed(gain: float) -> float:
        return float(weight @ special.ndtr(gain + z) ** count) - 0.95

    return optimism_of(np.zeros(count), se), se * float(optimize.brentq(missed, -REACH, REACH))


def given_the_pick(means: Floats, se: float) -> tuple[float, float, float]:
    """Return the median-unbiased mean of the best cell given its selection, with a 95% interval.

    The mean X of the best cell is normal about its true mean, truncated below at the runner-up.
    Solves P(X <= observed | X > runner-up) for .5, .975 and .025 (the conditional interval of
    Andrews, Kitagawa and McCloskey 2024, QJE 139:305, for independent means). Wide if the
    runner-up is close, NaN for a tie.

    Args:
        means: float [K].
        se: standard error of a mean.
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
    """Return the value that the largest of `count` t statistics exceeds with probability `alpha`.

    All cells and the baseline have equal numbers of seeds.
    """
    law = MaxOfArms(np.full(count, 0.5), df)
    low, high = (quantile(1 - alpha / k, df) for k in (1, count))
    return float(
        optimize.brentq(lambda value: law.tail(value, sided=1) - alpha, low - 1e-9, high + 1e-9)
    )


def _shrunk(model: Floats, rest: Floats, spread: float, leverage: float, se: float) -> Shrunk:
    """Return model + weight rest.

    The variance has a posterior part, weight se^2, and a model part, (1 - weight)^2 h se^2, with h
    the number of model parameters per mean.
    """
    weight = max(0.0, 1 - se**2 / spread) if spread else 0.0
    error = se * (weight + (1 - weight) ** 2 * leverage) ** 0.5
    return Shrunk(truth=model + weight * rest, weight=weight, error=error)


def _normal() -> tuple[Floats, Floats]:
    """Return nodes and weights of a standard normal."""
    x, weight = np.polynomial.legendre.leggauss(NODES)
    weight = weight * np.exp(-((REACH * x) ** 2) / 2)
    return REACH * x, weight / weight.sum()
