"""Learning curves: training and validation loss of some arms, means over seeds.  curves -> page"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgaug.cells import CONTROLS
from fgaug.report.arms import arm_name, by_arm
from fgaug.report.drawing import Format, Plot, Theme, blank, dress, legend, plain, plot
from fgaug.report.panels import varying

MOST_ARMS = 12
_LOSSES = (("train_loss", "training loss"), ("valid_loss", "validation loss"))


def curve_figure(
    frame: pd.DataFrame, curves: pd.DataFrame, *, unit: str = "epochs", fmt: Format = "svg"
) -> Plot | None:
    """Return the losses of the baseline and the best arms by training time, or None without any.

    `curves` has a row an evaluation: cell_id, epoch, step, train_loss, valid_loss. `unit` is the
    budget's and picks the x axis. Of more than `MOST_ARMS` arms those with the highest mean AUC
    are drawn; the caption says so.
    """
    x = "step" if unit == "steps" else "epoch"
    if not {"cell_id", x} <= set(curves.columns) or curves.empty:
        return None
    arms = by_arm(frame)
    arm_of = frame.drop_duplicates("cell_id").set_index("cell_id")["arm_id"]
    curves = curves.assign(arm_id=curves["cell_id"].map(arm_of))
    first = arms.assign(rank=arms["mode"].ne("baseline"))
    first = first.sort_values(["rank", "valid_auc_mean"], ascending=[True, False])
    drawn = {str(arm): curves[curves["arm_id"].eq(arm)] for arm in first["arm_id"].unique()}
    drawn = {arm: rows for arm, rows in drawn.items() if len(rows)}
    if not drawn:
        return None
    names = {}
    axes = varying(arms)
    for arm, rows in arms.groupby("arm_id", sort=False):
        head = rows.iloc[0].to_dict()
        words = arm_name({str(key): head[key] for key in head if key != "round"}, axes)
        names[str(arm)] = words + (" (control)" if head["mode"] in CONTROLS else "")
    chosen = {arm: _means(drawn[arm], x) for arm in list(drawn)[:MOST_ARMS]}
    caption = (
        f"Means over the seeds still training, as far as at least half of them do, by {x}; "
        "one scale for all panels."
    )
    if len(drawn) > len(chosen):
        caption += (
            f" Shown are {len(chosen)} of {len(drawn)} arms: the baseline and the highest mean "
            "validation AUCs."
        )
    draw = functools.partial(_figure, chosen, names, x)
    return plot("Learning curves", caption, fmt, draw)


def _means(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    losses = [name for name, _ in _LOSSES if name in rows]
    at = rows.groupby(x)
    seeds = at["cell_id"].nunique()
    means = at[losses].mean()
    return means[seeds * 2 >= rows["cell_id"].nunique()]


def _figure(
    chosen: Mapping[str, pd.DataFrame], names: Mapping[str, str], x: str, theme: Theme
) -> Figure:
    columns = 3  # also for one arm: the page shows every figure at one width
    lines = math.ceil(len(chosen) / columns)
    figure = blank(theme, 9.6, 0.7 + 2.0 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes, (arm, means) in zip(panels, chosen.items(), strict=False):
        dress(axes, theme)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_title(_wrapped(plain(names[arm])), loc="left", fontsize=8, color=theme.ink)
        styles = {"train_loss": (theme.oversample, "--"), "valid_loss": (theme.arm, "-")}
        for loss, word in _LOSSES:
            if loss in means and means[loss].notna().any():
                colour, dash = styles[loss]
                axes.plot(
                    means.index.to_numpy(dtype=float),
                    means[loss].to_numpy(dtype=float),
                    color=colour,
                    linestyle=dash,
                    linewidth=1.4,
                    marker="." if len(means) == 1 else "",
                    label=word,
                )
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    for column in range(min(columns, len(chosen))):
        last = max(i for i in range(len(chosen)) if i % columns == column)
        panels[last].set_xlabel(x)
        panels[last].tick_params(labelbottom=True)
    for line in grid[:, 0]:
        line.set_ylabel("loss (nats)")
    legend(figure, panels[: len(chosen)], theme)
    return figure


def _wrapped(text: str, width: int = 46) -> str:
    """Return text in at most two lines of a panel's width, cut with an ellipsis."""
    lines: Sequence[str] = [""]
    for word in text.split(" "):
        line = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], line] if len(line) <= width else [*lines, word]
    shown = [line[:width] for line in lines[:2]]
    return "\n".join(shown) + ("…" if len(lines) > 2 else "")
