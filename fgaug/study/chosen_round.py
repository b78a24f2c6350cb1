"""One round of cells that were trained round by round: `RUN:CELL@5`.  rows -> here -> comparing"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fgaug.errors import UserError


def split_round(text: str) -> tuple[str, int | None]:
    """Return what stands before `@` and the number of the round; None where none is named."""
    head, at, tail = text.rpartition("@")
    if not at or not tail.isascii() or not tail.isdecimal() or Path(text).exists():
        return text, None
    return head, int(tail)


def of_round(name: str, every: pd.DataFrame, chosen: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the rows of one round of some cells; of a cell without it the row that it has.

    Args:
        name: of the cells, for people.
        every: all rows of the run.
        chosen: of these, one a cell.
        number: of the round.

    Raises:
        UserError: as `in_round`.
    """
    mine = every[every["cell_id"].isin(chosen["cell_id"])]
    found = in_round(name, mine, number)
    without = chosen[~chosen["cell_id"].isin(found["cell_id"])]
    return every.loc[[*found.index, *without.index]]


def in_round(name: str, rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the rows of one round.

    Raises:
        UserError: there is none; it lists the rounds there are.
    """
    found = rows[rows["round"].eq(number)]
    if found.empty:
        raise UserError(no_such_round(name, rows["round"], number))
    return found


def no_such_round(name: str, rounds: pd.Series[float], number: int) -> str:
    """Return the message, with the rounds there are."""
    known = sorted({int(each) for each in rounds.dropna()})
    if not known:
        return f"{name} has no rounds: leave out @{number}."
    listed = ", ".join(map(str, known))
    return f"{name} has no round {number}. It has {listed}: give one of these behind @."
