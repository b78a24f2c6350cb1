"""Scoring: confusion matrices and ROC curves of an arm, over its seeds.  evidence -> [scoring]

Descriptive: means over the seeds with their population standard deviation; no test is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fgaug.analysis import Evidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FPR = np.linspace(0, 1, 201)  # false positive rates at which curves are averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One arm on the images of its splits, over its S finished seeds."""

    arm_id: str
    confusion: Floats  # [S, L, L] images: true label, called label
    roc: Floats  # [S, 201] sensitivity at FPR, of the second label; macro of one-vs-rest for more
    auc: Floats  # [S]; NaN where a label has no image


def scored(evidence: Evidence, arm_id: str) -> Scored | None:
    """Return an arm's confusion matrices and ROC curves, or None without a prediction of it."""
    rows = evidence.rows[evidence.rows["arm_id"].eq(arm_id) & evidence.rows["status"].eq("ok")]
    rows = rows.drop_duplicates("cell_id", keep="last")
    matrices, curves, areas = [], [], []
    for cell_id, split in zip(rows["cell_id"], splits_of(rows), strict=True):
        if cell_id not in evidence.probability:
            continue
        y = evidence.images[split]["y"].to_numpy(dtype=np.int64)
        p = np.asarray(evidence.probability[cell_id], dtype=np.float64)
        matrices.append(confusion(y, p))
        curve, area = roc(y, p)
        curves.append(curve)
        areas.append(area)
    if not matrices:
        return None
    return Scored(
        arm_id=arm_id, confusion=np.stack(matrices), roc=np.stack(curves), auc=np.array(areas)
    )


def splits_of(rows: pd.DataFrame) -> Sequence[str]:
    """Return the split of each row as the text that names it in `Evidence.images`."""
    if "split" not in rows:
        return ["dataset"] * len(rows)
    return [str(value) for value in rows["split"]]


def confusion(y: Ints, probability: Floats) -> Floats:
    """Return counts [true, called]; the label of the largest probability is called.

    Of two equal ones the second label, as the metrics have it: positive from one half on.
    """
    labels = probability.shape[1]
    called = labels - 1 - probability[:, ::-1].argmax(axis=1)
    if labels > 2:
        called = probability.argmax(axis=1)
    counts = np.zeros((labels, labels))
    np.add.at(counts, (y, called), 1)
    return counts


def roc(y: Ints, probability: Floats) -> tuple[Floats, float]:
    """Return the sensitivity at each of FPR and the area, macro one-vs-rest for many labels.

    The curve joins its points by straight lines, so tied scores count half (the trapezoids'
    area is the Mann-Whitney statistic: Hanley & McNeil 1982, Radiology 143:29).
    """
    labels = range(probability.shape[1]) if probability.shape[1] > 2 else [1]
    parts = [_roc(y == label, probability[:, label]) for label in labels]
    return np.mean([curve for curve, _ in parts], axis=0), float(
        np.mean([area for _, area in parts])
    )


def _roc(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, float]:
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return np.full(FPR.shape, np.nan), float("nan")
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.concatenate([[0.0], np.cumsum(positive[order])[last]]) / n_positive
    alarms = np.concatenate([[0.0], np.cumsum(~positive[order])[last]]) / n_negative
    area = float(np.trapezoid(hits, alarms))
    # of several points at one rate the highest: a curve rises straight up
    highest = np.append(np.diff(alarms) != 0, True)
    curve = np.interp(FPR, alarms[highest], hits[highest])
    curve[0] = 0.0
    return curve, area
