"""Select the images of the dataset from the images that were read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgaug.data.audit import audit
from fgaug.data.copies.lookalikes import Alike, find_alike
from fgaug.data.copies.pairs_page import pair_table, write_pairs
from fgaug.data.copies.rules import described, settle
from fgaug.data.exclusion import LeaveOut, on_list
from fgaug.data.problems import counted, refuse
from fgaug.data.reading.loading import LoadedImages

_LOG = logging.getLogger("fgaug")
_SMALL, _LARGE = 20, 0.1  # images, share of the images: warn of larger groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """The user's rules for near-duplicates and listed images."""

    rule: str  # of `fgaug.data.copies.rules.RULES`
    leave: LeaveOut | None
    pairs: Path | None  # folder for all pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedImages:
    """The images selected for a dataset."""

    stay: np.ndarray  # bool, one per image read
    table: pd.DataFrame  # the selected images, split
    alike: Alike  # pairs among the selected images
    report: pd.DataFrame | None  # action taken on each pair, if a rule was given
    source: dict[str, Any]  # goes to dataset.json


def choose(
    read: pd.DataFrame,
    loaded: LoadedImages,
    how: Copies,
    split: Callable[[pd.DataFrame], pd.DataFrame],
) -> SelectedImages:
    """Select the images of the dataset, or refuse images that cannot be used with this split.

    Args:
        read: one row per image read, with its sha256.
        loaded: their pixels.
        how: the rules for duplicates.
        split: adds the columns `split` and `gan` to a table.
    """
    source: dict[str, Any] = {}
    listed = np.zeros(len(read), bool)
    if how.leave is not None:
        listed, source["dropped"] = _listed(loaded, how.leave)
    found = find_alike(loaded.blocks(), loaded.sha256)
    there = ~(listed[found.pairs["one"]] | listed[found.pairs["other"]])
    pairs = found.pairs[there].reset_index(drop=True)
    settled = settle(read, pairs, how.rule)
    stay = settled.kept & ~listed
    if how.rule != "refuse":
        source["copies"] = settled.counts
        _say(settled.counts, found.limits, int(stay.sum()))
    every = settled.table.assign(split="")
    try:
        table = split(settled.table[stay].reset_index(drop=True))
        every.loc[stay, "split"] = table["split"].to_numpy()
    finally:  # if the split fails, show what was joined or left out
        report = pair_table(every, pairs, settled.done)
        if how.pairs is not None:
            page = write_pairs(how.pairs, report, loaded.rows, found.limits)[-1]
            _LOG.warning("Near-duplicates: %s, shown in %s.", counted(len(pairs), "pair"), page)
    _refuse_copies(audit(table), how)
    return SelectedImages(
        stay=stay,
        table=table,
        alike=Alike(pairs=_among(pairs, stay), limits=found.limits),
        report=report.drop(columns=["_one", "_other"]) if how.rule != "refuse" else None,
        source=source,
    )


def _listed(loaded: LoadedImages, leave: LeaveOut) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a mask of the images that a list by content excludes, and the dataset.json entry."""
    listed = on_list(loaded.sha256, leave)
    count = int(listed.sum()) + leave.count  # images excluded by name are already gone
    _LOG.warning("--drop: excluded %s listed in %s.", counted(count, "image"), leave.path)
    return listed, {"list": leave.path.name, "images": count}


def _say(counts: dict[str, Any], limits: tuple[str, ...], images: int) -> None:
    """Log what a rule did, and warn if a group grew suspiciously large."""
    _LOG.warning("%s.", "; ".join([described(counts), *limits]))
    grown = counts["groups"] < counts["groups_before"]
    if grown and counts["largest_group"] > max(_SMALL, _LARGE * images):
        _LOG.warning(
            "One group holds more than a tenth of the images. If they are not copies, this "
            "dataset is too uniform for --copies %s: check the pairs with --pairs FOLDER.",
            counts["rule"],
        )


def _among(pairs: pd.DataFrame, stay: np.ndarray) -> pd.DataFrame:
    """Return the pairs whose images both stay, renumbered among the selected rows."""
    place = np.cumsum(stay) - 1
    both: pd.DataFrame = pairs[stay[pairs["one"]] & stay[pairs["other"]]].reset_index(drop=True)
    moved: pd.DataFrame = both.assign(one=place[both["one"]], other=place[both["other"]])
    return moved


def _refuse_copies(problems: list[str], how: Copies) -> None:
    if any(" exact duplicate" in problem for problem in problems):
        seen = f"see {how.pairs}" if how.pairs else "--pairs FOLDER shows every pair side by side"
        problems[-1] += (
            ".\nOptions: --copies group (joins near-duplicates into one group and excludes "
            "duplicates under two labels), --copies drop (keeps one of each set of duplicates "
            "and none of those under two labels), --drop FILE (excludes the images that you "
            f"list); {seen}"
        )
    refuse("The images cannot be used with this split", problems)
