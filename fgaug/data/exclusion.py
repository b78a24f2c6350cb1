"""Leaving out: the images that a user's list names.

A list is text with a name a line, a table with a column `image` or `image_id`, or the JSON file of
`fgaug gan filter`, which names images by content and so applies once they are decoded.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from fgaug.data.drop_list import read_drops
from fgaug.data.ingest import Ingested
from fgaug.data.problems import counted, refuse
from fgaug.errors import DataError

_COLUMNS = ("image", "image_id", "file", "filename", "name", "source")
_MAX_BYTES = 64 << 20  # a million names


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """What a list names."""

    path: Path
    names: tuple[str, ...] = ()
    sha256: frozenset[str] = frozenset()
    count: int = 0  # images that were left out by name


def read_list(path: str | Path) -> LeaveOut:
    """Return the images that a list names.

    Raises:
        DataError: it cannot be read, or names none.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"--drop {path} is not a file. Give a list with a name a line.")
    if path.suffix.lower() == ".json":
        return LeaveOut(path, sha256=read_drops(path).images)
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"--drop {path} is larger than a list of names ({_MAX_BYTES >> 20} MB).")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"--drop {path} is not text in UTF-8. Save it so.") from None
    if text.startswith("kind,correlation,one_image_id"):
        raise DataError(
            f"--drop {path} is a table of pairs, which names both sides of each. Write the images "
            "to leave out into a list, a name a line."
        )
    names = _column(text) or [line.strip() for line in text.splitlines()]
    names = [name for name in names if name and not name.startswith("#")]
    if not names:
        raise DataError(f"--drop {path} names no image. Give a name a line, or leave it out.")
    return LeaveOut(path, names=tuple(dict.fromkeys(names)))


def without_named(rows: Ingested, leave: LeaveOut) -> tuple[Ingested, LeaveOut]:
    """Return the rows that a list does not name, and the list with their count.

    Raises:
        DataError: no row, or several, have a name of the list.
    """
    if not leave.names:
        return rows, leave
    ids, sources = rows.table["image_id"].tolist(), rows.table["source"].tolist()
    known: dict[str, set[int]] = {}
    for row, (image_id, source) in enumerate(zip(ids, sources, strict=True)):
        for name in {image_id, source}:
            known.setdefault(name, set()).add(row)
        for name in {PurePosixPath(source).name, PurePosixPath(source).stem}:
            known.setdefault(f"/{name}", set()).add(row)  # by its last part, where it is unique
    out: set[int] = set()
    problems = []
    for name in leave.names:
        plain = name.replace("\\", "/")
        found = known.get(plain) or known.get(f"/{plain}") or set()
        if len(found) == 1 or plain in known:
            out |= found
        elif found:
            several = ", ".join(sorted(sources[row] for row in found)[:5])
            problems.append(f'"{name}" fits several images: {several}. Give the folder too')
        else:
            close = difflib.get_close_matches(plain, [*ids, *sources], n=1, cutoff=0.6)
            hint = f', did you mean "{close[0]}"?' if close else ""
            problems.append(f'there is no image "{name}"{hint}')
    shown = problems[:10]
    if len(problems) > 10:
        shown.append(f"and {len(problems) - 10} more names that fit none or several")
    refuse(str(leave.path), shown)
    stay = np.ones(len(ids), bool)
    stay[list(out)] = False
    table = rows.table[stay].reset_index(drop=True)
    files = tuple(file for file, kept in zip(rows.files, stay, strict=True) if kept)
    return replace(rows, table=table, files=files), replace(leave, count=len(out))


def on_list(sha256: Sequence[str], leave: LeaveOut) -> np.ndarray:
    """Return which decoded images a list by content names, or refuse a list of other images."""
    found = np.array([sha in leave.sha256 for sha in sha256], bool)
    lacking = len(leave.sha256 - set(sha256))
    if lacking:
        raise DataError(
            f"--drop {leave.path} names {counted(lacking, 'image')} that the set does not have, "
            f"of {len(leave.sha256)}: it was made for other images. Give names in a text file "
            "instead, or the list made for these images."
        )
    return found


def _column(text: str) -> list[str]:
    """Return the names in a table's column of names, or nothing where the text is no table."""
    first = text.splitlines()[0] if text else ""
    separator = next((mark for mark in ",;\t" if mark in first), ",")
    header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=separator), [])]
    column = next((name for name in _COLUMNS if name in header), None)
    if column is None:
        return []
    place = header.index(column)
    lines = list(csv.reader(io.StringIO(text), delimiter=separator))[1:]
    return [line[place].strip() for line in lines if len(line) > place]
