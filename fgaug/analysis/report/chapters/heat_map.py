"""Heat map: the gain over the baseline at each psi and ratio."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fgaug.analysis.format import NAMES, effect, is_loss, scale, unit
from fgaug.analysis.report.chapters.ratio import x_of
from fgaug.analysis.report.drawing import TEXT_PT, TICK_PT, Theme, blank, dress, ink_on
from fgaug.analysis.report.material import Material, compared
from fgaug.analysis.report.panels import Panel, panels, title, varying
from fgaug.analysis.report.parts import Plot

MOST_COLUMNS, MOST_ROWS = 16, 16
_WORDS = {"ratio": "ratio: fakes per real image", "n_fake": "fakes", "round": "round"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Map:
    psis: tuple[float, ...]
    sizes: tuple[float, ...]
    name: str  # of the axis of sizes
    gain: Any  # float [psis, sizes], NaN where there is no arm; units of the metric
    sure: Any  # bool [psis, sizes]: the simultaneous interval excludes 0
    tried: Any  # bool [psis, sizes]: there is an arm


def heat_maps(material: Material) -> list[Plot]:
    """Return one map of the primary metric per mode and value of the further axes.

    Modes with fewer than two psis or two sizes get no map: a line plot shows them better.
    """
    rows = compared(material, "baseline")
    if rows.empty:
        return []
    named = varying(material.arms)
    sets: dict[tuple[Any, ...], list[Panel]] = {}
    for panel in panels(material.arms):
        if panel.psi is not None and not panel.arms.empty and panel.arms["round"].isna().all():
            sets.setdefault((panel.mode, *sorted(panel.axes.items(), key=str)), []).append(panel)
    plots: list[Plot] = []
    for group in sets.values():
        found = _map(group, rows)
        if len(found.psis) < 2 or len(found.sizes) < 2 or not np.isfinite(found.gain).any():
            continue
        words = title(replace(group[0], psi=None), named)
        plots.append(
            Plot(
                name=f"heat_{len(plots) + 1}_{group[0].mode}",
                title=f"{words}: gain by ψ and ratio",
                caption=_caption(material, found),
                draw=functools.partial(_figure, found, material.metric),
            )
        )
    return plots


def _caption(material: Material, found: _Map) -> str:
    better = "orange" if is_loss(material.metric) else "blue"
    caption = (
        f"Difference from the baseline in mean {NAMES[material.metric]} on the "
        f"{material.images}{', in points' if unit(material.metric) == 'points' else ''}; "
        f"{better} is better, and the background colour means no difference. An asterisk marks "
        "arms whose simultaneous confidence interval (level E2) excludes 0; a hatched cell has "
        "no finished arm."
    )
    if len(found.psis) > MOST_ROWS or len(found.sizes) > MOST_COLUMNS:
        caption += " The map is too large to print the values; the table of all arms lists them."
    return caption


def _map(group: Sequence[Panel], rows: pd.DataFrame) -> _Map:
    name = x_of(group)
    arms = pd.concat([panel.arms.assign(psi=panel.psi) for panel in group])
    arms = arms[arms[name].notna()]
    gains = rows.reindex(arms["arm_id"])
    sure = (gains["ci_low"] > 0) | (gains["ci_high"] < 0)
    psis = tuple(sorted(arms["psi"].unique()))
    sizes = tuple(sorted(arms[name].unique()))
    shape = (len(psis), len(sizes))
    gain, marks, tried = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    at = (
        [psis.index(value) for value in arms["psi"]],
        [sizes.index(value) for value in arms[name]],
    )
    gain[at], marks[at] = gains["effect"].to_numpy(dtype=float), sure.to_numpy()
    tried[at] = True
    return _Map(psis=psis, sizes=sizes, name=name, gain=gain, sure=marks, tried=tried)


def _figure(found: _Map, metric: str, theme: Theme) -> Figure:
    lines = len(found.psis)
    figure = blank(theme, 1.55 + 0.34 * min(lines, 24))
    axes = figure.subplots()
    dress(axes, theme)
    axes.grid(False)
    shown = found.gain * scale(metric)
    edge = float(np.nanmax(np.abs(shown))) or 1.0
    colours = LinearSegmentedColormap.from_list(
        "gain", [theme.oversample, theme.paper, theme.arm], N=255
    )
    image = axes.pcolormesh(
        np.ma.masked_invalid(shown),
        cmap=colours,
        vmin=-edge,
        vmax=edge,
        edgecolors=theme.grid,
        linewidth=0.6,
    )
    if not np.isfinite(shown).all():
        axes.set_facecolor(theme.paper)
        axes.patch.set_hatch("////")
        axes.patch.set_edgecolor(theme.grid)
    axes.set_yticks(np.arange(lines) + 0.5, [f"{psi:g}" for psi in found.psis])
    step = -(-len(found.sizes) // MOST_COLUMNS)
    places = np.arange(len(found.sizes))[::step]
    axes.set_xticks(places + 0.5, [f"{found.sizes[place]:,g}" for place in places])
    axes.set_xlabel(_WORDS[found.name])
    axes.set_ylabel("truncation ψ")
    if lines <= MOST_ROWS and len(found.sizes) <= MOST_COLUMNS:
        _numbers(axes, found, metric, edge, colours, theme)
    # Above the map, at half its width: beside a map of few rows its label would be cut off
    bar = figure.colorbar(image, ax=axes, location="top", shrink=0.5, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(
        f"{NAMES[metric]} {unit(metric)}".strip() + " against the baseline",
        color=theme.ink,
        fontsize=TICK_PT,
    )
    bar.ax.tick_params(colors=theme.ink, labelsize=TICK_PT, length=2)
    return figure


def _numbers(
    axes: Axes,
    found: _Map,
    metric: str,
    edge: float,
    colours: LinearSegmentedColormap,
    theme: Theme,
) -> None:
    for (line, column), value in np.ndenumerate(found.gain):
        if not np.isfinite(value):
            continue
        ink = ink_on(colours(0.5 + value * scale(metric) / edge / 2), theme)
        star = " *" if found.sure[line, column] else ""
        axes.text(
            column + 0.5,
            line + 0.5,
            f"{effect(metric, value)}{star}",
            ha="center",
            va="center",
            fontsize=TEXT_PT - 0.5,
            color=ink,
        )
