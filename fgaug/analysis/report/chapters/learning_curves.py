"""Learning curves: losses of selected arms, and where arms were pruned.

Only the curves of drawn arms are loaded: loading those of 10,000 trials takes half a minute.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgaug.analysis.format import many
from fgaug.analysis.report.chapters.summary import budget_unit
from fgaug.analysis.report.drawing import TICK_PT, Theme, blank, dress, legend, plain, wrapped
from fgaug.analysis.report.material import Material, Picks, names_of, picks
from fgaug.analysis.report.parts import Plot

MOST_ARMS = 6  # with a panel each
MOST_LINES = 60  # in one panel
_LOSSES = (("train_loss", "training loss"), ("valid_loss", "validation loss"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """An arm's mean validation AUC by training time."""

    name: str
    role: str  # baseline | control | best arm | stopped | other
    means: pd.DataFrame


def loss_figure(material: Material) -> Plot | None:
    """Return the losses of the baseline and the best arms over training, or None without any.

    With more than `MOST_ARMS` arms, draws the baseline, the best arm and its control, and the
    arms with the next highest mean AUC; the caption says so.
    """
    x = _x(material)
    order = _ranked(material, picks(material))
    curves = _curves(material, order[:MOST_ARMS], x)
    chosen = {arm: _means(rows, x) for arm, rows in curves.items()}
    if not chosen:
        return None
    caption = (
        f"Mean loss by {x} over the seeds still training, drawn while at least half of the seeds "
        "are; all panels share one scale."
    )
    if len(order) > MOST_ARMS:
        caption += (
            f" {len(chosen)} of {len(order):,} arms are shown: the baseline, the best arm and "
            "its control, and the arms with the next highest mean validation AUC."
        )
    draw = functools.partial(_panels, chosen, names_of(material), x)
    return Plot(name="losses", title="Losses", caption=caption, draw=draw)


def stops_figure(material: Material) -> Plot | None:
    """Return the AUC of all arms over training, with the rungs at which arms were pruned.

    None if the scheduler pruned no arm.
    """
    pruned = material.rows[material.rows["status"].eq("pruned")]
    if pruned.empty:
        return None
    x = _x(material)
    picked = picks(material)
    order = _ranked(material, picked, stopped=True)
    drawn = order if len(order) <= MOST_LINES else [*order[:20], *order[-(MOST_LINES - 20) :]]
    roles = {arm: role for role, arm in picked.named()}
    curves = _curves(material, drawn, x)
    stopped = set(pruned["arm_id"])
    names = names_of(material)
    lines = [
        _Line(
            name=names[arm],
            role=roles.get(arm, "stopped" if arm in stopped else "other"),
            means=rows.groupby(x)[["valid_auc"]].mean(),
        )
        for arm, rows in curves.items()
        if "valid_auc" in rows and rows["valid_auc"].notna().any()
    ]
    if not lines:
        return None
    ends = pd.concat(curves).groupby("cell_id")[x].max()
    rungs = sorted({float(value) for value in ends[ends.index.isin(pruned["cell_id"])]})
    caption = (
        f"Mean validation AUC over the seeds at each evaluation, by {x}. Dotted lines mark the "
        "rungs at which arms were compared; a cross marks the end of an arm pruned there "
        f"({many(len(stopped), 'arm')} of {len(order):,}). The baseline and the controls are "
        "never pruned."
    )
    if len(drawn) < len(order):
        caption += f" Only {len(drawn)} arms are drawn."
    draw = functools.partial(_race, lines, rungs, x)
    return Plot(name="rungs", title="Rungs and pruned arms", caption=caption, draw=draw)


def _x(material: Material) -> str:
    return "step" if budget_unit(material.rows, material.space) == "steps" else "epoch"


def _ranked(material: Material, picked: Picks, *, stopped: bool = False) -> list[str]:
    """Return arms, picked ones first, then by mean AUC; with `stopped`, pruned arms come last."""
    arms = material.arms.sort_values("valid_auc_mean", ascending=False, kind="stable")
    if not stopped:
        arms = arms[arms["seeds"].gt(0)]
    first = [arm for arm in (picked.baseline, picked.best, picked.control) if arm is not None]
    told = set(arms["arm_id"])
    return list(dict.fromkeys([*(arm for arm in first if arm in told), *arms["arm_id"]]))


def _curves(material: Material, arms: Sequence[str], x: str) -> dict[str, pd.DataFrame]:
    """Return the curves of each arm that has any, one row per evaluation."""
    cells = material.rows[material.rows["arm_id"].isin(arms)].drop_duplicates("cell_id")
    curves = material.curves(list(cells["cell_id"]))
    if x not in curves or curves.empty:
        return {}
    arm_of = curves["cell_id"].map(cells.set_index("cell_id")["arm_id"])
    found = {str(arm): rows for arm, rows in curves.groupby(arm_of, sort=False)}
    return {arm: found[arm] for arm in arms if arm in found}


def _means(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    losses = [name for name, _ in _LOSSES if name in rows]
    at = rows.groupby(x)
    seeds = at["cell_id"].nunique()
    means = at[losses].mean()
    return means[seeds * 2 >= rows["cell_id"].nunique()]


def _panels(
    chosen: Mapping[str, pd.DataFrame], names: Mapping[str, str], x: str, theme: Theme
) -> Figure:
    columns = 3  # even for one arm: the page shows all figures at the same width
    lines = math.ceil(len(chosen) / columns)
    figure = blank(theme, 0.5 + 1.6 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes, (arm, means) in zip(panels, chosen.items(), strict=False):
        dress(axes, theme)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_title(
            wrapped(plain(names[arm]), 40), loc="left", fontsize=TICK_PT, color=theme.ink
        )
        styles = {"train_loss": (theme.oversample, "--"), "valid_loss": (theme.arm, "-")}
        for loss, word in _LOSSES:
            if loss in means and means[loss].notna().any():
                colour, dash = styles[loss]
                axes.plot(
                    means.index.to_numpy(dtype=float),
                    means[loss].to_numpy(dtype=float),
                    color=colour,
                    linestyle=dash,
                    linewidth=1.3,
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


def _race(lines: Sequence[_Line], rungs: Sequence[float], x: str, theme: Theme) -> Figure:
    figure = blank(theme, 3.1)
    axes = figure.subplots()
    dress(axes, theme)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    for place, rung in enumerate(rungs):
        label = "rung" if place == 0 else "_"
        axes.axvline(rung, color=theme.baseline, linestyle=":", linewidth=1, label=label)
    styles = {
        "baseline": (theme.ink, "-", 1.8),
        "control": (theme.oversample, "--", 1.8),
        "best arm": (theme.arm, "-", 1.8),
        "other": (theme.arm, "-", 0.6),
        "stopped": (theme.baseline, "-", 0.6),
    }
    words = {"other": "arm or control, fully trained", "stopped": "pruned arm"}
    for line in sorted(lines, key=lambda line: -list(styles).index(line.role)):
        colour, dash, width = styles[line.role]
        places = line.means.index.to_numpy(dtype=float)
        values = line.means["valid_auc"].to_numpy(dtype=float)
        label = words.get(line.role, plain(line.name))
        axes.plot(places, values, color=colour, linestyle=dash, linewidth=width, label=label)
        if line.role == "stopped":
            axes.plot(places[-1:], values[-1:], color=colour, marker="x", markersize=4)
    axes.set_xlabel(x)
    axes.set_ylabel("validation AUC")
    legend(figure, [axes], theme, columns=2)
    return figure
