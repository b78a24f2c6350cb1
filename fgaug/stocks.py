"""What a supply's bank holds, and what its cells lack of it.  supply -> [stocks] -> planning"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from fgaug import mix
from fgaug.axes import Split
from fgaug.bank import check_new, is_empty, open_bank, read_spec
from fgaug.cells import Cell
from fgaug.errors import BankError
from fgaug.fakes import Supply
from fgaug.keeping import keepings
from fgaug.paths import BankNames
from fgaug.screening import Screen

EMPTY = pd.DataFrame({"label": [], "psi": [], "z_seed": []})  # the index of a new bank


def index_of(supply: Supply, problems: list[str]) -> pd.DataFrame:
    """Return the index of a supply's bank, empty where it is new; refuse one of other fakes."""
    bank = supply.store
    try:
        if not bank.has(BankNames.spec):
            check_new(bank)
            return EMPTY
        found = read_spec(bank).differences(supply.spec)
        if found and not is_empty(bank):
            whose = "this grid" if supply.snapshot is None else f"the snapshot {supply.snapshot}"
            problems.append(
                f"`{supply.key}bank`: {bank.place()} holds other fakes: {'; '.join(found)}. Give "
                f"{whose} a bank of its own"
            )
        elif bank.has(BankNames.manifest):
            return open_bank(bank).index()
    except BankError as error:
        problems.append(f"`{supply.key}bank`: {error}")
    return EMPTY


def stocked(
    supply: Supply,
    index: pd.DataFrame,
    cells: Iterable[Cell],
    todo: Iterable[Cell],
    reals: Mapping[Split, mix.Reals],
    pool: int,
    screens: Mapping[Split, Screen] | None = None,
) -> Supply:
    """Return a supply with what its own of all cells, and of those to train, need of its bank.

    Cells with a filter need, until what they draw is whole, the fakes to be scored next;
    `screens` say what passes, those over the scores on disk where None.
    """
    screens = supply.screens(pool) if screens is None else screens
    own, waiting = (
        [cell for cell in of if cell.snapshot == supply.snapshot] for of in (cells, todo)
    )
    needed = mix.demand(own, reals, pool, screens)
    # mostly all or none of them wait
    lacking = needed if waiting == own else mix.demand(waiting, reals, pool, screens)
    return replace(
        supply,
        demand=needed,
        present=needed.count - needed.minus(index).count,
        missing=lacking.minus(index),
        kept=tuple(keepings(own, waiting, reals, screens, index)),
    )
