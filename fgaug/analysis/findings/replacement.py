"""Replacement: tests of whether fakes can take the place of removed reals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.findings.arms import records
from fgaug.analysis.findings.metric_values import Measured
from fgaug.analysis.format import NOT_INFERIOR, NOT_SHOWN, sign_of
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.stats import Arms, adjust, non_inferiority, retention
from fgaug.stats.arrays import NAN

NUMBERS = (
    "assay_gain",
    "assay_p",
    "retention_p",
    "retained_share",
    "fieller_low",
    "fieller_high",
    "margin",
    "p_non_inferior",
    "p_non_inferior_holm",
    "p_tost",
    "ci90_low",
    "ci90_high",
)
COLUMNS = (
    "arm_id",
    "baseline_id",
    "drop_id",
    "metric",
    "assay_gain",
    "assay_p",
    "sensitive",
    "retention_p",
    "retained_share",
    "fieller_low",
    "fieller_high",
    "margin",
    "margin_source",
    "p_non_inferior",
    "p_non_inferior_holm",
    "p_tost",
    "ci90_low",
    "ci90_high",
    "verdict",
    "reason",
)


def replacement_of(
    measured: Mapping[str, Measured], arms: pd.DataFrame, plan: AnalysisPlan
) -> pd.DataFrame:
    """Return one row per replacement arm: assay, retention, fixed margin, TOST (level E2).

    Positive is better throughout (losses change sign). The first test is assay sensitivity: do
    the removed reals bring a gain (`assay_gain`, one-sided `assay_p` at alpha / 2)? Only then is
    the margin tested. The plan's margin is tested as a fixed one. Without one, the margin is the
    share 1 - retention of the gain measured here; the retention test accounts for the error of
    that gain, so `p_non_inferior` is its p. Holm over the arms; arms without a result count.

    Args:
        measured: the primary metric by split.
        arms: all arms, of `arm_table`: those of one recipe share the variance of seeds.
        plan: margin, retention, alpha.
    """
    listed = arms[arms["mode"].eq("replacement")]
    groups = {str(group): list(part["arm_id"]) for group, part in arms.groupby("group")}
    rows = [
        _row(measured.get(str(arm["split"])), arm, groups[arm["group"]], plan)
        for arm in records(listed)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if frame.empty:
        return frame
    counted = frame["p_non_inferior"].fillna(1.0)
    holm = adjust(counted.to_numpy(float), "holm")
    frame["p_non_inferior_holm"] = np.where(frame["p_non_inferior"].isna(), NAN, holm)
    passed = frame["sensitive"] & frame["p_non_inferior_holm"].le(plan.alpha / 2)
    passed &= frame["reason"].isna()
    return frame.assign(verdict=np.where(passed, NOT_INFERIOR, NOT_SHOWN))


def _row(
    metric: Measured | None, arm: Mapping[str, Any], group: Sequence[str], plan: AnalysisPlan
) -> dict[str, Any]:
    row = {
        **{name: arm[name] for name in ("arm_id", "baseline_id", "drop_id")},
        **dict.fromkeys(NUMBERS, NAN),
        "metric": plan.metric,
        "sensitive": False,
        "margin_source": "",
        "reason": None,
    }
    names = [arm["baseline_id"], arm["arm_id"], arm["drop_id"]]
    said = (
        "the baseline",
        "this arm",
        "the control with the reals removed and nothing added (drop)",
    )
    for name, words in zip(names, said, strict=True):
        if metric is None or not metric.has(name):
            cure = (
                ": add `drop` to the grid's controls" if name is None and words == said[2] else ""
            )
            return {**row, "reason": f"{words} has no result{cure}"}
    assert metric is not None
    own = [name for name in group if name not in names and metric.has(name)]
    sign = sign_of(metric.metric)
    whole = metric.of([*names, *own])
    return row | _tested(replace(whole, mean=sign * whole.mean), plan)


def _tested(arms: Arms, plan: AnalysisPlan) -> dict[str, Any]:
    """Return the tests of arms 0 (all reals), 1 (replaced) and 2 (removed)."""
    kept = retention(
        arms,
        **{"full": 0, "replaced": 1, "removed": 2},
        fraction=plan.retention,
        alpha=plan.alpha / 2,
        level=1 - plan.alpha,
    )
    gain = kept.assay.difference
    margin, source = plan.margin, "from the plan"
    if margin is None:
        share = 1 - plan.retention
        margin = max(0.0, share * gain) if np.isfinite(gain) else NAN
        source = f"{share:.3g} of the gain from the removed reals in this run"
    row = {
        "assay_gain": gain,
        "assay_p": kept.p_assay,
        "sensitive": bool(kept.sensitive),
        "retention_p": kept.p_retention,
        "retained_share": kept.share,
        "fieller_low": kept.share_low,
        "fieller_high": kept.share_high,
        "margin": margin,
        "margin_source": source,
        "reason": kept.reason,
    }
    if np.isnan(margin):
        return row
    fixed = non_inferiority(arms, arm=1, reference=0, margin=margin, alpha=0.05)
    row |= {
        "p_non_inferior": kept.p_retention if plan.margin is None else fixed.p_noninferior,
        "p_tost": fixed.p_value,
        "ci90_low": fixed.ci_low,
        "ci90_high": fixed.ci_high,
    }
    if kept.sensitive and plan.margin is not None and margin >= gain:
        row["reason"] = (
            f"the plan's margin of {margin:g} is as large as the whole gain from the removed "
            f"reals ({gain:.4g}): adding nothing would pass the test"
        )
    return row
