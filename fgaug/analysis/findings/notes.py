"""Notes: caveats that a reader of an analysis needs beside its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from fgaug.analysis.findings.arms import compared
from fgaug.analysis.findings.metric_values import Measured
from fgaug.analysis.format import NAMES, many
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.cells import CONTROLS

UNEQUAL = 0.05  # p of Levene's test up to which a note warns about pooling seed variances
FEWEST = 3  # seeds that an arm needs for that test


def remarks_of(
    rows: pd.DataFrame,
    missing: pd.DataFrame,
    arms: pd.DataFrame,
    measured: Mapping[str, Measured],
    plan: AnalysisPlan,
) -> Iterator[str]:
    """Yield the notes of an analysis: multiplicity, what was left out, what looks wrong.

    Args:
        rows: rows of the grid, one per cell.
        missing: cells without a row.
        arms: of `arm_table`.
        measured: the primary metric by split.
        plan: metric and alpha.
    """
    tried = compared(arms)
    yield from _sharing(tried, plan)
    yield from _incomplete(rows, missing, tried, several=bool(arms["ok"].gt(1).any()))
    for split, metric in measured.items():
        where = "" if split == "dataset" else f" (split {split})"
        if metric.reason:
            yield f"{NAMES[metric.metric]} is undefined{where}: {metric.reason}."
        yield from _spread(metric, arms, where)
    if "round" in rows and (longest := rows["round"].max()) > 1:
        yield (
            f"Arms with rounds are evaluated at the end of their last round, after {longest:g} "
            "budgets against one for the baseline: their gain over it may come from longer "
            "training. The tables also list the earlier rounds that are reported; random "
            "subsets train equally long."
        )
    yield from seen_removals(rows)
    if "leakage" in rows:
        unsure = rows.loc[rows["leakage"].isin(("unknown", "by_choice")), "leakage"]
        for kind, count in unsure.value_counts().items():
            yield f"Leakage is {str(kind).replace('_', ' ')} in {many(count, 'cell')}."


def seen_removals(rows: pd.DataFrame) -> Iterator[str]:
    """Yield in how many cells a generator has seen, or may have seen, the removed images.

    Args:
        rows: rows of `load_results`, with any number of rounds per cell.
    """
    if "gan_saw_removed" not in rows:
        return
    said, ok = rows["gan_saw_removed"], rows["status"].eq("ok")
    seen = said.eq(True)
    # Without a record of every network, earlier versions counted all removed images as seen
    recorded = rows["leakage"].ne("unknown") if "leakage" in rows else ok
    dropped = pd.to_numeric(rows["n_dropped"]).gt(0) if "n_dropped" in rows else ok
    with_fakes = ~rows["mode"].isin(("baseline", *CONTROLS))
    untold = (seen & ~recorded) | (ok & said.isna() & dropped & with_fakes)
    if count := rows.loc[seen & recorded, "cell_id"].nunique():
        yield (
            f"In {many(count, 'cell')} the networks were trained on patients whose real images "
            "were removed: their fakes carry information that the classifier is supposed to "
            "lack."
        )
    if count := rows.loc[untold, "cell_id"].nunique():
        yield (
            f"In {many(count, 'cell')} the networks may have been trained on patients whose real "
            "images were removed; this is unknown because not every network has a record of its "
            "training images."
        )


def _sharing(tried: pd.DataFrame, plan: AnalysisPlan) -> Iterator[str]:
    families = tried.loc[tried["baseline_id"].notna(), "family"].nunique()
    if families > 1:
        yield (
            f"{len(tried)} arms in {families} families, one baseline each: p values are adjusted "
            f"within a family by max-T and multiplied by {families}; simultaneous confidence "
            f"intervals are at level 1 - {plan.alpha:g} / {families} (Bonferroni over families)."
        )
    if alone := int(tried["baseline_id"].isna().sum()):
        yield f"Not compared, because the run lacks their baseline: {many(alone, 'arm')}."
    if lost := int(tried["ok"].eq(0).sum()):
        yield (
            f"Without a finished seed: {lost} of {many(len(tried), 'arm')}; p values are "
            "adjusted for these as well."
        )


def _incomplete(
    rows: pd.DataFrame, missing: pd.DataFrame, tried: pd.DataFrame, *, several: bool
) -> Iterator[str]:
    """Yield notes on unfinished cells; `several` is whether some arm has more than one seed."""
    counts = {status: int(rows["status"].eq(status).sum()) for status in ("failed", "pruned")}
    counts["missing"] = len(missing)
    if said := [f"{count} {status}" for status, count in counts.items() if count]:
        yield f"Cells without a finished trial: {', '.join(said)}; all are listed."
    if unknown := int(missing["arm_id"].isna().sum()):
        yield f"Missing, and not recorded as part of any arm: {many(unknown, 'cell')}."
    mixed = tried[tried["pruned"].gt(0) & tried["ok"].gt(0)]
    if len(mixed):
        yield (
            f"With finished and pruned seeds: {many(len(mixed), 'arm')}. Means are over the "
            "finished seeds only; if a scheduler prunes single seeds, the remaining ones are "
            "the lucky ones."
        )
    if single := int(tried["ok"].eq(1).sum()):
        spread = "their variance between seeds is estimated from the arms with several seeds"
        if not several:
            spread = "no arm has several seeds, so the variance between seeds is unknown"
        yield f"With one finished seed: {many(single, 'arm')}; {spread}."


def _spread(metric: Measured, arms: pd.DataFrame, where: str) -> Iterator[str]:
    """Yield a note for each family in which the variance between seeds differs between arms."""
    for family, listed in arms.groupby("family", sort=False):
        groups = [metric.values(name) for name in listed["arm_id"] if metric.has(name)]
        groups = [values for values in groups if values.size >= FEWEST]
        if len(groups) < 2 or not any(np.ptp(values) > 0 for values in groups):
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            p = float(scipy_stats.levene(*groups, center="median").pvalue)
        if p <= UNEQUAL:
            sds = [float(values.std(ddof=1)) for values in groups]
            yield (
                f"The variance between seeds differs between arms of {family}{where} "
                f"(Brown-Forsythe p = {p:.2g}, sample sd {min(sds):.4f} to {max(sds):.4f}); the "
                "tests pool it over arms."
            )
