"""Table: F1, averages over labels and specificity of every arm."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.format import DASH, count, many, number
from fgaug.analysis.report.chapters.per_label import AVERAGES
from fgaug.analysis.report.chapters.tables import kinds_of
from fgaug.analysis.report.material import Material, names_of
from fgaug.analysis.report.parts import Table

MOST_ROWS = 100  # arms on the page; the CSV file lists all
_KEYS = ["arm_id", "round"]
_OF_AVERAGE = {"f1-score": "f1", "precision": "precision", "recall": "recall"}


def score_table(material: Material, scores: pd.DataFrame) -> Table | None:
    """Return accuracy, F1, averages over labels and specificity by arm; None without a result.

    Args:
        material: of the run.
        scores: the result of `per_label.per_label`.
    """
    arms = material.arms[material.arms["seeds"].gt(0)].reset_index(drop=True)
    if arms.empty or scores.empty:
        return None
    names = names_of(material)
    frame = arms[["arm_id", "mode", "round", "seeds"]].copy()
    frame.insert(1, "arm", [names[str(arm)] for arm in arms["arm_id"]])
    frame["accuracy_mean"], frame["accuracy_std"] = arms["valid_acc_mean"], arms["valid_acc_sd"]
    shown = {"accuracy": "accuracy"}
    labels = tuple(scores.loc[~scores["label"].isin(AVERAGES), "label"].unique())
    for row, score, name, head in _columns(labels):
        own = scores[scores["label"].eq(row)].set_index(_KEYS)
        found = own.reindex(pd.MultiIndex.from_frame(arms[_KEYS]))
        for what in ("mean", "std"):
            frame[f"{name}_{what}"] = found[f"{score}_{what}"].to_numpy(dtype=float)
        shown[name] = head
    text = pd.DataFrame({"arm": frame["arm"]})
    if frame["round"].notna().any():
        text["round"] = frame["round"].map(count)
    text["seeds"] = frame["seeds"].map(count)
    for name, head in shown.items():
        pairs = zip(frame[f"{name}_mean"], frame[f"{name}_std"], strict=True)
        text[head] = [_spread(mean, sd) for mean, sd in pairs]
    left = len(text) - MOST_ROWS
    cut = f"The CSV file lists {many(left, 'more arm')}. " if left > 0 else ""
    return Table(
        name="scores",
        title="F1, averages over labels and specificity of every arm",
        frame=frame,
        text=text.head(MOST_ROWS),
        words=("arm",),
        kinds=kinds_of(frame)[:MOST_ROWS],
        note=cut + _note(labels, material.images),
    )


def _columns(labels: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """Return row and score of `per_label`, the name in the frame, and the head on the page."""
    macro, weighted = AVERAGES
    found = [
        (row, score, f"{short}_{kind}", f"{'F1' if short == 'f1' else short} {kind}")
        for score, short in _OF_AVERAGE.items()
        for row, kind in ((macro, "macro"), (weighted, "weighted"))
        if (short, kind) != ("recall", "weighted")  # the accuracy
    ]
    found.append((macro, "specificity", "specificity_macro", "specificity macro"))
    if len(labels) == 2:
        found.append((labels[1], "recall", "sensitivity", f"sensitivity, {labels[1]}"))
        found.append((labels[1], "specificity", "specificity", f"specificity, {labels[1]}"))
    return found


def _note(labels: tuple[str, ...], images: str) -> str:
    two = (
        f" With two labels the positive one is {labels[1]}, as for the AUC, and the macro "
        "averages of recall and specificity are equal: the specificity of one label is the recall "
        "of the other."
        if len(labels) == 2
        else ""
    )
    return (
        f"Mean ± population sd over the seeds, on the {images}. Macro: the mean over labels, each "
        "label against the rest (macro recall is the balanced accuracy). Weighted: by the number "
        f"of images with each label; weighted recall is the accuracy.{two} F1 is 0 for a label "
        "that is never predicted correctly; a precision without any prediction is undefined."
    )


def _spread(mean: float, sd: float) -> str:
    if mean != mean:
        return DASH
    return f"{number(mean)} ± {number(sd)}"
