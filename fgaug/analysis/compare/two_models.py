"""Comparing two trained models on the same images (level E0).

The result says nothing about the training recipes: a second run of one may differ as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.compare.model_scores import (
    REPORT,
    SCORES,
    called,
    confusion_of,
    report_of,
    score,
    scores_of,
    share_of,
)
from fgaug.analysis.compare.paired_predictions import PairedPredictions
from fgaug.core.analysis_metrics import METRICS
from fgaug.errors import UserError
from fgaug.stats import (
    agreement,
    clustered_mcnemar,
    influence_of,
    mcnemar,
    mean_difference,
    net_right,
    sign_flip,
)
from fgaug.stats.arrays import Bools, Ints
from fgaug.stats.inference import TTest, t_test

SINGLE_RUNS = (
    "these two trained networks on new patients; a comparison of two single runs says nothing "
    "about the recipe: repeat it with several seeds"
)
INVALID = "several images per patient: McNemar's test is invalid"
LABELS_ONLY = "predicted labels only, no probabilities"
NO_AREA = "no AUC (for predicted labels it equals the balanced accuracy), Brier score or log loss"
ALPHA = 0.05
EXACT_BELOW = 50  # patients: the score test needs many (Yang 2010)
TESTS = (
    "quantity",
    "test",
    "level",
    "difference",
    "se",
    "statistic",
    "df",
    "ci_low",
    "ci_high",
    "interval",
    "p_value",
    "reason",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoModels:
    """Comparison of model A with model B; differences are A minus B. Undefined is NaN.

    The frame `report` has what the breast-ultrasound study prints for a model, `scores` the same
    for A beside B with counts and intervals, and `tests` has statistics and p values.
    """

    level: str  # E0
    claim: str  # what may be concluded, and what may not
    verdict: tuple[str, ...]  # on accuracy and, with probabilities, on AUC
    names: tuple[str, str]
    labels: tuple[str, ...]
    n_images: int
    n_patients: int
    grouped: bool  # False: patients are unknown, and each image counts as one
    agreement: Ints | None  # [[both right, only A right], [only B right, both wrong]]
    confusion: pd.DataFrame  # model, label, tn, fp, fn, tp, with that label as the positive
    # quantity, label ('' over all), a, b, difference, counts as text, 95 % intervals of a and b
    scores: pd.DataFrame
    report: pd.DataFrame  # model, row, label, counts, precision ... auc: see `report_of`
    tests: pd.DataFrame  # quantity, test, level, difference ... p_value, reason
    notes: tuple[str, ...]


def compare_models(both: PairedPredictions) -> TwoModels:
    """Return every score of both models, and the tests of their differences.

    Accuracy: McNemar's mid-p first, then the exact p with the Fay-Lumbard interval. If patients
    have several images: sign flips of patients (first below 50 patients), the clustered score
    test, and t over patients. AUC: DeLong's test, clustered by patient; one-vs-rest macro for
    more than two labels. Balanced accuracy, Brier score, log loss and macro F1: t over patients.
    Intervals of one model: Wilson for shares, logit for AUC; over patients if these have several
    images.

    Args:
        both: predictions with one run per side.
    """
    calls = [called(probability[0]) for probability in (both.a, both.b)]
    right = [found == both.y for found in calls]
    tests = [*accuracy_tests(right[0], right[1], both.group, both.repeats), *_metric_tests(both)]
    first = [next(row for row in tests if row["quantity"] == "accuracy")]
    first += [row for row in tests if row["quantity"] == "auc"]
    notes = [*both.notes]
    if not both.scored:
        notes.append(f"{LABELS_ONLY}: {NO_AREA}")
    confusion = confusion_of(both, calls)
    scores = pd.DataFrame(scores_of(both, calls), columns=list(SCORES))
    return TwoModels(
        level="E0",
        claim=SINGLE_RUNS,
        verdict=(both.no_verdict,) if both.no_verdict else tuple(map(_verdict, first)),
        names=both.names,
        labels=both.labels,
        n_images=len(both.y),
        n_patients=both.n_patients,
        grouped=both.group is not None,
        agreement=agreement(*right),
        confusion=confusion,
        scores=scores,
        report=report_of(confusion, scores),
        tests=pd.DataFrame(tests, columns=list(TESTS)),
        notes=tuple(notes),
    )


def compare_counts(table: Ints) -> TwoModels:
    """Return the comparison of two models from the four counts of paired answers.

    Args:
        table: [[both right, only A right], [only B right, both wrong]], counts of images.

    Raises:
        UserError: a count is negative, or all are 0.
    """
    images = int(table.sum())
    if images < 1 or (table < 0).any():
        raise UserError(
            f"The counts must be 0 or more, and one at least 1, got {table.ravel().tolist()}. "
            "Give them as both right, only A right, only B right, neither."
        )
    tests = mcnemar_tests(table)
    rights = [int(table[0].sum()), int(table[:, 0].sum())]
    scores = [
        score("accuracy", "", *(share_of(right, images) for right in rights)),
    ]
    return TwoModels(
        level="E0",
        claim=SINGLE_RUNS,
        verdict=(_verdict(tests[0]),),
        names=("A", "B"),
        labels=(),
        n_images=images,
        n_patients=images,
        grouped=False,
        agreement=table,
        confusion=pd.DataFrame(columns=["model", "label", "tn", "fp", "fn", "tp"]),
        scores=pd.DataFrame(scores, columns=list(SCORES)),
        report=pd.DataFrame(columns=list(REPORT)),
        tests=pd.DataFrame(tests, columns=list(TESTS)),
        notes=("each image counts as its own patient; otherwise McNemar's test is invalid",),
    )


def accuracy_tests(
    right_a: Bools, right_b: Bools, group: np.ndarray | None, repeats: bool
) -> list[dict[str, Any]]:
    """Return the rows of tests of a difference in accuracy, the recommended test first.

    Args:
        right_a: bool [N]; right_b: bool [N].
        group: patient of each image, or None.
        repeats: whether any patient has several images.
    """
    if not repeats:
        return mcnemar_tests(agreement(right_a, right_b))
    net = net_right(right_a, right_b, group)
    score = clustered_mcnemar(net)
    mean = mean_difference(right_a.astype(float), right_b.astype(float), group)
    difference = mean.test.difference
    rows = [
        {
            "test": "clustered score",
            "difference": difference,
            "statistic": score.z,
            "p_value": score.p_value,
            "reason": score.reason,
        },
        {"test": "sign flips of patients", "difference": difference, "p_value": sign_flip(net)},
    ]
    if len(net) < EXACT_BELOW:
        rows.reverse()
    rows.append(test_row("accuracy", "t over patients", "E0", mean.test))
    rows.append({"test": "McNemar", "difference": difference, "reason": INVALID})
    return [{"quantity": "accuracy", "level": "E0", **row} for row in rows]


def mcnemar_tests(table: Ints) -> list[dict[str, Any]]:
    """Return the rows of McNemar's tests: mid-p first, then exact with its interval.

    The statistic of both is the smaller of the two discordant counts.
    """
    found = mcnemar(table)
    mid = {"test": "McNemar, mid-p", "p_value": found.p_mid}
    exact = {
        "test": "McNemar, exact",
        "p_value": found.p_exact,
        "interval": "Fay-Lumbard, exact",
        **dict(zip(("ci_low", "ci_high"), found.fay_lumbard, strict=True)),
    }
    shared = {
        "quantity": "accuracy",
        "level": "E0",
        "difference": found.difference,
        "statistic": found.statistic,
        "reason": found.reason if found.n == 0 else None,
    }
    return [{**shared, **mid}, {**shared, **exact}]


def test_row(quantity: str, test: str, level: str, found: TTest) -> dict[str, Any]:
    """Return a t or z test as a row of the frame of tests."""
    return {
        "quantity": quantity,
        "test": test,
        "level": level,
        "difference": found.difference,
        "se": found.se,
        "statistic": found.statistic,
        "df": found.df,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "interval": "95 %",
        "p_value": found.p_value,
        "reason": found.reason,
    }


def _verdict(row: dict[str, Any]) -> str:
    """Return the verdict of a test of two networks; not significant means not shown."""
    test, p = f"{row['test']}, E0", row["p_value"]
    if np.isnan(p):
        return f"{row['quantity']}: no test ({row['reason'] or 'undefined'})"
    if p <= ALPHA:
        word = "above" if row["difference"] > 0 else "below"
        return f"{row['quantity']}: A is {word} B on new patients ({test}, p {p:.2g})"
    return (
        f"{row['quantity']}: no difference shown ({test}, p {p:.2g}); this does not show that "
        "there is none: see the confidence interval"
    )


def _metric_tests(both: PairedPredictions) -> Iterable[dict[str, Any]]:
    clustered = " over patients" if both.repeats else ""
    macro = " (one-vs-rest macro)" if len(both.labels) > 2 else ""
    runs = np.concatenate([both.a, both.b])
    for metric, known in METRICS.items():
        if metric == "accuracy" or not (both.scored or known.from_labels):
            continue  # accuracy has tests of its own
        found = influence_of(metric, both.y, runs, group=both.group)
        factors = found.factors
        test = t_test(
            float(found.estimate[0] - found.estimate[1]),
            float(np.linalg.norm(factors[0] - factors[1])),
            np.inf if metric == "auc" else found.n_patients - 1,
            scale=float(np.linalg.norm(factors)),
            reason=found.reason,
        )
        name = f"DeLong{clustered}{macro}" if metric == "auc" else "t over patients"
        yield test_row(metric, name, "E0", test)
