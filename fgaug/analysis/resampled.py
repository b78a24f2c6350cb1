"""A metric of thousands of runs on resampled images, fast.  runs -> [resampled] -> best

The images of each run are ranked once; a resample only changes how often each of them counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgaug.analysis.runs import SplitRuns
from fgaug.stats.arrays import NAN, Floats, Ints
from fgaug.stats.influence import SMALLEST_PROBABILITY

Score: TypeAlias = Callable[[Ints], Floats]  # image rows, with repeats -> [R]
BLOCK = 2**18  # predictions ranked or summed in one go: what fits a processor's cache


def scorer(metric: str, runs: SplitRuns, chosen: Ints) -> Score:
    """Return what scores some runs on any image rows, the same as `influence_of` would.

    Args:
        metric: one of `stats.METRICS`.
        runs: of a split.
        chosen: int [R], which of its runs.
    """
    cells = [runs.cells[place] for place in chosen]
    probability = [runs.evidence.probability[cell] for cell in cells]
    if metric == "auc":
        labels = range(len(runs.evidence.labels))
        wanted = labels if len(labels) > 2 else labels[1:]
        parts = [
            _RankedAuc([p[:, place] for p in probability], runs.y == place) for place in wanted
        ]
        return lambda rows: np.mean([part(rows) for part in parts], axis=0)
    losses = _losses(metric, probability, runs.y)
    if metric == "balanced_accuracy":
        return lambda rows: _balanced(losses, runs.y, rows)
    return lambda rows: _weighted(losses, np.bincount(rows, minlength=runs.n_images))


class _RankedAuc:
    """The area under the ROC curve of each run on resampled images.

    Its pairs are the sum over positives of the negatives below, ties half. Where those are in the
    order of a run's negatives is found once, so a resample costs one cumulative sum a run.
    """

    def __init__(self, scores: Sequence[NDArray[np.float32]], positive: np.ndarray) -> None:
        """Rank the images of each run, [N] each."""
        self.positive, self.size = np.flatnonzero(positive), positive.size
        self.negative = np.flatnonzero(~positive)
        self.order = np.empty((len(scores), self.negative.size), np.int32)
        self.below = np.empty((len(scores), self.positive.size), np.int32)
        self.upto: dict[int, Ints] = {}  # of runs with ties: negatives below or equal
        for run, score in enumerate(scores):
            ranked = np.argsort(score[self.negative], kind="stable")
            low = score[self.negative][ranked]
            self.order[run] = ranked
            self.below[run] = np.searchsorted(low, score[self.positive], "left")
            upto = np.searchsorted(low, score[self.positive], "right")
            if (upto != self.below[run]).any():
                self.upto[run] = upto

    def __call__(self, rows: Ints) -> Floats:
        """Return the area of each run, [R]; NaN where one class is not drawn."""
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


def _losses(metric: str, probability: list[NDArray[np.float32]], y: Ints) -> NDArray[np.float32]:
    """Return what each image adds to a mean, float32 [R, N]."""
    found = np.empty((len(probability), y.size), np.float32)
    rows = np.arange(y.size)
    for place, p in enumerate(probability):
        own = p[rows, y].astype(float)
        if metric == "log_loss":
            clipped = np.clip(own, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            found[place] = -np.log(clipped)
        elif metric == "brier":
            found[place] = ((p.astype(float) ** 2).sum(axis=1) - 2 * own + 1) / 2
        else:
            called = p[:, 1] >= 0.5 if p.shape[1] == 2 else p.argmax(axis=1)
            found[place] = called == y
    return found


def _weighted(losses: NDArray[np.float32], count: Ints) -> Floats:
    found = losses @ count.astype(np.float32)
    return np.asarray(found / max(1, count.sum()), np.float64)


def _balanced(losses: NDArray[np.float32], y: Ints, rows: Ints) -> Floats:
    count = np.bincount(rows, minlength=y.size)
    classes = [count * (y == label) for label in range(int(y.max()) + 1)]
    if not all(part.any() for part in classes):
        return np.full(len(losses), NAN)
    return np.asarray(np.mean([_weighted(losses, part) for part in classes], axis=0))
