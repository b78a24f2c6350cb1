"""Predictions of the two sides of a comparison on the same images, in the same order.

A side is one trained model, or an arm with several runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fgaug.errors import UserError
from fgaug.stats.arrays import Floats, Ints

ROUNDING_OF_FILES = 0.02  # tolerance of the sum of probabilities printed with two digits


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSet:
    """Predictions of one side for its images."""

    name: str  # for display: file, or run and arm in words
    labels: tuple[str, ...]
    image_id: tuple[str, ...] | None  # None: not in the file; rows are matched in order
    label: tuple[str, ...]  # true label of each image
    group: tuple[str, ...] | None  # patient of each image; None if unknown
    probability: Floats  # [runs, images, labels]
    runs: tuple[str, ...]  # name of each run: `seed 3 (cell ab12...)`
    scored: bool = True  # False: predicted labels only, as 0 and 1 in `probability`
    notes: tuple[str, ...] = ()  # what was left out, how the side was selected
    picked: int = 1  # arms out of which this one was selected on these same images

    def __post_init__(self) -> None:
        """Refuse duplicate images, unknown labels and invalid probabilities.

        Raises:
            UserError: with the number of violations, and the first.
        """
        where, p = self.name, self.probability
        _refuse(
            f"{where}: each image may occur only once",
            _repeated(self.image_id or ()),
            "images occur more than once",
            "Keep one row per image",
        )
        _refuse(
            f"{where}: every label needs a column p_<label>",
            sorted({label for label in self.label if label not in self.labels}),
            f"labels have none (known: {', '.join(self.labels)})",
            "Add the columns, or correct the labels",
        )
        ids = np.asarray(self.image_id or [f"row {n}" for n in range(1, len(self.label) + 1)])
        bad = ~np.isfinite(p).all(axis=(0, 2))
        _refuse(
            f"{where}: probabilities must be numbers",
            ids[bad].tolist(),
            f"of {len(ids)} images have other values",
            "Correct or remove these images on both sides",
        )
        outside = ((p < 0) | (p > 1)).any(axis=(0, 2))
        outside |= (np.abs(p.sum(axis=2) - 1) > ROUNDING_OF_FILES).any(axis=0)
        _refuse(
            f"{where}: probabilities must lie between 0 and 1 and sum to 1",
            ids[outside].tolist(),
            f"of {len(ids)} images violate this",
            "Give probabilities, not logits or scores",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedPredictions:
    """Predictions of both sides on the same images, in the order of A."""

    names: tuple[str, str]  # of A and B, for display
    labels: tuple[str, ...]
    y: Ints  # [N], index of each image's label
    group: np.ndarray | None  # [N]
    a: Floats  # [runs of A, N, labels]
    b: Floats
    scored: bool  # whether both have probabilities
    notes: tuple[str, ...]
    picked: int  # arms out of which a side was selected on these same images; 1: it was named

    @property
    def no_verdict(self) -> str | None:
        """Return why no verdict may be given: a side was selected on the same images."""
        if self.picked == 1:
            return None
        return (
            f"no verdict: the best of {self.picked} arms was selected on these same images, and "
            "no p value is adjusted for that. See `fgaug report`, or confirm it with fresh "
            "seeds and patients"
        )

    @property
    def n_patients(self) -> int:
        """Return the number of patients, or of images if patients are unknown."""
        return len(self.y) if self.group is None else len(np.unique(self.group))

    @property
    def repeats(self) -> bool:
        """Return whether any patient has several images."""
        return self.n_patients < len(self.y)


def paired_predictions(a: PredictionSet, b: PredictionSet) -> PairedPredictions:
    """Return both sides on the same images, joined by image_id.

    Raises:
        UserError: labels, images, true labels or patients differ; it counts them.
    """
    if set(a.labels) != set(b.labels):
        raise UserError(
            f"Both sides need the same labels: {a.name} has {', '.join(a.labels)}; "
            f"{b.name} has {', '.join(b.labels)}."
        )
    order, notes = _order(a, b)
    truth = np.asarray(a.label, object)
    _differ(a, b, "label", truth != np.asarray(b.label, object)[order])
    group, more = _groups(a, b, order)
    columns = [b.labels.index(label) for label in a.labels]
    index = {label: number for number, label in enumerate(a.labels)}
    return PairedPredictions(
        names=(a.name, b.name),
        labels=a.labels,
        y=np.array([index[label] for label in a.label], np.int64),
        group=group,
        a=a.probability,
        b=b.probability[:, order][:, :, columns],
        scored=a.scored and b.scored,
        picked=max(a.picked, b.picked),
        notes=(*_notes_of("A", a), *_notes_of("B", b), *notes, *more),
    )


def _order(a: PredictionSet, b: PredictionSet) -> tuple[np.ndarray, list[str]]:
    """Return the rows of B in the order of A's images."""
    if a.image_id is None and b.image_id is None:
        if len(a.label) != len(b.label):
            raise UserError(
                f"Both sides need the same images: {a.name} has {len(a.label)} rows and {b.name} "
                f"{len(b.label)}, and neither has image ids. Add a column image_id."
            )
        return np.arange(len(a.label)), ["no image_id: rows were matched in order"]
    if a.image_id is None or b.image_id is None:
        lacking = a.name if a.image_id is None else b.name
        raise UserError(f"{lacking} has no column image_id, but the other side has. Add it.")
    rows = pd.Index(b.image_id).get_indexer(pd.Index(a.image_id))
    only_a = [image for image, row in zip(a.image_id, rows, strict=True) if row < 0]
    only_b = sorted({*b.image_id} - {*a.image_id})
    if only_a or only_b:
        shared = len(a.image_id) - len(only_a)
        first = f"the first is {(only_a or only_b)[0]}"
        raise UserError(
            f"Both sides need the same images: {shared} are in both, {len(only_a)} only in "
            f"{a.name} and {len(only_b)} only in {b.name} ({first}). Predict the same images "
            "with both, or remove the others."
        )
    return rows, []


def _groups(
    a: PredictionSet, b: PredictionSet, order: np.ndarray
) -> tuple[np.ndarray | None, list[str]]:
    groups: list[Any] = [None if side.group is None else np.asarray(side.group) for side in (a, b)]
    if groups[1] is not None:
        groups[1] = groups[1][order]
    if groups[0] is not None and groups[1] is not None:
        _differ(a, b, "patient (group)", groups[0] != groups[1])
    group = groups[0] if groups[0] is not None else groups[1]
    if group is None:
        return None, [
            "no column group: every image counts as its own patient; if patients have several "
            "images, p values are too small and confidence intervals too narrow"
        ]
    return group, []


def _differ(a: PredictionSet, b: PredictionSet, what: str, differs: np.ndarray) -> None:
    if differs.any():
        row = int(np.argmax(differs))
        first = a.image_id[row] if a.image_id else f"row {row + 1}"
        raise UserError(
            f"Both sides need the same {what} for an image: {int(differs.sum())} of "
            f"{len(differs)} differ between {a.name} and {b.name} (the first is {first}). "
            "Correct the wrong one."
        )


def _notes_of(letter: str, side: PredictionSet) -> list[str]:
    return [f"{letter}: {note}" for note in side.notes]


def _repeated(values: tuple[str, ...]) -> list[str]:
    index = pd.Index(values)
    return sorted(set(index[index.duplicated()]))


def _refuse(rule: str, bad: list[str], count: str, cure: str) -> None:
    if bad:
        raise UserError(f"{rule}; {len(bad)} {count} (the first is {bad[0]}). {cure}.")
