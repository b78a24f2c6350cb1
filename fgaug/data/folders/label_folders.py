"""Folders of labels: the images below each, and what was left without any."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import pandas as pd

from fgaug.data.folders.companions import is_companion_folder
from fgaug.data.folders.tree import Tree, is_hidden
from fgaug.data.problems import counted, listed

_LOG = logging.getLogger("fgaug")


def images_of_level(
    root: Path, images: Sequence[PurePath], level: int, split: int | None
) -> pd.DataFrame:
    """Return label, path and relative path of the images below the folders of a level.

    Args:
        root: the folder that `images` are relative to.
        images: all of the tree.
        level: of the labels' folders, 1 or more.
        split: of the folders that are the split, if there are such.
    """
    deep = max(level, split or 0)
    rows = [path for path in images if len(path.parts) > deep]
    outside = [path for path in images if len(path.parts) <= deep]
    if outside:
        _LOG.warning(
            "Left out %s that %s in no folder of a label%s: %s.",
            counted(len(outside), "image"),
            "lies" if len(outside) == 1 else "lie",
            " and a split" if split else "",
            listed(outside),
        )
    bare = [os.path.splitext(path)[0] for path in rows]
    twice = Counter(bare)
    pairs = [path for path, name in zip(rows, bare, strict=True) if twice[name] > 1]
    if pairs:
        _LOG.warning(
            "%s share their names but for the ending: %s. If they are copies of one image, or "
            "images and masks, keep one of each.",
            counted(len(pairs), "image"),
            listed(pairs, 4),
        )
    return pd.DataFrame(
        {
            "label": pd.Series([path.parts[level - 1] for path in rows], dtype="str"),
            "path": pd.Series([root / path for path in rows], dtype=object),
            "relative": pd.Series(rows, dtype=object),
        }
    )


def check_emptied(tree: Tree, level: int, labels: Sequence[str], problems: list[str]) -> None:
    """Refuse a label all of whose images were left out as masks; log folders without images."""
    emptied = Counter(
        path.parts[level - 1]
        for path in tree.companions
        if len(path.parts) > level and not is_companion_folder(path.parts[level - 1])
    )
    problems += [
        f'every image of label "{name}" ({count}) is a mask or alike by its name. Give '
        "--with-companions if they are images, or move the folder away if they are not"
        for name, count in sorted(emptied.items())
        if name not in labels
    ]
    known = {*labels, *(path.parts[0] for path in tree.companions)}
    if level == 1:
        empty = [
            each.name
            for each in sorted(tree.root.iterdir())
            if each.is_dir() and not is_hidden(each.name) and each.name not in known
        ]
        if empty:
            _LOG.warning(
                "No image in %s %s, so %s no label.",
                "folder" if len(empty) == 1 else "folders",
                listed(empty),
                "it is" if len(empty) == 1 else "they are",
            )


def cure_of_level(root: Path, images: Sequence[PurePath], level: int) -> str:
    """Return where labels may lie if a level has fewer than two; nothing if it is not known."""
    depth = max((len(path.parts) - 1 for path in images), default=0)
    if images and depth == 0:
        return (
            ": the images lie in the folder itself. Make one folder a label, or give a label "
            "table by --csv"
        )
    if 0 < depth < level:
        return f" {level} folders down: the images lie {depth} deep. Lower --label-level"
    if len({path.parts[level - 1] for path in images if len(path.parts) > level}) != 1:
        return ""
    for lower in range(level + 1, depth + 1):
        names = {path.parts[lower - 1] for path in images if len(path.parts) > lower}
        if len(names) > 1:
            deep = next(path for path in images if len(path.parts) > lower)
            place = f"{root.joinpath(*deep.parts[: lower - 1])}, or " if level == 1 else ""
            return (
                f". Below it lie {listed(sorted(names))}: give {place}--label-level {lower}, if "
                "these are labels"
            )
    return ""
