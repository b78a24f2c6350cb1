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


class Further(str):
    """The line of a list for problems that it does not show; `refuse` counts each of them."""

    count_of_problems: int


def shortened(problems: Sequence[str], rest: str = "more", most: int = SHOWN) -> list[str]:
    """Return the first `most` problems, and a line that counts the others.

    Args:
        problems: one line each.
        rest: the words after the count, such as `more rows`.
        most: how many are shown.
    """
    left = len(problems) - most
    if left <= 0:
        return list(problems)
    line = Further(f"and {left} {rest}")
    line.count_of_problems = left
    return [*problems[:most], line]


def refuse(where: str, problems: Sequence[str], cure: str | None = None) -> None:
    """Raise one DataError with every problem; return if there are none.

    Args:
        where: the file or option that has the problems.
        problems: one line each, or shortened by `shortened`.
        cure: a last line that helps with all of them.
    """
    if not problems:
        return
    total = sum(
        problem.count_of_problems if isinstance(problem, Further) else 1 for problem in problems
    )
    lines = [f"{where}: {counted(total, 'problem')}", *(f"  - {problem}" for problem in problems)]
    raise DataError("\n".join(lines if cure is None else [*lines, cure]))
