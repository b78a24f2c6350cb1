"""Precision, recall, F1 and specificity of every arm: by label, and averaged over labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.format import count, number
from fgaug.analysis.report.arm_summary import labels_of
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.panels import Panel

SCORES = ("precision", "recall", "f1-score", "specificity")
AVERAGES = ("macro avg", "weighted avg")  # rows below the labels, as scikit-learn names them
WORDS = ("arm", "label")
_KEYS = ["arm_id", "round"]


def per_label(material: Material) -> pd.DataFrame:
    """Return mean and population sd over the finished seeds, by arm and round.

    One row per label, then `macro avg` (the mean over labels) and `weighted avg` (weighted by the
    number of images with each label). Each score takes its label as the positive and all others as
    the negative. All are computed per trial and then averaged. The f1-score, 2 P R / (P + R), is 0
    if precision or recall is 0, and otherwise undefined if either is undefined. An average is
    undefined if the score of a label with images is. `support` is the number of images with the
    label.
    """
    ok = material.rows[material.rows["status"].eq("ok")]
    ok = ok.assign(round=pd.to_numeric(ok["round"]) if "round" in ok else np.nan)
    labels = [
        label
        for label in labels_of(material.rows)
        if {f"precision_{label}", f"recall_{label}"} <= set(ok.columns)
    ]
    if ok.empty or not labels:
        numbers = [f"{name}_{what}" for name in (*SCORES, "support") for what in ("mean", "std")]
        return pd.DataFrame(columns=[*_KEYS, "label", *numbers])
    values, support = _by_trial(ok, labels), _supports(material, ok, labels)
    parts = []
    for name, scores in _rows(values, support):
        frame = pd.concat([ok[_KEYS], scores], axis=1)
        at = frame.groupby(_KEYS, dropna=False, sort=False)[[*SCORES, "support"]]
        means, sds = at.mean(), at.std(ddof=0)
        sds = sds.where(at.count() > 1)  # one seed shows no spread
        found = means.add_suffix("_mean").join(sds.add_suffix("_std")).reset_index()
        parts.append(found.assign(label=name))
    return pd.concat(parts, ignore_index=True)


def _by_trial(ok: pd.DataFrame, labels: list[str]) -> dict[str, pd.DataFrame]:
    """Return every score of each trial, one frame [trials, labels] per score."""

    def of(score: str) -> pd.DataFrame:
        given = ok.reindex(columns=[f"{score}_{label}" for label in labels])
        numbers: pd.DataFrame = given.apply(pd.to_numeric, errors="coerce").astype(float)
        numbers.columns = pd.Index(labels)
        return numbers

    precision, recall = of("precision"), of("recall")
    both = precision + recall
    f1 = (2 * precision * recall / both.where(both > 0)).mask(precision.eq(0) | recall.eq(0), 0.0)
    return {
        "precision": precision, "recall": recall, "f1-score": f1, "specificity": of("specificity"),
    }  # fmt: skip


def _rows(
    values: dict[str, pd.DataFrame], support: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name of each row of the table, and its scores by trial."""
    for label in support.columns:
        scores = {name: frame[label] for name, frame in values.items()}
        yield str(label), pd.DataFrame({**scores, "support": support[label]})
    whole = support.sum(axis=1, skipna=False)
    macro = {name: frame.mean(axis=1, skipna=False) for name, frame in values.items()}
    yield AVERAGES[0], pd.DataFrame({**macro, "support": whole})
    weighted = {
        name: (frame.where(support.ne(0), 0.0) * support).sum(axis=1, skipna=False) / whole
        for name, frame in values.items()
    }
    yield AVERAGES[1], pd.DataFrame({**weighted, "support": whole})


def of_panel(panel: Panel, scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one panel's rows of `per_label` in table order, as numbers and as text."""
    rows = pd.concat([panel.baseline, panel.arms, panel.controls])
    rows = rows[["arm_id", "mode", "ratio", "round"]].assign(order=range(len(rows)))
    found = rows.merge(scores, on=_KEYS, how="inner").sort_values(["order"], kind="stable")
    found = found.drop(columns="order").reset_index(drop=True)
    text = pd.DataFrame({"arm": found["mode"]})
    baseline = found["mode"].eq("baseline")
    text["ratio"] = [
        "bl" if b else f"{r:g}" for b, r in zip(baseline, found["ratio"], strict=True)
    ]
    if found["round"].notna().any():
        text["round"] = found["round"].map(count)
    text["label"] = found["label"]
    for name in SCORES:
        for what in ("mean", "std"):
            text[f"{name} {what}"] = found[f"{name}_{what}"].map(number)
    text["support mean"] = found["support_mean"].map(count)
    text["support std"] = found["support_std"].map(count)
    text["ratio"] = text["ratio"].replace("nan", "")
    return found, text


def _supports(material: Material, ok: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Return the number of images of each label on which each trial was evaluated."""
    if material.evidence is None:
        return pd.DataFrame(np.nan, index=ok.index, columns=labels)
    sizes = {
        split: images["label"].value_counts() for split, images in material.evidence.images.items()
    }
    splits = ok["split"].map(str) if "split" in ok else pd.Series("dataset", index=ok.index)
    found: dict[str, Any] = {
        label: splits.map({split: float(n.get(label, 0)) for split, n in sizes.items()})
        for label in labels
    }
    return pd.DataFrame(found)
