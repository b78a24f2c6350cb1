"""Comparisons of every arm with its baseline and twins, by one metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from fgaug.analysis.findings.arms import records
from fgaug.analysis.findings.contrasts import alone, together
from fgaug.analysis.findings.metric_values import Measured
from fgaug.analysis.format import many
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.stats import adjust, dunnett, or_max_t, prob_greater
from fgaug.stats.arrays import NAN, Floats
from fgaug.stats.inference import two_sided

METRICS = ("auc", "accuracy", "brier", "log_loss")
AGAINST = {
    "baseline": "baseline_id",
    "twin": "twin_id",
    "drop": "drop_id",
    "subset": "subset_id",
}
_TESTED = (
    "effect",
    "se",
    "df",
    "ci_low",
    "ci_high",
    "ci_low_single",
    "ci_high_single",
    "p_raw",
    "p_value",
    "p_patients",
    "seed_part",
    "case_part",
)
COLUMNS = (
    "arm_id",
    "against",
    "against_id",
    "metric",
    "primary",
    "family",
    "n_seeds",
    "n_seeds_against",
    "n_images",
    "n_patients",
    "mean",
    "mean_against",
    "effect",
    "relative",
    "se",
    "df",
    "ci_low",
    "ci_high",
    "ci_low_single",
    "ci_high_single",
    "p_raw",
    "p_value",
    "p_patients",
    "p_greater",
    "run_pairs",
    "seed_share",
    "patient_share",
    "seed_part",
    "case_part",
    "cohen_d",
    "reason",
)
Pair: TypeAlias = tuple[str, str]  # arm_id of an arm and of its comparator
Numbers: TypeAlias = dict[str, Floats]  # of _TESTED, [K]


def metrics_of(plan: AnalysisPlan) -> tuple[str, ...]:
    """Return the metrics to compare, the primary one first."""
    return (plan.metric, *(name for name in METRICS if name != plan.metric))


def compare_metric(
    metric: str, measured: Mapping[str, Measured], arms: pd.DataFrame, plan: AnalysisPlan
) -> pd.DataFrame:
    """Return the comparisons of one metric: one row per arm and comparator.

    Against the baseline: max-T within each family (`stats.or_max_t`, level E2), and Dunnett's
    exact p over seeds only (E1). Against twins: max-T over the pairs of a family
    (`contrasts.together`, E2), and Holm over t tests with the pooled variance of seeds (E1).
    Families share the error rate by Bonferroni, and so do arms with and without a result: every
    arm tried counts.

    Args:
        metric: one of `stats.METRICS`.
        measured: the metric by split; splits without a finished trial are absent.
        arms: the arms to compare, of `arm_table`.
        plan: primary metric, contrast and alpha.

    Columns: effect is arm minus comparator, so for a loss (brier, log_loss) negative is better;
    relative: the effect as a share of the comparator's mean; ci_low and ci_high are simultaneous
    over the arms, ci_*_single for this arm only, all at 1 - alpha; p_value (E2) and p_patients
    (E1) are adjusted; p_greater: share of run pairs in which the arm's value is larger, ties
    half; seed_part and case_part sum to se squared.
    """
    rows: list[dict[str, Any]] = []
    for against, column in AGAINST.items():
        primary = metric == plan.metric and against == plan.contrast
        listed = arms[arms[column].notna()]
        count = listed["family"].nunique()
        for _, family in listed.groupby("family", sort=False):
            pairs = list(zip(family["arm_id"], family[column], strict=True))
            found = _of_family(against, pairs, family, measured, count, plan)
            rows += ({**row, "metric": metric, "primary": primary} for row in found)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    order = {arm_id: place for place, arm_id in enumerate(arms["arm_id"])}
    return frame.iloc[np.argsort(frame["arm_id"].map(order), kind="stable")].reset_index(drop=True)


def _of_family(
    against: str,
    pairs: Sequence[Pair],
    family: pd.DataFrame,
    measured: Mapping[str, Measured],
    families: int,
    plan: AnalysisPlan,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one family of arms, which are tested jointly."""
    metric = measured.get(str(family["split"].iloc[0]))
    usable = [pair for pair in pairs if metric and metric.has(pair[0]) and metric.has(pair[1])]
    places = {pair: place for place, pair in enumerate(usable)}
    numbers: Numbers = {}
    why: str | None = None
    if metric and usable:
        share = families * len(pairs) / len(usable)
        test = _with_baseline if against == "baseline" else pairs_jointly
        numbers, why = test(metric, usable, 1 - plan.alpha / share)
        numbers |= _shared(numbers, share, plan.alpha)
    for pair, arm in zip(pairs, records(family), strict=True):
        row = {
            "arm_id": pair[0],
            "against": against,
            "against_id": pair[1],
            "family": arm["family"],
            "reason": None,
            **dict.fromkeys(_TESTED, NAN),
        }
        if (place := places.get(pair)) is not None:
            row |= {name: float(values[place]) for name, values in numbers.items()}
            if np.isnan(row["p_value"]):
                row["reason"] = why or "a difference, but no variance between seeds or patients"
        else:
            row["reason"] = _why_none(metric, pair, arm)
        yield row | _described(metric, pair, row)


def _with_baseline(
    metric: Measured, pairs: Sequence[Pair], level: float
) -> tuple[Numbers, str | None]:
    arms, baseline = [arm for arm, _ in pairs], pairs[0][1]
    found = or_max_t(metric.of([baseline, *arms]), level=level)
    seeds = dunnett(metric.values(baseline), [metric.values(arm) for arm in arms])
    return {
        "effect": found.difference,
        "se": found.se,
        "df": found.df,
        "p_raw": found.p_raw,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_value,
        "seed_part": found.seed_part,
        "case_part": found.case_part,
        "p_patients": seeds.p_value,
    }, found.reason


def pairs_jointly(
    metric: Measured, pairs: Sequence[Pair], level: float
) -> tuple[Numbers, str | None]:
    """Return the columns of _TESTED of pairs of arms tested jointly, and why there are none.

    Args:
        metric: of the split of all arms.
        pairs: an arm and its comparator each, with results.
        level: of the simultaneous intervals.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    arms = metric.of(names)
    weights = np.zeros((len(pairs), len(names)))
    column = {name: place for place, name in enumerate(names)}
    for place, (arm, twin) in enumerate(pairs):
        weights[place, column[arm]], weights[place, column[twin]] = 1, -1
    found = together(arms, weights, level=level)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = found.estimate / np.sqrt(found.seed_part)
    alike = (found.estimate == 0) & (found.seed_part == 0)
    seeds = two_sided(np.where(alike, 0.0, np.where(np.isinf(t), NAN, t)), arms.seed_df or NAN)
    return {
        "effect": found.estimate,
        "se": found.se,
        "df": found.df,
        "p_raw": found.p_raw,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_value,
        "seed_part": found.seed_part,
        "case_part": found.case_part,
        "p_patients": adjust(seeds, "holm"),
    }, found.reason


def _shared(numbers: Numbers, share: float, alpha: float) -> Numbers:
    """Return p values adjusted over all families, and unadjusted intervals."""
    low, high = alone(numbers["effect"], numbers["se"], numbers["df"], 1 - alpha)
    return {
        "p_value": np.minimum(1.0, share * numbers["p_value"]),
        "p_patients": np.minimum(1.0, share * numbers["p_patients"]),
        "ci_low_single": low,
        "ci_high_single": high,
    }


def _described(metric: Measured | None, pair: Pair, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the descriptive columns of a pair."""
    if metric is None:
        nothing = ("mean", "mean_against", "relative", "p_greater", "cohen_d")
        shares = ("seed_share", "patient_share")
        return {**dict.fromkeys((*nothing, *shares), NAN), "n_seeds": 0, "n_seeds_against": 0}
    a, b = (metric.values(name) for name in pair)
    mean, against = (float(values.mean()) if values.size else NAN for values in (a, b))
    greater = prob_greater(a, b)
    variance = row["seed_part"] + row["case_part"]
    return {
        "n_seeds": a.size,
        "n_seeds_against": b.size,
        "n_images": metric.runs.n_images,
        "n_patients": metric.runs.n_patients,
        "mean": mean,
        "mean_against": against,
        "relative": row["effect"] / against if against else NAN,
        "p_greater": greater,
        "run_pairs": ""
        if np.isnan(greater)
        else f"{greater * a.size * b.size:g} of {many(a.size * b.size, 'pair')}",
        "seed_share": row["seed_part"] / variance if variance > 0 else NAN,
        "patient_share": row["case_part"] / variance if variance > 0 else NAN,
        "cohen_d": _cohen(a, b),
    }


def _cohen(a: Floats, b: Floats) -> float:
    """Return the difference in units of the standard deviation over seeds, pooled over both."""
    df = a.size + b.size - 2
    if not a.size or not b.size or df < 1:
        return NAN
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    return float((a.mean() - b.mean()) / np.sqrt(squares / df)) if squares > 0 else NAN


def _why_none(metric: Measured | None, pair: Pair, arm: Mapping[str, Any]) -> str:
    """Return why a pair was not tested."""
    for name in pair:
        whose = "this arm" if name == pair[0] else "the arm it is compared with"
        if metric is None or not metric.values(name).size:
            counts = [f"{arm[s]} {s}" for s in ("failed", "pruned", "missing") if arm[s]]
            said = f" ({', '.join(counts)})" if name == pair[0] and counts else ""
            return f"no finished seed of {whose}{said}"
        bad = int(np.isnan(metric.values(name)).sum())
        if bad and not metric.reason:
            return (
                f"the metric is undefined for {bad} of {metric.values(name).size} seeds of {whose}"
            )
    return (metric.reason if metric else None) or "undefined"
