"""Exclude the images that a user's list names.

A list is a text file with one name per line, a table with a column `image` or `image_id`, or the
JSON file of `fgaug gan filter`. The latter identifies images by content, so it applies only after
decoding.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fgaug.data.drop_list import read_drops
from fgaug.data.image_names import ImageNames
from fgaug.data.ingest import Ingested
from fgaug.data.problems import counted, refuse, shortened
from fgaug.errors import DataError

_COLUMNS = ("image", "image_id", "file", "filename", "name", "source")
_MAX_BYTES = 64 << 20  # a million names


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """The images that a list names."""

    path: Path
    names: tuple[str, ...] = ()
    sha256: frozenset[str] = frozenset()
    count: int = 0  # images excluded by name


def read_list(path: str | Path) -> LeaveOut:
    """Read the images that a list names.

    Raises:
        DataError: the list cannot be read, or names no image.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"--drop {path} is not a file. Give a text file with one name per line.")
    if path.suffix.lower() == ".json":
        return LeaveOut(path, sha256=read_drops(path).images)
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"--drop {path} is too large for a list of names ({_MAX_BYTES >> 20} MB).")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"--drop {path} is not UTF-8 text. Save it as UTF-8.") from None
    if text.startswith("kind,correlation,one_image_id"):
        raise DataError(
            f"--drop {path} is a table of pairs, which names both images of each pair. List the "
            "images to exclude in a text file, one name per line."
        )
    names = _column(text) or [line.strip() for line in text.splitlines()]
    names = [name for name in names if name and not name.startswith("#")]
    if not names:
        raise DataError(f"--drop {path} names no image. Give one name per line, or omit --drop.")
    return LeaveOut(path, names=tuple(dict.fromkeys(names)))


def without_named(rows: Ingested, leave: LeaveOut) -> tuple[Ingested, LeaveOut]:
    """Return the rows that a list does not name, and the list with the count of excluded rows.

    Raises:
        DataError: a name of the list fits no row, or several.
    """
    if not leave.names:
        return rows, leave
    ids = rows.table["image_id"].tolist()
    names = ImageNames(ids, rows.table["source"].tolist())
    out: set[int] = set()
    problems = []
    for name in leave.names:
        found = names.find(name)
        if len(found) == 1 or names.is_exact(name):
            out |= found
        else:
            problems.append(names.problem(name))
    refuse(str(leave.path), shortened(problems, "more names that fit no image or several"))
    stay = np.ones(len(ids), bool)
    stay[list(out)] = False
    table = rows.table[stay].reset_index(drop=True)
    files = tuple(file for file, kept in zip(rows.files, stay, strict=True) if kept)
    return replace(rows, table=table, files=files), replace(leave, count=len(out))


def on_list(sha256: Sequence[str], leave: LeaveOut) -> np.ndarray:
    """Return a mask of the decoded images on a list by content; refuse a list of other images."""
    found = np.array([sha in leave.sha256 for sha in sha256], bool)
    lacking = len(leave.sha256 - set(sha256))
    if lacking:
        raise DataError(
            f"--drop {leave.path} names {counted(lacking, 'image')} that the dataset does not "
            f"contain, of {len(leave.sha256)}: it was made for other images. Give the list made "
            "for these images, or a text file of names."
        )
    return found


def _column(text: str) -> list[str]:
    """Return the names in a table's name column; empty if the text is not a table."""
    first = text.splitlines()[0] if text else ""
    separator = next((mark for mark in ",;\t" if mark in first), ",")
    header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=separator), [])]
    column = next((name for name in _COLUMNS if name in header), None)
    if column is None:
        return []
    place = header.index(column)
    lines = list(csv.reader(io.StringIO(text), delimiter=separator))[1:]
    return [line[place].strip() for line in lines if len(line) > place]
