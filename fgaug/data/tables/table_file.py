"""Reads a label table: delimited text or an Excel workbook, told apart by the first bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from fgaug.core.first_bytes import identify_stream
from fgaug.data.tables.cells import Cells
from fgaug.data.tables.delimited import read_delimited
from fgaug.errors import DataError

# The cure for a file that is no label table, by the kinds of `fgaug.core.first_bytes`.
_TO_CSV = "Export the table in it as CSV"
_AS_XLSX = "Save it as .xlsx, or as CSV in UTF-8"
_CURES = {
    "xls": "Save it as .xlsx without a password, or as CSV in UTF-8",
    **dict.fromkeys(("xlsb", "odf", "numbers"), _AS_XLSX),
    **dict.fromkeys(("docx", "pptx", "rtf"), "Save its table as .xlsx, or as CSV in UTF-8"),
    **dict.fromkeys(("pdf", "sqlite", "hdf5", "mat", "spss", "stata", "rdata"), _TO_CSV),
    "parquet": "Write it as CSV: pandas.read_parquet(...).to_csv(..., index=False)",
    "arrow": "Write it as CSV: pandas.read_feather(...).to_csv(..., index=False)",
    "pickle": "Write the table in it as CSV where its program is known",
    **dict.fromkeys(("npy", "npz", "json", "xml"), "Write the table in it as CSV"),
    **dict.fromkeys(("png", "jpeg", "gif", "tiff", "webp"), "Give the table itself"),
}


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
    kind = identify_stream(io.BytesIO(data))
    if kind is not None and kind.name == "xlsx":
        from fgaug.data.tables.workbook import (
            read_workbook,  # loads openpyxl, which text does not need
        )

        cells = read_workbook(path, wanted, sheet)
    else:
        if kind is not None and kind.name not in ("text", "empty"):
            cure = kind.way_out(_CURES)
            raise DataError(f"{path} is {kind.what}, not a label table. {cure}.")
        if sheet is not None:
            raise DataError(f"--sheet names a sheet of a workbook, and {path} is text. Drop it.")
        cells = read_delimited(path, data, wanted)
    if not cells.rows:
        raise DataError(f"{path} has a header and no rows.")
    return cells
