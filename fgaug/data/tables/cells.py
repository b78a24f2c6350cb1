"""The header row and cells of a table, all as text, from any kind of file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgaug.data.problems import counted, listed
from fgaug.errors import DataError

_SPACES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_EDGE = _SPACES + "\ufeff\u200b\u200e\u200f\u2060"  # and zero-width characters
HEADER_SEARCH = 20  # rows searched for a header row below a title


@dataclass(kw_only=True, slots=True)
class Cells:
    """The raw cells of a table; each row is as long as the header row."""

    header: list[str]  # names without surrounding blanks
    rows: list[list[str]]
    numbers: list[int]  # of each row in the file, from 1: its last line, or its row in a sheet
    notes: list[str] = field(default_factory=list)  # warnings about how the file was read
    why_empty: str = ""  # why a cell may be empty although it does not look empty


def clean(text: str) -> str:
    """Strip blanks and zero-width characters from both ends."""
    return text.strip(_EDGE)


def name_of(text: str) -> str:
    """Normalise a column name: strip and collapse blanks, compose letters (NFC)."""
    return unicodedata.normalize("NFC", " ".join(clean(text).split()))


def check_title(path: Path, rows: Sequence[Sequence[str]], wanted: Sequence[str]) -> None:
    """Refuse a table with a title above its header row, as spreadsheets often have.

    Args:
        path: path of the table.
        rows: the first non-empty rows, starting with the header row or a title.
        wanted: expected column names.
    """
    names = set(map(name_of, wanted))
    if not rows or names & set(map(name_of, rows[0])):
        return
    for index, row in enumerate(rows):
        if names <= set(map(name_of, row)):
            title = listed(filter(None, map(name_of, rows[0])))
            raise DataError(
                f"{path} has its header row below other text: {counted(index, 'row')} above it, "
                f'the first "{title}". Remove the rows above the header row.'
            )
