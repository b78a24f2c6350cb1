"""Predictions of the picked arms over their seeds: confusion matrices and ROC curves.

Descriptive only: means and population standard deviations over the seeds, without tests.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fgaug.analysis.format import many, number
from fgaug.analysis.report.chapters.confusion import (
    MOST_LABELS,
    Floats,
    Ints,
    confusion,
    confusion_figure,
    every_arm,
    finished,
)
from fgaug.analysis.report.drawing import TICK_PT, Theme, blank, dress, plain, wrapped
from fgaug.analysis.report.material import Material, names_of, picks
from fgaug.analysis.report.parts import Plot, Table
from fgaug.runs.results import splits_of

if TYPE_CHECKING:
    from fgaug.analysis.findings.evidence import Evidence

FPR = np.linspace(0, 1, 201)  # false positive rates at which curves are averaged


def prediction_parts(material: Material) -> list[Plot | Table]:
    """Return confusion matrices and ROC curves of baseline, control and best arm.

    The confusion matrices of every arm and every trial follow.
    """
    if material.evidence is None:
        return []
    return [*_picked(material, material.evidence), *every_arm(material)]


def _picked(material: Material, evidence: Evidence) -> list[Plot | Table]:
    found = [(role, scored(evidence, arm)) for role, arm in picks(material).named()]
    drawn = [(role, of) for role, of in found if of is not None]
    if not drawn:
        return []
    labels = evidence.labels
    names = names_of(material)
    told = [(f"{role}: {names[of.arm_id]}" if role != "baseline" else role, of)
            for role, of in drawn]  # fmt: skip
    parts: list[Plot | Table] = []
    if len(labels) <= MOST_LABELS:
        parts.append(
            Plot(
                name="confusion",
                title="Confusion matrices",
                caption=(
                    "Share of each true label's images assigned to each predicted label on the "
                    f"{material.images}, mean over the seeds ± population sd, and the mean "
                    "number of images. The predicted label is the one with the highest "
                    "probability."
                ),
                draw=functools.partial(
                    confusion_figure, [(name, of.confusion) for name, of in told], labels
                ),
            )
        )
    if any(np.isfinite(of.roc).any() for _, of in drawn):
        parts.append(
            Plot(
                name="roc",
                title="ROC curves",
                caption=_roc_caption(material, drawn),
                draw=functools.partial(_roc_figure, told, labels),
            )
        )
    return parts


def _roc_caption(material: Material, drawn: Sequence[tuple[str, Scored]]) -> str:
    labels = material.evidence.labels if material.evidence else ()
    what = f"for {labels[1]} against {labels[0]}" if len(labels) == 2 else (
        "for each label against the rest, averaged over labels"
    )  # fmt: skip
    seeds = ", ".join(f"{role} {many(len(of.auc), 'seed')}" for role, of in drawn)
    return (
        f"ROC curves {what}, on the {material.images}: mean sensitivity over the seeds at each "
        f"false positive rate; the band spans the lowest to the highest seed ({seeds}). The "
        "curves do not show the uncertainty from patients, which the confidence intervals above "
        "include."
    )


def _roc_figure(told: Sequence[tuple[str, Scored]], labels: Sequence[str], theme: Theme) -> Figure:
    figure = blank(theme, 3.6)
    axes = figure.subplots()
    dress(axes, theme)
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], color=theme.grid, linewidth=1, linestyle="--")
    styles = {
        "baseline": (theme.baseline, "-"),
        "control": (theme.oversample, "--"),
        "best arm": (theme.arm, "-"),
    }
    for name, of in told:
        colour, dash = styles[name.split(":")[0]]
        if not np.isfinite(of.roc).any():
            continue
        if len(of.roc) > 1:
            low, high = of.roc.min(axis=0), of.roc.max(axis=0)
            axes.fill_between(FPR, low, high, color=colour, alpha=0.16, linewidth=0)
        spread = f" ± {number(of.auc.std())}" if len(of.auc) > 1 else ""
        label = f"{wrapped(plain(name), 46)}\nAUC {number(of.auc.mean())}{spread}"
        mean = of.roc.mean(axis=0)
        axes.plot(FPR, mean, color=colour, linestyle=dash, linewidth=1.5, label=label)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("false positive rate (1 \N{MINUS SIGN} specificity)")
    axes.set_ylabel("sensitivity")
    axes.legend(
        loc="center left", bbox_to_anchor=(1.03, 0.5), fontsize=TICK_PT, frameon=False,
        labelcolor=theme.ink, labelspacing=1.1,
    )  # fmt: skip
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Predictions of one arm on the images of its splits, over its S finished seeds."""

    arm_id: str
    confusion: Floats  # [S, L, L] images: true label, predicted label
    roc: Floats  # [S, 201] sensitivity at FPR, of the second label; macro of one-vs-rest for more
    auc: Floats  # [S]; NaN where a label has no image


def scored(evidence: Evidence, arm_id: str) -> Scored | None:
    """Return an arm's confusion matrices and ROC curves, or None if it has no predictions."""
    rows = finished(evidence)
    rows = rows[rows["arm_id"].eq(arm_id)]
    matrices, curves, areas = [], [], []
    for cell_id, split in zip(rows["cell_id"], splits_of(rows), strict=True):
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


def roc(y: Ints, probability: Floats) -> tuple[Floats, float]:
    """Return the sensitivity at each rate in FPR, and the area; one-vs-rest macro mean if L > 2.

    Points are joined by straight lines, so tied scores count half: the trapezoidal area is the
    Mann-Whitney statistic (Hanley & McNeil 1982, Radiology 143:29).
    """
    labels = range(probability.shape[1]) if probability.shape[1] > 2 else [1]
    parts = [_roc_curve(y == label, probability[:, label]) for label in labels]
    return np.mean([curve for curve, _ in parts], axis=0), float(
        np.mean([area for _, area in parts])
    )


def _roc_curve(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, float]:
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return np.full(FPR.shape, np.nan), float("nan")
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.concatenate([[0.0], np.cumsum(positive[order])[last]]) / n_positive
    alarms = np.concatenate([[0.0], np.cumsum(~positive[order])[last]]) / n_negative
    area = float(np.trapezoid(hits, alarms))
    # the highest of several points at one rate: the curve rises vertically there
    highest = np.append(np.diff(alarms) != 0, True)
    curve = np.interp(FPR, alarms[highest], hits[highest])
    curve[0] = 0.0
    return curve, area
