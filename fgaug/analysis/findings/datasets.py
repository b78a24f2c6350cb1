"""The same arm on several preparations of one set (`axes.dataset`), compared by patient."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pandas as pd

from fgaug.analysis.findings.arms import records
from fgaug.analysis.findings.comparisons import pairs_jointly
from fgaug.analysis.findings.metric_values import Measured
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.arm_names import arm_name, further_axes
from fgaug.runs.results import splits_of

COLUMNS = (
    *("arm", "metric", "dataset", "against", "arm_id", "against_id", "n_seeds", "n_seeds_against"),
    *("n_images", "n_patients", "mean", "mean_against", "effect", "se", "df", "ci_low", "ci_high"),
    *("p_value", "p_patients", "reason"),
)
_TESTED = ("effect", "se", "df", "ci_low", "ci_high", "p_value", "p_patients")


def across_datasets(
    rows: pd.DataFrame, measured: Mapping[str, Measured], plan: AnalysisPlan
) -> pd.DataFrame:
    """Return each arm on one dataset against the same arm on another, one row per pair.

    Baselines are arms too here. Both sides are scored on the same images, so patients are paired;
    all pairs are tested jointly by max-T (level E2, `contrasts.together`), with Holm's p over
    seeds alone beside it (E1). Splits share the error rate by Bonferroni.

    Args:
        rows: of the run, one per cell, with the column `dataset`, else the result is empty.
        measured: the primary metric by split.
        plan: its alpha is used.
    """
    if "dataset" not in rows:
        return pd.DataFrame(columns=list(COLUMNS))
    axes = [name for name in further_axes(rows) if name != "dataset"]
    firsts = rows.assign(_split=splits_of(rows)).groupby("arm_id", sort=False).first()
    alike: dict[tuple[str, str], dict[str, str]] = {}  # arm_id by dataset, of (split, arm)
    for arm_id, row in zip(firsts.index, records(firsts), strict=True):
        if isinstance(row["dataset"], str):
            key = str(row["_split"]), arm_name(row, axes)
            alike.setdefault(key, {})[row["dataset"]] = str(arm_id)
    found = []
    for split in dict.fromkeys(split for split, _ in alike):
        named = {arm: of for (own, arm), of in alike.items() if own == split}
        found += _of_split(named, measured.get(split), plan, len(measured))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _of_split(
    arms: Mapping[str, Mapping[str, str]],
    metric: Measured | None,
    plan: AnalysisPlan,
    splits: int,
) -> list[dict[str, object]]:
    """Return the rows of one split, whose pairs are tested jointly."""
    found: list[dict[str, object]] = []
    for arm, by_dataset in arms.items():
        for against, dataset in itertools.combinations(sorted(by_dataset), 2):
            ids = {"arm_id": by_dataset[dataset], "against_id": by_dataset[against]}
            found.append(
                {"arm": arm, "metric": plan.metric, "dataset": dataset, "against": against, **ids}
            )
    if metric is None:
        return [{**row, "reason": "no finished trial"} for row in found]
    usable = [
        row for row in found if metric.has(_id(row, "arm")) and metric.has(_id(row, "against"))
    ]
    for row in found:
        a, b = (metric.values(_id(row, side)) for side in ("arm", "against"))
        row |= {"n_seeds": a.size, "n_seeds_against": b.size}
        row |= {"n_images": metric.runs.n_images, "n_patients": metric.runs.n_patients}
        if row not in usable:
            row["reason"] = metric.reason or "no finished seed with a defined metric on one side"
        else:
            row |= {"mean": float(a.mean()), "mean_against": float(b.mean())}
    if usable:
        pairs = [(_id(row, "arm"), _id(row, "against")) for row in usable]
        numbers, why = pairs_jointly(metric, pairs, 1 - plan.alpha / splits)
        for place, row in enumerate(usable):
            row |= {name: float(numbers[name][place]) for name in _TESTED}
            for name in ("p_value", "p_patients"):
                row[name] = min(1.0, splits * float(numbers[name][place]))
            row["reason"] = why
    return found


def _id(row: Mapping[str, object], side: str) -> str:
    return str(row[f"{side}_id"])
