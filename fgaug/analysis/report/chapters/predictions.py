"""Predictions of an arm over its seeds: confusion matrices and ROC curves.

Descriptive only: means and population standard deviations over the seeds, without tests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fgaug.analysis.format import many, number
from fgaug.analysis.report.drawing import (
    TEXT_PT,
    TICK_PT,
    Theme,
    blank,
    dress,
    ink_on,
    plain,
    wrapped,
)
from fgaug.analysis.report.material import Material, names_of, picks
from fgaug.analysis.report.parts import Plot, Table

if TYPE_CHECKING:
    from fgaug.analysis.findings.evidence import Evidence

MOST_LABELS = 8  # beyond this the numbers in a matrix are too small to read
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FPR = np.linspace(0, 1, 201)  # false positive rates at which curves are averaged


def prediction_parts(material: Material) -> list[Plot | Table]:
    """Return confusion matrices and ROC curves of baseline, control and best arm, and counts."""
    if material.evidence is None:
        return []
    found = [(role, scored(material.evidence, arm)) for role, arm in picks(material).named()]
    drawn = [(role, of) for role, of in found if of is not None]
    if not drawn:
        return []
    labels = material.evidence.labels
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
                draw=functools.partial(_confusion, told, labels),
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
    return [*parts, _counts(told, labels)]


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


def _confusion(told: Sequence[tuple[str, Scored]], labels: Sequence[str], theme: Theme) -> Figure:
    size = len(labels)
    figure = blank(theme, 2.35 if size < 4 else 2.9)
    columns = figure.subplots(1, len(told) if len(told) > 1 else 2, squeeze=False)[0]
    colours = LinearSegmentedColormap.from_list("share", [theme.paper, theme.arm], N=255)
    for axes, (name, of) in zip(columns, told, strict=False):
        dress(axes, theme)
        axes.grid(False)
        totals = of.confusion.sum(axis=2, keepdims=True)
        shares = np.divide(
            of.confusion, totals, out=np.full(of.confusion.shape, np.nan), where=totals > 0
        )
        mean = shares.mean(axis=0)
        axes.imshow(np.ma.masked_invalid(mean), cmap=colours, vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(size), [plain(label) for label in labels])
        axes.set_yticks(range(size), [plain(label) for label in labels], rotation=90, va="center")
        head = wrapped(plain(name), 108 // max(2, len(told)))
        axes.set_title(head, loc="left", fontsize=TICK_PT, color=theme.ink)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.tick_params(length=0)
        _shares(axes, mean, shares.std(axis=0), of.confusion.mean(axis=0), colours, theme)
    for axes in columns[len(told) :]:
        axes.set_visible(False)
    return figure


def _shares(
    axes: Axes,
    mean: np.ndarray,
    sd: np.ndarray,
    images: np.ndarray,
    colours: LinearSegmentedColormap,
    theme: Theme,
) -> None:
    size = len(mean)
    for (line, column), value in np.ndenumerate(mean):
        if math.isnan(value):
            words = "no image"
        else:
            words = f"{100 * value:.0f}%"
            if size <= 3:
                spread = 100 * sd[line, column]
                words = f"{100 * value:.1f} ± {spread:.1f}%\n{images[line, column]:,.1f} images"
        ink = theme.ink if math.isnan(value) else ink_on(colours(value), theme)
        axes.text(
            column, line, words, ha="center", va="center", color=ink,
            fontsize=TEXT_PT if size <= 3 else TICK_PT - 1,
        )  # fmt: skip


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


def _counts(told: Sequence[tuple[str, Scored]], labels: Sequence[str]) -> Table:
    rows = [
        {
            "arm": name, "true": true, "called": called, "seeds": len(of.confusion),
            "images_mean": of.confusion[:, i, j].mean(),
            "images_sd": of.confusion[:, i, j].std() if len(of.confusion) > 1 else math.nan,
        }
        for name, of in told
        for i, true in enumerate(labels)
        for j, called in enumerate(labels)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    text = frame.assign(
        images_mean=frame["images_mean"].map(lambda value: number(value, 1)),
        images_sd=frame["images_sd"].map(lambda value: number(value, 1)),
        seeds=frame["seeds"].map(str),
    ).rename(columns={"images_mean": "images, mean", "images_sd": "images, sd"})
    return Table(
        name="confusion_counts", title="Confusion matrices, counts", frame=frame, text=text,
        words=("arm", "true", "called"), folded=True,
        note="Mean and population sd over the seeds.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Predictions of one arm on the images of its splits, over its S finished seeds."""

    arm_id: str
    confusion: Floats  # [S, L, L] images: true label, predicted label
    roc: Floats  # [S, 201] sensitivity at FPR, of the second label; macro of one-vs-rest for more
    auc: Floats  # [S]; NaN where a label has no image


def scored(evidence: Evidence, arm_id: str) -> Scored | None:
    """Return an arm's confusion matrices and ROC curves, or None if it has no predictions."""
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
    """Return the split of each row as its key in `Evidence.images`."""
    if "split" not in rows:
        return ["dataset"] * len(rows)
    return [str(value) for value in rows["split"]]


def confusion(y: Ints, probability: Floats) -> Floats:
    """Return counts [true, predicted]; the predicted label has the highest probability.

    With two labels a tie goes to the second, as in the metrics: positive from 0.5 up.
    """
    labels = probability.shape[1]
    called = labels - 1 - probability[:, ::-1].argmax(axis=1)
    if labels > 2:
        called = probability.argmax(axis=1)
    counts = np.zeros((labels, labels))
    np.add.at(counts, (y, called), 1)
    return counts


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
