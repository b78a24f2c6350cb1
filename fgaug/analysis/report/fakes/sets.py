"""Chapter on sets of fakes: measures of a bank's images, independent of any gain."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgaug.analysis.format import DASH, count, number, share, undefined
from fgaug.analysis.report.drawing import TEXT_PT, TICK_PT, Theme, blank, dress, legend, plain
from fgaug.analysis.report.fakes.copies import copy_parts
from fgaug.analysis.report.fakes.format import (
    MOST_ROWS,
    WORDS,
    cut,
    notes_of,
    set_columns,
    why,
    without_empty_note,
)
from fgaug.analysis.report.fakes.strata import print_parts
from fgaug.analysis.report.parts import Part, Picture, Plot, Table, Text
from fgaug.quality.fake_sets.record import SetRecord
from fgaug.quality.features.pair import COLUMNS

MOST_LABELS = 6  # of the figure
HEADS = {
    "fid": "FID",
    "kid": "KID x 1000",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFakes:
    """Records of one bank of a run; a missing record has a sentence with the command for it."""

    name: str  # of the grid's snapshot entry; empty for a grid with one bank
    kept: SetRecord | None = None
    no_kept: str = ""
    scores: pd.DataFrame | None = None  # one row per (label, psi): see `collect_fakes.scores_of`
    no_scores: str = ""
    pairs: Picture | None = None  # the closest fakes and training images


def known_parts(kept: SetRecord, number: int = 1) -> list[Part]:
    """Return the parts of all sections on a bank's measurements as one list."""
    return [
        *measure_parts(kept, number),
        *copy_parts(kept, number),
        *print_parts(kept, number),
    ]


def measure_parts(kept: SetRecord, number_: int = 1) -> list[Part]:
    """Return the table of set measures, and the plot of precision against recall over psi."""
    frame = kept.frame("sets")
    if "fid" not in frame:
        return [Text(text=why(frame, "No set could be measured"))]
    text = pd.DataFrame(
        {
            **set_columns(frame),
            "fakes": frame["n_fake"].map(count),
            "kept": _kept_shares(frame),
            **{head: _beside(frame, name) for name, head in HEADS.items()},
            "KID ± error": [_error(row) for row in frame.to_dict("records")],
            "note": notes_of(frame),
        }
    )
    first = frame[frame["fid"].notna()].iloc[0]
    by = "by patient" if first["floor_by"] == "group" else "by image"
    note = (
        f"{networks_in_words(kept)}; values from another feature network are not comparable. "
        "Fakes at the sample sizes of the floor / reals in place of the fakes: "
        f"{count(first['floor_n_sample'])} against {count(first['floor_n_reference'])} of "
        f"{count(first['n_real'])} training images of the label, {count(first['floor_cuts'])} "
        f"random splits {by} (sizes of the first row; other sets may differ). A perfect "
        "generator would score the second number, not 0 or 1. Precision and recall: k = 3, "
        "Kynkaanniemi et al. 2019; density and coverage: k = 5, Naeem et al. 2020. KID ± error: "
        "all fakes, jackknife over fakes and patients. Kept: share of scored fakes that pass "
        "the filter."
    )
    table = Table(
        name=f"fakes_{number_}_measures",
        title="Measures of fakes / of reals in their place",
        frame=frame,
        text=without_empty_note(text).head(MOST_ROWS),
        words=WORDS,
        note=cut(text, note),
    )
    plot = Plot(
        name=f"fakes_{number_}_precision_recall",
        title="Precision against recall",
        caption=f"Precision and recall by {kept.head['pr_features']}. Each dot is a set of fakes "
        "at the sample sizes of the floor, joined in the order of ψ; the cross is the score of "
        "reals in place of the fakes. Top: fakes look real. Right: fakes are as varied as reals. "
        "Truncation (a lower ψ) trades one for the other.",
        draw=functools.partial(_precision_recall, frame),
    )
    return [table, plot]


def networks_in_words(kept: SetRecord) -> str:
    """Return which feature network gave which measures: `Features: lite0-57934424@224`."""
    first, second = (kept.head[name] for name in COLUMNS)
    if first == second:
        return f"Features: {first}"
    return f"FID and KID by {first}; precision, recall, density and coverage by {second}"


def _kept_shares(frame: pd.DataFrame) -> list[str]:
    pairs = zip(frame["n_pass"], frame["n_scored"], strict=True)
    return [share(passed / scored) if scored else DASH for passed, scored in pairs]


def _beside(frame: pd.DataFrame, name: str) -> list[str]:
    """Return a measure of fakes and of reals at the floor's sample sizes: `12.3 / 4.5`."""
    return [
        f"{_value(row[f'{name}_at_floor'], name)} / {_value(row[f'floor_{name}'], name)}"
        if not undefined(row["fid"])
        else DASH
        for row in frame.to_dict("records")
    ]


def _error(row: Mapping[Any, Any]) -> str:
    if undefined(row["fid"]):
        return DASH
    return f"{_value(row['kid'], 'kid')} ± {_value(row['kid_error'], 'kid')}"


def _value(value: float, name: str) -> str:
    return number(1000 * value if name == "kid" else value, 2)


def _precision_recall(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Draw one panel per label, with one line per filter."""
    known = frame[frame["fid"].notna()]
    labels = list(dict.fromkeys(known["label"]))[:MOST_LABELS]
    columns = min(3, len(labels))
    lines = math.ceil(len(labels) / columns)
    figure = blank(theme, 0.6 + 2.4 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(labels) :]:
        axes.set_visible(False)
    for axes, label in zip(grid.flat, labels, strict=False):
        dress(axes, theme)
        axes.set_title(plain(str(label)), loc="left", fontsize=TEXT_PT, color=theme.ink)
        _panel(axes, known[known["label"].eq(label)], theme)
    for axes in grid[-1]:
        axes.set_xlabel("recall")
    for axes in grid[:, 0]:
        axes.set_ylabel("precision")
    legend(figure, grid.flat, theme)
    return figure


def _panel(axes: Axes, own: pd.DataFrame, theme: Theme) -> None:
    """Draw the sets of one label; psis are annotated on the line of unfiltered fakes."""
    colours = (theme.arm, theme.oversample, theme.drop, theme.baseline)
    for place, (text, rows) in enumerate(own.groupby("filter", sort=False)):
        rows = rows.sort_values("psi")
        x, y = (rows[f"{name}_at_floor"].to_numpy() for name in ("recall", "precision"))
        name = plain("all fakes" if text == "none" else str(text))
        colour = colours[place % len(colours)]
        axes.plot(x, y, "o-", color=colour, markersize=4, linewidth=1.2, label=name)
        named = zip(rows["psi"], x, y, strict=True) if text == "none" else ()
        for psi, right, up in named:
            axes.annotate(
                f"{psi:g}",
                (right, up),
                xytext=(4, 4),
                textcoords="offset points",
                color=theme.ink,
                fontsize=TICK_PT,
            )
    at_floor = (own[f"floor_{name}"].mean() for name in ("recall", "precision"))
    axes.plot(*at_floor, "x", color=theme.ink, markersize=7, label="reals")
