"""Cells: the header and rows of a table, all as text, whatever kind of file they came from."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgaug.data.problems import counted, listed
from fgaug.errors import DataError

_SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_EDGE = _SPACES + "\ufeff\u200b\u200e\u200f\u2060"  # and what has no width at all
HEADER_SEARCH = 20  # rows in which a header is looked for below a title


@dataclass(kw_only=True, slots=True)
class Cells:
    """A table as it lies in its file; each row is as long as the header."""

    header: list[str]  # names without blanks around them
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)  # what a person should know of the reading
    why_empty: str = ""  # why a cell may be empty that does not look so


def clean(text: str) -> str:
    """Return the text without blanks and characters of no width at both ends."""
    return text.strip(_EDGE)


def name_of(text: str) -> str:
    """Return a column's name in one form: blanks stripped and single, letters composed."""
    return unicodedata.normalize("NFC", " ".join(clean(text).split()))


def check_title(path: Path, rows: Sequence[Sequence[str]], wanted: Sequence[str]) -> None:
    """Refuse a title above the header, as spreadsheets have, if the header stands below it.

    Args:
        path: of the table.
        rows: the first ones that hold text, the header or a title first.
        wanted: names that the header has.
    """
    names = set(map(name_of, wanted))
    if not rows or names & set(map(name_of, rows[0])):
        return
    for index, row in enumerate(rows):
        if names <= set(map(name_of, row)):
            title = listed(filter(None, map(name_of, rows[0])))
            raise DataError(
                f"{path} has its header below other text: {counted(index, 'row')} above it, the "
                f'first "{title}". Remove the rows above the header.'
            )
