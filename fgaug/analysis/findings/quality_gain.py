"""Rank correlation between measures of the fakes and the gain of the arms that train on them.

A point is one set of fakes (psi, filter, snapshot): arms that differ only in ratio share their
fakes, so they form one point. A point's gain is the mean over its arms, each less the mean of all
arms of the same size, so that points with different ratios are comparable. Measures are averaged
over labels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from fgaug.core.analysis_metrics import LOWER_IS_BETTER
from fgaug.stats import adjust
from fgaug.stats.arrays import NAN, Floats

MIN_POINTS = 5  # a rank correlation of fewer points is not worth reporting
EXACT = 8  # points up to which all permutations are enumerated: 40,320
DRAWS = 20_000  # random permutations beyond that
LEVEL = 0.95
WHERE = ("psi", "filter", "snapshot")
COLUMNS = (
    "mode",
    "measure",
    "points",
    "rho",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "reason",
)


def points_of(comparisons: pd.DataFrame, arms: pd.DataFrame, against: str) -> pd.DataFrame:
    """Return the gain of each set of fakes: mode, psi, filter, snapshot, arms, gain.

    Args:
        comparisons: comparisons of one metric, see `comparisons.compare_metric`.
        arms: the result of `arms.arm_table`, with the column `snapshot` if the grid has that axis.
        against: comparator of the gain, baseline or twin.
    """
    own = comparisons[comparisons["against"].eq(against) & comparisons["effect"].notna()]
    arms = arms[arms["psi"].notna()]  # sets are measured at one psi for all labels
    named = [name for name in (*WHERE, "mode", "ratio", "n_fake") if name in arms]
    table = own.merge(arms[["arm_id", *named]], on="arm_id")
    if table.empty:
        return pd.DataFrame(columns=["mode", *WHERE, "arms", "gain"])
    sign = -1 if table["metric"].iloc[0] in LOWER_IS_BETTER else 1
    if "snapshot" not in table:
        table["snapshot"] = None
    size = table["ratio"].where(table["ratio"].notna(), table["n_fake"])
    table["gain"] = sign * table["effect"]
    table["gain"] -= table.groupby([table["mode"], size], dropna=False)["gain"].transform("mean")
    points = table.groupby(["mode", *WHERE], dropna=False, sort=False)["gain"]
    return points.agg(arms="size", gain="mean").reset_index()


def predictors_of(
    points: pd.DataFrame, measures: pd.DataFrame, better_low: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the rank correlation of every measure with the gain, one row per mode and measure.

    Spearman's rho, signed so that above 0 a better measure goes with a larger gain. The interval
    is Fisher's with the variance of Bonett and Wright 2000 (doi:10.1007/BF02294183),
    (1 + rho^2 / 2) / (n - 3); p is from a two-sided permutation test of the gains (exact up to
    EXACT points), and p_holm is adjusted over the measures of a mode. All concern this grid's arms
    with their observed scores; noise in the gains attenuates rho towards 0.

    Args:
        points: the result of `points_of`.
        measures: one row per (label, psi, filter, snapshot), with one more column per measure.
        better_low: measures for which lower is better.
    """
    names = [str(name) for name in measures.columns if name not in ("label", *WHERE)]
    means = measures.groupby(list(WHERE), dropna=False)[names].mean().reset_index()
    rows: list[dict[str, Any]] = []
    for mode, own in points.groupby("mode", sort=False):
        joined = _keyed(own).merge(_keyed(means).drop(columns=list(WHERE)), on="_key")
        gain = joined["gain"].to_numpy(float)
        found = [_row(joined[name].to_numpy(float), gain, name in better_low) for name in names]
        adjusted = adjust([row["p_value"] for row in found], "holm")
        rows += [
            {"mode": mode, "measure": name, **row, "p_holm": float(p)}
            for name, row, p in zip(names, found, adjusted, strict=True)
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with a text key for each set of fakes; no filter is `none`."""
    keys = [
        repr((float(psi), _text(filter_, "none"), _text(snapshot, "")))
        for psi, filter_, snapshot in zip(*(frame[name] for name in WHERE), strict=True)
    ]
    return frame.assign(_key=keys)


def _text(value: Any, none: str) -> str:
    return none if value is None or value != value else str(value)


def _row(measure: Floats, gain: Floats, low: bool) -> dict[str, Any]:
    known = np.isfinite(measure) & np.isfinite(gain)
    x, y = (-measure if low else measure)[known], gain[known]
    row = {"points": len(x), "rho": NAN, "ci_low": NAN, "ci_high": NAN, "p_value": NAN}
    if len(x) < MIN_POINTS:
        return {**row, "reason": f"too few arms: {len(x)} sets of fakes, {MIN_POINTS} required"}
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return {**row, "reason": "the measure or the gain does not vary"}
    rho, p = spearman(x, y)
    # a rho of 1 is moved half a step down, where a step is the change by one swap
    most = 1 - 6 / (len(x) * (len(x) ** 2 - 1))
    middle = math.atanh(max(-most, min(most, rho)))
    reach = norm.ppf((1 + LEVEL) / 2) * math.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    low_end, high_end = min(rho, math.tanh(middle - reach)), max(rho, math.tanh(middle + reach))
    return {
        "points": len(x),
        "rho": rho,
        "ci_low": low_end,
        "ci_high": high_end,
        "p_value": p,
        "reason": None,
    }


def spearman(x: Floats, y: Floats, seed: int = 0) -> tuple[float, float]:
    """Return Spearman's rho with midranks for ties, and its two-sided permutation p.

    Enumerates all permutations of y up to EXACT points; beyond, uses DRAWS random ones and the
    observed one.
    """
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    rho = float(a @ b) / scale
    orders = _orders(b, seed)
    apart = np.abs(orders @ a) / scale >= abs(rho) - 1e-9
    drawn = len(b) > EXACT
    return rho, float((apart.sum() + drawn) / (len(apart) + drawn))


def _orders(b: Floats, seed: int) -> Floats:
    if len(b) <= EXACT:
        return np.array(list(_permutations(b)))
    random = np.random.default_rng(seed)
    return random.permuted(np.tile(b, (DRAWS, 1)), axis=1)


def _permutations(b: Floats) -> Iterator[tuple[float, ...]]:
    return itertools.permutations(b.tolist())
