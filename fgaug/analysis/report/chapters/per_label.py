"""Per-label precision, recall, f1-score and support of every arm, in the thesis's layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.format import count, number
from fgaug.analysis.report.arm_summary import labels_of
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.panels import Panel

SCORES = ("precision", "recall", "f1-score")
WORDS = ("arm", "label")
_KEYS = ["arm_id", "round"]


def per_label(material: Material) -> pd.DataFrame:
    """Return mean and population sd over the finished seeds, one row per arm, round and label.

    The f1-score, 2 P R / (P + R), is computed per trial and then averaged; it is 0 if both are 0
    and undefined if either is undefined. `support` is the number of images with the label.
    """
    ok = material.rows[material.rows["status"].eq("ok")]
    ok = ok.assign(round=pd.to_numeric(ok["round"]) if "round" in ok else np.nan)
    supports = _supports(material, ok)
    parts = []
    for label in labels_of(material.rows):
        names = [f"precision_{label}", f"recall_{label}"]
        if not set(names) <= set(ok.columns):
            continue
        given = ok[names].apply(pd.to_numeric, errors="coerce").astype(float)
        precision, recall = (given[name] for name in names)
        both = precision + recall
        f1 = (2 * precision * recall / both.where(both > 0)).where(both != 0, 0.0)
        scores = {"precision": precision, "recall": recall, "f1-score": f1}
        frame = ok[_KEYS].assign(**scores, support=supports.get(label, np.nan))
        at = frame.groupby(_KEYS, dropna=False, sort=False)[[*SCORES, "support"]]
        means, sds = at.mean(), at.std(ddof=0)
        sds = sds.where(at.count() > 1)  # one seed shows no spread
        found = means.add_suffix("_mean").join(sds.add_suffix("_std")).reset_index()
        parts.append(found.assign(label=label))
    if not any(map(len, parts)):
        numbers = [f"{name}_{what}" for name in (*SCORES, "support") for what in ("mean", "std")]
        return pd.DataFrame(columns=[*_KEYS, "label", *numbers])
    return pd.concat(parts, ignore_index=True)


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


def _supports(material: Material, ok: pd.DataFrame) -> Mapping[str, pd.Series[Any]]:
    """Return the number of images of each label on which each trial was evaluated."""
    if material.evidence is None:
        return {}
    sizes = {
        split: images["label"].value_counts() for split, images in material.evidence.images.items()
    }
    splits = ok["split"].map(str) if "split" in ok else pd.Series("dataset", index=ok.index)
    return {
        label: splits.map({split: int(n.get(label, 0)) for split, n in sizes.items()})
        for label in material.evidence.labels
    }
