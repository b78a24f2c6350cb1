"""Folds: parts of a dataset, by patient, each of which is held out once.

A cell that holds out fold k trains on the other folds but the next. The next fold in order (after
the last comes the first) selects the checkpoint, so that the held-out fold decides nothing and is
predicted once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from fgaug.core.split_names import fold_split
from fgaug.data.problems import counted, listed, refuse
from fgaug.errors import DataError

HELD_OUT = "held_out"  # the value of `split` for the images of the held-out fold
FEWEST = 3  # folds: to train on, to select the checkpoint, and to hold out
MOST = 9999
_WHOLE = re.compile(r"[0-9]{1,4}(\.0+)?")


def numbers_of(folds: pd.Series, column: str, problems: list[str]) -> pd.Series:
    """Return a column of folds as whole numbers (int64); -1 for values that are none.

    Args:
        folds: text; empty cells, which the reader of the table reports, are missing values.
        column: its name in the table.
        problems: collects values that are not whole numbers.
    """
    given = folds.astype("str")
    fits = given.str.fullmatch(_WHOLE.pattern).fillna(False).astype(bool)
    wrong = given[folds.notna() & ~fits].unique()
    if len(wrong):
        problems.append(
            f'column "{column}" has folds that are not whole numbers from 0 to {MOST}: '
            f"{listed(wrong)}. Number the folds, for example 1 to 5"
        )
    return given.where(fits, "-1").astype(float).astype(np.int64)


def check_folds(table: pd.DataFrame) -> None:
    """Refuse folds that split a patient, are too few to train on, or lack a label.

    Args:
        table: one row per image, with label, group and fold, optionally image_id and sha256.

    Raises:
        DataError: all problems, each with its cure.
    """
    problems = []
    several = table.groupby("group")["fold"].nunique()
    torn = several.index[several > 1]
    if len(torn):
        which = [f"{name} ({_listed_folds(table, name)})" for name in torn]
        problems.append(
            f"{counted(len(torn), 'patient')} in more than one fold: {listed(which)}. A network "
            "would be tested on patients it was trained on. Put all images of a patient in one "
            "fold, or check that --group-col names the patient"
        )
    known = sorted(table["fold"].unique())
    if len(known) < FEWEST:
        problems.append(
            f"at least {FEWEST} folds are needed (to train, to select the checkpoint, and to hold "
            f"out), there {'is' if len(known) == 1 else 'are'} {len(known)}. Use more folds, or "
            "give a split with --split-col"
        )
    labels = set(table["label"])
    for fold, rows in table.groupby("fold"):
        if lacking := sorted(labels - set(rows["label"])):
            problems.append(
                f"fold {fold} has no image of label {listed(lacking)}. Use folds with every "
                "label, or drop the label with --keep-label"
            )
    if "sha256" in table:  # known once the images are read
        repeated = table.groupby("sha256")["fold"].nunique()
        names = table.loc[table["sha256"].isin(repeated.index[repeated > 1]), "image_id"]
        if len(names):
            problems.append(
                f"{counted(len(names), 'image')} with an exact duplicate in another fold: "
                f"{listed(sorted(names))}. Keep one of each (--copies drop)"
            )
    refuse("The folds cannot be used", problems)


def next_fold(fold: int, folds: Iterable[int]) -> int:
    """Return the fold that selects the checkpoint while `fold` is held out: the next in order."""
    order = sorted(folds)
    return order[(order.index(fold) + 1) % len(order)]


def held_out(manifest: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Return a copy of a manifest split by folds: train, valid (the next fold) and HELD_OUT.

    Raises:
        DataError: the dataset has no folds, or not this one.
    """
    if "fold" not in manifest:
        raise DataError(
            f"The split {fold_split(fold)} needs folds, and the dataset has none. Prepare it with "
            "--fold-col."
        )
    folds = [int(each) for each in manifest["fold"].unique()]
    if fold not in folds:
        raise DataError(
            f"The dataset has no fold {fold}; its folds are {', '.join(map(str, sorted(folds)))}."
        )
    split = pd.Series("train", index=manifest.index, dtype=object)
    split[manifest["fold"] == next_fold(fold, folds)] = "valid"
    split[manifest["fold"] == fold] = HELD_OUT
    return manifest.assign(split=split)


def _listed_folds(table: pd.DataFrame, group: object) -> str:
    mine = sorted(table.loc[table["group"] == group, "fold"].unique())
    return f"folds {', '.join(map(str, mine))}"
