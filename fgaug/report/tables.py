"""Tables in the thesis's layout, as numbers to compute with and as text to print.

results frame -> thesis_tables -> formatted -> page
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from fgaug.cells import CONTROLS
from fgaug.report.arms import FAKES_OF, by_arm
from fgaug.report.panels import Panel, panels, title, varying

__all__ = ["DASH", "by_arm", "count", "formatted", "number", "thesis_tables"]

DASH = "\N{EN DASH}"  # an undefined number, never 0
_SCORES = (("valid_acc", "acc"), ("valid_auc", "auc"))


def number(value: Any, digits: int = 3) -> str:
    """Return a score as text, an en dash where it is undefined."""
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def count(value: Any) -> str:
    """Return a count as text: whole where it is whole, else (a mean over seeds) one decimal."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def thesis_tables(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return a title and a table for each mode, psi and value of the further axes.

    The columns are those of the thesis's tables (and of `thesis_tables.csv`): mode, ratio, fakes
    by label, mean, population sd, max and min of accuracy and AUC, mean loss; then the seeds
    averaged, failed and pruned. The baseline comes first with ratio `bl`, then the arms by ratio,
    then their controls. Numbers are as computed; `formatted` rounds them.
    """
    arms = by_arm(frame)
    named = varying(arms)
    return [(title(panel, named), _table(panel)) for panel in panels(arms)]


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `thesis_tables` as text: `mean ± sd`, three decimals, en dashes.

    Columns that say nothing in this table (ratio, round, failures, notes) are left out.
    """
    text = pd.DataFrame(index=table.index)
    text["arm"] = [f"{mode} (control)" if mode in CONTROLS else mode for mode in table["mode"]]
    if table["ratio"].map(lambda ratio: ratio != "bl" and not math.isnan(ratio)).any():
        text["ratio"] = [r if isinstance(r, str) else _short(r) for r in table["ratio"]]
    if table["round"].notna().any():
        text["round"] = table["round"].map(_short)
    for name in map(str, table.columns):
        if name.startswith("fakes_"):
            text[f"fakes {name.removeprefix('fakes_')}"] = table[name].map(count)
    if "n_fake" in table:
        text["fakes"] = table["n_fake"].map(count)
    for score, word in (("acc", "acc"), ("auc", "AUC")):
        means, sds = table[f"{score}_mean"], table[f"{score}_std"]
        text[f"{word} mean ± sd"] = [_spread(m, s) for m, s in zip(means, sds, strict=True)]
        text[f"{word} max"] = table[f"{score}_max"].map(number)
        text[f"{word} min"] = table[f"{score}_min"].map(number)
    text["loss"] = table["loss_avg"].map(number)
    text["seeds"] = table["seeds"].map(str)
    for name in ("failed", "pruned"):
        if table[name].any():
            text[name] = table[name].map(str)
    if table["note"].any():
        text["note"] = table["note"]
    return text


def _table(panel: Panel) -> pd.DataFrame:
    rows = pd.concat([panel.baseline, panel.arms, panel.controls])
    table = pd.DataFrame({"mode": rows["mode"], "psi": panel.psi}, index=rows.index)
    is_baseline = rows["mode"].eq("baseline")
    table["ratio"] = rows["ratio"].astype(object).mask(is_baseline, "bl")
    table["round"] = rows["round"]
    counts = [name for name in map(str, rows.columns) if name.startswith(FAKES_OF)]
    for name in counts:
        table[f"fakes_{name.removeprefix(FAKES_OF)}"] = rows[name]
    if not counts:
        table["n_fake"] = rows["n_fake"]
    for score, short in _SCORES:
        table[f"{short}_mean"] = rows[f"{score}_mean"]
        table[f"{short}_std"] = rows[f"{score}_sd"]
        table[f"{short}_max"] = rows[f"{score}_max"]
        table[f"{short}_min"] = rows[f"{score}_min"]
    table["loss_avg"] = rows["valid_loss_mean"]
    for name in ("seeds", "failed", "pruned", "note"):
        table[name] = rows[name]
    return table.reset_index(drop=True)


def _spread(mean: float, sd: float) -> str:
    return DASH if math.isnan(mean) else f"{number(mean)} ± {number(sd)}"


def _short(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:g}"
