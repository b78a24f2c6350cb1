"""Tables in the thesis's layout, as numbers to compute with and as text to print."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from fgaug.analysis.format import DASH, count, effect, interval, number, undefined
from fgaug.analysis.report.arm_summary import FAKES_OF
from fgaug.analysis.report.panels import Panel, panels, title, varying
from fgaug.grid.arm_words import PSI_BY_LABEL
from fgaug.grid.cells import CONTROLS

SAMPLE = "n\N{MINUS SIGN}1"  # the other kind of sd, in brackets
WORDS = ("arm", "note")  # text columns: the others hold numbers and are right-aligned
# A score of a result row, its short name, its name among the metrics of comparisons, in print
_SCORES = (("valid_acc", "acc", "accuracy", "acc"), ("valid_auc", "auc", "auc", "AUC"))
_OF_EFFECT = ("effect", "ci_low", "ci_high", "p_value")


def thesis_tables(
    arms: pd.DataFrame, comparisons: pd.DataFrame | None = None
) -> list[tuple[str, pd.DataFrame]]:
    """Return a title and a table for each mode, psi and value of the further axes.

    The columns are those of the thesis's tables (and of `thesis_tables.csv`): mode, ratio, fakes
    by label, mean, population sd, max and min of accuracy and AUC, and mean loss. Added to them
    are the sample sd, the effect against the baseline with its simultaneous interval and adjusted
    p value (with `comparisons` of an `Analysis`), and the seeds averaged, failed and pruned. The
    baseline comes first with ratio `bl`, then the arms by ratio, then their controls. Numbers are
    unrounded; `formatted` rounds them.
    """
    named = varying(arms)
    whole = _table(arms, _effects(comparisons))  # once: a column at a time is slow by panels
    return [(title(panel, named), _of_panel(panel, whole)) for panel in panels(arms)]


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `thesis_tables` as text: `mean ± sd (sample sd)`, en dashes.

    Leaves out columns that are empty in this table (ratio, round, effects, failures, notes).
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
    for _, short, metric, word in _SCORES:
        parts = (table[f"{short}_{name}"] for name in ("mean", "std", "sd_sample"))
        text[f"{word} mean ± sd ({SAMPLE})"] = [
            _spread(*values) for values in zip(*parts, strict=True)
        ]
        ends = (table[f"{short}_{name}"] for name in ("min", "max"))
        text[f"{word} min to max"] = [_range(*values) for values in zip(*ends, strict=True)]
        if f"{short}_effect" in table and table[f"{short}_effect"].notna().any():
            gains = (table[f"{short}_{name}"] for name in _OF_EFFECT[:3])
            text[f"{word} gain, points"] = [
                _gain(metric, *values) for values in zip(*gains, strict=True)
            ]
    text["loss"] = table["loss_avg"].map(number)
    text["seeds"] = table["seeds"].map(str)
    for name in ("failed", "pruned"):
        if table[name].any():
            text[name] = table[name].map(str)
    if table["note"].any():
        text["note"] = table["note"]
    return text


def for_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `thesis_tables` as text with the thesis's own columns.

    Mean, population sd, maximum and minimum have a column each, with three decimals.
    """
    text = formatted(table)
    names = map(str, text.columns)
    kept = [n for n in names if n in ("arm", "ratio", "round") or n.startswith("fakes")]
    paper = text[kept].copy()
    for _, short, _, word in _SCORES:
        for what in ("mean", "std", "max", "min"):
            paper[f"{word} {what}"] = table[f"{short}_{what}"].map(number)
    return paper.assign(**{"loss avg": text["loss"], "seeds": text["seeds"]})


def kinds_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Return a class for each row of a thesis table: its mode, or `control`."""
    return tuple("control" if mode in CONTROLS else str(mode) for mode in table["mode"])


def _effects(comparisons: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the effects against the baseline, indexed by arm and metric."""
    if comparisons is None or comparisons.empty:
        return None
    rows = comparisons[comparisons["against"].eq("baseline")]
    return rows.drop_duplicates(["arm_id", "metric"]).set_index(["arm_id", "metric"])


def _of_panel(panel: Panel, whole: pd.DataFrame) -> pd.DataFrame:
    rows = [*panel.baseline.index, *panel.arms.index, *panel.controls.index]
    return whole.loc[rows].assign(psi=panel.psi).reset_index(drop=True)


def _table(arms: pd.DataFrame, effects: pd.DataFrame | None) -> pd.DataFrame:
    """Return the columns of a thesis table for all arms, by their index."""
    columns: dict[str, Any] = {"mode": arms["mode"], "psi": arms["psi"]}
    if PSI_BY_LABEL in arms:
        columns[PSI_BY_LABEL] = arms[PSI_BY_LABEL]
    columns["ratio"] = arms["ratio"].astype(object).mask(arms["mode"].eq("baseline"), "bl")
    columns["round"] = arms["round"]
    counts = [name for name in map(str, arms.columns) if name.startswith(FAKES_OF)]
    columns |= {f"fakes_{name.removeprefix(FAKES_OF)}": arms[name] for name in counts}
    if not counts:
        columns["n_fake"] = arms["n_fake"]
    # Comparisons use an arm's last round; the earlier rounds have none
    finals = arms["arm_id"].where(arms["round"].isna())
    for score, short, metric, _ in _SCORES:
        columns[f"{short}_mean"] = arms[f"{score}_mean"]
        columns[f"{short}_std"] = arms[f"{score}_sd"]
        columns[f"{short}_sd_sample"] = arms[f"{score}_sd_sample"]
        columns[f"{short}_max"] = arms[f"{score}_max"]
        columns[f"{short}_min"] = arms[f"{score}_min"]
        if effects is not None:
            found = effects.reindex(pd.MultiIndex.from_product([finals, [metric]]))
            columns |= {f"{short}_{n}": found[n].to_numpy(dtype=float) for n in _OF_EFFECT}
    columns["loss_avg"] = arms["valid_loss_mean"]
    columns |= {name: arms[name] for name in ("seeds", "failed", "pruned", "note")}
    return pd.DataFrame(columns, index=arms.index)


def _spread(mean: float, sd: float, sample: float) -> str:
    if math.isnan(mean):
        return DASH
    return f"{number(mean)} ± {number(sd)}" + (
        "" if math.isnan(sample) else f" ({number(sample)})"
    )


def _range(low: float, high: float) -> str:
    return DASH if math.isnan(low) else f"{number(low)} to {number(high)}"


def _gain(metric: str, value: float, low: float, high: float) -> str:
    return "" if undefined(value) else f"{effect(metric, value)} ({interval(metric, low, high)})"


def _short(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:g}"
