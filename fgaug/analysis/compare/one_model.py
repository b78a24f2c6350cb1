"""Scores of a single trained model, as the breast-ultrasound study prints them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from fgaug.analysis.compare.model_scores import SCORES, called, confusion_of, report_of, scores_of
from fgaug.analysis.compare.paired_predictions import PredictionSet, paired_predictions
from fgaug.analysis.compare.two_models import LABELS_ONLY, NO_AREA
from fgaug.errors import UserError

CLAIM = "this trained network on new patients; a single run says nothing about the recipe"
MOST_RUNS = 8  # listed in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class OneModel:
    """Scores of one trained model. Undefined is NaN."""

    level: str  # E0
    claim: str
    name: str
    labels: tuple[str, ...]
    n_images: int
    n_patients: int
    grouped: bool  # False: patients are unknown, and each image counts as one
    confusion: pd.DataFrame  # label, tn, fp, fn, tp, with that label as the positive
    # quantity, label ('' over all), value, count as text, low and high, the interval's method
    scores: pd.DataFrame
    report: pd.DataFrame  # row, label, counts, precision ... auc: see `report_of`
    notes: tuple[str, ...]


def describe_model(side: PredictionSet) -> OneModel:
    """Return every score of one model, with counts and 95 % intervals.

    The numbers equal those of `compare_models`.

    Raises:
        UserError: the side is an arm with several trials; it lists them.
    """
    if len(side.runs) > 1:
        some = ", ".join(side.runs[:MOST_RUNS])
        more = f" and {len(side.runs) - MOST_RUNS} more" if len(side.runs) > MOST_RUNS else ""
        raise UserError(
            f"Only one model can be described, but {side.name} has {len(side.runs)} trials: "
            f"{some}{more}. Name one, such as RUN:ARM#SEED, or give a second arm to compare it "
            "with."
        )
    bare = replace(side, notes=())
    both = paired_predictions(bare, bare)
    calls = [called(both.a[0])] * 2
    confusion = confusion_of(both, calls)
    scores = pd.DataFrame(scores_of(both, calls), columns=list(SCORES))
    report = report_of(confusion, scores)
    notes = [*side.notes]
    if side.group is None:
        notes.append(
            "no column group: every image counts as its own patient; if patients have several "
            "images, the confidence intervals are too narrow"
        )
    if not side.scored:
        notes.append(f"{LABELS_ONLY}: {NO_AREA}")
    if side.picked > 1:
        notes.append(
            f"the best of {side.picked} arms, selected on these same images: its scores "
            "are too high"
        )
    return OneModel(
        level="E0",
        claim=CLAIM,
        name=side.name,
        labels=both.labels,
        n_images=len(both.y),
        n_patients=both.n_patients,
        grouped=side.group is not None,
        confusion=_of_a(confusion),
        scores=scores[["quantity", "label", "a", "a_count", "a_low", "a_high", "interval"]].rename(
            columns={"a": "value", "a_count": "count", "a_low": "low", "a_high": "high"}
        ),
        report=_of_a(report),
        notes=tuple(notes),
    )


def _of_a(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["model"].eq("A")].drop(columns="model").reset_index(drop=True)
