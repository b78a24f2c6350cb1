"""Best cell: its gain without the luck of having been picked, from summaries (level E1).

source -> picked -> [best_cell] -> thesis_page
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from fgaug.report.published.comparisons import against_baseline
from fgaug.report.published.picked import (
    given_the_pick,
    null_best,
    one_sided_critical,
    optimism_of,
    shrunk_to_mean,
    shrunk_to_sum,
)
from fgaug.report.published.source import SEEDS, Thesis, spread_of
from fgaug.stats.arrays import NAN
from fgaug.stats.inference import quantile
from fgaug.stats.seeds import Spread

_BOOTSTRAP = "parametric bootstrap, truths shrunk to"
_BAYES = "empirical Bayes, to"
_LEFT_OUT = "ratio chosen on the other psis, scored on the one left out"
_PICK = "conditional on the pick, median-unbiased, baseline taken as exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """One estimate of the best cell's gain; intervals are 95 %, NaN where there is none."""

    key: str
    words: str
    value: float
    low: float = NAN
    high: float = NAN
    corrected: bool = True  # for having been picked


@dataclass(frozen=True, slots=True, kw_only=True)
class BestCell:
    """The cell of the highest mean and what its gain over the baseline may really be."""

    metric: str
    psi: float
    ratio: float
    baseline: float  # its mean
    pooled_sd: float  # sample sd over seeds, over all cells and the baseline
    df: float
    null_mean: float  # gain of the best of as many cells, none of which differs
    null_p95: float
    one_sided_low: float  # Dunnett's lower bound, 95 % one-sided
    gains: tuple[Gain, ...]  # published first, then the corrected ones, then the interval
    tau: float  # sd of the truths about their mean
    weight: float  # kept of what departs from psi + ratio
    best_after: tuple[float, float, float]  # psi, ratio and gain of the best cell once shrunk so
    optimism: dict[str, float]  # of the parametric bootstraps, by what truths are shrunk to
    others: pd.DataFrame  # psi left out, ratio chosen on the others, gain on it

    def gain(self, key: str) -> Gain:
        """Return the gain of that key."""
        return next(found for found in self.gains if found.key == key)

    def with_images(self, error: float) -> tuple[float, float]:
        """Return a 95 % interval of the gain shrunk to psi + ratio, image sampling included.

        The seed error is that of two plain means, as if nothing had been shrunk.

        Args:
            error: standard error of the difference over images, which was not published.
        """
        middle = self.gain("eb_additive").value
        seeds = self.pooled_sd * (2 / SEEDS) ** 0.5
        half = quantile(0.975, self.df) * (seeds**2 + error**2) ** 0.5
        return middle - half, middle + half


def best_cell(thesis: Thesis, metric: str) -> BestCell:
    """Return the best published cell with every correction of its gain.

    Args:
        thesis: as read.
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
            key=key, words=words, value=float(value), low=float(value - half),
            high=float(value + half), corrected=key not in ("naive", "dunnett"),
        )
        for key, words, value, half in rows
    ]  # fmt: skip
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
    """Return each psi with the ratio that is best on the others and its gain there.

    Columns: psi, ratio, gain (mean of that cell minus the baseline).
    """
    table = cells.pivot(index="psi", columns="ratio", values=f"{metric}_mean")
    rows = []
    for psi in table.index:
        ratio = table.drop(index=psi).mean().idxmax()
        rows.append({"psi": psi, "ratio": ratio, "gain": table.loc[psi, ratio] - baseline.mean})
    return pd.DataFrame(rows)
