"""Choosing: which of the images that were read make the dataset."""

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
_SMALL, _LARGE = 20, 0.1  # images, share of them: a larger group is remarkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What the user wants of images that look alike, and of listed ones."""

    rule: str  # of `fgaug.data.copies.rules.RULES`
    leave: LeaveOut | None
    pairs: Path | None  # where every pair is written


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedImages:
    """The images of a dataset."""

    stay: np.ndarray  # bool, one an image that was read
    table: pd.DataFrame  # those that stay, split
    alike: Alike  # pairs among those that stay
    report: pd.DataFrame | None  # what became of each pair, where a rule was given
    source: dict[str, Any]  # what dataset.json says of it


def choose(
    read: pd.DataFrame,
    loaded: LoadedImages,
    how: Copies,
    split: Callable[[pd.DataFrame], pd.DataFrame],
) -> SelectedImages:
    """Return the images that make the dataset, or refuse those that cannot be used as split.

    Args:
        read: a row an image that was read, with its sha256.
        loaded: their pixels.
        how: what becomes of copies.
        split: gives a table its `split` and `gan`.
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
    finally:  # who cannot split the set wants to see what was joined or left out
        report = pair_table(every, pairs, settled.done)
        if how.pairs is not None:
            page = write_pairs(how.pairs, report, loaded.rows, found.limits)[-1]
            _LOG.warning("%s that look alike: %s.", counted(len(pairs), "pair"), page)
    _refuse_copies(audit(table), how)
    return SelectedImages(
        stay=stay,
        table=table,
        alike=Alike(pairs=_among(pairs, stay), limits=found.limits),
        report=report.drop(columns=["_one", "_other"]) if how.rule != "refuse" else None,
        source=source,
    )


def _listed(loaded: LoadedImages, leave: LeaveOut) -> tuple[np.ndarray, dict[str, Any]]:
    """Return which images a list by content leaves out, and what dataset.json says of the list."""
    listed = on_list(loaded.sha256, leave)
    count = int(listed.sum()) + leave.count  # those that it names are gone already
    _LOG.warning("--drop: %s of %s left out.", counted(count, "image"), leave.path)
    return listed, {"list": leave.path.name, "images": count}


def _say(counts: dict[str, Any], limits: tuple[str, ...], images: int) -> None:
    """Log what a rule did, and that it did too much where a group grew beyond reason."""
    _LOG.warning("%s.", "; ".join([described(counts), *limits]))
    grown = counts["groups"] < counts["groups_before"]
    if grown and counts["largest_group"] > max(_SMALL, _LARGE * images):
        _LOG.warning(
            "One group holds more than a tenth of the images. If they are not copies, this set is "
            "too uniform for --copies %s: look at the pairs by --pairs FOLDER.",
            counts["rule"],
        )


def _among(pairs: pd.DataFrame, stay: np.ndarray) -> pd.DataFrame:
    """Return the pairs whose images both stay, by their rows among those that do."""
    place = np.cumsum(stay) - 1
    both: pd.DataFrame = pairs[stay[pairs["one"]] & stay[pairs["other"]]].reset_index(drop=True)
    moved: pd.DataFrame = both.assign(one=place[both["one"]], other=place[both["other"]])
    return moved


def _refuse_copies(problems: list[str], how: Copies) -> None:
    if any(" exact cop" in problem for problem in problems):
        seen = f"see {how.pairs}" if how.pairs else "--pairs FOLDER shows every pair side by side"
        problems[-1] += (
            ".\nWays on: --copies group (one group of what looks alike; equal images under two "
            "labels are left out), --copies drop (one of each copy is kept, and none of equal "
            f"images under two labels), --drop FILE (a list of your own); {seen}"
        )
    refuse("The images cannot be used as split", problems)
