"""Text for the chapters on fakes: names of sets, shares with intervals, reasons."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fgaug.analysis.format import DASH, many, number, undefined

MOST_ROWS = 80
WORDS = ("label", "filter", "note", "stratum", "value", "in the fakes", "other network")


def set_columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the columns that name a set."""
    psis = [DASH if undefined(psi) else f"{psi:g}" for psi in frame["psi"]]
    return {"label": frame["label"], "ψ": psis, "filter": frame["filter"]}


def percent(value: Any) -> str:
    """Return a share with one decimal: `2.5%`."""
    return DASH if undefined(value) else f"{100 * value:.1f}%"


def percents(low: Any, high: Any) -> str:
    """Return an interval of shares."""
    return DASH if undefined(low) else f"{percent(low)} to {percent(high)}"


def ends(low: Any, high: Any) -> str:
    """Return an interval of numbers."""
    return DASH if undefined(low) else f"{number(low)} to {number(high)}"


def notes_of(frame: pd.DataFrame) -> list[str]:
    """Return why each row has no numbers; empty for a row that has."""
    return [each if isinstance(each, str) else "" for each in frame["reason"]]


def why(frame: pd.DataFrame, head: str) -> str:
    """Return a sentence with the reasons of rows without numbers."""
    reasons = list(dict.fromkeys(notes_of(frame))) if "reason" in frame else []
    return f"{head}: {' '.join(reasons[:3])}" if reasons else f"{head}."


def cut(text: pd.DataFrame, note: str) -> str:
    """Return a note, with a remark if the page cuts the table off."""
    if len(text) <= MOST_ROWS:
        return note
    return (
        f"Showing the first {MOST_ROWS} of {many(len(text), 'row')}; the CSV file lists all. "
        f"{note}"
    )


def without_empty_note(text: pd.DataFrame) -> pd.DataFrame:
    """Return a table without its column of notes if all notes are empty."""
    return text if text["note"].astype(bool).any() else text.drop(columns="note")
