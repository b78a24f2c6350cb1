"""The best arm: its gain before and after correction for the selection.

The selection is repeated on resampled patients and seeds. The images of each run are ranked once;
a resample changes only the weight of each image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fgaug.analysis.findings.arms import records
from fgaug.analysis.findings.metric_values import Measured, SplitRuns
from fgaug.analysis.format import sign_of
from fgaug.stats import crossed_draws, selected_gain
from fgaug.stats.arrays import NAN, Floats, Ints
from fgaug.stats.influence import MEASURES, Ratios

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
Score: TypeAlias = Callable[[Ints], Floats]  # image rows, with repeats -> [R]
BLOCK = 2**18  # predictions ranked or summed at a time: as many as fit a processor's cache


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
    score = scorer(metric.metric, runs, chosen)
    draws = crossed_draws(arm, runs.group, images=runs.n_images, count=count)
    found = selected_gain(_signed(score, sign_of(metric.metric)), arm, draws, images=runs.n_images)
    return found, found.n_draws


def _signed(
    score: Callable[[Ints], NDArray[np.float64]], sign: float
) -> Callable[[Ints], NDArray[np.float64]]:
    return lambda rows: sign * score(rows)


def scorer(metric: str, runs: SplitRuns, chosen: Ints) -> Score:
    """Return a function that scores some runs on any image rows, as `influence_of` would.

    Args:
        metric: one of `stats.METRICS`.
        runs: the runs of a split.
        chosen: int [R], indices of the runs to score.
    """
    cells = [runs.cells[place] for place in chosen]
    probability = [runs.evidence.probability[cell] for cell in cells]
    if MEASURES[metric].ratios is None:
        labels = range(len(runs.evidence.labels))
        wanted = labels if len(labels) > 2 else labels[1:]
        parts = [
            _RankedAuc([p[:, place] for p in probability], runs.y == place) for place in wanted
        ]
        return lambda rows: np.mean([part(rows) for part in parts], axis=0)
    ratios = MEASURES[metric].ratios
    assert ratios is not None
    return _ResampledRatios(ratios, probability, runs.y)


class _RankedAuc:
    """The area under the ROC curve of each run on resampled images.

    It counts, for each positive, the negatives ranked below it, ties half. Their places among a
    run's sorted negatives are found once, so a resample costs one cumulative sum per run.
    """

    def __init__(self, scores: Sequence[NDArray[np.float32]], positive: np.ndarray) -> None:
        """Rank the images of each run, [N] each."""
        self.positive, self.size = np.flatnonzero(positive), positive.size
        self.negative = np.flatnonzero(~positive)
        self.order = np.empty((len(scores), self.negative.size), np.int32)
        self.below = np.empty((len(scores), self.positive.size), np.int32)
        self.upto: dict[int, Ints] = {}  # for runs with ties: negatives below or equal
        for run, score in enumerate(scores):
            ranked = np.argsort(score[self.negative], kind="stable")
            low = score[self.negative][ranked]
            self.order[run] = ranked
            self.below[run] = np.searchsorted(low, score[self.positive], "left")
            upto = np.searchsorted(low, score[self.positive], "right")
            if (upto != self.below[run]).any():
                self.upto[run] = upto

    def __call__(self, rows: Ints) -> Floats:
        """Return the area of each run, [R]; NaN if a class is not drawn."""
        count = np.bincount(rows, minlength=self.size).astype(np.float32)
        positive, negative = count[self.positive], count[self.negative]
        pairs = float(positive.sum(dtype=float) * negative.sum(dtype=float))
        if not pairs:
            return np.full(len(self.order), NAN)
        found = np.empty(len(self.order))
        step = max(1, BLOCK // self.size)
        wide = self.negative.size + 1
        for start in range(0, len(found), step):
            part = slice(start, start + step)
            block = len(self.order[part])
            sums = np.zeros((block, wide), np.float32)  # whole numbers: exact below 2^24
            np.cumsum(negative[self.order[part]], axis=1, out=sums[:, 1:])
            places = self.below[part] + wide * np.arange(block, dtype=np.int32)[:, None]
            found[part] = np.take(sums, places) @ positive.astype(float)
            for run in self.upto.keys() & set(range(start, start + block)):
                tied = sums[run - start, self.upto[run]] - sums[run - start, self.below[run]]
                found[run] += float(tied @ positive) / 2
        return found / pairs


class _ResampledRatios:
    """A mean of ratios of sums over images, of each run on resampled images."""

    def __init__(self, ratios: Ratios, scores: Sequence[NDArray[np.float32]], y: Ints) -> None:
        """Compute what each image adds to the sums, a few runs at a time.

        Args:
            ratios: of the metric.
            scores: probabilities of each run, float [N, L].
            y: int [N].
        """
        self.size = y.size
        step = max(1, BLOCK // max(1, y.size))
        tops, bottoms = [], []
        for start in range(0, len(scores), step):
            p = np.stack(scores[start : start + step]).astype(float)
            top, bottom = ratios(y, p, 0.5)
            tops.append(top.astype(np.float32, order="C"))
            bottoms.append(bottom.astype(np.float32, order="C"))
        self.top = np.concatenate(tops, axis=1)  # [K, R, N]
        # a denominator that does not depend on the run is the same in every block
        shared = bottoms[0].shape[1] == 1
        self.bottom = bottoms[0] if shared else np.concatenate(bottoms, axis=1)  # [K, 1 or R, N]

    def __call__(self, rows: Ints) -> Floats:
        """Return the metric of each run, [R]; NaN if a ratio has no image."""
        count = np.bincount(rows, minlength=self.size).astype(np.float32)
        whole = (self.bottom @ count).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = [top @ count / own for top, own in zip(self.top, whole, strict=True)]
        return np.asarray(np.mean(found, axis=0), np.float64)
