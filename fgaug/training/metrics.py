"""Compute the metrics of one set of predictions from labels and probabilities.

All functions are pure. A trial whose loss is not finite ends with an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fgaug.errors import TrialError

# What `evaluate` returns beside the scores by label; the order of a row's columns. A grid can name
# those of `fgaug.core.analysis_metrics`.
METRICS = ("loss", "acc", "auc", "f1_macro", "brier", "ece")
ECE_BINS = 15
_CURE = "Lower `recipe.learning_rate`."


def evaluate(
    truth: np.ndarray, probability: np.ndarray, labels: Sequence[str]
) -> dict[str, float]:
    """Return the metrics of a result row, without their `valid_` or `test_` prefix.

    Args:
        truth: int [N], index of each image's label.
        probability: float [N, L], rows sum to 1.
        labels: the L label names, in order.

    Undefined values (a label that never occurs; AUC if `truth` lacks a label) are NaN.
    """
    predicted = probability.argmax(axis=1)
    result = {
        "loss": log_loss(truth, probability),
        "acc": float(np.mean(predicted == truth)),
        "auc": auc(truth, probability),
        "brier": brier(truth, probability),
        "ece": ece(truth, probability),
    }
    f1 = []
    for index, label in enumerate(labels):
        is_label, called = truth == index, predicted == index
        hits = int(np.sum(is_label & called))
        result[f"precision_{label}"] = _ratio(hits, int(called.sum()))
        result[f"recall_{label}"] = _ratio(hits, int(is_label.sum()))
        result[f"specificity_{label}"] = _ratio(
            int(np.sum(~is_label & ~called)), int(np.sum(~is_label))
        )
        f1.append(_ratio(2 * hits, int(is_label.sum() + called.sum())))
    result["f1_macro"] = float(np.mean(f1))
    return result


def log_loss(truth: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean negative log probability of the true label, in nats.

    Args:
        truth: int [N], index of each image's label.
        probability: float [N, L], rows sum to 1.

    A probability of 0 for the true label gives infinity."""
    own = probability[np.arange(len(truth)), truth]
    with np.errstate(divide="ignore"):
        return float(-np.mean(np.log(own)))


def auc(truth: np.ndarray, probability: np.ndarray) -> float:
    """Return the area under the ROC curve, 0 to 1.

    With two labels it is the AUC of the second label; with more, the unweighted mean over labels
    of one-vs-rest AUCs.

    Args:
        truth: int [N], index of each image's label.
        probability: float [N, L].

    Returns:
        NaN if `truth` lacks a label or a probability is not finite."""
    if len(np.unique(truth)) < probability.shape[1] or not np.isfinite(probability).all():
        return float("nan")
    if probability.shape[1] == 2:
        return _area(truth == 1, probability[:, 1])
    return float(np.mean([_area(truth == i, column) for i, column in enumerate(probability.T)]))


def _area(positive: np.ndarray, score: np.ndarray) -> float:
    """Return P(positive scores higher) + P(tie) / 2 by midranks (Hanley & McNeil 1982).

    Equals scikit-learn's value, whose import would add a second to the start of every worker.

    Args:
        positive: bool [N], at least one of each.
        score: float [N].
    """
    ranks = pd.Series(score).rank().to_numpy()
    m = int(positive.sum())
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * (len(score) - m)))


def brier(truth: np.ndarray, probability: np.ndarray) -> float:
    """Return half the mean squared distance to the one-hot label, 0 to 1.

    With two labels this is the usual Brier score.

    Args:
        truth: int [N], index of each image's label.
        probability: float [N, L], rows sum to 1."""
    hot = np.eye(probability.shape[1])[truth]
    return float(0.5 * np.mean(np.sum((probability - hot) ** 2, axis=1)))


def ece(truth: np.ndarray, probability: np.ndarray) -> float:
    """Return the expected calibration error over 15 equal-width bins (Guo 2017, eq. 3), 0 to 1.

    Bins are by the confidence of the predicted label; its accuracy is compared with the mean
    confidence.

    Args:
        truth: int [N], index of each image's label.
        probability: float [N, L], rows sum to 1.

    Returns:
        NaN if a probability is not finite."""
    if not np.isfinite(probability).all():
        return float("nan")
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    count = np.bincount(bins, minlength=ECE_BINS)
    gap = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gap[count > 0]).sum() / len(truth))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def check_loss(train_loss: float, step: int) -> None:
    """Raise a TrialError unless the training loss is finite.

    Args:
        train_loss: mean loss since the last evaluation.
        step: optimiser steps taken so far."""
    if not math.isfinite(train_loss):
        raise TrialError(f"The training loss became {train_loss} before step {step}. {_CURE}")


def evaluate_or_fail(
    truth: np.ndarray, probability: np.ndarray, labels: tuple[str, ...], step: int
) -> dict[str, float]:
    """Return the metrics of a validation set; see `evaluate`.

    Args:
        truth: int [N], index of each image's label.
        probability: float [N, L], rows sum to 1.
        labels: the L label names, in order.
        step: optimiser steps taken so far.

    Raises:
        TrialError: the validation loss is NaN.
    """
    valid = evaluate(truth, probability, labels)
    if math.isnan(valid["loss"]):
        raise TrialError(f"The validation loss became NaN at step {step}. {_CURE}")
    return valid
