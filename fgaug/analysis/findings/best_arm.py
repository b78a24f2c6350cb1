"""The best arm: its gain before and after correction for the selection.

The selection is repeated on resampled patients and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.findings.arms import records
from fgaug.analysis.findings.metric_values import Measured
from fgaug.analysis.findings.resampled_metrics import Scores, scorer
from fgaug.analysis.format import sign_of
from fgaug.stats import crossed_draws, selected_gain
from fgaug.stats.arrays import NAN, Floats, Ints
from fgaug.stats.selection import Draw

COLUMNS = (
    "metric",
    "family",
    "arm_id",
    "baseline_id",
    "arms",
    "naive_gain",
    "corrected_gain",
    "ci_low",
    "ci_high",
    "resamples",
    "reason",
)
WORK = 2 * 10**9  # predictions processed over all resamples of a family
FEWEST = 200  # minimum number of resamples, for large runs


def best_of(
    measured: Mapping[str, Measured],
    arms: pd.DataFrame,
    comparisons: pd.DataFrame,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Return three estimates of the best arm's gain over its baseline, one row per family.

    naive_gain: the arm's own estimate; corrected_gain: the arm is selected on resampled patients
    and seeds and scored on those left out (`stats.selected_gain`, BBC); ci_low, ci_high: the
    simultaneous interval over all arms, so valid for the selected one. Positive is better. The
    family with the largest naive gain comes first; its selection is not corrected for.

    Args:
        measured: one metric by split.
        arms: the arms that are compared.
        comparisons: comparisons of that metric.
        resamples: maximum; limited to 2e9 predictions in total, but at least 200.
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
        "metric": metric.metric,
        "arm_id": None,
        "baseline_id": baseline,
        "arms": len(names),
        **dict.fromkeys(("naive_gain", "corrected_gain", "ci_low", "ci_high"), NAN),
        "resamples": 0,
        "reason": None,
    }
    if not metric.has(baseline) or not names:
        lacking = "the baseline has no result" if names else "no arm has a result"
        return {**row, "reason": metric.reason or lacking}
    sign = sign_of(metric.metric)
    means = sign * metric.of([baseline, *names]).mean
    best = names[int(means[1:].argmax())]
    low, high = sorted(sign * lookup.loc[best, ["ci_low", "ci_high"]].to_numpy(float))
    found, draws = _corrected(metric, [baseline, *names], resamples)
    return {
        **row,
        "arm_id": best,
        "naive_gain": float(means[1:].max() - means[0]),
        "corrected_gain": found.corrected_gain,
        "ci_low": low,
        "ci_high": high,
        "resamples": draws,
        "reason": found.reason,
    }


def _corrected(metric: Measured, names: Sequence[str], resamples: int) -> tuple[Any, int]:
    """Return the corrected selection among arms (the baseline first), and the number of draws."""
    runs = metric.runs
    places = np.array([runs.place[name] for name in names])
    chosen = np.flatnonzero(np.isin(runs.arm, places))
    to_index = np.full(max(runs.place.values()) + 1, -1)
    to_index[places] = np.arange(len(places))
    arm: Ints = to_index[runs.arm[chosen]]
    labels = len(runs.evidence.labels) if metric.metric == "auc" else 1
    work = chosen.size * runs.n_images * max(1, labels - 1)
    count = min(resamples, max(FEWEST, WORK // max(1, work)))
    draws = list(crossed_draws(arm, runs.group, images=runs.n_images, count=count))
    score = _scored(scorer(metric.metric, runs, chosen), draws, arm.size)
    sign = sign_of(metric.metric)
    found = selected_gain(lambda rows: sign * score(rows), arm, draws, images=runs.n_images)
    return found, found.n_draws


def _scored(scores: Scores, draws: Sequence[Draw], runs: int) -> Callable[[Ints], Floats]:
    """Return a function that knows the scores on the rows of all draws, computed together.

    Runs are scored on a draw's own images if they are in the draw, on the others if left out.
    """
    pairs = [(draw.rows, draw.runs) for draw in draws]
    pairs += [(draw.rows_out, draw.runs_out) for draw in draws if draw.rows_out.size]
    wanted = np.zeros((len(pairs), runs), bool)
    for number, (_, used) in enumerate(pairs):
        wanted[number, used] = True
    rows = [of for of, _ in pairs]
    found = scores(rows, wanted)
    known: dict[int, Floats] = {id(of): own for of, own in zip(rows, found, strict=True)}

    def score(rows: Ints) -> Floats:
        if id(rows) in known:
            return known[id(rows)]
        return np.asarray(scores([rows], np.ones((1, runs), bool))[0])

    return score
