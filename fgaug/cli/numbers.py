"""Number formatting for the tables of comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

DASH = "-"  # an undefined value


def number(value: Any, digits: int = 4, *, sign: bool = False) -> str:
    """Format a number for a table; undefined and infinite values become a dash."""
    if value is None or value != value or abs(value) == float("inf"):
        return DASH
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries with string keys."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
