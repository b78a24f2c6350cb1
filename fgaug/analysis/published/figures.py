"""Figures of the published studies."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgaug.analysis.format import p_value, signed
from fgaug.analysis.published.best_cell import BestCell
from fgaug.analysis.published.comparisons import OPEN
from fgaug.analysis.published.source import METRICS, WORDS, Thesis
from fgaug.analysis.report.drawing import TEXT_PT, TICK_PT, Theme, blank, dress, legend
from fgaug.analysis.report.parts import Plot

_SCORES = (("acc", "Accuracy (share correct)"), ("auc", "AUC"), ("loss", "Mean loss (nats)"))


def ratio_figure(thesis: Thesis) -> Plot:
    """Return accuracy, AUC and loss against the ratio from the printed tables, one row per psi."""
    return Plot(
        name="ratio",
        title="Metrics against ratio, by psi",
        caption="Dots are the printed means over five seeds; whiskers span the printed minimum "
        "to maximum. For the loss only the mean was printed. The grey line and band are "
        "the baseline's mean and range. All rows share one scale, which does not start "
        "at zero.",
        draw=functools.partial(_ratio, thesis),
    )


def forest_figure(cells: Mapping[str, pd.DataFrame]) -> Plot:
    """Return every cell's difference from the baseline with its simultaneous interval."""
    return Plot(
        name="forest",
        title="All 36 cells against the baseline",
        caption="Right of 0 is better. Lines are Dunnett's simultaneous 95% confidence "
        "intervals over all 36 cells, level E1 (these patients, seed noise only). A "
        "filled dot marks an interval that excludes 0. The difference in points (0.01) "
        "and Dunnett's adjusted p are printed beside each line.",
        draw=functools.partial(_forest, cells),
    )


def gains_figure(best: Mapping[str, BestCell]) -> Plot:
    """Return the best cell's gain as published and after each correction."""
    return Plot(
        name="gains",
        title="The best cell's gain, as published and corrected for selection",
        caption="The dashed line is the published gain. The grey band is the gain of the best "
        "of 36 cells without effect in 95 of 100 grids. Open dots are not corrected for "
        "selection. Lines are 95% confidence intervals where available. Level E1: seed "
        "noise only, these patients.",
        draw=functools.partial(_gains, best),
    )


def cascade_figure(runs: pd.DataFrame) -> Plot:
    """Return the accuracy of each round of the cascade.

    Args:
        runs: the result of `breast.runs`.
    """
    return Plot(
        name="cascade",
        title="Accuracy of the cascade by number of fakes",
        caption="Dots are single runs on the same 300 test images; lines are unadjusted 95% "
        "Wilson intervals of the accuracies (level E0). The grey line and band are the "
        "network trained on real images and its interval. The axis does not start at "
        "zero.",
        draw=functools.partial(_cascade, runs),
    )


def _ratio(thesis: Thesis, theme: Theme) -> Figure:
    psis = sorted(thesis.cells["psi"].unique())
    figure = blank(theme, 0.75 + 1.6 * len(psis))
    grid = figure.subplots(len(psis), 3, squeeze=False, sharex=True, sharey="col")
    for psi, line in zip(psis, grid, strict=True):
        rows = thesis.cells[thesis.cells["psi"].eq(psi)].sort_values("ratio")
        for (score, name), axes in zip(_SCORES, line, strict=True):
            dress(axes, theme)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            _one_score(axes, thesis.baseline, rows, score, theme)
            if psi == psis[0]:
                axes.set_title(name, loc="left", fontsize=TEXT_PT, color=theme.ink)
            if psi == psis[-1]:
                axes.set_xlabel("ratio: fakes per real image")
        line[0].set_ylabel(f"psi = {psi:g}", fontweight="bold")
    grid[0][0].set_xticks([1, 2, 3, 4, 5, 6, 7, 8])
    legend(figure, grid[:, 0], theme)
    return figure


def _one_score(
    axes: Axes, baseline: pd.Series, rows: pd.DataFrame, score: str, theme: Theme
) -> None:
    mean = "loss_avg" if score == "loss" else f"{score}_mean"
    axes.axhline(baseline[mean], color=theme.baseline, linewidth=1.4, label="baseline")
    spread = None
    if score != "loss":
        low, high = baseline[f"{score}_min"], baseline[f"{score}_max"]
        axes.axhspan(low, high, color=theme.baseline, alpha=0.18, linewidth=0)
        below, above = rows[mean] - rows[f"{score}_min"], rows[f"{score}_max"] - rows[mean]
        spread = np.stack([below, above])
    _arm_line(axes, rows["ratio"], rows[mean], spread, "augmentation", theme)


def _arm_line(
    axes: Axes, x: pd.Series, y: pd.Series, spread: np.ndarray | None, label: str, theme: Theme
) -> None:
    """Draw the scores of arms as a line of dots with whiskers; no whiskers without a spread."""
    axes.errorbar(
        x,
        y,
        yerr=spread,
        label=label,
        color=theme.arm,
        linewidth=1.4,
        marker="o",
        markersize=3.5,
        elinewidth=0.8,
        capsize=2,
    )


def _forest(cells: Mapping[str, pd.DataFrame], theme: Theme) -> Figure:
    first = cells[METRICS[0]]
    figure = blank(theme, 0.9 + 0.165 * len(first))
    places = np.arange(len(first))[::-1]
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), METRICS, strict=True):
        rows = cells[metric]
        _dots(axes, places, rows["difference"] * 100, rows["verdict"].ne(OPEN), theme)
        axes.hlines(places, rows["ci_low"] * 100, rows["ci_high"] * 100, color=theme.arm, lw=0.9)
        axes.set_xlabel(f"difference in {WORDS[metric]}, points")
        for place, (_, row) in zip(places, rows.iterrows(), strict=True):
            words = f"{signed(100 * row['difference'], 1)}  p {p_value(row['p_dunnett'])}"
            axes.annotate(
                words,
                (1.0, place),
                xytext=(3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=TICK_PT - 1,
                color=theme.ink,
                annotation_clip=False,
            )
    names = [f"psi {row['psi']:g}, ratio {row['ratio']:g}" for _, row in first.iterrows()]
    figure.axes[0].set_yticks(places, names, fontsize=TICK_PT - 0.5)
    figure.axes[0].set_ylim(-0.8, len(first) - 0.2)
    return figure


def _gains(best: Mapping[str, BestCell], theme: Theme) -> Figure:
    gains = best[METRICS[0]].gains
    figure = blank(theme, 0.9 + 0.26 * len(gains))
    places = np.arange(len(gains))[::-1]
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), METRICS, strict=True):
        found = best[metric]
        values = pd.Series([gain.value * 100 for gain in found.gains])
        _dots(axes, places, values, pd.Series([g.corrected for g in found.gains]), theme)
        for place, gain in zip(places, found.gains, strict=True):
            axes.plot([gain.low * 100, gain.high * 100], [place] * 2, color=theme.arm, lw=0.9)
        axes.axvspan(0, found.null_p95 * 100, color=theme.baseline, alpha=0.18, linewidth=0)
        axes.axvline(found.gain("naive").value * 100, color=theme.oversample, ls="--", lw=1)
        axes.set_xlabel(f"gain in {WORDS[metric]}, points")
    figure.axes[0].set_yticks(places, [gain.words for gain in gains], fontsize=TICK_PT)
    figure.axes[0].set_ylim(-0.6, len(gains) - 0.4)
    return figure


def _dots(
    axes: Axes, places: np.ndarray, values: pd.Series, filled: pd.Series, theme: Theme
) -> None:
    """Style the axes of a row plot and draw a dot per row, filled if marked."""
    dress(axes, theme)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=theme.baseline, linewidth=1)
    for value, place, full in zip(values, places, filled, strict=True):
        face = theme.arm if full else theme.paper
        axes.plot(
            [value],
            [place],
            marker="o",
            markersize=3.6,
            markeredgewidth=0.9,
            color=theme.arm,
            markerfacecolor=face,
            zorder=3,
        )


def _cascade(runs: pd.DataFrame, theme: Theme) -> Figure:
    figure = blank(theme, 2.6)
    axes = figure.subplots()
    dress(axes, theme)
    reals = runs[runs["training_set"].eq("reals")].iloc[0]
    fakes = runs[runs["training_set"].eq("fakes")]
    axes.axhline(reals["accuracy"], color=theme.baseline, linewidth=1.4, label="reals")
    axes.axhspan(
        reals["accuracy_low"], reals["accuracy_high"], color=theme.baseline, alpha=0.18, lw=0
    )
    spread = np.stack(
        [fakes["accuracy"] - fakes["accuracy_low"], fakes["accuracy_high"] - fakes["accuracy"]]
    )
    _arm_line(axes, fakes["n_train"] / 1000, fakes["accuracy"], spread, "fakes only", theme)
    axes.set_xticks(fakes["n_train"] / 1000)
    axes.set_xlabel("cumulative number of training fakes, thousands")
    axes.set_ylabel("accuracy (share correct)")
    legend(figure, [axes], theme)
    return figure
