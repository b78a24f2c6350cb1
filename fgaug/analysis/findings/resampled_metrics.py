"""A metric of many runs on many resamples of their images.

The images of each run are ranked once, or turned into terms of sums; a resample changes only the
weight of each image. All resamples of a block are computed together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgaug.analysis.findings.metric_values import SplitRuns
from fgaug.stats.arrays import NAN, Floats, Ints
from fgaug.stats.influence import MEASURES, Ratios

Singles: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]
# weights of images [D, N] and which scores are wanted [D, R] -> [D, R]
Weighted: TypeAlias = Callable[[Singles, Flags], Floats]
# image rows of D resamples, and which scores are wanted [D, R] -> [D, R]; others are undefined
Scores: TypeAlias = Callable[[Sequence[Ints], Flags], Floats]
BLOCK = 2**18  # predictions turned into terms at a time: as many as fit a processor's cache
AT_ONCE = 256  # resamples: with a run's images, they fit a processor's cache


def scorer(metric: str, runs: SplitRuns, chosen: Ints) -> Scores:
    """Return a function that scores some runs on any image rows, as `influence_of` would.

    Args:
        metric: one of `stats.METRICS`.
        runs: the runs of a split.
        chosen: int [R], indices of the runs to score.
    """
    cells = [runs.cells[place] for place in chosen]
    probability = [runs.evidence.probability[cell] for cell in cells]
    weighted = _weighted(metric, runs, probability)

    def scores(resamples: Sequence[Ints], wanted: Flags) -> Floats:
        parts = []
        for start in range(0, len(resamples), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            counts = [np.bincount(rows, minlength=runs.n_images) for rows in resamples[some]]
            parts.append(weighted(np.stack(counts).astype(np.float32), wanted[some]))
        return np.concatenate(parts)

    return scores


def _weighted(metric: str, runs: SplitRuns, probability: Sequence[Singles]) -> Weighted:
    ratios = MEASURES[metric].ratios
    if ratios is not None:
        return _WeightedRatios(ratios, probability, runs.y)
    labels = range(len(runs.evidence.labels))
    wanted = labels if len(labels) > 2 else labels[1:]
    parts = [_RankedAuc([p[:, place] for p in probability], runs.y == place) for place in wanted]
    return lambda *given: np.asarray(np.mean([part(*given) for part in parts], axis=0))


class _RankedAuc:
    """The area under the ROC curve of each run on weighted images.

    It counts, for each positive, the negatives ranked below it, ties half. Their places among a
    run's sorted negatives are found once, so a resample costs one cumulative sum per run.
    """

    def __init__(self, scores: Sequence[Singles], positive: np.ndarray) -> None:
        """Rank the images of each run, [N] each."""
        self.positive, self.negative = np.flatnonzero(positive), np.flatnonzero(~positive)
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

    def __call__(self, weights: Singles, wanted: Flags) -> Floats:
        """Return the area of each run, [D, R]; NaN if a class has no weight."""
        positive = np.ascontiguousarray(weights[:, self.positive])
        negative = np.ascontiguousarray(weights[:, self.negative])
        found = np.full(wanted.shape, NAN)
        for run, order in enumerate(self.order):
            used = np.flatnonzero(wanted[:, run])
            below = np.zeros((used.size, order.size + 1), np.float32)
            # whole numbers: exact below 2^24
            np.cumsum(negative[used].take(order, axis=1), axis=1, out=below[:, 1:])
            counted = below.take(self.below[run], axis=1)
            if run in self.upto:
                counted = (counted + below.take(self.upto[run], axis=1)) / 2
            found[used, run] = (counted * positive[used]).sum(axis=1, dtype=float)
        pairs = positive.sum(axis=1, dtype=float) * negative.sum(axis=1, dtype=float)
        return np.asarray(found / np.where(pairs > 0, pairs, NAN)[:, None])


class _WeightedRatios:
    """A mean of ratios of sums over images, of each run on weighted images."""

    def __init__(self, ratios: Ratios, scores: Sequence[Singles], y: Ints) -> None:
        """Compute what each image adds to the sums, a few runs at a time.

        Args:
            ratios: of the metric.
            scores: probabilities of each run, float [N, L].
            y: int [N].
        """
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

    def __call__(self, weights: Singles, wanted: Flags) -> Floats:
        """Return the metric of each run, [D, R]; NaN if a ratio has no image."""
        del wanted  # one matrix product gives all
        whole = (self.bottom @ weights.T).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = [top @ weights.T / own for top, own in zip(self.top, whole, strict=True)]
        return np.asarray(np.mean(found, axis=0).T, np.float64)
