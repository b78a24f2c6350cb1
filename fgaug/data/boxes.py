"""Crop to boxes: take them from a table of their own, and decide what happens without one."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from fgaug.data.folders.finder import find_files
from fgaug.data.ingest import Ingested, with_box
from fgaug.data.problems import counted, listed, nearest, refuse
from fgaug.data.tables.box_columns import BoxColumns, box_columns
from fgaug.data.tables.boxes import boxes_of, described
from fgaug.data.tables.label_table import box_cells, require_columns
from fgaug.data.tables.table_file import read_cells
from fgaug.errors import DataError

_LOG = logging.getLogger("fgaug")
NO_BOX = ("keep", "drop")  # whole images, or none


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxRequest:
    """Where the boxes of a dataset come from."""

    columns: BoxColumns | None  # None: the preset has boxes of its own
    table: Path | None = None  # a table of boxes; None: the label table
    image_col: str = "image"  # of `table`
    no_box: str | None = None  # of NO_BOX; None refuses images without a box


def box_request(
    *,
    cols: str | None,
    format: str | None = None,
    units: str | None = None,
    size_cols: str | None = None,
    table: Path | None = None,
    image_col: str | None = None,
    no_box: str | None = None,
) -> BoxRequest | None:
    """Return the request of the options `--box-*`, or None if there is none.

    Args:
        cols: names of four columns, or of one, separated by commas.
        format: of `FORMATS`; see `box_columns`.
        units: of `UNITS`.
        size_cols: names of two columns, separated by commas.
        table: table with the boxes, if they are not in the label table.
        image_col: its column with the image names; None means `image`.
        no_box: what happens to images without a box: one of NO_BOX.
    """
    if no_box is not None and no_box not in NO_BOX:
        raise DataError(f'--no-box "{no_box}" is unknown{nearest(no_box, NO_BOX)}')
    if image_col is not None and table is None:
        raise DataError("--box-image-col names a column of --box-table. Give the table.")
    if cols is None:
        others: dict[str, object] = {"--box-format": format, "--box-units": units}
        others |= {"--box-size-cols": size_cols, "--box-table": table}
        if given := [name for name, value in others.items() if value is not None]:
            raise DataError(
                f"{' and '.join(given)} describes boxes, but no columns hold them. Name the "
                "columns with --box-cols."
            )
        return BoxRequest(columns=None, no_box=no_box) if no_box is not None else None
    columns = box_columns(
        cols.split(","),
        format=format,
        units=units,
        size=size_cols.split(",") if size_cols is not None else (),
    )
    return BoxRequest(columns=columns, table=table, image_col=image_col or "image", no_box=no_box)


def with_boxes(rows: Ingested, request: BoxRequest) -> Ingested:
    """Return the rows with the boxes of `request.table`, matched by image file.

    Rows of the table for images that are not in the dataset are counted in a warning.

    Raises:
        DataError: a name fits no image file or several, an image has several boxes, or a box is
            unusable.
    """
    table, columns = request.table, request.columns
    assert table is not None
    assert columns is not None
    wanted = [request.image_col, *columns.every()]
    cells = read_cells(table, wanted, what="box table")
    require_columns(table, cells, wanted)
    for note in cells.notes:
        _LOG.warning("%s.", note)
    of_rows = box_cells(cells, request.image_col, columns)
    problems: list[str] = []
    boxes, units = boxes_of(of_rows, columns, problems)
    found = pd.DataFrame({"image": [each.image for each in of_rows]})
    find_files(
        found, rows.root, problems, cure="Correct the names in the box table, or remove its rows"
    )
    problems += _several(found)
    refuse(str(table), problems)
    by_path = {str(path): box for path, box in zip(found["path"], boxes, strict=True)}
    files = tuple(
        with_box(file, by_path.pop(os.path.abspath(file.path), None)) for file in rows.files
    )
    if by_path:
        _LOG.warning(
            "%s: %s for images that are not in the dataset: %s.",
            table.name,
            counted(len(by_path), "row"),
            listed(Path(path).name for path in by_path),
        )
    source = {**rows.source, "boxes": {"table": table.name, **described(columns, units)}}
    return replace(rows, files=files, source=source)


def settle_missing(rows: Ingested, no_box: str | None) -> Ingested:
    """Return the rows to crop, after deciding what happens to images without a box.

    Args:
        rows: with boxes, for some or all images.
        no_box: `keep` keeps such images whole, `drop` leaves them out; None refuses them.
    """
    has = [file.box is not None for file in rows.files]
    without = [name for name, there in zip(rows.table["image_id"], has, strict=True) if not there]
    if not without:
        return rows
    what = f"{len(without)} of {counted(len(has), 'image')} without a box"
    if len(without) == len(has):
        raise DataError("No image has a box. Check --box-cols and the names of the images.")
    if no_box is None:
        raise DataError(
            f"{what}: {listed(without)}. Say what to do with them: --no-box keep (as whole "
            "images) or --no-box drop (leave them out)."
        )
    kept = {"keep": "kept whole", "drop": "left out"}[no_box]
    _LOG.warning("%s, %s: %s.", what, kept, listed(without))
    boxes = {**rows.source.get("boxes", {}), "no_box": no_box, "without": len(without)}
    rows = replace(rows, source={**rows.source, "boxes": boxes})
    if no_box == "keep":
        return rows
    _check_labels_left(rows, has)
    return replace(
        rows,
        table=rows.table[has].reset_index(drop=True),
        files=tuple(itertools.compress(rows.files, has)),
    )


def _several(found: pd.DataFrame) -> list[str]:
    again = found[found["path"].notna() & found["path"].duplicated(keep=False)]
    names = again["path"].map(lambda path: path.name).drop_duplicates()
    if names.empty:
        return []
    verb = "has" if len(names) == 1 else "have"
    return [
        f"{counted(len(names), 'image')} {verb} several rows: {listed(names)}. Keep one box for "
        "each image, for example the one with the highest confidence"
    ]


def _check_labels_left(rows: Ingested, stay: list[bool]) -> None:
    gone = sorted(set(rows.table["label"].dropna()) - set(rows.table.loc[stay, "label"].dropna()))
    if gone:
        raise DataError(
            f"No image with label {listed(gone)} has a box, so --no-box drop would remove the "
            "label. Use --no-box keep, or leave the label out with --keep-label."
        )
