"""Forest plot: every arm's effect against its baseline and controls, with intervals."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fgaug.analysis.format import NAMES, effect, is_loss, many, p_value, scale, unit
from fgaug.analysis.report.drawing import TEXT_PT, TICK_PT, Theme, blank, dress, plain
from fgaug.analysis.report.material import Material, compared, names_of
from fgaug.analysis.report.parts import Plot

MOST_ARMS = 44  # as many as fit a printed page; beyond that, the best and the worst
AGAINST = {
    "baseline": "against the\nbaseline",
    "twin": "against its\noversample control",
    "drop": "against the same\nreals without fakes",
    "subset": "against as many\nunfiltered fakes",
}


def forest(material: Material) -> Plot | None:
    """Return the forest plot of the primary metric, or None if nothing can be compared."""
    found = {against: compared(material, against) for against in AGAINST}
    found = {against: rows for against, rows in found.items() if _known(rows)}
    if not found:
        return None
    names = names_of(material)
    tried = {arm for rows in found.values() for arm in rows.index}
    told = {arm for rows in found.values() for arm in rows.index[rows["effect"].notna()]}
    order = [arm for arm in names if arm in told]
    shown = _shown(order, found, material.metric)
    metric = material.metric
    better = "Left of 0 is better" if is_loss(metric) else "Right of 0 is better"
    level = 100 * (1 - material.analysis.plan.alpha) if material.analysis else 95
    caption = (
        f"Effect on {NAMES[metric]} ({material.images}). {better}. Thin lines are simultaneous "
        f"{level:g}% confidence intervals over all arms in the column for new patients (level "
        f"E2: seeds and patients vary); thick lines are unadjusted {level:g}% intervals. A "
        "filled dot marks a simultaneous interval that excludes 0. The effect and its adjusted "
        "p value (E2) are printed beside each line."
    )
    if len(tried) > len(told):
        caption += (
            f" Not drawn: {many(len(tried) - len(told), 'arm')} without an estimated effect "
            "(no finished seed, "
        )
        caption += "or nothing to compare with)."
    if len(shown) < len(order):
        caption += (
            f" Only the {len(shown)} arms with the largest effects in either direction are "
            "shown, of "
        )
        caption += f"{many(len(order), 'arm')}; the table of all arms lists every one."
    draw = functools.partial(_figure, shown, found, names, metric)
    return Plot(name="forest", title="All arms, with intervals", caption=caption, draw=draw)


def _known(rows: pd.DataFrame) -> bool:
    return not rows.empty and bool(rows["effect"].notna().any())


def _shown(order: list[str], found: dict[str, pd.DataFrame], metric: str) -> list[str]:
    if len(order) <= MOST_ARMS:
        return order
    effects = next(iter(found.values()))["effect"].reindex(order)
    ranked = effects.sort_values(ascending=is_loss(metric)).index
    kept = set(ranked[: MOST_ARMS * 3 // 4]) | set(ranked[-(MOST_ARMS // 4) :])
    return [arm for arm in order if arm in kept]


def _figure(
    shown: Sequence[str],
    found: dict[str, pd.DataFrame],
    names: dict[str, str],
    metric: str,
    theme: Theme,
) -> Figure:
    figure = blank(theme, 0.9 + 0.165 * len(shown))
    columns = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    places = np.arange(len(shown))[::-1]
    for axes, (against, rows) in zip(columns, found.items(), strict=True):
        dress(axes, theme)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4 if len(found) < 3 else 3))
        axes.set_title(AGAINST[against], loc="left", fontsize=TEXT_PT, color=theme.ink)
        axes.set_xlabel(f"effect on {NAMES[metric]}, {unit(metric)}".rstrip(", "))
        axes.axvline(0, color=theme.baseline, linewidth=1)
        rows = rows.reindex(list(shown))
        _draw(axes, rows, places, metric, theme)
    columns[0].set_yticks(places, [plain(names[arm]) for arm in shown], fontsize=TICK_PT - 0.5)
    columns[0].set_ylim(-0.8, len(shown) - 0.2)
    for axes in columns:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, places: np.ndarray, metric: str, theme: Theme) -> None:
    by = scale(metric)
    low, high, own_low, own_high = (
        rows[name].to_numpy(dtype=float) * by
        for name in ("ci_low", "ci_high", "ci_low_single", "ci_high_single")
    )
    values = rows["effect"].to_numpy(dtype=float) * by
    axes.hlines(places, low, high, color=theme.arm, linewidth=0.9)
    axes.hlines(places, own_low, own_high, color=theme.arm, linewidth=2.2, alpha=0.55)
    sure = (low > 0) | (high < 0)
    for mask, face in ((sure, theme.arm), (~sure, theme.paper)):
        axes.plot(
            values[mask],
            places[mask],
            linestyle="",
            marker="o",
            markersize=3.6,
            markeredgewidth=0.9,
            color=theme.arm,
            markerfacecolor=face,
        )
    known = np.concatenate([low, high, values, [0.0]])
    left, right = np.nanmin(known), np.nanmax(known)
    margin = 0.04 * (right - left) or 1.0
    axes.set_xlim(left - margin, right + margin)
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        if row["effect"] == row["effect"]:
            axes.annotate(
                _words(metric, row),
                (1.0, place),
                xytext=(3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="left",
                va="center",
                fontsize=TICK_PT - 1,
                color=theme.ink,
                annotation_clip=False,
            )


def _words(metric: str, row: pd.Series[Any]) -> str:
    return f"{effect(metric, row['effect'])}  p {p_value(row['p_value'])}"
