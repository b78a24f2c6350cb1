"""Confusion matrices: of picked arms in detail, of every arm in small, of every run as a table.

Descriptive only: means and population standard deviations over the seeds, without tests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fgaug.analysis.format import count, many, number
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
from fgaug.analysis.report.material import Material, names_of
from fgaug.analysis.report.parts import Plot, Table
from fgaug.runs.results import screened, splits_of

if TYPE_CHECKING:
    from fgaug.analysis.findings.evidence import Evidence

MOST_LABELS = 8  # beyond this the numbers in a matrix are too small to read
MOST_SMALL = 48  # matrices in the figure of all arms
MOST_ROWS = 300  # of the table of all arms on the page
ACROSS = 8  # small matrices side by side
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RUNS = ("arm_id", "arm", "cell_id", "seed", "split", "true", "called", "images")


def confusion(y: Ints, probability: Floats) -> Floats:
    """Return counts [true, predicted]; the predicted label has the highest probability.

    With two labels a tie goes to the second, as in the metrics: positive from 0.5 up.
    """
    labels = probability.shape[1]
    called = labels - 1 - probability[:, ::-1].argmax(axis=1)
    if labels > 2:
        called = probability.argmax(axis=1)
    counts = np.bincount(y * labels + called, minlength=labels**2)
    return counts.reshape(labels, labels).astype(np.float64)


def matrices_of(evidence: Evidence) -> dict[str, Floats]:
    """Return the counts of every finished trial of the grid by cell_id, [true, predicted].

    Trials of a second stage have their own tables and are left out.
    """
    rows = finished(evidence)
    return {
        cell: confusion(
            evidence.images[split]["y"].to_numpy(dtype=np.int64),
            np.asarray(evidence.probability[cell], dtype=np.float64),
        )
        for cell, split in zip(map(str, rows["cell_id"]), splits_of(rows), strict=True)
    }


def finished(evidence: Evidence) -> pd.DataFrame:
    """Return the rows of the grid's finished trials with predictions, one per cell."""
    rows = evidence.rows[evidence.rows["status"].eq("ok") & screened(evidence.rows)]
    rows = rows[rows["cell_id"].isin(evidence.probability.keys())]
    return rows.drop_duplicates("cell_id", keep="last")


def runs_frame(material: Material, matrices: dict[str, Floats]) -> pd.DataFrame:
    """Return a row of RUNS for every trial, true label and predicted label.

    Args:
        material: with evidence; arms come in the order of its tables.
        matrices: the result of `matrices_of`.
    """
    assert material.evidence is not None
    rows, labels, names = finished(material.evidence), material.evidence.labels, names_of(material)
    order = {str(arm): place for place, arm in enumerate(material.arms["arm_id"].unique())}
    rows = rows.assign(split=splits_of(rows), order=rows["arm_id"].map(order))
    rows = rows.sort_values(["order", "split", "seed"], kind="stable")
    cells, size = rows["cell_id"].map(str).tolist(), len(labels)
    each = rows.loc[rows.index.repeat(size**2), ["arm_id", "cell_id", "seed", "split"]]
    found = each.reset_index(drop=True).assign(
        arm=[names[arm] for arm in each["arm_id"].map(str)],
        true=np.tile(np.repeat(labels, size), len(cells)),
        called=np.tile(labels, size * len(cells)),
        images=np.concatenate([matrices[cell].ravel() for cell in cells]).astype(np.int64),
    )
    return found[list(RUNS)]


def every_arm(material: Material) -> list[Plot | Table]:
    """Return the matrices of every arm as a figure and a table, and of every trial as CSV."""
    if material.evidence is None:
        return []
    matrices = matrices_of(material.evidence)
    if not matrices:
        return []
    labels = material.evidence.labels
    runs = runs_frame(material, matrices)
    parts: list[Plot | Table] = []
    if len(labels) <= MOST_LABELS:
        parts.append(_figure_of_arms(material, runs, labels))
    hidden = runs.iloc[:0, :0]  # only as a file: a page of 180 trials would be unreadable
    return [
        *parts,
        _counts(runs, labels),
        Table(
            name="confusion_runs",
            title="Confusion matrices of every trial",
            frame=runs,
            text=hidden,
            folded=True,
        ),
    ]


def _figure_of_arms(material: Material, runs: pd.DataFrame, labels: Sequence[str]) -> Plot:
    keys = list(dict.fromkeys(runs["arm_id"].map(str)))
    names, size = names_of(material), len(labels)
    shares = {}
    for arm, own in runs.groupby("arm_id", sort=False):
        counts = own["images"].to_numpy(float).reshape(-1, size, size)
        shares[str(arm)] = _shares_of(counts).mean(axis=0)
    drawn = [(names[arm], shares[arm]) for arm in keys[:MOST_SMALL]]
    left = len(keys) - len(drawn)
    more = f" {many(left, 'more arm')} in the table." if left else ""
    listed = ", ".join(labels)
    return Plot(
        name="confusion_arms",
        title="Confusion matrices of every arm",
        caption=f"Rows: true label; columns: predicted label; both in the order {listed}. Share "
        f"of each true label's images on the {material.images}, mean over the seeds, in per cent. "
        f"Darker is larger; the diagonal holds the recall of each label.{more}",
        draw=functools.partial(_small, drawn),
    )


def _shares_of(counts: Floats) -> Floats:
    """Return counts [..., true, predicted] as shares of each true label; NaN without images."""
    totals = counts.sum(axis=-1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, totals, out=shares, where=totals > 0)
    return shares


def _small(drawn: Sequence[tuple[str, Floats]], theme: Theme) -> Figure:
    """Draw all matrices on one pair of axes: a pair for each would take seconds."""
    size = len(drawn[0][1])
    lines = math.ceil(len(drawn) / ACROSS)
    figure = blank(theme, 0.2 + 1.02 * lines)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, ACROSS)
    axes.set_ylim(lines, 0)
    colours = LinearSegmentedColormap.from_list("share", [theme.paper, theme.arm], N=255)
    squares, fills = [], []
    for place, (name, shares) in enumerate(drawn):
        left, top = place % ACROSS + 0.02, place // ACROSS + 0.3
        step_x, step_y = 0.92 / size, 0.66 / size
        head = wrapped(plain(name).replace("ratio ", "ratio\N{NO-BREAK SPACE}"), 21)
        axes.text(left, top - 0.02, head, fontsize=TICK_PT - 2, color=theme.ink, va="bottom")
        for (true, called), share in np.ndenumerate(shares):
            x, y = left + called * step_x, top + true * step_y
            squares.append([(x, y), (x + step_x, y), (x + step_x, y + step_y), (x, y + step_y)])
            known = not math.isnan(share)
            fill = colours(share) if known else theme.grid
            fills.append(fill)
            if size <= 4 and known:
                axes.text(
                    x + step_x / 2, y + step_y / 2, f"{100 * share:.0f}", ha="center",
                    va="center", fontsize=TICK_PT - 1, color=ink_on(colours(share), theme),
                )  # fmt: skip
    axes.add_collection(
        PolyCollection(squares, facecolors=fills, edgecolors=theme.grid, linewidths=0.6)
    )
    return figure


def confusion_figure(
    told: Sequence[tuple[str, Floats]], labels: Sequence[str], theme: Theme
) -> Figure:
    """Return the matrices of a few arms side by side, with shares, spreads and counts.

    Args:
        told: the name of each arm, and its counts [seeds, true, predicted].
        labels: in the order of the counts.
        theme: of the figure.
    """
    size = len(labels)
    figure = blank(theme, 2.35 if size < 4 else 2.9)
    columns = figure.subplots(1, len(told) if len(told) > 1 else 2, squeeze=False)[0]
    colours = LinearSegmentedColormap.from_list("share", [theme.paper, theme.arm], N=255)
    for axes, (name, counts) in zip(columns, told, strict=False):
        dress(axes, theme)
        axes.grid(False)
        shares = _shares_of(counts)
        mean = shares.mean(axis=0)
        axes.imshow(np.ma.masked_invalid(mean), cmap=colours, vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(size), [plain(label) for label in labels])
        axes.set_yticks(range(size), [plain(label) for label in labels], rotation=90, va="center")
        head = wrapped(plain(name), 108 // max(2, len(told)))
        axes.set_title(head, loc="left", fontsize=TICK_PT, color=theme.ink)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.tick_params(length=0)
        _write_shares(axes, mean, shares.std(axis=0), counts.mean(axis=0), colours, theme)
    for axes in columns[len(told) :]:
        axes.set_visible(False)
    return figure


def _write_shares(
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


def _counts(runs: pd.DataFrame, labels: Sequence[str]) -> Table:
    """Return the counts of every arm; on the page, a row per true label."""
    at = runs.groupby(["arm_id", "arm", "true", "called"], sort=False)["images"]
    frame = pd.DataFrame(
        {
            "seeds": at.size(),
            "images_mean": at.mean(),
            "images_sd": at.std(ddof=0).where(at.size() > 1),
        }
    ).reset_index()
    frame = frame[["arm", "true", "called", "seeds", "images_mean", "images_sd", "arm_id"]]
    words = frame.assign(
        words=[
            number(mean, 1) + ("" if math.isnan(sd) else f" ± {number(sd, 1)}")
            for mean, sd in zip(frame["images_mean"], frame["images_sd"], strict=True)
        ]
    )
    every = words.iloc[:: len(labels)].reset_index(drop=True)  # one per arm and true label
    cells = words["words"].to_numpy(object).reshape(-1, len(labels))
    text = pd.DataFrame({"arm": every["arm"], "true": every["true"]})
    for place, label in enumerate(labels):
        text[f"predicted {label}"] = cells[:, place]
    text["seeds"] = every["seeds"].map(count)
    left = len(text) - MOST_ROWS
    cut = f" The CSV file lists {many(left, 'more row')}." if left > 0 else ""
    return Table(
        name="confusion_counts",
        title="Confusion matrices of every arm, counts",
        frame=frame,
        text=text.head(MOST_ROWS),
        words=("arm", "true"),
        folded=True,
        note="Number of images: mean ± population sd over the seeds. Those of every trial are in "
        f"tables/confusion_runs.csv.{cut}",
    )
