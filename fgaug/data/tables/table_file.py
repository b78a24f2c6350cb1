"""Read a table of the user: delimited text or an Excel workbook, recognised by its first bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from fgaug.core.first_bytes import identify_stream
from fgaug.data.tables.cells import Cells
from fgaug.data.tables.delimited import read_delimited
from fgaug.errors import DataError

# What to do with a file that is no table, by the kinds of `fgaug.core.first_bytes`.
_TO_CSV = "Export the table in it as CSV"
_AS_XLSX = "Save it as .xlsx, or as CSV in UTF-8"
_CURES = {
    "xls": "Save it as .xlsx without a password, or as CSV in UTF-8",
    **dict.fromkeys(("xlsb", "odf", "numbers"), _AS_XLSX),
    **dict.fromkeys(("docx", "pptx", "rtf"), "Save its table as .xlsx, or as CSV in UTF-8"),
    **dict.fromkeys(("pdf", "sqlite", "hdf5", "mat", "spss", "stata", "rdata"), _TO_CSV),
    "parquet": "Write it as CSV: pandas.read_parquet(...).to_csv(..., index=False)",
    "arrow": "Write it as CSV: pandas.read_feather(...).to_csv(..., index=False)",
    "pickle": "Export the table in it as CSV with the program that wrote it",
    **dict.fromkeys(("npy", "npz", "json", "xml"), "Write the table in it as CSV"),
    **dict.fromkeys(("png", "jpeg", "gif", "tiff", "webp"), "Give the table itself"),
}


def read_cells(
    path: Path, wanted: Sequence[str], sheet: str | None = None, *, what: str = "label table"
) -> Cells:
    """Return the cells of a text table or an Excel workbook (.xlsx), without empty rows.

    Args:
        path: the table; separators are comma, semicolon, tab, bar, colon or blank.
        wanted: expected column names, which identify the separator. Other columns are neither
            interpreted nor checked.
        sheet: of a workbook; None takes the first.
        what: the table in words, for messages.

    Raises:
        DataError: the file cannot be opened, or is not a table; the message says what it is.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        reason = problem.strerror or "unreadable"
        raise DataError(
            f"The {what} {path} cannot be opened ({reason}). Check its path."
        ) from None
    kind = identify_stream(io.BytesIO(data))
    if kind is not None and kind.name == "xlsx":
        from fgaug.data.tables.workbook import (
            read_workbook,  # loads openpyxl, which text tables do not need
        )

        cells = read_workbook(path, wanted, sheet)
    else:
        if kind is not None and kind.name not in ("text", "empty"):
            cure = kind.way_out(_CURES)
            raise DataError(f"{path} is {kind.what}, not a {what}. {cure}.")
        if sheet is not None:
            raise DataError(
                f"--sheet works only with workbooks, and {path} is text. Omit --sheet."
            )
        cells = read_delimited(path, data, wanted, what)
    if not cells.rows:
        raise DataError(f"{path} has a header row but no data rows. Add the rows.")
    return cells
