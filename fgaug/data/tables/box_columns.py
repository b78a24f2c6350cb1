"""Which columns of a table hold boxes, and what their numbers mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fgaug.data.problems import nearest, refuse
from fgaug.errors import DataError

# What the four numbers of a box are. xywh starts at the left upper corner, cxcywh at the centre.
FORMATS = ("xywh", "xyxy", "cxcywh")
UNITS = ("pixels", "shares")  # shares of the image's width and height, from 0 to 1

# The names that each number may have, without prefixes, blanks and case.
_X1, _Y1 = {"x", "x1", "x0", "xmin", "minx", "left"}, {"y", "y1", "y0", "ymin", "miny", "top"}
_X2, _Y2 = {"x2", "xmax", "maxx", "right"}, {"y2", "ymax", "maxy", "bottom"}
_CX = {"cx", "xc", "xcenter", "xcentre", "centerx", "centrex"}
_CY = {"cy", "yc", "ycenter", "ycentre", "centery", "centrey"}
_W, _H = {"w", "width"}, {"h", "height"}
_NAMES = {
    "xywh": (_X1, _Y1, _W, _H),
    "xyxy": (_X1, _Y1, _X2, _Y2),
    "cxcywh": (_CX | {"x"}, _CY | {"y"}, _W, _H),
}
_KNOWN = _X1 | _Y1 | _X2 | _Y2 | _CX | _CY | _W | _H
_NUMBERED = re.compile(r"(.*?[a-z])([0-9]+)")
_PREFIX = re.compile(r"^(?:bbox|box|bb|roi|crop|brain|head)(?=.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxColumns:
    """The columns with the boxes of a table."""

    names: tuple[str, ...]  # four columns, or one that holds four numbers
    format: str  # of FORMATS
    units: str | None = None  # of UNITS; None: by the numbers, see `units_of`
    # Columns with the width and height, in pixels, of the image that the box was drawn on. None:
    # it was drawn on the image file itself.
    size: tuple[str, str] | None = None
    inferred: bool = False  # the format is that of the names; nobody stated it

    def every(self) -> list[str]:
        """Return all columns to read."""
        return [*self.names, *(self.size or ())]


def box_columns(
    names: Sequence[str],
    *,
    format: str | None = None,
    units: str | None = None,
    size: Sequence[str] = (),
) -> BoxColumns:
    """Return the columns with a known format, or refuse those whose meaning is unclear.

    Args:
        names: four columns in the order of the format, or one column with four numbers.
        format: one of FORMATS; None takes the only one that fits the names. `x, y, w, h` is xywh.
        units: one of UNITS; None decides by the numbers.
        size: the columns with width and height of the image that boxes were drawn on, if any.
    """
    names, size = [name.strip() for name in names], [name.strip() for name in size]
    problems = []
    if len(names) not in (1, 4) or not all(names) or len(set(names)) != len(names):
        problems.append(
            "--box-cols must name four different columns such as x,y,w,h or xmin,ymin,xmax,ymax, "
            f"or one column that holds four numbers, got {','.join(names) or 'none'}"
        )
    if size and (len(size) != 2 or not all(size)):
        problems.append(
            "--box-size-cols must name two columns such as width,height, got " + ",".join(size)
        )
    for option, value, known in (
        ("--box-format", format, FORMATS),
        ("--box-units", units, UNITS),
    ):
        if value is not None and value not in known:
            problems.append(f'{option} "{value}" is unknown{nearest(value, known)}')
    if size and units == "shares":
        problems.append("--box-size-cols apply to pixels, not to --box-units shares: omit one")
    refuse("Boxes", problems)
    return BoxColumns(
        names=tuple(names),
        format=_format_of(names, format),
        units=units,
        size=(size[0], size[1]) if size else None,
        inferred=format is None,
    )


def _format_of(names: Sequence[str], given: str | None) -> str:
    shown = ",".join(names)
    fitting = [each for each in FORMATS if _fits(names, each, all_known=given is None)]
    if given is not None:
        if given not in fitting:
            raise DataError(
                f"--box-cols {shown} contradicts --box-format {given}. Name the columns in the "
                f"order of the format ({order_of(given)}), or correct --box-format."
            )
        return given
    if len(names) == 1 or not fitting:
        raise DataError(
            f"The names of --box-cols {shown} do not tell what the numbers are. Name the columns "
            "in the order of the format, and give --box-format: "
            + "; ".join(f"{each} ({order_of(each)})" for each in FORMATS)
            + "."
        )
    return fitting[0]


def _fits(names: Sequence[str], format: str, *, all_known: bool) -> bool:
    """Return whether the names may be those of a format, in its order.

    Args:
        names: of the columns.
        format: one of FORMATS.
        all_known: refuse names that mean nothing to us, instead of accepting them anywhere.
    """
    plain = _without_shared_number([_plain(name) for name in names])
    if len(plain) == 1:
        return not all_known
    if format == "xyxy" and plain == ["x0", "y0", "x1", "y1"]:
        return True
    return all(
        name in known or (name not in _KNOWN and not all_known)
        for name, known in zip(plain, _NAMES[format], strict=True)
    )


def _without_shared_number(names: list[str]) -> list[str]:
    """Return names without a number that all of them end in: that of a second box, say."""
    parts = [_NUMBERED.fullmatch(name) for name in names]
    if len({part and part[2] for part in parts}) != 1:
        return names
    return [part[1] for part in parts if part is not None] or names


def _plain(name: str) -> str:
    return _PREFIX.sub("", re.sub(r"[^a-z0-9]", "", name.lower()))


def order_of(format: str) -> str:
    """Return the meaning of the four numbers in words."""
    return {
        "xywh": "left, top, width, height",
        "xyxy": "left, top, right, bottom",
        "cxcywh": "centre x, centre y, width, height",
    }[format]
