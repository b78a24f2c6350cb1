"""Two-way analysis of psi, ratio and their interaction over all cells, from summaries (E1).

The whole grid has far more power than any one cell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from fgaug.analysis.published.comparisons import LEVEL, against_baseline
from fgaug.analysis.published.source import SEEDS, Thesis, spread_of
from fgaug.stats.arrays import Floats
from fgaug.stats.inference import TTest, t_test


def two_way(thesis: Thesis, metric: str) -> pd.DataFrame:
    """Return the analysis of variance of psi x ratio with equal numbers of seeds.

    Columns: metric, term (psi, ratio, psi x ratio), f, df, df_error, p_value, level. F is
    the mean square of the means, times the seeds, over the mean seed variance within cells; with
    equal numbers of seeds, means and stds suffice.
    """
    grid, variances = _grid(thesis, metric)
    p, r = grid.shape
    rows, columns = grid.mean(axis=1, keepdims=True), grid.mean(axis=0, keepdims=True)
    parts = {
        "psi": (r * ((rows - grid.mean()) ** 2).sum(), p - 1),
        "ratio": (p * ((columns - grid.mean()) ** 2).sum(), r - 1),
        "psi x ratio": (((grid - rows - columns + grid.mean()) ** 2).sum(), (p - 1) * (r - 1)),
    }
    error, df_error = float(variances.mean()), grid.size * (SEEDS - 1)
    found = []
    for term, (squares, df) in parts.items():
        f = float(SEEDS * squares / df / error)
        found.append(
            {
                "metric": metric,
                "term": term,
                "f": f,
                "df": df,
                "df_error": df_error,
                "p_value": float(special.fdtrc(df, df_error, f)),
                "level": LEVEL,
            }
        )
    return pd.DataFrame(found)


def contrasts(thesis: Thesis, metric: str) -> pd.DataFrame:
    """Return means over many cells against the baseline, and the trend over the ratio.

    Columns: metric, contrast, n_cells, difference, se, df, ci_low, ci_high, p_value, level. The
    seed variance is pooled over all cells and the baseline. The trend is the slope of the cells'
    means over log2(1 + ratio): units of the metric per doubling of the training set.
    """
    ratio = thesis.cells["ratio"].to_numpy(float)
    means = thesis.cells[f"{metric}_mean"].to_numpy(float)
    baseline = spread_of(thesis.baseline, metric).mean
    doublings = np.log2(1 + ratio) - np.log2(1 + ratio).mean()
    rows = []
    for name, chosen in {
        "ratio 5 and above": ratio >= 5,
        "ratio 1 and below": ratio <= 1,
        "all cells": ratio > 0,
    }.items():
        weights = chosen / chosen.sum()
        test = _tested(thesis, metric, float(weights @ means) - baseline, weights, shared=True)
        rows.append(_row(metric, f"{name} - baseline", int(chosen.sum()), test))
    weights = doublings / (doublings**2).sum()
    test = _tested(thesis, metric, float(weights @ means), weights, shared=False)
    rows.append(_row(metric, "slope over log2(1 + ratio)", len(means), test))
    return pd.DataFrame(rows)


def _tested(
    thesis: Thesis, metric: str, difference: float, weights: Floats, *, shared: bool
) -> TTest:
    """Return the t test of a weighted sum of the cells' means, less the baseline's if `shared`."""
    dunnett = against_baseline(thesis, metric).dunnett
    squares = float((weights**2).sum()) + (1.0 if shared else 0.0)
    return t_test(difference, dunnett.pooled_sd * (squares / SEEDS) ** 0.5, dunnett.df)


def _row(metric: str, name: str, cells: int, test: TTest) -> dict[str, object]:
    return {
        "metric": metric,
        "contrast": name,
        "n_cells": cells,
        "difference": test.difference,
        "se": test.se,
        "df": test.df,
        "ci_low": test.ci_low,
        "ci_high": test.ci_high,
        "p_value": test.p_value,
        "level": LEVEL,
    }


def _grid(thesis: Thesis, metric: str) -> tuple[Floats, Floats]:
    """Return means and sample variances of the cells, [psi, ratio]."""
    cells = thesis.cells.sort_values(["psi", "ratio"])
    spreads = [spread_of(cell, metric) for _, cell in cells.iterrows()]
    shape = (cells["psi"].nunique(), -1)
    means = np.array([spread.mean for spread in spreads]).reshape(shape)
    return means, np.array([spread.sd_sample**2 for spread in spreads]).reshape(shape)
