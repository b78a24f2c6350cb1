"""Classify everything below a folder: images, their companions, and unsupported files.

Every skipped file is counted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from fgaug.core.image_formats import EXTENSIONS
from fgaug.data.folders.companions import find_companions, kinds_of
from fgaug.data.folders.unread_files import Unread, sort_out
from fgaug.data.problems import counted, listed

_LOG = logging.getLogger("fgaug")
SKIP_THEM = "skip them with --skip-broken"
_SYSTEM = ("__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "icon\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The contents of a folder tree; paths are relative to it, sorted by folder and name."""

    root: Path
    images: tuple[PurePath, ...]
    companions: tuple[PurePath, ...]  # of images, in supported formats or not
    unread: Unread
    links: tuple[PurePath, ...]  # linked folders that are not followed

    def report(self, *, cure: str, way_out: str, skip: bool = False) -> list[str]:
        """Log what is skipped, and return the problems: images of unsupported formats.

        Args:
            cure: how to have companions read as images.
            way_out: how to skip images of unsupported formats.
            skip: log such images instead of reporting them as problems.
        """
        if self.companions:
            _LOG.warning(
                "Skipped %s that %s images (%s): %s.%s",
                counted(len(self.companions), "file"),
                "accompanies" if len(self.companions) == 1 else "accompany",
                kinds_of(self.companions),
                listed(self.companions, 3),
                f" {cure}." if cure and any(map(is_readable, self.companions)) else "",
            )
        if self.links:
            _LOG.warning(
                "Not followed: %s to folders of the same tree: %s.",
                counted(len(self.links), "link"),
                listed(self.links),
            )
        for note in self.unread.notes():
            _LOG.warning("%s.", note)
        problems = self.unread.problems()
        if not skip:
            return [f"{problem}; or {way_out}" for problem in problems]
        for problem in problems:
            _LOG.warning("Skipped: %s.", problem)
        return []


def read_tree(root: Path, *, with_companions: bool = False, paired: bool = False) -> Tree:
    """Return the contents of a folder tree.

    Args:
        root: the folder; links are followed if they lead out of it.
        with_companions: treat masks and similar files as images.
        paired: treat only files with a matching image as companions.
    """
    files, links, hidden = [], list[PurePath](), 0
    for folder, names, left_out in walk(root, links):
        files += [folder / name for name in names]
        hidden += left_out
    companions = set() if with_companions else find_companions(files, paired=paired)
    readable = [path for path in files if is_readable(path)]
    images = tuple(path for path in readable if path not in companions)
    known = companions.union(readable)
    unread = [path for path in files if path not in known]
    return Tree(
        root=root,
        images=images,
        companions=tuple(path for path in files if path in companions),
        unread=sort_out(root, unread, read=readable, hidden=hidden),
        links=tuple(links),
    )


def walk(root: Path, links: list[PurePath]) -> Iterator[tuple[PurePath, list[str], int]]:
    """Yield each folder below `root`, relative to it, its sorted files and the hidden file count.

    Args:
        root: the folder.
        links: collects links to folders of the same tree, which are not followed.
    """
    top = Path(os.path.realpath(root))
    for place, folders, names in sorted(_walked(root, top, links)):
        shown = sorted(name for name in names if not is_hidden(name))
        hidden = len(names) - len(shown)
        for name in filter(is_hidden, folders):
            inside = os.walk(os.path.join(place, name))
            hidden += sum(len(found) for _, _, found in inside)
        yield PurePath(os.path.relpath(place, root)), shown, hidden


def _walked(
    root: Path, top: Path, links: list[PurePath]
) -> Iterator[tuple[str, list[str], list[str]]]:
    seen = set[str]()
    for place, folders, names in os.walk(root, followlinks=True):
        every = list(folders)
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in list(folders):
            path = os.path.join(place, name)
            if not os.path.islink(path):
                continue
            target = os.path.realpath(path)
            if target in seen or Path(target).is_relative_to(top) or top.is_relative_to(target):
                links.append(PurePath(os.path.relpath(path, root)))
                folders.remove(name)
            seen.add(target)
        yield place, every, names


def is_readable(path: PurePath) -> bool:
    """Return whether a file has the extension of a supported image format."""
    return path.suffix.lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    """Return whether the name is that of a hidden or system file or folder."""
    lower = name.lower()
    return name.startswith(".") or lower in _SYSTEM or lower in _SYSTEM_FILES
