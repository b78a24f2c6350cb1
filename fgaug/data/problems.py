"""Problems: everything wrong with an input is collected, then raised once as a DataError."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from fgaug.errors import DataError

SHOWN = 10  # names quoted of one kind of problem; the rest is a count


def listed(names: Iterable[object], most: int = SHOWN) -> str:
    """Return the first names, ten if nothing else is said, and how many more there are."""
    every = [str(name) for name in names]
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def counted(count: int, noun: str) -> str:
    """Return `1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(name: str, known: Sequence[str]) -> str:
    """Return `, did you mean "x"?` where a known name comes near, and the known names."""
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    hint = f', did you mean "{lower[close[0]]}"?' if close else "."
    return f"{hint} There is: {listed(known)}."


def refuse(where: str, problems: Sequence[str]) -> None:
    """Raise one DataError with every problem; return if there is none."""
    if problems:
        head = f"{where}: {counted(len(problems), 'problem')}"
        raise DataError("\n".join([head, *(f"  - {problem}" for problem in problems)]))
