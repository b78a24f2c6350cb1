"""Two models as the breast-ultrasound study prints one: a frame.  model_scores -> [here] -> tables

Its form: the 2x2 table, precision, recall, specificity and F1 with each label as the positive one,
the accuracy, scikit-learn's `classification_report`, the AUC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

COUNTS = ("images", "tn", "fp", "fn", "tp")
REPORT = (
    *("model", "row", "label", *COUNTS),
    *("precision", "recall", "specificity", "f1", "accuracy", "auc"),
)
AVERAGED = ("precision", "recall", "f1")  # by `classification_report`
AVERAGES = ("macro", "weighted")


def report_of(confusion: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return rows of REPORT: of each model its labels, all images, the averages over labels.

    `row` is `label`, `all images`, `macro avg` or `weighted avg`; what a row does not have is NaN
    (of counts NA), as is an AUC without probabilities.

    Args:
        confusion: as `confusion_of` returns it.
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
