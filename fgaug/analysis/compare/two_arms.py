"""Comparing two arms with several seeds on the same images (levels E2 and E1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.compare.paired_predictions import PairedPredictions
from fgaug.analysis.compare.two_models import LABELS_ONLY, TESTS, test_row
from fgaug.analysis.format import many
from fgaug.core.analysis_metrics import LOWER_IS_BETTER, METRICS
from fgaug.stats import (
    Influence,
    TTest,
    arms_of,
    contrast,
    influence_of,
    nested,
    prob_greater,
    spread,
    student,
    welch,
)
from fgaug.stats.arrays import NAN, Floats

ALPHA = 0.05
SUMMARY = (
    "metric",
    "mean_a",
    "sd_a",
    "min_a",
    "max_a",
    "mean_b",
    "sd_b",
    "min_b",
    "max_b",
    "difference",
    "p_greater",
    "run_pairs",
    "seed_share",
    "patient_share",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoArms:
    """Comparison of arms A and B; differences are A minus B. Undefined is NaN, with a reason."""

    level: str  # E2; `tests` has E1 as well
    claim: str
    verdict: tuple[str, ...]  # of the primary metric
    names: tuple[str, str]
    labels: tuple[str, ...]
    n_images: int
    n_patients: int
    grouped: bool  # False: patients are unknown, and each image counts as one
    n_runs: tuple[int, int]
    # metric (the primary first), mean, sample sd, least and largest seed, difference, P(A > B)
    # over run pairs, shares of the variance of the difference from seeds and from patients
    summary: pd.DataFrame
    tests: pd.DataFrame  # quantity, test, level, difference ... p_value, reason
    notes: tuple[str, ...]


def compare_arms(both: PairedPredictions, metric: str = "auc") -> TwoArms:
    """Return the comparison of two recipes: E2 over seeds and patients, E1 over seeds only.

    E2 is the Obuchowski-Rockette model with seeds as readers (`nested`), and E1 is Welch's test.
    If one side has a single run, its seed variance is taken from the other (`contrast`), and E1
    is Student's test. Without probabilities only the accuracies are compared.

    Args:
        both: predictions with two runs or more on at least one side.
        metric: the primary metric; the others are secondary.
    """
    usable = [name for name, metric in METRICS.items() if both.scored or metric.from_labels]
    notes = [*both.notes]
    if not both.scored:
        notes.append(f"{LABELS_ONLY}: no AUC, Brier score or log loss")
    primary = metric if metric in usable else "accuracy"
    if primary != metric:
        notes.append(
            f"{metric} needs probabilities: accuracy is used as the primary metric instead"
        )
    ordered = [primary, *(name for name in usable if name != primary)]
    summary, tests = [], []
    for name in ordered:
        row, found = _compared(name, both)
        summary.append(row)
        tests += found
    sides = (len(both.a), len(both.b))
    if min(sides) == 1:
        single = "AB"[sides.index(1)]
        notes.append(
            f"{single} is a single run: the variance between seeds of its recipe is assumed to "
            "equal that of the other side; add seeds to it"
        )
    return TwoArms(
        level="E2",
        claim="these recipes on new patients; E1: on these patients only",
        verdict=(both.no_verdict or _verdict(primary, tests[0], tests[1]),),
        names=both.names,
        labels=both.labels,
        n_images=len(both.y),
        n_patients=both.n_patients,
        grouped=both.group is not None,
        n_runs=sides,
        summary=pd.DataFrame(summary, columns=list(SUMMARY)),
        tests=pd.DataFrame(tests, columns=list(TESTS)),
        notes=tuple(notes),
    )


def _compared(metric: str, both: PairedPredictions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    a, b = (influence_of(metric, both.y, runs, group=both.group) for runs in (both.a, both.b))
    test, seed_part, case_part, name = _over_patients(a, b)
    whole = seed_part + case_part
    one_run = 1 in (len(a.estimate), len(b.estimate))
    seeds = student(a.estimate, b.estimate) if one_run else welch(a.estimate, b.estimate)
    greater = prob_greater(a.estimate, b.estimate)
    pairs = len(a.estimate) * len(b.estimate)
    row = {
        "metric": metric,
        **_moments("a", a.estimate),
        **_moments("b", b.estimate),
        "difference": test.difference,
        "p_greater": greater,
        "run_pairs": "" if np.isnan(greater) else f"{greater * pairs:g} of {many(pairs, 'pair')}",
        "seed_share": seed_part / whole if whole else NAN,
        "patient_share": case_part / whole if whole else NAN,
    }
    return row, [
        test_row(metric, name, "E2", test),
        test_row(metric, "Student" if one_run else "Welch", "E1", seeds),
    ]


def _over_patients(a: Influence, b: Influence) -> tuple[TTest, float, float, str]:
    """Return the E2 test, its variance from seeds and from patients, and its name."""
    if min(len(a.estimate), len(b.estimate)) > 1:
        found = nested(a, b)
        name = "Obuchowski-Rockette"
        return found.test, found.seed_part, found.case_part, name
    together = replace(
        a,
        estimate=np.concatenate([a.estimate, b.estimate]),
        factors=np.concatenate([a.factors, b.factors]),
        reason=a.reason or b.reason,
    )
    arms = arms_of(together, np.repeat([0, 1], [len(a.estimate), len(b.estimate)]))
    test = contrast(arms, [1, -1])
    seed_part = float((1 / arms.n_seeds).sum() * arms.pooled_seed_variance)
    case_part = max(0.0, test.se**2 - seed_part)
    return test, seed_part, case_part, "Obuchowski-Rockette, seed variance pooled"


def _moments(side: str, values: Floats) -> dict[str, float]:
    found = spread(values)
    return {
        f"mean_{side}": found.mean,
        f"sd_{side}": found.sd_sample,
        f"min_{side}": float(values.min()),
        f"max_{side}": float(values.max()),
    }


def _verdict(metric: str, new: dict[str, Any], these: dict[str, Any]) -> str:
    """Return the verdict on A; not significant means not shown, never equal."""
    gain = -new["difference"] if metric in LOWER_IS_BETTER else new["difference"]
    word = "better" if gain > 0 else "worse"
    if new["p_value"] <= ALPHA:
        return f"{metric}: A is {word} than B on new patients (E2, p {new['p_value']:.2g})"
    if these["p_value"] <= ALPHA:
        return (
            f"{metric}: A is {word} than B on these patients only (E1, p {these['p_value']:.2g}); "
            f"not shown for new patients (E2, p {new['p_value']:.2g})"
        )
    if np.isnan(new["p_value"]):
        return f"{metric}: no test ({new['reason'] or 'undefined'})"
    return (
        f"{metric}: no difference shown (E2, p {new['p_value']:.2g}); this does not show that "
        "there is none: see the confidence interval"
    )
