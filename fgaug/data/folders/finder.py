"""Names in a label table -> image files, found below one folder."""

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


def find_files(table: pd.DataFrame, images: Path, problems: list[str]) -> None:
    """Add the column `path`; list names that lead outside, are missing or fit several files.

    A name is looked up as it is written, below the folder; then, where nothing is there, in all
    folders below it, as long as one file alone fits. What was found in this way is logged.
    """
    finder = _Finder(images)
    found = [finder.find(name) if isinstance(name, str) else None for name in table["image"]]
    table["path"] = pd.Series(found, index=table.index, dtype=object)
    problems += finder.problems()
    finder.log_moved()
    used = [path for path in found if path is not None]
    _log_companions(images, used)


def log_unused(table: pd.DataFrame, images: Path, *, csv: Path, all_rows: bool) -> None:
    """Log what lies in the folders of the images that a table names, and is not used.

    Args:
        table: with the column `path`.
        images: the folder that the images were found below.
        csv: the file of the table, which may lie there too.
        all_rows: the table has its rows of all labels, so that a file that it does not name is
            named by no other row either.
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
            "Not used: %s beside those that the table names: %s.",
            counted(len(plain), "image"),
            listed(plain),
        )
    if kin and all_rows:
        _LOG.warning(
            "Not used: %s (%s) beside the images that the table names: %s.",
            counted(len(kin), "mask"),
            kinds_of(kin),
            listed(kin, 3),
        )
    read = [_below(path, root) for path in used] if unread else []
    found = sort_out(Path(root), unread, read=read, hidden=hidden)
    lines = [f"Beside the images of the table: {each}" for each in found.problems()]
    for line in [*lines, *found.notes()]:
        _LOG.warning("%s.", line)


class _Finder:
    """Finds image files by name, with or without extension, whatever the case of letters."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.missing: list[str] = []
        self.outside: list[str] = []
        self.several: list[str] = []
        self.unread: list[tuple[str, PurePath]] = []  # name, and the file that is not read
        self.moved: list[tuple[str, PurePath]] = []  # name, and where its file was found
        self._folders: dict[Path, dict[str, list[Path]]] = {}
        self._below: dict[str, list[PurePath]] = {}  # every image below the root, by its keys
        self._others: dict[str, list[PurePath]] = {}  # likewise files of formats not read
        self._indexed = False

    def find(self, name: str) -> Path | None:
        """Return the file; or None, and the name is in one of the lists of this finder."""
        # Tables made on Windows hold backslashes. The check is on the text: links inside the
        # folder may lead elsewhere, as data managers lay them.
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

    def problems(self) -> list[str]:
        """Return a line for each kind of name that no file was found for."""
        lines = []
        if self.missing:
            names = counted(len(self.missing), "image")
            lines.append(f"{names} not found in {self.root}: {listed(self.missing)}{self._near()}")
        if self.outside:
            names = counted(len(self.outside), "image")
            lines.append(
                f"{names} outside {self.root} (names must stay below the image folder): "
                f"{listed(self.outside)}"
            )
        if self.several:
            lines.append(
                f"{len(self.several)} of the names fit several files (give the "
                f"extension, and the folder below {self.root}): {listed(self.several)}"
            )
        cures: dict[str, list[tuple[str, PurePath]]] = {}
        for name, path in self.unread:
            cure = cure_of(self.root / path) or "It is no image by its first bytes"
            cures.setdefault(cure, []).append((name, path))
        for cure, found in cures.items():
            endings = sorted({ending_of(path) or "no ending" for _, path in found})
            shown = listed(f"{name} ({path.as_posix()})" for name, path in found)
            lines.append(
                f"{counted(len(found), 'image')} there, but in a format that is not read "
                f"({', '.join(endings)}): {shown}. {cure}"
            )
        return lines

    def log_moved(self) -> None:
        """Log which folders images were found in that the table does not name."""
        if not self.moved:
            return
        places = Counter(path.parent.as_posix() for _, path in self.moved)
        name, path = self.moved[0]
        _LOG.warning(
            "%s found in another folder than the table says, each the only file below %s that "
            "fits: %s. For example %s is %s.",
            counted(len(self.moved), "image"),
            self.root,
            listed(f"{folder} ({count})" for folder, count in sorted(places.items())),
            name,
            path.as_posix(),
        )

    def _in_place(self, path: Path) -> list[Path]:
        """Return the images that a path names: itself, or one of other case, or with an ending."""
        folder = self._folder(path.parent)
        named = folder.get(_key(path.name), [])
        return ([path] if path in named else named) or folder.get(_stem_key(path.name), [])

    def _folder(self, folder: Path) -> dict[str, list[Path]]:
        """Return the images of a folder by their keys."""
        if folder not in self._folders:
            known: dict[str, list[Path]] = {}
            for path in _images_in(folder):
                known.setdefault(_key(path.name), []).append(path)
                known.setdefault(_stem_key(path.stem), []).append(path)
            self._folders[folder] = known
        return self._folders[folder]

    def _elsewhere(self, text: str) -> list[PurePath]:
        """Return the images that fit a name whose own folder has none, masks only if it names one.

        The folders of one, the name or the file, must end in those of the other: `p1` fits
        `Malawi/p1.png`, `set/images/p1` fits `images/p1.png`, `benign/1` does not fit
        `malignant/1.png`. Of a path that leads outside, as on the machine of who made the table,
        the name alone has to fit.
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
        """Return all images below the root of that name, with or without ending."""
        name = text.rsplit("/", 1)[-1]
        below = self._index()
        return below.get(_key(name)) or below.get(_stem_key(name), [])

    def _unread(self, text: str) -> PurePath | None:
        """Return a file of a format that is not read and has the name."""
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
        """Return where the first of the missing names lie after all, or nothing."""
        hints = []
        for name in self.missing[:SHOWN]:
            text = name.replace("\\", "/")
            near = self._named(text) or self._named(stem_of(PurePath(text)))
            if near:
                hints.append(f"{name} may be {listed(path.as_posix() for path in near[:3])}")
        return f". {'; '.join(hints[:3])}: write names as they lie there" if hints else ""

    def _index(self, *, unread: bool = False) -> dict[str, list[PurePath]]:
        """Return every file below the root by its keys; made once, where a name is missing."""
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
    """Log images of the table that are masks by their names: the table asked for them."""
    top = os.path.abspath(root)
    named = find_companions([_below(str(path), top) for path in used])
    if named:
        _LOG.warning(
            "%s that the table names %s (%s): %s. Take the rows out if they are no images.",
            counted(len(named), "file"),
            "is a mask or alike by its name" if len(named) == 1 else "are masks or alike by name",
            kinds_of(named),
            listed(sorted(named), 3),
        )


def _below(path: str, root: str) -> PurePath:
    """Return the path relative to the root, by its text: `relative_to` is slow."""
    return PurePath(path[len(root) :].lstrip("/"))


def _key(name: str) -> str:
    """Return a name in lower case, its letters composed: ZIP files of a Mac hold them in parts."""
    return unicodedata.normalize("NFC", name).lower()


def _stem_key(stem: str) -> str:
    return f"{_key(stem)}/"  # no file name ends in a slash, so stems and names never meet


def _folders_of(text: str) -> tuple[str, ...]:
    return tuple(_key(part) for part in text.split("/")[:-1] if part not in ("", ".", ".."))


def _images_in(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):  # False, too, for a name that no file system takes
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )
