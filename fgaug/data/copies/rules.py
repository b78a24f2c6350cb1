"""Resolve duplicate and near-duplicate images by one of three rules.

`refuse` changes nothing; the audit then refuses duplicates across splits or under two labels.
`group` excludes contradictions (equal pixels under two labels, both images) and joins
near-duplicates into one group, so that no split divides them. `drop` excludes contradictions,
near-duplicates included, and keeps one image of each set of duplicates under one label;
near-duplicates within one group stay.
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
_FIRST_KEPT = {"test": 0, "valid": 1, "train": 2}  # published test sets stay complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A table after a rule was applied."""

    kept: np.ndarray  # bool, one a row
    table: pd.DataFrame  # all rows; groups joined, gan flags moved to the copy that is kept
    done: list[str]  # of each pair: kept, grouped, left out
    counts: dict[str, Any]  # goes to dataset.json


def settle(table: pd.DataFrame, pairs: pd.DataFrame, rule: str) -> Settled:
    """Return which rows are kept, and in which groups.

    Args:
        table: image_id, label, group; split and gan if given.
        pairs: pairs of rows that are duplicates or near-duplicates; see `Alike`.
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
            f"--copies {rule} leaves out all {len(table)} images: each duplicates an image under "
            "another label. The set was probably unpacked twice, into the folders of two labels. "
            "See every pair with --pairs FOLDER."
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
    """Describe in one sentence what a rule did, for the log."""
    if not counts["pairs"]:
        return f"Copies ({counts['rule']}): no duplicates or near-duplicates"
    pairs = ", ".join(f"{n} {kind}" for kind, n in counts["pairs"].items())
    out = counts["left_out_contradictions"] + counts["left_out_copies"]
    parts = [f"Copies ({counts['rule']}): pairs found: {pairs}"]
    parts.append(
        f"{counted(out, 'image')} left out, {counts['left_out_contradictions']} of them exact "
        "duplicates of an image under another label"
        if counts["rule"] == "group"
        else f"{counted(out, 'image')} left out: {counts['left_out_contradictions']} duplicate an "
        "image under another label, the rest duplicate an image that is kept"
    )
    if counts["rule"] == "group":
        parts.append(
            f"{counts['groups_before']} groups became {counts['groups']}, the largest of "
            f"{counted(counts['largest_group'], 'image')}"
        )
    return "; ".join(parts)


def _contradicted(pairs: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
    """Return which rows are exact duplicates under more than one label."""
    roots = _roots(len(labels), pairs)
    several = pd.Series(labels).groupby(roots).transform("nunique").to_numpy() > 1
    return np.asarray(several)


def _drop(table: pd.DataFrame, pairs: pd.DataFrame, kept: np.ndarray) -> np.ndarray:
    kept = kept.copy()
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    exact = (pairs["kind"] == EXACT).to_numpy()
    there = kept[one] & kept[other]
    known = pd.notna(labels)  # an image without a label contradicts nothing
    both = known[one] & known[other]
    differ = there & both & (labels[one] != labels[other])
    kept[one[differ]] = kept[other[differ]] = False
    rank = _ranks(table)
    alike: dict[int, list[int]] = {}
    roots = _roots(len(table), pairs[exact])
    for a, b, same in zip(one[there], other[there], exact[there], strict=True):
        alike_labels = labels[a] == labels[b] or not (known[a] and known[b])
        if alike_labels and (same or groups[a] != groups[b]):
            alike.setdefault(a, []).append(b)
            alike.setdefault(b, []).append(a)
    equal = pd.Series(np.arange(len(table))).groupby(roots).indices
    for row in sorted(alike, key=lambda row: rank[row]):
        if not kept[row]:
            continue
        copies = {*alike[row], *(int(copy) for copy in equal[roots[row]])} - {row}
        kept[list(copies)] = False
    if "gan" in table:  # the GAN saw these pixels, no matter which duplicate it was trained on
        table["gan"] = table["gan"].astype(bool).groupby(roots).transform("max")
    return kept


def _ranks(table: pd.DataFrame) -> np.ndarray:
    """Return the order in which copies are kept: with a label, test before training, by name."""
    place = table["split"].map(_FIRST_KEPT) if "split" in table else 0
    flag = ~table["gan"].astype(bool) if "gan" in table else False
    named = {"unknown": table["label"].isna(), "place": place, "flag": flag}
    order = pd.DataFrame({**named, "id": table["image_id"]})
    ranks = np.empty(len(table), np.int64)
    ranks[order.sort_values(["unknown", "place", "flag", "id"]).index.to_numpy()] = np.arange(
        len(table)
    )
    return ranks


def _joined(table: pd.DataFrame, pairs: pd.DataFrame, kept: np.ndarray) -> pd.Series:
    """Return the groups, joined for near-duplicates; a joined group has its first id."""
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
            "The split is given, so --copies group cannot move images between splits, and "
            f"{len(divided)} group{'s' if len(divided) > 1 else ''} of near-duplicates would span "
            f"two splits: {listed(divided)}. Use --copies drop, which prefers to keep the test "
            "copy, then the validation copy, or omit the split column to have the split drawn."
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
    """Return for each of `count` items the first item linked to it by any chain of pairs."""
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
