"""List the images of each label folder, and report files and folders without a label."""

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
    """Return label, path and relative path of the images below the folders of one level.

    Args:
        root: the folder that `images` are relative to.
        images: all of the tree.
        level: of the labels' folders, 1 or more.
        split: level of the split folders, if any.
    """
    deep = max(level, split or 0)
    rows = [path for path in images if len(path.parts) > deep]
    outside = [path for path in images if len(path.parts) <= deep]
    if outside:
        _LOG.warning(
            "Skipped %s that %s not in a label folder%s: %s.",
            counted(len(outside), "image"),
            "is" if len(outside) == 1 else "are",
            " and a split folder" if split else "",
            listed(outside),
        )
    bare = [os.path.splitext(path)[0] for path in rows]
    twice = Counter(bare)
    pairs = [path for path, name in zip(rows, bare, strict=True) if twice[name] > 1]
    if pairs:
        _LOG.warning(
            "%s differ only in the extension of their names: %s. If they are copies of one "
            "image, or an image and its mask, keep one of each.",
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
    """Refuse a label whose images all look like masks by name; log folders without images."""
    emptied = Counter(
        path.parts[level - 1]
        for path in tree.companions
        if len(path.parts) > level and not is_companion_folder(path.parts[level - 1])
    )
    problems += [
        f'every image of label "{name}" ({count}) has the name of a mask or similar file. Add '
        "--with-companions if they are images; otherwise move the folder out"
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
                "No images in %s %s, so %s no label.",
                "folder" if len(empty) == 1 else "folders",
                listed(empty),
                "it is" if len(empty) == 1 else "they are",
            )


def cure_of_level(root: Path, images: Sequence[PurePath], level: int) -> str:
    """Suggest another level for the labels if a level has fewer than two; empty if unknown."""
    depth = max((len(path.parts) - 1 for path in images), default=0)
    if images and depth == 0:
        return (
            ": the images are in the folder itself. Create one folder per label, or give a label "
            "table with --csv"
        )
    if 0 < depth < level:
        return (
            f" {level} folders down: the images are only {depth} deep. Use a lower --label-level"
        )
    if len({path.parts[level - 1] for path in images if len(path.parts) > level}) != 1:
        return ""
    for lower in range(level + 1, depth + 1):
        names = {path.parts[lower - 1] for path in images if len(path.parts) > lower}
        if len(names) > 1:
            deep = next(path for path in images if len(path.parts) > lower)
            place = f"{root.joinpath(*deep.parts[: lower - 1])}, or " if level == 1 else ""
            return (
                f". It contains {listed(sorted(names))}: give {place}--label-level {lower}, if "
                "these are labels"
            )
    return ""
