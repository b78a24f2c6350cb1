"""Read the cells of Excel workbooks (.xlsx) as the text that Excel shows."""

from __future__ import annotations

import datetime
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl

from fgaug.data.problems import counted, listed, nearest, refuse
from fgaug.data.tables.cells import HEADER_SEARCH, Cells, check_title, name_of
from fgaug.errors import DataError

_EXACT = 10**15  # Excel stores 15 digits of a number
_PLAIN = ("General", "@", "0", "#,##0", "#", "")
_ZEROS = re.compile(r'(?:"([^"]*)")?(0+)(?:\.(0+))?')  # `000`, `0.00`, `"P"000`
_ROW = re.compile(rb"<(?:\w+:)?row\b[^>]*>")
_NUMBER = re.compile(rb"\br=[\"'](\d+)[\"']")
_HIDDEN = re.compile(rb"\bhidden=[\"'](?:1|true)[\"']")


def read_workbook(path: Path, wanted: Sequence[str], sheet: str | None = None) -> Cells:
    """Return the cells of one sheet.

    Whole numbers have no decimals (7, not 7.0), zeros of a number format are kept (007), booleans
    are TRUE and FALSE, dates are ISO (2024-01-31), and formulas give their stored results.

    Args:
        path: path of the workbook.
        wanted: expected column names; cells of these columns are checked.
        sheet: name of the sheet; None takes the first, and a note names the others.
    """
    names = set(map(name_of, wanted))
    page = _values(path, sheet, formulas=False)
    title, others = page.title, page.others
    filled = [(number, row) for number, row in enumerate(page.rows, 1) if not _is_empty(row)]
    if not filled:
        raise DataError(f'{path}: sheet "{title}" is empty. Choose another with --sheet.')
    first = [[_Column("").text(cell) for cell in row] for _, row in filled[:HEADER_SEARCH]]
    header = [name_of(name) for name in first[0]]
    _check_sheet(path, title, header, wanted, others)
    check_title(path, first, wanted)
    columns = [_Column(name if name in names else "") for name in header]
    texts, blank = [], set[int]()
    for number, row in filled[1:]:
        cells = [column.text(cell) for column, cell in zip(columns, row, strict=False)]
        cells += [""] * (len(header) - len(cells))
        texts.append(cells)
        if any(column.name and not text for column, text in zip(columns, cells, strict=True)):
            blank.add(number)
    merged = ". In merged cells only the first has the value"
    numbers = [number for number, _ in filled[1:]]
    found = Cells(header=header, rows=texts, numbers=numbers, why_empty=merged)
    problems = [problem for column in columns for problem in column.problems()]
    if blank:
        problems += _formulas(path, title, columns, blank)
    refuse(f'{path}, sheet "{title}"', problems)
    if sheet is None and others:
        found.notes.append(
            f'{path.name} has {len(others) + 1} sheets; "{title}" is read, not {listed(others)}. '
            "To choose another, use --sheet"
        )
    found.notes += page.hidden_notes(path, numbers)
    found.notes += [note for column in columns for note in column.notes()]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """A sheet of a workbook."""

    title: str
    rows: Sequence[Sequence[Any]]  # of cells
    others: list[str]  # titles of the other sheets
    is_hidden: bool
    hidden_rows: frozenset[int]  # row numbers from 1; hidden by hand or by a filter

    def hidden_notes(self, path: Path, numbers: Sequence[int]) -> Iterator[str]:
        """Yield notes on rows that are read although a spreadsheet program hides them."""
        if self.is_hidden:
            yield f'{path.name}: sheet "{self.title}" is hidden, but was read'
        hidden = [number for number in numbers if number in self.hidden_rows]
        if hidden:
            yield (
                f'{path.name}, sheet "{self.title}": {len(hidden)} of '
                f"{counted(len(numbers), 'row')} hidden (by hand or by a filter), but read like "
                f"the others: {listed(hidden)}. To skip them, copy the visible rows to a separate "
                "sheet"
            )


class _Column:
    """Converts the cells of one column to text, and counts suspicious ones."""

    def __init__(self, name: str) -> None:
        self.name = name  # empty if the column is not used
        self._errors: list[str] = []
        self._dates: list[str] = []
        self._long: list[str] = []
        self._formats: Counter[str] = Counter()

    def text(self, cell: Any) -> str:
        value = cell.value
        if value is None:
            return ""
        if cell.data_type == "e":
            self._errors.append(str(value))
            return ""
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        if isinstance(value, (int, float)):
            return self._number(value, cell.number_format or "General")
        if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
            self._dates.append(_date(value))
            return self._dates[-1]
        return str(value)

    def _number(self, value: int | float, shown: str) -> str:
        if abs(value) >= _EXACT:
            self._long.append(str(int(value)))
        whole = isinstance(value, int) or value.is_integer()
        plain = str(int(value)) if whole else repr(value)
        zeros = _ZEROS.fullmatch(shown)
        if zeros and shown not in _PLAIN:
            prefix, digits, decimals = zeros[1] or "", len(zeros[2]), len(zeros[3] or "")
            width = digits + (decimals + 1 if decimals else 0)
            padded = f"{value:0{width}.{decimals}f}"
            if float(padded) == value:  # a format that hides digits could merge ids
                return prefix + padded
        if shown not in _PLAIN and not re.fullmatch(r"[0#,.]+(_\))?", shown):
            self._formats[shown] += 1
        return plain

    def problems(self) -> list[str]:
        if not (self.name and self._errors):
            return []
        count, kinds = counted(len(self._errors), "cell"), listed(sorted(set(self._errors)))
        return [f'column "{self.name}" has {count} with an Excel error: {kinds}. Correct them']

    def notes(self) -> list[str]:
        notes = []
        if self.name and self._dates:
            notes.append(
                f'Column "{self.name}": {counted(len(self._dates), "cell")} with a date, read as '
                f"{listed(self._dates[:3])}. Excel turns ids such as 1-2 into dates: store them "
                "as text"
            )
        if self.name and self._long:
            notes.append(
                f'Column "{self.name}": {counted(len(self._long), "number")} with more than 15 '
                f"digits: {listed(self._long[:3])}. Excel stores only 15 digits, so distinct ids "
                "may already be equal: export them as text from the original program"
            )
        for shown, count in self._formats.items() if self.name else ():
            notes.append(
                f'Column "{self.name}": {counted(count, "number")} with the number format '
                f"{shown}, read as plain numbers"
            )
        return notes


def _date(value: datetime.datetime | datetime.date | datetime.time) -> str:
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return value.isoformat(*([" "] if isinstance(value, datetime.datetime) else []))


def _values(path: Path, sheet: str | None, *, formulas: bool) -> _Sheet:
    """Read a sheet with its values, or with formulas in place of their results."""
    try:
        # openpyxl warns of features that it cannot write back; nothing is written here. Pass an
        # open file, as openpyxl checks the extension of a path.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=not formulas)
            pages = {page.title: page for page in book.worksheets}
            title = sheet if sheet is not None else next(iter(pages), "")
            if title in pages:
                pages[title].reset_dimensions()  # some programs store a wrong size
                rows = list(pages[title].iter_rows())
                hidden = _hidden_rows(book, pages[title])
            book.close()
    except Exception as problem:  # on hostile bytes, parsers raise all kinds of exceptions
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read as a workbook ({reason}).") from None
    if title not in pages:
        raise DataError(f'{path} has no sheet "{title}"{nearest(title, list(pages))}')
    return _Sheet(
        title=title,
        rows=rows,
        others=[name for name in pages if name != title],
        is_hidden=pages[title].sheet_state != "visible",
        hidden_rows=hidden,
    )


def _hidden_rows(book: Any, page: Any) -> frozenset[int]:
    """Return the numbers of a sheet's hidden rows.

    openpyxl drops this attribute when reading row by row, so the sheet's XML is searched.
    """
    text = book._archive.read(page._worksheet_path)
    if b"hidden=" not in text:
        return frozenset()
    found, number = set[int](), 0
    for mark in _ROW.finditer(text):
        given = _NUMBER.search(mark[0])
        number = number + 1 if given is None else int(given[1])
        if _HIDDEN.search(mark[0]):
            found.add(number)
    return frozenset(found)


def _is_empty(row: Sequence[Any]) -> bool:
    return all(cell.value is None or not str(cell.value).strip() for cell in row)


def _check_sheet(
    path: Path, title: str, header: Sequence[str], wanted: Sequence[str], others: Sequence[str]
) -> None:
    """Refuse a sheet with none of the wanted columns if another sheet has them all."""
    names = set(map(name_of, wanted))
    if names & set(header):
        return
    for other in others:
        first = next(iter(_values(path, other, formulas=False).rows), ())
        if names <= {name_of(str(cell.value or "")) for cell in first}:
            raise DataError(
                f'{path}: sheet "{title}" has none of the columns {listed(wanted)}; sheet '
                f'"{other}" has them. Give --sheet "{other}".'
            )


def _formulas(
    path: Path, title: str, columns: Sequence[_Column], blank: set[int]
) -> Iterator[str]:
    """Yield a problem for each column with formulas that have no stored result."""
    counts: Counter[str] = Counter()
    for number, row in enumerate(_values(path, title, formulas=True).rows, 1):
        if number in blank:
            for column, cell in zip(columns, row, strict=False):
                counts[column.name] += cell.data_type == "f"
    for name, count in counts.items():
        if name and count:
            yield (
                f'column "{name}" has {counted(count, "formula")} without a stored result. Open '
                "the workbook in a spreadsheet program and save it"
            )
