"""Audit a dataset for leaks between splits: shared groups, duplicates and near-duplicates."""

from __future__ import annotations

import pandas as pd

from fgaug.data.copies.lookalikes import EXACT, Alike, find_alike
from fgaug.data.dataset import Dataset
from fgaug.data.folds import HELD_OUT
from fgaug.data.problems import counted, listed

_SHOW = "`fgaug data audit DATASET --out FOLDER` shows every pair"


def audit(data: Dataset | pd.DataFrame) -> list[str]:
    """Return the problems that make results on this dataset invalid; empty if there are none.

    Checks for a group in two splits, exact duplicates in two splits or under two labels, and a
    label that is missing from a split. With a fold held out (`Dataset.with_split`), it counts as
    a split.

    Args:
        data: a dataset, or a table with image_id, label, group, split and sha256. Images without a
            label are checked too.
    """
    table = data.table if isinstance(data, Dataset) else data
    return [*_shared_groups(table), *_copies(table), *_missing_labels(table)]


def suspicions(data: Dataset | pd.DataFrame, alike: Alike | None = None) -> list[str]:
    """Return what a person should review: near-duplicates and misplaced gan flags.

    Args:
        data: a dataset, or its table; the label is missing where an image has none.
        alike: pairs of duplicates and near-duplicates among its rows, in the order of
            `Dataset.everything`; None searches a dataset for them.
    """
    if isinstance(data, Dataset):
        alike = alike or pairs_of(data)
        data = data.table
    assert alike is not None, "a table has no pixels"
    return [
        *_near_copies(data, alike),
        *_near_copies_in_folds(data, alike),
        *_counted_twice(data, alike),
        *_flagged_outside_training(data[data["label"].notna()]),
    ]


def pairs_of(data: Dataset) -> Alike:
    """Return the pairs of duplicate and near-duplicate images in a dataset."""
    blocks = [data.pixels(), *([data.unlabelled.pixels()] if data.unlabelled is not None else [])]
    return find_alike(blocks, data.table["sha256"].tolist())


def _shared_groups(table: pd.DataFrame) -> list[str]:
    sides = table.groupby("group")["split"].nunique()
    shared = sides.index[sides > 1]
    if not len(shared):
        return []
    return [
        f"{counted(len(shared), 'group')} in more than one split: {listed(shared)}. Omit the "
        "split column to have the split drawn by group"
    ]


def _copies(table: pd.DataFrame) -> list[str]:
    repeated = table[table["sha256"].duplicated(keep=False)]
    problems = []
    for column, where, cure in (
        ("split", "in more than one split", "Keep one of each"),
        ("label", "under more than one label", "Find out which label is correct"),
    ):
        distinct = repeated.groupby("sha256")[column].nunique()
        guilty = distinct.index[distinct > 1]
        if len(guilty):
            sets = repeated[repeated["sha256"].isin(guilty)].groupby("sha256")["image_id"]
            names = sorted(" = ".join(sorted(ids)) for _, ids in sets)
            copies = "exact duplicate is" if len(guilty) == 1 else "exact duplicates are"
            problems.append(f"{len(guilty)} {copies} {where}: {listed(names)}. {cure}")
    return problems


def _missing_labels(table: pd.DataFrame) -> list[str]:
    table = table[table["label"].notna()]
    labels = set(table["label"])
    problems = []
    for split in ("train", "valid", "test", HELD_OUT):
        rows = table[table["split"] == split]
        missing = sorted(labels - set(rows["label"]))
        if missing and (len(rows) or split in ("train", "valid")):
            problems.append(f"no image of label {listed(missing)} in the {split} set")
    return problems


def _near_copies(table: pd.DataFrame, alike: Alike) -> list[str]:
    pairs = alike.pairs[alike.pairs["kind"] != EXACT]  # exact ones are problems
    split, label = table["split"].to_numpy(), table["label"].to_numpy()
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    known = pd.notna(label)
    across = split[one] != split[other]
    differ = known[one] & known[other] & (label[one] != label[other])
    doubts = []
    if across.any():
        shown = [_named(table, a, b) for a, b in zip(one[across], other[across], strict=True)]
        doubts.append(
            f"{counted(len(shown), 'pair')} of near-duplicate images in different splits: "
            f"{listed(shown)}. If a pair comes from one patient or one recording, put both images "
            f"in one group, or prepare with --copies group; {_SHOW}"
        )
    if differ.any():
        ids = table["image_id"].to_numpy()
        names = [f"{ids[a]} ~ {ids[b]}" for a, b in zip(one[differ], other[differ], strict=True)]
        doubts.append(
            f"{counted(len(names), 'pair')} of near-duplicate images under two labels: "
            f"{listed(names)}. Exclude the wrong ones with --drop FILE; {_SHOW}"
        )
    return doubts


def _near_copies_in_folds(table: pd.DataFrame, alike: Alike) -> list[str]:
    """Return a line on near-duplicates in different folds."""
    if "fold" not in table:
        return []
    pairs = alike.pairs[alike.pairs["kind"] != EXACT]
    fold, ids = table["fold"].to_numpy(), table["image_id"].to_numpy()
    known = table["label"].notna().to_numpy()  # images without a label are in no fold
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    names = [
        f"{ids[a]} (fold {fold[a]}) ~ {ids[b]} (fold {fold[b]})"
        for a, b in zip(one, other, strict=True)
        if fold[a] != fold[b] and known[a] and known[b]
    ]
    if not names:
        return []
    return [
        f"{counted(len(names), 'pair')} of near-duplicate images in different folds: "
        f"{listed(names)}. If a pair comes from one patient, put both images in one fold; {_SHOW}"
    ]


def _counted_twice(table: pd.DataFrame, alike: Alike) -> list[str]:
    """Return a line on exact duplicates within one split, which do not leak."""
    pairs = alike.pairs[alike.pairs["kind"] == EXACT]
    split, ids = table["split"].to_numpy(), table["image_id"].to_numpy()
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    within = split[one] == split[other]
    if not within.any():
        return []
    names = [f"{ids[a]} = {ids[b]}" for a, b in zip(one[within], other[within], strict=True)]
    return [
        f"{counted(len(names), 'image')} duplicated within one split, and so counted more than "
        f"once: {listed(names)}. Prepare with --copies drop to keep one of each"
    ]


def _named(table: pd.DataFrame, one: int, other: int) -> str:
    """Return `a ~ b (valid)` for two images; an image of the training set comes first."""
    ids, split = table["image_id"].to_numpy(), table["split"].to_numpy()
    one, other = (other, one) if split[other] == "train" else (one, other)
    first = ids[one] if split[one] == "train" else f"{ids[one]} ({split[one]})"
    return f"{first} ~ {ids[other]} ({split[other]})"


def _flagged_outside_training(table: pd.DataFrame) -> list[str]:
    flagged = table.loc[table["gan"] & (table["split"] != "train"), "image_id"]
    if not len(flagged):
        return []
    return [
        f"{counted(len(flagged), 'image')} with the gan flag outside the training set: "
        f"{listed(flagged)}. A search refuses fakes of a network that was trained on them"
    ]
