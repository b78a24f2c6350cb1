"""Chapter on the scores of individual fakes, by label and psi."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgaug.analysis.format import DASH, count, number, undefined
from fgaug.analysis.report.drawing import TEXT_PT, Theme, blank, dress, plain
from fgaug.analysis.report.fakes.format import MOST_ROWS, cut, percent, percents
from fgaug.analysis.report.parts import Part, Plot, Table
from fgaug.quality.fake_sets.record import SetRecord

QUANTILES = ("q05", "q25", "q50", "q75", "q95")
DRAWN = {"realism": "realism (1: among the reals)", "confidence": "confidence in the own label"}
_NUMBERS = {"realism": "realism", "confidence": "confidence", "margin": "margin", "logit": "logit"}
MOST_LABELS = 6  # of a figure


def score_parts(scores: pd.DataFrame, kept: SetRecord | None, number_: int = 1) -> list[Part]:
    """Return quantiles of the fakes' scores by label and psi, beside the scores of reals.

    Args:
        scores: one row per (label, psi): n, `<score>_q05` and so on, the shares of `copy` and
            `agrees` with `_low` and `_high`, as far as the bank is scored.
        kept: record with the scores of the reals, if there is one.
        number_: number of the bank, for file names.
    """
    reals = {} if kept is None else {row["label"]: row for row in _records(kept.frame("reals"))}
    rows = _records(scores)
    text = pd.DataFrame(
        {
            "label": scores["label"],
            "ψ": [f"{psi:g}" for psi in scores["psi"]],
            "scored": scores["n"].map(count),
        }
    )
    for name, head in _NUMBERS.items():
        if f"{name}_q50" in scores:
            text[f"{head}, median (5% to 95%)"] = [_spread(row, name) for row in rows]
    for name, head in (("agrees", "agrees with its label"), ("copy", "flagged as copies")):
        if name in scores:
            text[head] = [_rate(row, name) for row in rows]
    if "agrees" in scores and any("agrees" in each for each in reals.values()):
        text["agrees, reals"] = [
            percent(reals.get(row["label"], {}).get("agrees")) for row in rows
        ]
    note = (
        "Realism: Kynkaanniemi et al. 2019, equation 5, k = 3, median radii; a fake with a "
        "realism of 1 or more lies among the training images. Confidence, margin (over the most "
        "likely other label) and agreement come from a classifier trained on training reals "
        "only. For comparison, the share of reals on whose labels such classifiers agree if "
        "they have not seen the patient: fakes that agree more often are cleaner, or more "
        "typical, than reals. Shares have 95% Wilson intervals."
    )
    table = Table(
        name=f"fakes_{number_}_scores",
        title="By label and psi",
        frame=scores,
        text=text.head(MOST_ROWS),
        words=("label",),
        note=cut(text, note),
    )
    drawn = [name for name in DRAWN if f"{name}_q50" in scores]
    if not drawn:
        return [table]
    plot = Plot(
        name=f"fakes_{number_}_scores",
        title="Realism and confidence of individual fakes",
        caption="Boxes span the middle half of the fakes, whiskers the 5th to 95th percentiles. "
        "The grey band spans the middle half of the reals and the line is their median: "
        "held-out reals for realism, and for confidence training reals scored by "
        "classifiers that never saw their patients. The realism of exact copies is "
        "infinite and drawn at the upper edge.",
        draw=functools.partial(_figure, scores, reals, drawn),
    )
    return [table, plot]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _spread(row: Mapping[str, Any], name: str) -> str:
    low, middle, high = (row[f"{name}_{each}"] for each in ("q05", "q50", "q95"))
    if middle is None or middle != middle:
        return DASH
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return "∞" if value == float("inf") else number(value, 2)


def _rate(row: Mapping[str, Any], name: str) -> str:
    if undefined(row[name]):
        return DASH
    return f"{percent(row[name])} ({percents(row[f'{name}_low'], row[f'{name}_high'])})"


def _figure(
    scores: pd.DataFrame, reals: Mapping[str, Mapping[str, Any]], drawn: list[str], theme: Theme
) -> Figure:
    labels = list(dict.fromkeys(scores["label"]))[:MOST_LABELS]
    figure = blank(theme, 0.4 + 2.1 * len(drawn))
    grid = figure.subplots(len(drawn), len(labels), squeeze=False, sharex="col", sharey="row")
    for line, name in zip(grid, drawn, strict=True):
        for axes, label in zip(line, labels, strict=True):
            dress(axes, theme)
            _boxes(axes, scores[scores["label"].eq(label)], name, theme)
            _band(axes, reals.get(label, {}), name, theme)
            if name == drawn[0]:
                axes.set_title(plain(str(label)), loc="left", fontsize=TEXT_PT, color=theme.ink)
            if name == drawn[-1]:
                axes.set_xlabel("ψ")
        line[0].set_ylabel(DRAWN[name])
    return figure


def _boxes(axes: Axes, own: pd.DataFrame, name: str, theme: Theme) -> None:
    own = own[own[f"{name}_q50"].notna()].sort_values("psi")
    # an exact copy has infinite realism: drawn at the largest finite value
    values = own[[f"{name}_{each}" for each in QUANTILES]].astype(float)
    largest = values.where(values != float("inf")).max().max()
    boxes = [
        {
            **dict(zip(("whislo", "q1", "med", "q3", "whishi"), row, strict=True)),
            "label": f"{psi:g}",
            "fliers": [],
        }
        for psi, row in zip(own["psi"], values.clip(upper=largest).to_numpy(), strict=True)
    ]
    line = {"color": theme.arm, "linewidth": 1.1}
    axes.bxp(
        boxes,
        widths=0.5,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={**line, "linewidth": 2},
    )


def _band(axes: Axes, reals: Mapping[str, Any], name: str, theme: Theme) -> None:
    """Draw the middle half of the reals and their median, if known."""
    low, middle, high = (reals.get(f"{name}_{each}") for each in ("q25", "q50", "q75"))
    if undefined(middle) or undefined(low) or undefined(high):
        return
    assert low is not None
    assert middle is not None
    assert high is not None
    axes.axhspan(low, high, color=theme.baseline, alpha=0.18, linewidth=0)
    axes.axhline(middle, color=theme.baseline, linewidth=1.2)
