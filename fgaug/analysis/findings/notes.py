"""What a reader of an analysis must know beside its numbers."""

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

UNEQUAL = 0.05  # p of Levene's test below which pooling the variance of seeds is remarked on
FEWEST = 3  # seeds of an arm that takes part in it


def remarks_of(
    rows: pd.DataFrame,
    missing: pd.DataFrame,
    arms: pd.DataFrame,
    measured: Mapping[str, Measured],
    plan: AnalysisPlan,
) -> Iterator[str]:
    """Yield the notes of an analysis: how p values are shared, what was left out, what is off.

    Args:
        rows: of the grid, one a cell.
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
            f"Arms in rounds are judged at the end of their last one, after {longest:g} budgets "
            "where the baseline had one: what they gain over it may be longer training. Tables "
            "have the earlier rounds that are reported; random subsets train as long as they do."
        )
    yield from seen_removals(rows)
    if "leakage" in rows:
        unsure = rows.loc[rows["leakage"].isin(("unknown", "by_choice")), "leakage"]
        for kind, count in unsure.value_counts().items():
            yield f"Leakage is {str(kind).replace('_', ' ')} in {many(count, 'cell')}."


def seen_removals(rows: pd.DataFrame) -> Iterator[str]:
    """Yield in how many cells a generator had seen what was removed, and where nobody knows.

    Args:
        rows: of `load_results`, with any number of rounds a cell.
    """
    if "gan_saw_removed" not in rows:
        return
    said, ok = rows["gan_saw_removed"], rows["status"].eq("ok")
    seen = said.eq(True)
    # Without a record of every network, earlier versions took all removed images for seen
    recorded = rows["leakage"].ne("unknown") if "leakage" in rows else ok
    dropped = pd.to_numeric(rows["n_dropped"]).gt(0) if "n_dropped" in rows else ok
    with_fakes = ~rows["mode"].isin(("baseline", *CONTROLS))
    untold = (seen & ~recorded) | (ok & said.isna() & dropped & with_fakes)
    if count := rows.loc[seen & recorded, "cell_id"].nunique():
        yield (
            f"In {many(count, 'cell')} the networks were trained on patients whose real images "
            "were removed: their fakes carry information that such a classifier is said to lack."
        )
    if count := rows.loc[untold, "cell_id"].nunique():
        yield (
            f"In {many(count, 'cell')} the networks may have been trained on patients whose real "
            "images were removed; it is not known, as not every network has a record of its "
            "training images."
        )


def _sharing(tried: pd.DataFrame, plan: AnalysisPlan) -> Iterator[str]:
    families = tried.loc[tried["baseline_id"].notna(), "family"].nunique()
    if families > 1:
        yield (
            f"{len(tried)} arms in {families} families, one baseline each: p values are adjusted "
            f"within a family by max-T and multiplied by {families}, simultaneous intervals are "
            f"at 1 - {plan.alpha:g} / {families} (Bonferroni over families)."
        )
    if alone := int(tried["baseline_id"].isna().sum()):
        yield f"Without a baseline in this run, and so not compared: {many(alone, 'arm')}."
    if lost := int(tried["ok"].eq(0).sum()):
        yield (
            f"Without a finished seed: {lost} of {many(len(tried), 'arm')}; p values are adjusted "
            "for these too."
        )


def _incomplete(
    rows: pd.DataFrame, missing: pd.DataFrame, tried: pd.DataFrame, *, several: bool
) -> Iterator[str]:
    """Yield what is not finished; `several` is whether some arm has more than one seed."""
    counts = {status: int(rows["status"].eq(status).sum()) for status in ("failed", "pruned")}
    counts["missing"] = len(missing)
    if said := [f"{count} {status}" for status, count in counts.items() if count]:
        yield f"Cells without a finished trial: {', '.join(said)}; each is listed."
    if unknown := int(missing["arm_id"].isna().sum()):
        yield f"Missing, and of no arm that the run names: {many(unknown, 'cell')}."
    mixed = tried[tried["pruned"].gt(0) & tried["ok"].gt(0)]
    if len(mixed):
        yield (
            f"With finished and stopped seeds: {many(len(mixed), 'arm')}. Means are over the "
            "finished seeds alone; where a scheduler stops single seeds, those left are the lucky "
            "ones."
        )
    if single := int(tried["ok"].eq(1).sum()):
        spread = "how far their seeds may differ is taken from the arms that have several"
        if not several:
            spread = "no arm has several, so how far seeds differ is not known"
        yield f"With one finished seed: {many(single, 'arm')}; {spread}."


def _spread(metric: Measured, arms: pd.DataFrame, where: str) -> Iterator[str]:
    """Yield that the seeds of some arms differ more than those of others, where they do."""
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
                f"The spread of seeds differs between arms of {family}{where} (Brown-Forsythe p = "
                f"{p:.2g}, sample sd {min(sds):.4f} to {max(sds):.4f}); tests pool it over arms."
            )
