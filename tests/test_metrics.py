"""Metrics: scikit-learn's numbers, ties and undefined values among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from fgaug.training.metrics import evaluate

NAMES = ("ant", "bee", "cat", "dog")


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels that all occur, and probabilities with many ties, none of them 0."""
    labels = draw(st.integers(2, 4))
    count = draw(st.integers(labels, 40))
    weights = draw(arrays(np.int64, (count, labels), elements=st.integers(1, 4)))
    rest = draw(st.lists(st.integers(0, labels - 1), min_size=count - labels, max_size=count))
    truth = np.array([*range(labels), *rest[: count - labels]])
    return truth, weights / weights.sum(axis=1, keepdims=True)


@given(predictions())
def test_scikit_learns_numbers(made: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probability = made
    count = probability.shape[1]
    predicted = probability.argmax(axis=1)
    found = evaluate(truth, probability, NAMES[:count])
    assert found["acc"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert found["loss"] == pytest.approx(reference.log_loss(truth, probability))
    if count == 2:
        expected = reference.roc_auc_score(truth, probability[:, 1])
        assert found["brier"] == pytest.approx(
            reference.brier_score_loss(truth, probability[:, 1])
        )
    else:
        expected = reference.roc_auc_score(truth, probability, multi_class="ovr", average="macro")
    assert found["auc"] == pytest.approx(expected)
    assert found["f1_macro"] == pytest.approx(
        reference.f1_score(truth, predicted, average="macro", labels=range(count))
    )
    tables = reference.multilabel_confusion_matrix(truth, predicted, labels=range(count))
    for name, ((tn, fp), (fn, tp)) in zip(NAMES[:count], tables, strict=True):
        assert found[f"recall_{name}"] == pytest.approx(tp / (tp + fn))
        assert found[f"specificity_{name}"] == pytest.approx(tn / (tn + fp))
        if tp + fp:
            assert found[f"precision_{name}"] == pytest.approx(tp / (tp + fp))
        else:
            assert math.isnan(found[f"precision_{name}"])


@given(predictions())
def test_the_auc_of_exchanged_labels_is_the_same(made: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probability = made
    last = probability.shape[1] - 1
    names = NAMES[: last + 1]
    swapped = evaluate(last - truth, probability[:, ::-1], names)["auc"]
    assert swapped == pytest.approx(evaluate(truth, probability, names)["auc"])


def test_the_second_label_is_the_positive_one() -> None:
    truth = np.array([0, 0, 1, 1])
    rising = np.array([0.1, 0.2, 0.8, 0.9])
    right = np.stack([1 - rising, rising], axis=1)
    assert evaluate(truth, right, ("a", "b"))["auc"] == 1
    assert evaluate(truth, right[:, ::-1], ("a", "b"))["auc"] == 0


def test_perfect_predictions() -> None:
    truth = np.array([0, 1, 2, 1])
    found = evaluate(truth, np.eye(3)[truth], ("a", "b", "c"))
    assert {name: value for name, value in found.items() if value != 1} == {
        "loss": 0,
        "brier": 0,
        "ece": 0,
    }


def test_brier_of_three_labels_by_hand() -> None:
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    expected = 0.5 * ((0.25 + 0.09 + 0.04) + (0.01 + 0.81 + 0.64)) / 2
    assert evaluate(np.array([0, 1]), probability, NAMES[:3])["brier"] == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    # bins of 1/15: .61 and .65 share (.6, .667], .95 is in (.933, 1], .6 is the edge of (.533, .6]
    second = np.array([0.61, 0.65, 0.95, 0.4])
    probability = np.stack([1 - second, second], axis=1)
    truth = np.array([1, 0, 1, 0])  # right, wrong, right, right
    expected = (abs(1 - 1.26) + abs(1 - 0.95) + abs(1 - 0.6)) / 4
    assert evaluate(truth, probability, ("a", "b"))["ece"] == pytest.approx(expected)


def test_a_certain_mistake_has_infinite_loss() -> None:
    probability = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert evaluate(np.array([1, 1]), probability, ("a", "b"))["loss"] == math.inf


def test_undefined_is_nan() -> None:
    probability = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    found = evaluate(np.array([0, 0]), probability, ("a", "b", "c"))
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {
        "auc",
        "precision_b",
        "precision_c",
        "recall_b",
        "recall_c",
        "specificity_a",
        "f1_macro",
    }


def test_probabilities_that_are_not_numbers_warn_of_nothing() -> None:
    found = evaluate(np.array([0, 1]), np.full((2, 2), np.nan), ("a", "b"))
    assert all(math.isnan(found[name]) for name in ("loss", "auc", "brier", "ece"))
