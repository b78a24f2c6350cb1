"""Fake needs: what a bank holds and what the cells of a grid still need from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from fgaug import mix
from fgaug.axes import Split
from fgaug.bank import Demand, check_new, is_empty, open_bank, read_spec
from fgaug.cells import Cell
from fgaug.errors import BankError
from fgaug.fakes import FakeSource
from fgaug.keeping import KeepRate, keep_rates
from fgaug.paths import BankNames
from fgaug.screening import Screen

EMPTY = pd.DataFrame({"label": [], "psi": [], "z_seed": []})  # the index of a new bank


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeNeeds:
    """What the cells that use one fake source need from its bank."""

    source: FakeSource
    demand: Demand  # of all its cells
    present: int  # how many of those fakes the bank holds
    missing: Demand  # those of the cells to train that the bank lacks
    keep_rates: tuple[KeepRate, ...]  # of each filter, as far as its fakes are scored

    @property
    def missing_bytes(self) -> int:
        """Bytes of the missing fakes: as many in the bank as decoded in this machine's cache."""
        spec = self.source.spec
        return self.missing.count * spec.size**2 * spec.channels


def index_of(source: FakeSource) -> tuple[pd.DataFrame, list[str]]:
    """Return the index of a bank, empty where it is new, and what is wrong with the bank."""
    bank = source.store
    try:
        if not bank.has(BankNames.spec):
            check_new(bank)
            return EMPTY, []
        found = read_spec(bank).differences(source.spec)
        if found and not is_empty(bank):
            whose = "this grid" if source.snapshot is None else f"the snapshot {source.snapshot}"
            problem = (
                f"`{source.key}bank`: {bank.place()} holds other fakes: {'; '.join(found)}. Give "
                f"{whose} a bank of its own"
            )
            return EMPTY, [problem]
        if bank.has(BankNames.manifest):
            return open_bank(bank).index(), []
    except BankError as error:
        return EMPTY, [f"`{source.key}bank`: {error}"]
    return EMPTY, []


def needs_of(
    source: FakeSource,
    index: pd.DataFrame,
    cells: Iterable[Cell],
    todo: Iterable[Cell],
    reals: Mapping[Split, mix.Reals],
    pool: int,
    screens: Mapping[Split, Screen] | None = None,
) -> FakeNeeds:
    """Return what the cells that use a fake source need from its bank.

    A cell with a filter needs the fakes to be scored next until its draw is complete.

    Args:
        source: of the fakes; cells that use another one are left out.
        index: of its bank.
        cells: of the grid.
        todo: of them, those to train.
        reals: of each split.
        pool: fakes are drawn from z_seeds 1..pool.
        screens: tell which fakes pass a filter; None: by the scores on disk.
    """
    screens = source.screens(pool) if screens is None else screens
    own, waiting = (
        [cell for cell in of if cell.snapshot == source.snapshot] for of in (cells, todo)
    )
    needed = mix.demand(own, reals, pool, screens)
    # mostly all or none of them wait
    lacking = needed if waiting == own else mix.demand(waiting, reals, pool, screens)
    return FakeNeeds(
        source=source,
        demand=needed,
        present=needed.count - needed.minus(index).count,
        missing=lacking.minus(index),
        keep_rates=tuple(keep_rates(own, waiting, reals, screens, index)),
    )
