"""Turn the cells of box columns into boxes, or report every cell that is not a box."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fgaug.data.problems import shortened
from fgaug.data.reading.squares import Box
from fgaug.data.tables.box_columns import BoxColumns, order_of

_LOG = logging.getLogger("fgaug")
_BRACKETS = "[](){}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxCells:
    """The cells with the box of one image."""

    row: int  # of the file, from 1
    image: str  # for messages
    texts: tuple[str, ...]  # of `BoxColumns.every`


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBox:
    """A box, and the row of the table that it comes from."""

    row: int
    box: Box


def boxes_of(
    cells: Iterable[BoxCells], columns: BoxColumns, problems: list[str]
) -> tuple[list[RowBox | None], str]:
    """Return the box of each row, None where its cells are empty, and their units.

    Args:
        cells: one item per row.
        columns: what the cells mean.
        problems: collects rows that are not boxes: text, missing numbers, no area.
    """
    rows = list(cells)
    wrong: list[str] = []
    numbers = [_numbers(row, columns, wrong) for row in rows]
    known = [four for four in numbers if four is not None]
    units = columns.units or units_of(known, problems)
    boxes: list[RowBox | None] = []
    for row, four in zip(rows, numbers, strict=True):
        boxes.append(None if four is None else _row_box(row, four, columns, units, wrong))
    options = ["--box-format"] * columns.inferred + ["--box-units"] * (columns.units is None)
    by = ["the names of their columns"] * columns.inferred
    by += ["their numbers"] * (columns.units is None)
    if options and not problems and not wrong:
        _LOG.warning(
            "Boxes are read as %s (%s) in %s, by %s. %s.",
            columns.format,
            order_of(columns.format),
            "shares of the image's sides" if units == "shares" else "pixels",
            " and by ".join(by),
            " and ".join(options) + (" change that" if len(options) > 1 else " changes that"),
        )
    problems += shortened(wrong, "more rows with an unusable box")
    return boxes, units


def described(columns: BoxColumns, units: str) -> dict[str, Any]:
    """Return the entry of `dataset.json` on where boxes come from."""
    entry = {"columns": list(columns.names), "format": columns.format, "units": units}
    return entry | ({"size_columns": list(columns.size)} if columns.size is not None else {})


def units_of(boxes: Sequence[Sequence[float]], problems: list[str]) -> str:
    """Return `shares` if no number exceeds 1, else `pixels`; report a table with both.

    A box in pixels with four numbers up to 1 would be a single pixel, so both cannot be meant.
    """
    small = sum(max(four) <= 1 for four in boxes)
    if small == len(boxes):
        return "shares"
    if small or max(max(four) for four in boxes) <= 2:
        problems.append(
            "the numbers of the boxes do not tell whether they are pixels or shares of the image: "
            f"{small} of {len(boxes)} boxes have no number above 1. Give --box-units pixels or "
            "--box-units shares"
        )
    return "pixels"


def _numbers(row: BoxCells, columns: BoxColumns, wrong: list[str]) -> list[float] | None:
    """Return the four numbers of a row; None if it has no box, or an unusable one."""
    texts = list(row.texts[: len(columns.names)])
    if not any(texts):
        return None
    if len(texts) == 1:
        texts = [each for each in re.split(r"[,;\s]+", texts[0].strip(_BRACKETS + " ")) if each]
    try:
        four = [float(text) for text in texts]
    except ValueError:
        four = []
    if len(four) != 4 or not all(map(math.isfinite, four)):
        shown = ", ".join(text or "(empty)" for text in row.texts[: len(columns.names)])
        wrong.append(
            f"{_where(row)}: a box is four numbers, got {shown}. Correct the row, or leave all "
            "its box cells empty"
        )
        return None
    return four


def _row_box(
    row: BoxCells, four: Sequence[float], columns: BoxColumns, units: str, wrong: list[str]
) -> RowBox | None:
    a, b, c, d = four
    size: tuple[float, float] | tuple[None, None] = (None, None)
    if units == "shares":
        size = (1.0, 1.0)
    elif columns.size is not None:
        width, height = row.texts[len(columns.names) :]
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            wrong.append(
                f"{_where(row)}: {' and '.join(columns.size)} must be a width and a height in "
                f"pixels, got {width or '(empty)'} and {height or '(empty)'}"
            )
            return None
        size = (int(width), int(height))
    if columns.format == "xyxy":
        c, d = c - a, d - b
    elif columns.format == "cxcywh":
        a, b = a - c / 2, b - d / 2
    box = Box(x=a, y=b, width=c, height=d, of_width=size[0], of_height=size[1])
    if box.width <= 0 or box.height <= 0:
        shown = ", ".join(f"{number:g}" for number in four)
        wrong.append(
            f"{_where(row)}: the box {shown} ({columns.format}) is empty: its width is "
            f"{box.width:g}, its height {box.height:g}. Correct the row, or leave all its box "
            "cells empty"
        )
        return None
    return RowBox(row=row.row, box=box)


def _where(row: BoxCells) -> str:
    return f"row {row.row} ({row.image})"
