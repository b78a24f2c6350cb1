"""What a reader of an analysis must know beside its numbers.  evidence, arms -> [remarks]"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from fgaug.analysis.arms import compared
from fgaug.analysis.runs import Measured
from fgaug.analysis.wording import NAMES
from fgaug.analysis_plan import AnalysisPlan

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
    yield from _incomplete(rows, missing, tried)
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
    if "gan_saw_removed" in rows and (seen := int(rows["gan_saw_removed"].eq(True).sum())):
        yield f"In {seen} cells the GAN had seen patients whose reals were removed."
    if "leakage" in rows:
        unsure = rows.loc[rows["leakage"].isin(("unknown", "by_choice")), "leakage"]
        for kind, count in unsure.value_counts().items():
            yield f"Leakage is {str(kind).replace('_', ' ')} in {count} cells."


def _sharing(tried: pd.DataFrame, plan: AnalysisPlan) -> Iterator[str]:
    families = tried.loc[tried["baseline_id"].notna(), "family"].nunique()
    if families > 1:
        yield (
            f"{len(tried)} arms in {families} families, one baseline each: p values are adjusted "
            f"within a family by max-T and multiplied by {families}, simultaneous intervals are "
            f"at 1 - {plan.alpha:g} / {families} (Bonferroni over families)."
        )
    if alone := int(tried["baseline_id"].isna().sum()):
        yield f"{alone} arms have no baseline in this run and are not compared with one."
    if lost := int(tried["ok"].eq(0).sum()):
        yield (
            f"{lost} of {len(tried)} arms have no finished seed; they stay in the number of arms "
            "that p values are adjusted for."
        )


def _incomplete(rows: pd.DataFrame, missing: pd.DataFrame, tried: pd.DataFrame) -> Iterator[str]:
    counts = {status: int(rows["status"].eq(status).sum()) for status in ("failed", "pruned")}
    counts["missing"] = len(missing)
    if said := [f"{count} {status}" for status, count in counts.items() if count]:
        yield f"Cells without a finished trial: {', '.join(said)}; each is listed."
    if unknown := int(missing["arm_id"].isna().sum()):
        yield f"Of {unknown} missing cells the run does not say which arm they belong to."
    mixed = tried[tried["pruned"].gt(0) & tried["ok"].gt(0)]
    if len(mixed):
        yield (
            f"{len(mixed)} arms have finished and stopped seeds: their means are over the "
            "finished ones alone. Where a scheduler stops single seeds, those left are the lucky "
            "ones."
        )
    if single := int(tried["ok"].eq(1).sum()):
        yield f"{single} arms have one seed: the other arms' seeds say how far theirs may differ."


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
