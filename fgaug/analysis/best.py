"""The best arm, with the luck of having been picked and without.  runs, arms -> [best]"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fgaug.analysis.arms import records
from fgaug.analysis.resampled import scorer
from fgaug.analysis.runs import Measured
from fgaug.analysis.wording import sign_of
from fgaug.stats import crossed_draws, selected_gain
from fgaug.stats.arrays import NAN, Ints

COLUMNS = (
    *("metric", "family", "arm_id", "baseline_id", "arms", "naive_gain", "corrected_gain"),
    *("ci_low", "ci_high", "resamples", "reason"),
)
WORK = 2 * 10**9  # predictions looked at over all resamples of a family
FEWEST = 200  # resamples of a large run


def best_of(
    measured: Mapping[str, Measured],
    arms: pd.DataFrame,
    comparisons: pd.DataFrame,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Return a row a metric and family: the best arm's gain over its baseline, three ways.

    naive_gain: as it looks; corrected_gain: of what is picked on resampled patients and seeds,
    scored on those left out (`stats.selected_gain`, BBC); ci_low, ci_high: the interval that holds
    for all arms together, so for the picked one too. All signed so that more is better. Families
    with the larger naive gain come first; that the best family was picked is not corrected.

    Args:
        measured: one metric by split.
        arms: that are compared.
        comparisons: of that metric.
        resamples: at most; so many that 2e9 predictions are looked at, but 200 at least.
    """
    rows = []
    lookup = comparisons[comparisons["against"].eq("baseline")].set_index("arm_id")
    for family, listed in arms[arms["baseline_id"].notna()].groupby("family", sort=False):
        metric = measured.get(str(listed["split"].iloc[0]))
        if metric is not None:
            rows.append({"family": family, **_row(metric, listed, lookup, resamples)})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values("naive_gain", ascending=False, kind="stable", ignore_index=True)


def _row(
    metric: Measured, listed: pd.DataFrame, lookup: pd.DataFrame, resamples: int
) -> dict[str, Any]:
    baseline = str(listed["baseline_id"].iloc[0])
    names = [str(arm["arm_id"]) for arm in records(listed) if metric.has(arm["arm_id"])]
    row: dict[str, Any] = {
        **{"metric": metric.metric, "arm_id": None, "baseline_id": baseline, "arms": len(names)},
        **dict.fromkeys(("naive_gain", "corrected_gain", "ci_low", "ci_high"), NAN),
        **{"resamples": 0, "reason": None},
    }
    if not metric.has(baseline) or not names:
        lacking = "the baseline has" if names else "no arm has"
        return {**row, "reason": metric.reason or f"{lacking} no result"}
    sign = sign_of(metric.metric)
    means = sign * metric.of([baseline, *names]).mean
    best = names[int(means[1:].argmax())]
    low, high = sorted(sign * lookup.loc[best, ["ci_low", "ci_high"]].to_numpy(float))
    found, draws = _corrected(metric, [baseline, *names], resamples)
    return {
        **row,
        **{"arm_id": best, "naive_gain": float(means[1:].max() - means[0])},
        **{"corrected_gain": found.corrected_gain, "ci_low": low, "ci_high": high},
        **{"resamples": draws, "reason": found.reason},
    }


def _corrected(metric: Measured, names: Sequence[str], resamples: int) -> tuple[Any, int]:
    """Return the corrected selection among arms, the baseline first, and its draws."""
    runs = metric.runs
    places = np.array([runs.place[name] for name in names])
    chosen = np.flatnonzero(np.isin(runs.arm, places))
    to_index = np.full(max(runs.place.values()) + 1, -1)
    to_index[places] = np.arange(len(places))
    arm: Ints = to_index[runs.arm[chosen]]
    labels = len(runs.evidence.labels) if metric.metric == "auc" else 1
    work = chosen.size * runs.n_images * max(1, labels - 1)
    count = min(resamples, max(FEWEST, WORK // max(1, work)))
    score = scorer(metric.metric, runs, chosen)
    draws = crossed_draws(arm, runs.group, images=runs.n_images, count=count)
    found = selected_gain(_signed(score, sign_of(metric.metric)), arm, draws, images=runs.n_images)
    return found, found.n_draws


def _signed(
    score: Callable[[Ints], NDArray[np.float64]], sign: float
) -> Callable[[Ints], NDArray[np.float64]]:
    return lambda rows: sign * score(rows)
