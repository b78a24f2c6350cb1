"""Sections on the tests of all cells, individually and jointly."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fgaug.analysis.format import p_value, share, signed
from fgaug.analysis.published.comparisons import (
    DRAWS,
    LEVEL,
    counts,
    equal_variances,
    impossible,
    rounding,
)
from fgaug.analysis.published.figures import forest_figure, ratio_figure
from fgaug.analysis.published.source import METRICS, WORDS, Thesis
from fgaug.analysis.published.two_way import contrasts, two_way
from fgaug.analysis.report.parts import Part, Section, Table, Text


def tests_section(thesis: Thesis, cells: Mapping[str, pd.DataFrame]) -> Section:
    """Return the number of cells that pass each test, and what is known about the stds."""
    frame = counts(thesis, cells)
    sample, total = impossible(thesis, 1)
    population, _ = impossible(thesis, 0)
    equal = [p_value(equal_variances(thesis, metric)) for metric in METRICS]
    table = Table(
        name="counts",
        title="Cells that pass, of 36",
        frame=frame.assign(level=LEVEL),
        text=frame.astype(str).rename(columns={"auc": "AUC"}),
        words=("quantity",),
        note=f"Two-sided at 5%, level {LEVEL}, five seeds per cell and five for the baseline.",
    )
    about = (
        f"The printed stds are population stds (divided by n). Of {total} printed sets of mean, "
        f"std, max and min, {sample} are impossible for five numbers if the std is a sample std, "
        f"and {population} if it is a population std, allowing for rounding. All tests here use "
        "the sample std, larger by the square root of 5/4. One seed variance for all cells is "
        f"plausible: Bartlett p = {equal[0]} and {equal[1]} for accuracy and AUC."
    )
    return Section(key="tests", title="How many cells pass", parts=(table, Text(text=about)))


def grid_section(thesis: Thesis) -> Section:
    """Return the two-way analysis and the contrasts over many cells."""
    ways = pd.concat([two_way(thesis, metric) for metric in METRICS], ignore_index=True)
    lines = pd.concat([contrasts(thesis, metric) for metric in METRICS], ignore_index=True)
    surface = pd.DataFrame(
        {
            "metric": ways["metric"].map(WORDS),
            "term": ways["term"],
            "F": ways["f"].map(lambda f: f"{f:.2f}"),
            "df": [f"{a}, {b}" for a, b in zip(ways["df"], ways["df_error"], strict=True)],
            "p (E1)": ways["p_value"].map(p_value),
        }
    )
    told = pd.DataFrame(
        {
            "metric": lines["metric"].map(WORDS),
            "contrast": lines["contrast"],
            "cells": lines["n_cells"].astype(str),
            "estimate": [signed(value, 4) for value in lines["difference"]],
            "95% interval": [
                f"{signed(low, 4)} to {signed(high, 4)}"
                for low, high in zip(lines["ci_low"], lines["ci_high"], strict=True)
            ],
            "p (E1)": lines["p_value"].map(p_value),
        }
    )
    return Section(
        key="grid",
        title="The whole grid jointly",
        parts=(
            Text(
                text="All 36 cells together have far more power than any one cell. The gain "
                "follows the ratio; neither an interaction of psi and ratio nor an effect "
                "of psi on AUC is shown. The length of training follows the ratio, too."
            ),
            Table(
                name="two_way",
                title="Psi, ratio and their interaction",
                frame=ways,
                text=surface,
                words=("metric", "term"),
                note=f"Analysis of variance, {LEVEL}.",
            ),
            Table(
                name="contrasts",
                title="Many cells against the baseline, and the trend",
                frame=lines,
                text=told,
                words=("metric", "contrast"),
                note="The slope is per doubling of the training set. Confidence intervals are "
                f"for single contrasts, not simultaneous. {LEVEL}.",
            ),
        ),
    )


def cells_section(thesis: Thesis, cells: Mapping[str, pd.DataFrame]) -> Section:
    """Return every cell against the baseline: figures, tables with intervals, rounding."""
    parts: list[Part] = [ratio_figure(thesis), forest_figure(cells)]
    for metric in METRICS:
        parts.append(_cells_table(cells[metric], metric))
    parts.append(_rounding_table(thesis))
    return Section(key="cells", title="Every cell against the baseline", parts=tuple(parts))


def _cells_table(frame: pd.DataFrame, metric: str) -> Table:
    text = pd.DataFrame(
        {
            "psi": [f"{psi:g}" for psi in frame["psi"]],
            "ratio": [f"{ratio:g}" for ratio in frame["ratio"]],
            "mean": [f"{mean:.3f}" for mean in frame["mean"]],
            "difference": [signed(value, 3) for value in frame["difference"]],
            "simultaneous 95% interval": [
                f"{signed(low, 3)} to {signed(high, 3)}"
                for low, high in zip(frame["ci_low"], frame["ci_high"], strict=True)
            ],
            "p(E1) Welch": frame["p_welch"].map(p_value),
            "p(E1) Holm": frame["p_holm"].map(p_value),
            "p(E1) BH": frame["p_bh"].map(p_value),
            "p(E1) Dunnett": frame["p_dunnett"].map(p_value),
            "all runs above": ["yes" if apart else "" for apart in frame["separated"]],
            "verdict": frame["verdict"],
        }
    )
    kinds = [f"psi{psi:g}" for psi in frame["psi"]]
    return Table(
        name=f"cells_{metric}",
        title=f"Every cell against the baseline: {WORDS[metric]}",
        frame=frame,
        text=text,
        words=("verdict",),
        kinds=tuple(kinds),
        note="Confidence intervals and verdicts by Dunnett's test over all 36 cells, level "
        f"{LEVEL}; Welch's p unadjusted, with Holm and with Benjamini-Hochberg. All runs "
        "above: the lowest of five exceeds the baseline's highest.",
    )


def _rounding_table(thesis: Thesis) -> Table:
    frame = pd.concat([rounding(thesis, metric) for metric in METRICS], ignore_index=True)
    names = ["survives_holm", "survives_dunnett", "survives_both"]
    some = frame[frame[names].max(axis=1) > 0]
    text = pd.DataFrame(
        {
            "metric": some["metric"].map(WORDS),
            "psi": [f"{psi:g}" for psi in some["psi"]],
            "ratio": [f"{ratio:g}" for ratio in some["ratio"]],
            **{f"passes {name.split('_')[1]}": some[name].map(share) for name in names},
        }
    )
    return Table(
        name="rounding",
        title="How often a cell passes, allowing for rounding",
        frame=frame.assign(level=LEVEL),
        text=text,
        words=("metric",),
        note=f"Shares of {DRAWS:,} draws of numbers that round to the printed ones, with an "
        "adjusted p below 0.05 and the printed direction. Cells that never pass are in the "
        "CSV file.",
        folded=True,
    )
