"""Copies: what becomes of images that look alike.

`refuse` leaves them, and the audit refuses what stands across the split or under two labels.
`group` leaves out contradictions (equal pixels under two labels, both sides) and makes one group
of whatever looks alike, so that no split divides it. `drop` leaves out contradictions, near ones
too, and all but one of what looks alike under one label, but for near copies within one group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fgaug.data.copies.lookalikes import EXACT
from fgaug.data.problems import counted, listed
from fgaug.errors import DataError

RULES = ("refuse", "drop", "group")
_FIRST_KEPT = {"test": 0, "valid": 1, "train": 2}  # of a given split: published tests stay whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A table after a rule."""

    kept: np.ndarray  # bool, one a row
    table: pd.DataFrame  # all rows; groups joined, gan flags carried to the copy that is kept
    done: list[str]  # of each pair: kept, grouped, left out
    counts: dict[str, Any]  # goes to dataset.json


def settle(table: pd.DataFrame, pairs: pd.DataFrame, rule: str) -> Settled:
    """Return what is kept of a set, and in which groups.

    Args:
        table: image_id, label, group; split and gan where they are given.
        pairs: rows of the table that look alike; see `Alike`.
        rule: one of RULES.

    Raises:
        DataError: a given split divides what `group` would join.
    """
    table = table.copy()
    kept = np.ones(len(table), bool)
    before = table["group"].nunique()
    if rule != "refuse":
        labels = table["label"].to_numpy()
        kept &= ~_contradicted(pairs[pairs["kind"] == EXACT], labels)
    contradictions = int((~kept).sum())
    if contradictions and not kept.any():
        raise DataError(
            f"--copies {rule} leaves out all {len(table)} images: each equals an image under "
            "another label. The set is most likely unpacked twice, below two labels' folders; "
            "--pairs FOLDER shows every pair."
        )
    if rule == "drop":
        kept = _drop(table, pairs, kept)
    elif rule == "group":
        table["group"] = _joined(table, pairs, kept)
        _check_given(table, kept)
    counts = {
        "rule": rule,
        "pairs": {str(kind): int(n) for kind, n in pairs["kind"].value_counts().items()},
        "left_out_contradictions": contradictions,
        "left_out_copies": int((~kept).sum()) - contradictions,
        "groups_before": int(before),
        "groups": int(table.loc[kept, "group"].nunique()),
        "largest_group": int(table.loc[kept, "group"].value_counts().max()) if kept.any() else 0,
    }
    return Settled(kept=kept, table=table, done=_done(table, pairs, kept, rule), counts=counts)


def described(counts: dict[str, Any]) -> str:
    """Return what a rule did, as a sentence for the log."""
    if not counts["pairs"]:
        return f"Copies ({counts['rule']}): no two images look alike"
    pairs = ", ".join(f"{n} {kind}" for kind, n in counts["pairs"].items())
    out = counts["left_out_contradictions"] + counts["left_out_copies"]
    parts = [f"Copies ({counts['rule']}): pairs that look alike: {pairs}"]
    parts.append(
        f"{counted(out, 'image')} left out, {counts['left_out_contradictions']} of them equal "
        f"to an image under another label"
        if counts["rule"] == "group"
        else f"{counted(out, 'image')} left out, {counts['left_out_contradictions']} of them "
        "equal to an image under another label, the others copies of one that is kept"
    )
    if counts["rule"] == "group":
        parts.append(
            f"{counts['groups_before']} groups became {counts['groups']}, the largest of "
            f"{counted(counts['largest_group'], 'image')}"
        )
    return "; ".join(parts)


def _contradicted(pairs: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
    """Return which rows belong to equal images under more than one label."""
    roots = _roots(len(labels), pairs)
    several = pd.Series(labels).groupby(roots).transform("nunique").to_numpy() > 1
    return np.asarray(several)


def _drop(table: pd.DataFrame, pairs: pd.DataFrame, kept: np.ndarray) -> np.ndarray:
    kept = kept.copy()
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    exact = (pairs["kind"] == EXACT).to_numpy()
    there = kept[one] & kept[other]
    differ = there & (labels[one] != labels[other])
    kept[one[differ]] = kept[other[differ]] = False
    rank = _ranks(table)
    alike: dict[int, list[int]] = {}
    roots = _roots(len(table), pairs[exact])
    for a, b, same in zip(one[there], other[there], exact[there], strict=True):
        if labels[a] == labels[b] and (same or groups[a] != groups[b]):
            alike.setdefault(a, []).append(b)
            alike.setdefault(b, []).append(a)
    equal = pd.Series(np.arange(len(table))).groupby(roots).indices
    for row in sorted(alike, key=lambda row: rank[row]):
        if not kept[row]:
            continue
        copies = {*alike[row], *(int(copy) for copy in equal[roots[row]])} - {row}
        kept[list(copies)] = False
    if "gan" in table:  # the GAN saw the pixels, whichever of the equal files it was given
        table["gan"] = table["gan"].astype(bool).groupby(roots).transform("max")
    return kept


def _ranks(table: pd.DataFrame) -> np.ndarray:
    """Return the order in which copies are kept: test before training, then by name."""
    place = table["split"].map(_FIRST_KEPT) if "split" in table else 0
    flag = ~table["gan"].astype(bool) if "gan" in table else False
    order = pd.DataFrame({"place": place, "flag": flag, "id": table["image_id"]})
    ranks = np.empty(len(table), np.int64)
    ranks[order.sort_values(["place", "flag", "id"]).index.to_numpy()] = np.arange(len(table))
    return ranks


def _joined(table: pd.DataFrame, pairs: pd.DataFrame, kept: np.ndarray) -> pd.Series:
    """Return groups joined where images look alike; a joined group has its first one's id."""
    names, number = np.unique(table["group"].to_numpy(), return_inverse=True)
    both = pairs[kept[pairs["one"]] & kept[pairs["other"]]]
    between = pd.DataFrame({"one": number[both["one"]], "other": number[both["other"]]})
    return pd.Series(names[_roots(len(names), between)[number]], index=table.index)


def _check_given(table: pd.DataFrame, kept: np.ndarray) -> None:
    if "split" not in table:
        return
    sides = table[kept].groupby("group")["split"].nunique()
    divided = sides.index[sides > 1]
    if len(divided):
        raise DataError(
            f"The split is given, so --copies group cannot move images, and {len(divided)} "
            f"group{'s' if len(divided) > 1 else ''} of images that look alike would lie on two "
            f"sides of it: {listed(divided)}. Use --copies drop, which keeps the test's copy "
            "before the validation's before the training's, or leave the given split out."
        )


def _done(table: pd.DataFrame, pairs: pd.DataFrame, kept: np.ndarray, rule: str) -> list[str]:
    ids = table["image_id"].to_numpy()
    said = []
    for a, b in zip(pairs["one"], pairs["other"], strict=True):
        out = [ids[row] for row in (a, b) if not kept[row]]
        grouped = "one group" if rule == "group" else "kept"
        said.append(f"left out: {', '.join(out)}" if out else grouped)
    return said


def _roots(count: int, pairs: pd.DataFrame) -> np.ndarray:
    """Return for each of `count` items the first item it is linked to, over any chain of pairs."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in zip(pairs["one"].tolist(), pairs["other"].tolist(), strict=True):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(item) for item in range(count)], np.int64)
