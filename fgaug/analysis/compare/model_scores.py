"""Scores of one trained model, or of two side by side, as the breast study prints them.

Sensitivity, specificity and related scores from a confusion matrix, and a report per label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from fgaug.analysis.compare.paired_predictions import PairedPredictions
from fgaug.stats import auc_interval, influence_of, mean_difference
from fgaug.stats.arrays import NAN, Bools, Floats, Ints
from fgaug.stats.inference import t_test

THRESHOLD = 0.5  # with two labels, predict the second from here on, as `influence_of` does
SCORES = (
    "quantity",
    "label",
    "a",
    "b",
    "difference",
    "a_count",
    "b_count",
    "a_low",
    "a_high",
    "b_low",
    "b_high",
    "interval",
)
COUNTS = ("images", "tn", "fp", "fn", "tp")
AVERAGED = ("precision", "recall", "f1")  # by `classification_report`
AVERAGES = ("macro", "weighted")


def called(probability: Floats) -> Ints:
    """Return the predicted label of each image, int [..., N], from float [..., N, L]."""
    if probability.shape[-1] == 2:
        return np.asarray(probability[..., 1] >= THRESHOLD, np.int64)
    return np.asarray(probability.argmax(axis=-1), np.int64)


def confusion_of(both: PairedPredictions, calls: list[Ints]) -> pd.DataFrame:
    """Return tn, fp, fn and tp of each model and label, with that label as the positive.

    Args:
        both: predictions with one run per side.
        calls: the predicted label of each image, int [N], by A and by B.
    """
    rows = []
    for model, found in zip("AB", calls, strict=True):
        for index, label in enumerate(both.labels):
            true, said = both.y == index, found == index
            rows.append(
                {
                    "model": model,
                    "label": label,
                    "tn": int((~true & ~said).sum()),
                    "fp": int((~true & said).sum()),
                    "fn": int((true & ~said).sum()),
                    "tp": int((true & said).sum()),
                }
            )
    return pd.DataFrame(rows)


def scores_of(both: PairedPredictions, calls: list[Ints]) -> list[dict[str, Any]]:
    """Return rows of SCORES: the scores of each label, their averages, and those over all images.

    Args:
        both: predictions with one run per side.
        calls: the predicted label of each image, int [N], by A and by B.
    """
    rows = []
    for index, label in enumerate(both.labels):
        pairs = [_of_label(both, found, index) for found in calls]
        rows += [score(name, label, pairs[0][name], pairs[1][name]) for name in pairs[0]]
        if both.scored and len(both.labels) > 2:
            truth = (both.y == index).astype(np.int64)
            areas = [_area(truth, p[0, :, index], both.group) for p in (both.a, both.b)]
            rows.append(score("auc", label, *areas))
    support = np.bincount(both.y, minlength=len(both.labels))
    for how, weight in (("macro", np.ones(len(support))), ("weighted", support)):
        for name in ("precision", "recall", "f1"):
            of_labels = [row for row in rows if row["quantity"] == name]
            a, b = (
                Value(value=float(np.average([row[side] for row in of_labels], weights=weight)))
                for side in "ab"
            )
            rows.append(score(f"{how} {name}", "", a, b))
    everything = np.ones(len(both.y), bool)
    shares = [_share(found == both.y, everything, both.group) for found in calls]
    rows.append(score("accuracy", "", *shares))
    return [*rows, *_probability_scores(both)]


def _probability_scores(both: PairedPredictions) -> Iterable[dict[str, Any]]:
    if not both.scored:
        return
    if len(both.labels) == 2:
        areas = [_area(both.y, p[0, :, 1], both.group) for p in (both.a, both.b)]
        yield score("auc", "", *areas)
    runs = np.concatenate([both.a, both.b])
    names = ("brier", "log_loss") if len(both.labels) == 2 else ("auc", "brier", "log_loss")
    for metric in names:
        found = influence_of(metric, both.y, runs, group=both.group)
        values = []
        for estimate, factors in zip(found.estimate, found.factors, strict=True):
            one = t_test(float(estimate), float(np.linalg.norm(factors)), found.n_patients - 1)
            values.append(
                Value(
                    value=float(estimate), low=one.ci_low, high=one.ci_high, how="t over patients"
                )
            )
        yield score(metric, "", values[0], values[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One score of one model."""

    value: float
    count: str = ""
    low: float = NAN
    high: float = NAN
    how: str = ""  # the interval's method


def score(quantity: str, label: str, a: Value, b: Value) -> dict[str, Any]:
    """Return a row of SCORES; `label` is '' for a score over all images."""
    return {
        "quantity": quantity,
        "label": label,
        "a": a.value,
        "b": b.value,
        "difference": a.value - b.value,
        "a_count": a.count,
        "b_count": b.count,
        "a_low": a.low,
        "a_high": a.high,
        "b_low": b.low,
        "b_high": b.high,
        "interval": a.how or b.how,
    }


def _of_label(both: PairedPredictions, calls: Ints, index: int) -> dict[str, Value]:
    """Return precision, recall, specificity and F1 with one label as the positive."""
    true, said = both.y == index, calls == index
    hits = int((true & said).sum())
    whole = int(true.sum() + said.sum())
    return {
        "precision": _share(true, said, both.group),
        "recall": _share(said, true, both.group),
        "specificity": _share(~said, ~true, both.group),
        "f1": Value(value=2 * hits / whole if whole else NAN, count=f"{2 * hits}/{whole}"),
    }


def _share(hit: Bools, among: Bools, group: np.ndarray | None) -> Value:
    """Return the share of hits among some images, NaN if there are none, with its interval."""
    chosen = hit[among]
    count = f"{int(chosen.sum())}/{len(chosen)}"
    if not len(chosen):
        return Value(value=NAN, count=count)
    patients = None if group is None else group[among]
    if patients is not None and len(np.unique(patients)) < len(patients):
        values = chosen.astype(np.float64)
        test = mean_difference(values, np.zeros(len(values)), patients).test
        low, high = max(0.0, test.ci_low), min(1.0, test.ci_high)
        if not test.se:  # all equal: no variance to estimate, which is not certainty
            low = high = NAN
        return Value(value=test.difference, count=count, low=low, high=high, how="t over patients")
    return share_of(int(chosen.sum()), len(chosen))


def share_of(hits: int, whole: int) -> Value:
    """Return hits / whole (at least 1) with its Wilson interval; each image is its own patient."""
    wilson = scipy_stats.binomtest(hits, whole).proportion_ci(method="wilson")
    low, high = float(wilson.low), float(wilson.high)
    return Value(value=hits / whole, count=f"{hits}/{whole}", low=low, high=high, how="Wilson")


def _area(truth: Ints, score: Floats, group: np.ndarray | None) -> Value:
    found = auc_interval(truth, score, group=group)
    return Value(
        value=found.auc, low=found.logit_low, high=found.logit_high, how="DeLong on the logit"
    )


REPORT = (
    "model",
    "row",
    "label",
    *COUNTS,
    "precision",
    "recall",
    "specificity",
    "f1",
    "accuracy",
    "auc",
)


def report_of(confusion: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return rows of REPORT: for each model its labels, all images, the averages over labels.

    `row` is `label`, `all images`, `macro avg` or `weighted avg`. Scores that a row does not have
    are NaN (NA for counts), as is an AUC without probabilities.

    Args:
        confusion: the result of `confusion_of`.
        scores: rows of `SCORES`.
    """
    rows = [row for model in "AB" for row in _of_model(model, confusion, scores)]
    return pd.DataFrame(rows, columns=list(REPORT)).astype(dict.fromkeys(COUNTS, "Int64"))


def _of_model(
    model: str, confusion: pd.DataFrame, scores: pd.DataFrame
) -> Iterator[Mapping[str, Any]]:
    values = {
        (row["quantity"], row["label"]): row[model.lower()] for row in scores.to_dict("records")
    }
    images = 0
    of_labels: list[dict[Any, Any]] = confusion[confusion["model"].eq(model)].to_dict("records")
    for counts in of_labels:
        label = counts["label"]
        images = counts["tn"] + counts["fp"] + counts["fn"] + counts["tp"]
        found = {name: value for (name, whose), value in values.items() if whose == label}
        yield {**counts, **found, "row": "label", "images": counts["tp"] + counts["fn"]}
    whole = {"model": model, "label": "", "images": images}
    over_all = {name: values[name, ""] for name in ("accuracy", "auc") if (name, "") in values}
    yield {**whole, **over_all, "row": "all images"}
    for how in AVERAGES:
        means = {name: values[f"{how} {name}", ""] for name in AVERAGED}
        yield {**whole, **means, "row": f"{how} avg"}
