"""Find the image files that a label table names, below one folder."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import pandas as pd

from fgaug.core.image_formats import EXTENSIONS
from fgaug.data.folders.companions import find_companions, kinds_of, stem_of
from fgaug.data.folders.tree import is_hidden, walk
from fgaug.data.folders.unread_files import cure_of, ending_of, sort_out
from fgaug.data.problems import SHOWN, counted, listed

_LOG = logging.getLogger("fgaug")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/|\.\./|~/|file:/")


def find_files(table: pd.DataFrame, images: Path, problems: list[str], *, cure: str) -> None:
    """Add the column `path`; report names that lead outside, are missing or match several files.

    A name is looked up as written, relative to the folder. If no such file exists, all subfolders
    are searched, and a single match is used and logged.

    Args:
        table: with the column `image`.
        images: the folder.
        problems: collects the names that fit no file.
        cure: what to do with names that are not found, and like no other name.
    """
    finder = _Finder(images)
    found = [finder.find(name) if isinstance(name, str) else None for name in table["image"]]
    table["path"] = pd.Series(found, index=table.index, dtype=object)
    problems += finder.problems(cure)
    finder.log_moved()
    used = [path for path in found if path is not None]
    _log_companions(images, used)


def log_unused(table: pd.DataFrame, images: Path, *, csv: Path, all_rows: bool) -> None:
    """Log unused files in the folders of the images that a table names.

    Args:
        table: with the column `path`.
        images: the image folder.
        csv: the table's file, which may lie in the same folder.
        all_rows: whether the table still has the rows of all labels; only then is a file without a
            row in it truly unlisted.
    """
    used = {str(path) for path in table["path"]}
    root, itself = os.path.abspath(images), os.path.abspath(csv)
    spare, unread, hidden = [], [], 0
    for folder in sorted({os.path.dirname(path) for path in used}):
        with os.scandir(folder) as entries:
            files = sorted(entry.path for entry in entries if entry.is_file())
        for path in files:
            if is_hidden(os.path.basename(path)):
                hidden += 1
            elif os.path.splitext(path)[1].lower() not in EXTENSIONS:
                if path != itself:
                    unread.append(_below(path, root))
            elif path not in used:
                spare.append(_below(path, root))
    masks = find_companions([*spare, *(_below(path, root) for path in used)])
    plain = [path for path in spare if path not in masks]
    kin = [path for path in spare if path in masks]
    if plain and all_rows:
        _LOG.warning(
            "Not used: %s beside the images in the table: %s.",
            counted(len(plain), "image"),
            listed(plain),
        )
    if kin and all_rows:
        _LOG.warning(
            "Not used: %s (%s) beside the images in the table: %s.",
            counted(len(kin), "mask"),
            kinds_of(kin),
            listed(kin, 3),
        )
    read = [_below(path, root) for path in used] if unread else []
    found = sort_out(Path(root), unread, read=read, hidden=hidden)
    lines = [f"Beside the images in the table: {each}" for each in found.problems()]
    for line in [*lines, *found.notes()]:
        _LOG.warning("%s.", line)


class _Finder:
    """Finds image files by name, with or without extension, ignoring case."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.missing: list[str] = []
        self.outside: list[str] = []
        self.several: list[str] = []
        self.unread: list[tuple[str, PurePath]] = []  # name, and the file of an unsupported format
        self.moved: list[tuple[str, PurePath]] = []  # name, and the path of its file
        self._folders: dict[Path, dict[str, list[Path]]] = {}
        self._below: dict[str, list[PurePath]] = {}  # every image below the root, by its keys
        self._others: dict[str, list[PurePath]] = {}  # likewise files of unsupported formats
        self._indexed = False

    def find(self, name: str) -> Path | None:
        """Return the file, or None after recording the name in one of this finder's lists."""
        # Tables made on Windows contain backslashes. The check is on the text: links inside the
        # folder may lead elsewhere, as data managers create them.
        text = name.replace("\\", "/")
        path = Path(os.path.normpath(self.root / text))
        inside = path.is_relative_to(self.root)
        fitting = self._in_place(path) if inside else []
        if len(fitting) == 1:
            return fitting[0]
        fitting = fitting or [self.root / each for each in self._elsewhere(text)]
        if len(fitting) == 1:
            self.moved.append((name, fitting[0].relative_to(self.root)))
            return fitting[0]
        if fitting:
            places = listed(each.relative_to(self.root).as_posix() for each in fitting)
            self.several.append(f"{name} ({places})")
        elif unread := self._unread(text):
            self.unread.append((name, unread))
        else:
            (self.missing if inside else self.outside).append(name)
        return None

    def problems(self, cure: str) -> list[str]:
        """Return one line per kind of name without a file; `cure` is for missing files."""
        lines = []
        if self.missing:
            names = counted(len(self.missing), "image")
            lines.append(
                f"{names} not found in {self.root}: {listed(self.missing)}. {self._near() or cure}"
            )
        if self.outside:
            names = counted(len(self.outside), "image")
            lines.append(
                f"{names} outside {self.root} (names must stay below the image folder): "
                f"{listed(self.outside)}"
            )
        if self.several:
            lines.append(
                f"{len(self.several)} of the names match several files (add the extension and the "
                f"folder below {self.root}): {listed(self.several)}"
            )
        cures: dict[str, list[tuple[str, PurePath]]] = {}
        for name, path in self.unread:
            cure = cure_of(self.root / path) or "Its content is not an image"
            cures.setdefault(cure, []).append((name, path))
        for cure, found in cures.items():
            endings = sorted({ending_of(path) or "no ending" for _, path in found})
            shown = listed(f"{name} ({path.as_posix()})" for name, path in found)
            lines.append(
                f"{counted(len(found), 'image')} found, but in an unsupported format "
                f"({', '.join(endings)}): {shown}. {cure}"
            )
        return lines

    def log_moved(self) -> None:
        """Log images that were found in another folder than the table names."""
        if not self.moved:
            return
        places = Counter(path.parent.as_posix() for _, path in self.moved)
        name, path = self.moved[0]
        _LOG.warning(
            "%s found in another folder than the table names, each the only match below %s: %s. "
            "For example %s is %s.",
            counted(len(self.moved), "image"),
            self.root,
            listed(f"{folder} ({count})" for folder, count in sorted(places.items())),
            name,
            path.as_posix(),
        )

    def _in_place(self, path: Path) -> list[Path]:
        """Return the images that a path names: exactly, ignoring case, or without extension."""
        folder = self._folder(path.parent)
        named = folder.get(_key(path.name), [])
        return ([path] if path in named else named) or folder.get(_stem_key(path.name), [])

    def _folder(self, folder: Path) -> dict[str, list[Path]]:
        """Return the images in a folder by their keys."""
        if folder not in self._folders:
            known: dict[str, list[Path]] = {}
            for path in _images_in(folder):
                known.setdefault(_key(path.name), []).append(path)
                known.setdefault(_stem_key(path.stem), []).append(path)
            self._folders[folder] = known
        return self._folders[folder]

    def _elsewhere(self, text: str) -> list[PurePath]:
        """Search all folders for a name; match masks only if the name is that of a mask.

        The folders of the name must end in those of the file, or the reverse: `p1` matches
        `Malawi/p1.png`, `set/images/p1` matches `images/p1.png`, `benign/1` does not match
        `malignant/1.png`. Of a path that leads outside, such as one on the author's machine, only
        the file name has to match.
        """
        folders = _folders_of(text)
        loose = _ABSOLUTE.match(text) is not None or ".." in text.split("/")
        fitting = []
        for path in self._named(text):
            there = tuple(_key(part) for part in path.parts[:-1])
            length = min(len(folders), len(there))
            alike = not length or folders[-length:] == there[-length:]
            if alike or loose:
                fitting.append((length if alike else 0, path))
        best = [path for length, path in fitting if length == max(fitting)[0]]
        if find_companions([PurePath(text)]):
            return best
        masks = find_companions(best)
        return [path for path in best if path not in masks]

    def _named(self, text: str) -> list[PurePath]:
        """Return all images of that name below the root, with or without extension."""
        name = text.rsplit("/", 1)[-1]
        below = self._index()
        return below.get(_key(name)) or below.get(_stem_key(name), [])

    def _unread(self, text: str) -> PurePath | None:
        """Return a file of that name in an unsupported format."""
        name, folders = text.rsplit("/", 1)[-1], _folders_of(text)
        index = self._index(unread=True)
        bare = [path for path in index.get(_stem_key(name), []) if cure_of(self.root / path)]
        for path in [*index.get(_key(name), []), *bare]:
            there = tuple(_key(part) for part in path.parts[:-1])
            length = min(len(folders), len(there))
            if not length or folders[-length:] == there[-length:]:
                return path
        return None

    def _near(self) -> str:
        """Return hints on where the first missing names may be, or an empty string."""
        hints = []
        for name in self.missing[:SHOWN]:
            text = name.replace("\\", "/")
            near = self._named(text) or self._named(stem_of(PurePath(text)))
            if near:
                hints.append(f"{name} may be {listed(path.as_posix() for path in near[:3])}")
        return f"{'; '.join(hints[:3])}: write the names as they are on disk" if hints else ""

    def _index(self, *, unread: bool = False) -> dict[str, list[PurePath]]:
        """Return every file below the root by its keys, built once, when a name is missing."""
        if not self._indexed:
            for folder, names, _ in walk(self.root, []):
                for name in names:
                    path = folder / name
                    read = path.suffix.lower() in EXTENSIONS
                    table = self._below if read else self._others
                    table.setdefault(_key(name), []).append(path)
                    table.setdefault(_stem_key(stem_of(path)), []).append(path)
            self._indexed = True
        return self._others if unread else self._below


def _log_companions(root: Path, used: Sequence[Path]) -> None:
    """Log images in the table whose names are those of masks; they are kept."""
    top = os.path.abspath(root)
    named = find_companions([_below(str(path), top) for path in used])
    if named:
        _LOG.warning(
            "%s in the table %s (%s): %s. Remove the rows if they are not images.",
            counted(len(named), "file"),
            "has the name of a mask or similar file"
            if len(named) == 1
            else "have names of masks or similar files",
            kinds_of(named),
            listed(sorted(named), 3),
        )


def _below(path: str, root: str) -> PurePath:
    """Return the path relative to the root, from its text: `relative_to` is slow."""
    return PurePath(path[len(root) :].lstrip("/"))


def _key(name: str) -> str:
    """Return a name in lower case and Unicode NFC: ZIP files made on a Mac use NFD."""
    return unicodedata.normalize("NFC", name).lower()


def _stem_key(stem: str) -> str:
    return f"{_key(stem)}/"  # no file name ends in a slash, so stems and names never collide


def _folders_of(text: str) -> tuple[str, ...]:
    return tuple(_key(part) for part in text.split("/")[:-1] if part not in ("", ".", ".."))


def _images_in(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):  # also False for a name that no file system allows
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )
