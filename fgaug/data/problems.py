"""Collect all problems of an input and raise them as one DataError."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from fgaug.errors import DataError

SHOWN = 10  # names listed per kind of problem; the rest are counted


def listed(names: Iterable[object], most: int = SHOWN) -> str:
    """Return the first `most` names, and the number of further ones."""
    every = [str(name) for name in names]
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def counted(count: int, noun: str) -> str:
    """Return the count with its noun: `1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(name: str, known: Sequence[str]) -> str:
    """Suggest a similar known name, if there is one, and list the known names."""
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    hint = f', did you mean "{lower[close[0]]}"?' if close else "."
    return f"{hint} Choose from: {listed(known)}."


def refuse(where: str, problems: Sequence[str]) -> None:
    """Raise one DataError with every problem; return if there are none."""
    if problems:
        head = f"{where}: {counted(len(problems), 'problem')}"
        raise DataError("\n".join([head, *(f"  - {problem}" for problem in problems)]))
