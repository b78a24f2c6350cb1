"""Read the cells of delimited text (CSV, TSV and similar)."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fgaug.data.problems import listed
from fgaug.data.tables.cells import HEADER_SEARCH, Cells, check_title, name_of
from fgaug.errors import DataError

SEPARATORS = (",", ";", "\t", "|", ":", " ")
_COMMON = SEPARATORS[:4]
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;]*', re.IGNORECASE)  # first line, for spreadsheet programs


def read_delimited(
    path: Path, data: bytes, wanted: Sequence[str], what: str = "label table"
) -> Cells:
    """Return the cells of a text table.

    A byte order mark identifies UTF-8 and UTF-16; text without one is UTF-8 if valid, else
    Windows-1252, the default of European spreadsheets. Quoted values may contain separators and
    line breaks.

    Args:
        path: path of the table, for messages.
        data: its bytes.
        wanted: expected column names; the separator that finds most of them wins.
        what: the table in words, for messages.
    """
    whole, notes = _decoded(path, data, what)
    text = whole.lstrip("\ufeff\r\n")  # also removes a second byte order mark and empty lines
    first, _, rest = text.partition("\n")
    forced = _SEP_LINE.fullmatch(first.rstrip("\r"))
    if forced:
        text = rest.lstrip("\r\n")
    if not text.strip():
        raise DataError(f"The {what} {path} is empty.")
    skipped = len(whole.splitlines()) - len(text.splitlines())
    separator = forced[1] if forced else _separator(text, wanted)
    records = [
        (line, record)
        for line, record in _records(path, text, separator)
        if any(cell and not cell.isspace() for cell in record)
    ]
    header = [name_of(name) for name in records[0][1]]
    check_title(path, [record for _, record in records[:HEADER_SEARCH]], wanted)
    rows: list[list[str]] = []
    numbers = []
    long = []  # lines with more values than the header row
    for line, record in records[1:]:
        if len(record) > len(header) and any(map(str.strip, record[len(header) :])):
            long.append(line)
        numbers.append(skipped + line)
        missing = len(header) - len(record)
        rows.append(record + [""] * missing if missing > 0 else record[: len(header)])
    if long:
        raise DataError(
            f"{path} cannot be read as a table (more values than the {len(header)} names of the "
            f"header row in line {listed(long)}). Quote values that contain the separator "
            f"{separator!r}."
        )
    return Cells(header=header, rows=rows, numbers=numbers, notes=notes)


def _decoded(path: Path, data: bytes, what: str) -> tuple[str, list[str]]:
    """Return the text, and a note if its encoding is a guess."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
        notes = []
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = "\0"
        notes = [f"{path.name} is not UTF-8 and was read as Windows-1252"]
    if "\0" in text:
        raise DataError(
            f"The {what} {path} is neither UTF-8, UTF-16 nor Windows-1252 text. "
            "Save it as CSV in UTF-8."
        )
    return text, notes


def _separator(text: str, wanted: Sequence[str]) -> str:
    """Return the separator that finds most of the wanted names in the header row.

    Values are not used for guessing: on short tables `csv.Sniffer` mistakes letters for the
    separator.
    """
    names = set(map(name_of, wanted))

    def rank(separator: str) -> tuple[int, int]:
        lines = io.StringIO(text, newline="")
        try:
            header = next(csv.reader(lines, delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            return 0, 0
        found = sum(name_of(name) in names for name in header)
        return found, len(header) if separator in _COMMON else 1

    return max(SEPARATORS, key=rank)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its last line, values) of each record.

    An unclosed quotation mark swallows rows up to the next one. Strict parsing detects this, but
    also rejects blanks after a closing mark; such a file is parsed leniently as long as no value
    spans lines.
    """
    limit = csv.field_size_limit(sys.maxsize)  # an unused column may contain a whole report
    try:
        try:
            return iter(list(_parsed(text, separator, strict=True)))
        except csv.Error:
            found = list(_parsed(text, separator, strict=False))
    except csv.Error as problem:
        raise DataError(f"{path} cannot be read as a table ({problem}).") from None
    finally:
        csv.field_size_limit(limit)
    spans = [
        line for line, record in found if any("\n" in cell or "\r" in cell for cell in record)
    ]
    if spans:
        raise DataError(
            f"{path} cannot be read as a table: unclosed quotation mark in a value that ends in "
            f"line {listed(spans)}. Close it, or write it twice inside a quoted value."
        )
    return iter(found)


def _parsed(text: str, separator: str, *, strict: bool) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=strict
    )
    for record in reader:
        yield reader.line_num, record
