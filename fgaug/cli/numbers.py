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


def p_text(value: Any) -> str:
    """Format a p value with two significant digits, never as 0."""
    if value is None or value != value:
        return DASH
    return f"{value:.4f}" if value >= 0.01 else f"{value:.2g}" if value > 0 else "< 1e-300"


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries with string keys."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
