"""Audit: leaks between the sets of a split, found by group, pixels and looks.  split -> audit"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fgaug.data.dataset import Dataset
from fgaug.data.problems import SHOWN, counted, listed

_THUMB = 16  # pixels; what is left of two copies after recompression, scaling or brightening
_ALIKE = 0.995  # correlation of thumbnails
_CHUNK = 1024


def audit(data: Dataset | pd.DataFrame) -> list[str]:
    """Return what makes results on this dataset wrong; an empty list is a good set.

    Looked for: a group in two splits; exact copies in two splits or under two labels; a label that
    is missing from a split.

    Args:
        data: a dataset, or a table with image_id, label, group, split and sha256.
    """
    table = data.manifest if isinstance(data, Dataset) else data
    return [*_shared_groups(table), *_copies(table), *_missing_labels(table)]


def suspicions(data: Dataset) -> list[str]:
    """Return what a person should look at: near copies across splits, misplaced gan flags."""
    return [*_near_copies(data), *_flagged_outside_training(data.manifest)]


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


def _near_copies(data: Dataset) -> list[str]:
    thumbs = _thumbnails(data.pixels())
    split = data.manifest["split"].to_numpy()
    ids = data.manifest["image_id"].to_numpy()
    sha = data.manifest["sha256"].to_numpy()
    train, held = np.flatnonzero(split == "train"), np.flatnonzero(split != "train")
    count, shown = 0, []
    for first in range(0, len(held), _CHUNK):
        rows = held[first : first + _CHUNK]
        one, other = np.nonzero(thumbs[rows] @ thumbs[train].T > _ALIKE)
        near = sha[rows[one]] != sha[train[other]]  # exact copies are problems, not suspicions
        count += int(near.sum())
        for here, there in zip(one[near][:SHOWN], other[near][:SHOWN], strict=True):
            shown.append(f"{ids[train[there]]} ~ {ids[rows[here]]} ({split[rows[here]]})")
    if not count:
        return []
    return [
        f"{counted(count, 'pair')} of images in training and outside look alike: "
        f"{', '.join(shown[:SHOWN])}{'' if count <= SHOWN else ' and more'}. "
        "If a pair is one patient or one recording, give both one group"
    ]


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Return float32 [N, pixels]: means over blocks, centred, of length 1; flat images are 0."""
    side = pixels.shape[1]
    edges = np.unique(np.linspace(0, side, min(_THUMB, side) + 1).astype(int))
    spans = np.diff(edges)
    blocks = []
    for first in range(0, len(pixels), _CHUNK):
        grey = pixels[first : first + _CHUNK].mean(axis=3, dtype=np.float32)
        rows = np.add.reduceat(grey, edges[:-1], axis=1) / spans[:, None]
        blocks.append(np.add.reduceat(rows, edges[:-1], axis=2) / spans)
    flat = np.concatenate(blocks).reshape(len(pixels), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    units: np.ndarray = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-6)
    return units


def _flagged_outside_training(table: pd.DataFrame) -> list[str]:
    flagged = table.loc[table["gan"] & (table["split"] != "train"), "image_id"]
    if not len(flagged):
        return []
    return [
        f"{counted(len(flagged), 'image')} with the gan flag outside the training set: "
        f"{listed(flagged)}. A search will refuse fakes of a network that saw them"
    ]
