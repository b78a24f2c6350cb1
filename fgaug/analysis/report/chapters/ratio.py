"""Figures of accuracy, AUC and loss against ratio, as in figure 4.1 of the thesis."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgaug.analysis.report.drawing import TEXT_PT, Theme, blank, dress, legend, plain
from fgaug.analysis.report.panels import Panel, panels, title, varying
from fgaug.analysis.report.parts import Plot
from fgaug.grid.arm_words import PSI_BY_LABEL

_SCORES = (
    ("valid_acc", "Accuracy (share correct)"),
    ("valid_auc", "AUC"),
    ("valid_loss", "Loss (cross-entropy, nats)"),
)
_X_NAMES = {
    "ratio": "ratio: fakes per real image",
    "n_fake": "fakes in the training set",
    "round": "round",
}
MOST_ROWS = 8  # psis per figure: more do not fit a page
_CAPTION = (
    "Scores on the {images}. Dots are means over the seeds; whiskers span the lowest to the "
    "highest seed. The grey line and band are the baseline's mean and range."
)


def ratio_figures(arms: pd.DataFrame, *, images: str = "validation set") -> list[Plot]:
    """Return a figure per mode and value of the further axes: rows are psis, columns are scores.

    Returns nothing for arms (of `by_arm`) without a finished row. With more than `MOST_ROWS` psis
    only every k-th is drawn; the caption says so.
    """
    named = varying(arms)
    sets: dict[tuple[Any, ...], list[Panel]] = {}
    for panel in panels(arms):
        axes = {name: value for name, value in panel.axes.items() if name != PSI_BY_LABEL}
        sets.setdefault((panel.mode, *sorted(axes.items(), key=str)), []).append(panel)
    plots: list[Plot] = []
    for rows in sets.values():
        # Controls without arms, and rows without a finished arm, have tables but no figure
        rows = [row for row in rows if row.arms["seeds"].gt(0).any() or row.mode == "baseline"]
        rows = [
            row for row in rows if (row.baseline if row.arms.empty else row.arms)["seeds"].any()
        ]
        if not rows:
            continue
        head = rows[0]
        if len(rows) > 1:  # every row shows its own psi
            axes = {**head.axes, PSI_BY_LABEL: None}
            head = dataclasses.replace(head, psi=None, axes=axes)
        drawn = rows[:: math.ceil(len(rows) / MOST_ROWS)]
        plots.append(
            Plot(
                name=f"ratio_{len(plots) + 1}_{rows[0].mode}",
                title=title(head, named),
                caption=_caption(drawn, len(rows), images),
                draw=functools.partial(_figure, drawn),
            )
        )
    return plots


def _caption(rows: Sequence[Panel], n_psis: int, images: str) -> str:
    caption = _CAPTION.format(images=images)
    if len(rows) < n_psis:
        caption += f" {len(rows)} of {n_psis} values of ψ are shown."
    if any(row.controls["seeds"].gt(0).any() for row in rows):
        caption += (
            " The controls contain no new images (oversample repeats real images to the same "
            "size): only what an arm gains over them can come from its fakes."
        )
    return caption + " All rows share one scale, which does not start at zero."


def _figure(rows: Sequence[Panel], theme: Theme) -> Figure:
    x = x_of(rows)
    figure = blank(theme, 0.75 + 1.75 * len(rows))
    grid = figure.subplots(len(rows), len(_SCORES), squeeze=False, sharex=True, sharey="col")
    for row, line in zip(rows, grid, strict=True):
        for (score, name), axes in zip(_SCORES, line, strict=True):
            dress(axes, theme)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            _draw(axes, row, score, x, theme)
            if row is rows[0]:
                axes.set_title(name, loc="left", fontsize=TEXT_PT, color=theme.ink)
            if row is rows[-1]:
                axes.set_xlabel(_X_NAMES[x] if not row.arms.empty else "no arms to compare")
        line[0].set_ylabel(_psi_of(row), fontweight="bold")
    _ticks(grid[0][0], rows, x)
    legend(figure, grid[:, 1], theme)
    return figure


def _psi_of(row: Panel) -> str:
    """Return the label of a row: its psi, or one line per label; empty without fakes."""
    if row.psi is not None:
        return f"ψ = {row.psi:g}"
    by_label = row.axes.get(PSI_BY_LABEL)
    if by_label is None:
        return ""
    lines = re.sub(r"(=\S+) ", r"\1\n", str(by_label))  # labels may contain blanks
    return f"ψ of\n{lines}"


def x_of(rows: Sequence[Panel]) -> str:
    """Return the column in which the arms differ: rounds, else ratios, else counts."""
    arms = pd.concat([row.arms for row in rows])
    for name in ("round", "ratio"):
        if arms[name].notna().any():
            return name
    return "n_fake"


def _ticks(axes: Axes, rows: Sequence[Panel], x: str) -> None:
    """Put ticks at the arms; sizes that span more than a factor of 16 get a log2 axis."""
    places = sorted({float(value) for row in rows for value in row.arms[x].dropna()})
    if not places:
        axes.set_xticks([])
        return
    if places[0] > 0 and places[-1] / places[0] > 16:
        axes.set_xscale("log", base=2)
        axes.set_xlim(places[0] / 1.2, places[-1] * 1.2)
    else:
        margin = 0.06 * (places[-1] - places[0]) or 0.5 * abs(places[0]) or 1.0
        axes.set_xlim(places[0] - margin, places[-1] + margin)
    if len(places) <= 12:
        axes.set_xticks(places, _tick_names(axes, places), minor=False)
        axes.set_xticks([], minor=True)


def _tick_names(axes: Axes, places: Sequence[float]) -> list[str]:
    """Return the tick labels, empty where one would overlap the previous one."""
    scale = axes.get_xaxis_transform()
    names, last = [], -math.inf
    for place in places:
        x = float(axes.transAxes.inverted().transform(scale.transform((place, 0)))[0])
        name = f"{place:,g}"
        fits = x - last > 0.035 * len(name)
        names.append(name if fits else "")
        last = x if fits else last
    return names


def _draw(axes: Axes, row: Panel, score: str, x: str, theme: Theme) -> None:
    for _, baseline in row.baseline.iterrows():
        mean = baseline[f"{score}_mean"]
        if f"{score}_min" in baseline and baseline["seeds"] > 1:
            axes.axhspan(
                baseline[f"{score}_min"],
                baseline[f"{score}_max"],
                color=theme.baseline,
                alpha=0.18,
                linewidth=0,
            )
        if not np.isnan(mean):
            axes.axhline(mean, color=theme.baseline, linewidth=1.4, label="baseline")
    drops = row.controls[row.controls["mode"].eq("drop")]
    for mean in drops[f"{score}_mean"].dropna():
        axes.axhline(mean, color=theme.drop, linewidth=1.3, linestyle=":", label="drop (control)")
    repeats = row.controls[row.controls["mode"].eq("oversample")]
    if x == "n_fake" and "fakes" in row.arms:  # draw a twin where its arm is drawn
        places = dict(zip(row.arms["fakes"], row.arms["n_fake"], strict=True))
        repeats = repeats.assign(n_fake=repeats["fakes"].map(places))
    if repeats[x].nunique() > 1:  # shifted to the right so that its whiskers do not hide the arm's
        shift = 0.012 * (repeats[x].max() - repeats[x].min())
        repeats = repeats.assign(**{x: repeats[x] + shift})
    _line(axes, repeats, score, x, theme.oversample)
    _line(axes, row.arms, score, x, theme.arm)


def _line(axes: Axes, arms: pd.DataFrame, score: str, x: str, colour: str) -> None:
    """Draw means with whiskers, joined by a line, which is dashed for a control."""
    arms = arms[arms[f"{score}_mean"].notna() & arms[x].notna()].sort_values(x)
    if arms.empty:
        return
    control = arms["mode"].eq("oversample").all()
    name = "oversample (control)" if control else str(arms["mode"].iloc[0])
    means = arms[f"{score}_mean"].to_numpy(dtype=float)
    spread = None
    if f"{score}_min" in arms:
        low, high = (arms[f"{score}_{end}"].to_numpy(dtype=float) for end in ("min", "max"))
        spread = np.clip(np.stack([means - low, high - means]), 0, None)
    axes.errorbar(
        arms[x].to_numpy(dtype=float),
        means,
        yerr=spread,
        label=plain(name),
        color=colour,
        linestyle="--" if control else "-",
        linewidth=1.1 if control else 1.4,
        marker="D" if control else "o",
        markersize=2.5 if control else 3.5,
        elinewidth=0.8,
        capsize=2,
        alpha=0.85 if control else 1.0,
    )
