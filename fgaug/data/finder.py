"""Names in a label table -> image files, found below one folder.  table -> finder -> ingest"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from fgaug.data.images import EXTENSIONS
from fgaug.data.problems import counted, listed


def find_files(table: pd.DataFrame, images: Path, problems: list[str]) -> None:
    """Add the column `path`; list names that lead outside, are missing or fit several files."""
    finder = _Finder(images)
    found = [finder.find(name) if isinstance(name, str) else None for name in table["image"]]
    table["path"] = pd.Series(found, index=table.index, dtype=object)
    for kind, names in finder.refused.items():
        if names:
            problems.append(f"{counted(len(names), 'image')} {kind}: {listed(names)}")


class _Finder:
    """Finds image files by name, with or without extension, whatever the case of letters."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.refused: dict[str, list[str]] = {
            f"not found in {root}": [],
            f"outside {root} (names must stay below the image folder)": [],
            "fit several files (give the extension)": [],
        }
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> Path | None:
        """Return the file; or None, and the name is in `refused`."""
        missing, outside, several = self.refused.values()
        # Tables made on Windows hold backslashes. The check is on the text: links inside the
        # folder may lead elsewhere, as data managers lay them.
        path = Path(os.path.normpath(self.root / name.replace("\\", "/")))
        if not path.is_relative_to(self.root):
            outside.append(name)
            return None
        folder = self._folder(path.parent)
        found = [path] if path in folder.get(path.name.lower(), []) else []
        found = found or folder.get(path.name.lower(), []) or folder.get(_stem_key(path.name), [])
        if len(found) != 1:
            (several if found else missing).append(name)
            return None
        return found[0]

    def _folder(self, folder: Path) -> dict[str, list[Path]]:
        """Return the images of a folder by lower-case name, and by lower-case stem."""
        if folder not in self._folders:
            known: dict[str, list[Path]] = {}
            for path in _images_in(folder):
                known.setdefault(path.name.lower(), []).append(path)
                known.setdefault(_stem_key(path.stem), []).append(path)
            self._folders[folder] = known
        return self._folders[folder]


def _stem_key(stem: str) -> str:
    return f"{stem.lower()}/"  # no file name ends in a slash, so stems and names never meet


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )


def images_below(folder: Path) -> list[Path]:
    """Return the images of a folder and of all folders in it, sorted by folder."""
    return [path for each in sorted(os.walk(folder)) for path in _images_in(Path(each[0]))]
