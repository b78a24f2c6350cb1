"""Audit: leaks between the sets of a split, found by group, pixels and looks."""

from __future__ import annotations

import pandas as pd

from fgaug.data.copies.lookalikes import EXACT, Alike, find_alike
from fgaug.data.dataset import Dataset
from fgaug.data.problems import counted, listed

_SHOW = "`fgaug data audit DATASET --out FOLDER` shows every pair"


def audit(data: Dataset | pd.DataFrame) -> list[str]:
    """Return what makes results on this dataset wrong; an empty list is a good set.

    Looked for: a group in two splits; exact copies in two splits or under two labels; a label that
    is missing from a split.

    Args:
        data: a dataset, or a table with image_id, label, group, split and sha256.
    """
    table = data.manifest if isinstance(data, Dataset) else data
    return [*_shared_groups(table), *_copies(table), *_missing_labels(table)]


def suspicions(data: Dataset, alike: Alike | None = None) -> list[str]:
    """Return what a person should look at: near copies, misplaced gan flags.

    Args:
        data: a dataset.
        alike: its pairs of images that look alike; None looks for them.
    """
    alike = alike or pairs_of(data)
    return [
        *_near_copies(data.manifest, alike),
        *_counted_twice(data.manifest, alike),
        *_flagged_outside_training(data.manifest),
    ]


def pairs_of(data: Dataset) -> Alike:
    """Return the pairs of a dataset's images that look alike."""
    return find_alike([data.pixels()], data.manifest["sha256"].tolist())


def _shared_groups(table: pd.DataFrame) -> list[str]:
    sides = table.groupby("group")["split"].nunique()
    shared = sides.index[sides > 1]
    if not len(shared):
        return []
    return [
        f"{counted(len(shared), 'group')} in more than one split: {listed(shared)}. "
        "Split by group: leave out the split column"
    ]


def _copies(table: pd.DataFrame) -> list[str]:
    repeated = table[table["sha256"].duplicated(keep=False)]
    problems = []
    for column, where, cure in (
        ("split", "in more than one split", "Remove all but one of each"),
        ("label", "under more than one label", "Find out which label is right"),
    ):
        distinct = repeated.groupby("sha256")[column].nunique()
        guilty = distinct.index[distinct > 1]
        if len(guilty):
            sets = repeated[repeated["sha256"].isin(guilty)].groupby("sha256")["image_id"]
            names = sorted(" = ".join(sorted(ids)) for _, ids in sets)
            copies = "exact copy is" if len(guilty) == 1 else "exact copies are"
            problems.append(f"{len(guilty)} {copies} {where}: {listed(names)}. {cure}")
    return problems


def _missing_labels(table: pd.DataFrame) -> list[str]:
    labels = set(table["label"])
    problems = []
    for split in ("train", "valid", "test"):
        rows = table[table["split"] == split]
        missing = sorted(labels - set(rows["label"]))
        if missing and (len(rows) or split != "test"):
            problems.append(f"no image of label {listed(missing)} in the {split} set")
    return problems


def _near_copies(table: pd.DataFrame, alike: Alike) -> list[str]:
    pairs = alike.pairs[alike.pairs["kind"] != EXACT]  # exact copies are problems, not suspicions
    split, label = table["split"].to_numpy(), table["label"].to_numpy()
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    across, differ = split[one] != split[other], label[one] != label[other]
    doubts = []
    if across.any():
        shown = [_named(table, a, b) for a, b in zip(one[across], other[across], strict=True)]
        doubts.append(
            f"{counted(len(shown), 'pair')} of images on two sides of the split look alike: "
            f"{listed(shown)}. If a pair is one patient or one recording, give both one group, "
            f"or prepare with --copies group; {_SHOW}"
        )
    if differ.any():
        ids = table["image_id"].to_numpy()
        names = [f"{ids[a]} ~ {ids[b]}" for a, b in zip(one[differ], other[differ], strict=True)]
        doubts.append(
            f"{counted(len(names), 'pair')} of images under two labels look alike: "
            f"{listed(names)}. Leave out by --drop FILE what is wrong; {_SHOW}"
        )
    return doubts


def _counted_twice(table: pd.DataFrame, alike: Alike) -> list[str]:
    """Return a line on equal images on one side of the split, which are no leak."""
    pairs = alike.pairs[alike.pairs["kind"] == EXACT]
    split, ids = table["split"].to_numpy(), table["image_id"].to_numpy()
    one, other = pairs["one"].to_numpy(), pairs["other"].to_numpy()
    within = split[one] == split[other]
    if not within.any():
        return []
    names = [f"{ids[a]} = {ids[b]}" for a, b in zip(one[within], other[within], strict=True)]
    return [
        f"{counted(len(names), 'image')} counted more than once, as equal to another of the same "
        f"set: {listed(names)}. --copies drop keeps one of each"
    ]


def _named(table: pd.DataFrame, one: int, other: int) -> str:
    """Return `a ~ b (valid)` of an image of the training set and one outside, a first."""
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
        f"{listed(flagged)}. A search will refuse fakes of a network that saw them"
    ]
