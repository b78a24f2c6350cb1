"""Reads a label table: delimited text or an Excel workbook, told apart by the first bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from fgaug.data.cells import Cells
from fgaug.data.delimited import read_delimited
from fgaug.errors import DataError

# first bytes -> what the file is, and the cure
_OTHER_FILES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook (.xls), or one with a password",
        "Save it as .xlsx without a password, or as CSV in UTF-8",
    ),
    (b"\x1f\x8b", "compressed by gzip", "Unpack it first (gunzip)"),
    (b"BZh", "compressed by bzip2", "Unpack it first (bunzip2)"),
    (b"\xfd7zXZ", "compressed by xz", "Unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "Unpack it first (unzstd)"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first"),
    (b"Rar!", "a RAR archive", "Unpack it first"),
    (b"PAR1", "a Parquet file", "Write it as CSV: pandas.read_parquet(...).to_csv(...)"),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV"),
    (b"%PDF", "a PDF", "Export the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "Export the table as CSV"),
    (b"\x93NUMPY", "a NumPy array", "Write the table as CSV"),
    (b"{\\rtf", "a text document (RTF)", "Save the table as CSV in UTF-8"),
    (b"$FL2", "an SPSS file", "Export the table as CSV"),
    (b"<stata_dta", "a Stata file", "Export the table as CSV"),
    (b"\x89PNG", "a PNG image", "Give the table itself"),
    (b"\xff\xd8\xff", "a JPEG image", "Give the table itself"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the table itself",
        "Fetch it with `git lfs pull`",
    ),
)
_OTHER_TEXTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("<!doctype html", "<html"), "a web page", "Download the table itself"),
    (("<?xml",), "an XML file", "Save the table as CSV in UTF-8"),
    (('{"', '[{"', "[[", "{\n", "[\n"), "a JSON file", "Write the table as CSV"),
)


def read_cells(path: Path, wanted: Sequence[str], sheet: str | None = None) -> Cells:
    """Return the cells of a text table or an Excel workbook (.xlsx); rows without any are dropped.

    Args:
        path: the table; comma, semicolon, tab, bar, colon or blank separate its values.
        wanted: names in the header: they tell separators apart. What stands in other columns
            is neither interpreted nor complained of.
        sheet: of a workbook; None takes the first.

    Raises:
        DataError: the file cannot be opened, or is something else; then it says what.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        reason = problem.strerror or "unreadable"
        raise DataError(f"The label table {path} cannot be opened ({reason}).") from None
    if data[:4] == b"PK\x03\x04":
        from fgaug.data.workbook import read_workbook  # loads openpyxl, which text does not need

        _check_workbook(path)
        cells = read_workbook(path, wanted, sheet)
    else:
        _check_text(path, data)
        if sheet is not None:
            raise DataError(f"--sheet names a sheet of a workbook, and {path} is text. Drop it.")
        cells = read_delimited(path, data, wanted)
    if not cells.rows:
        raise DataError(f"{path} has a header and no rows.")
    return cells


def _check_text(path: Path, data: bytes) -> None:
    """Refuse what is no text table, saying what it is."""
    for start, what, cure in _OTHER_FILES:
        if data.startswith(start):
            raise DataError(f"{path} is {what}, not a label table. {cure}.")
    head = data[:4096].decode("utf-8-sig", errors="replace").lstrip().lower()
    for starts, what, cure in _OTHER_TEXTS:
        if head.startswith(starts):
            raise DataError(f"{path} is {what}, not a label table. {cure}.")


def _check_workbook(path: Path) -> None:
    """Refuse a ZIP file that is no Excel workbook, saying what it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as problem:
        raise DataError(f"{path} is a damaged ZIP file or workbook ({problem}).") from None
    if "xl/workbook.xml" in names:
        return
    what, cure = "a ZIP archive", "Unpack it and give the table"
    if "xl/workbook.bin" in names:
        what, cure = "a binary Excel workbook (.xlsb)", "Save it as .xlsx, or as CSV in UTF-8"
    elif "content.xml" in names:
        what, cure = "an OpenDocument file (.ods)", "Save it as .xlsx, or as CSV in UTF-8"
    elif "word/document.xml" in names:
        what, cure = "a Word document", "Save its table as .xlsx, or as CSV in UTF-8"
    elif any(name.startswith("Index/") for name in names):
        what, cure = "a Numbers document", "Export it as .xlsx, or as CSV in UTF-8"
    raise DataError(f"{path} is {what}, not a label table. {cure}.")
