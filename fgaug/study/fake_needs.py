"""The fakes that a grid needs and a bank lacks.

With filters, that depends on their keep rates: the share of fakes that pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from fgaug.bank import Demand, check_new, is_empty, open_bank, read_spec
from fgaug.core.paths import BankNames
from fgaug.errors import BankError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.grid.filters import parse
from fgaug.runs import mix, reals
from fgaug.runs.fake_selection import PASSES, UNSCORED, FakeSelection
from fgaug.study.fake_source import FakeSource

EMPTY = pd.DataFrame({"label": [], "psi": [], "z_seed": []})  # the index of a new bank
LEVEL = 0.95  # of the interval of a keep rate
_Key = tuple[str, Split, str, float, int | None]  # filter, split, label, psi, round


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
    reals: Mapping[Split, reals.Reals],
    pool: int,
    screens: Mapping[Split, FakeSelection] | None = None,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRate:
    """How many fakes of one label and psi a filter keeps, and how many a grid needs."""

    filter: str
    split: Split  # whose training images the scorers learned from
    label: str
    psi: float
    round: int | None  # None for cells without rounds
    drawn: range  # the z_seeds of the pool that cells draw from: those of their round
    wanted: int  # fakes: the most that a cell draws
    scored: int  # of those
    passed: int
    to_score: int  # for the cells to train, at the rate so far; with no rate, the least
    to_make: int  # of those, what the bank lacks

    @property
    def pool(self) -> int:
        """How many fakes cells draw from."""
        return len(self.drawn)

    @property
    def rate(self) -> float:
        """The share that passes; NaN where nothing is scored."""
        return self.passed / self.scored if self.scored else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's interval of the rate, at LEVEL."""
        if not self.scored:
            return 0.0, 1.0
        found = scipy_stats.binomtest(self.passed, self.scored).proportion_ci(LEVEL, "exact")
        return float(found.low), float(found.high)

    @property
    def most(self) -> int:
        """How many of the pool can pass, by the upper end of that interval."""
        return self.passed + math.ceil((self.pool - self.scored) * self.interval[1])

    @property
    def problem(self) -> str | None:
        """Why its cells cannot be trained; None where they can, or nothing is known."""
        if self.most >= self.wanted:
            return None
        if self.round is None:
            pool, less = f"a `pool` of {self.pool}", "the ratio"
        else:
            pool = f"the {self.pool} of the pool that are for round {self.round}"
            less = "`rounds.size`"
        return (
            f"`filter` {self.filter} keeps {self.words}: of {pool} that is at "
            f"most {self.most}, but an arm needs {self.wanted}. Raise `pool`, lower {less}, "
            "or ask less of a fake"
        )

    @property
    def words(self) -> str:
        """The rate with its interval, for people."""
        if not self.scored:
            return f"an unknown share of `{self.label}` at psi {self.psi:g}"
        low, high = self.interval
        return (
            f"{self.passed} of {self.scored} fakes of `{self.label}` at psi {self.psi:g} "
            f"({100 * self.rate:.1f}%, {100 * LEVEL:g}% interval {100 * low:.1f} to "
            f"{100 * high:.1f}%)"
        )


def keep_rates(
    cells: Iterable[Cell],
    todo: Iterable[Cell],
    reals: Mapping[Split, reals.Reals],
    screens: Mapping[Split, FakeSelection],
    index: pd.DataFrame,
) -> Iterator[KeepRate]:
    """Yield what each filter of some cells keeps, for each split, label, psi (and round).

    Args:
        cells: of one bank; those without a filter are left out.
        todo: of them, those to train.
        reals: of each split.
        screens: of that bank, for each split.
        index: of that bank.
    """
    wanted: dict[_Key, int] = {}
    drawn: dict[_Key, range] = {}
    parts: dict[_Key, list[np.ndarray]] = {}
    for cell in cells:
        if cell.filtered:
            for label in reals[cell.split].labels:
                count = mix.fakes_wanted(cell, reals[cell.split], label)
                key = _key(cell, label)
                wanted[key] = max(count, wanted.get(key, 0))
                drawn[key] = mix.drawn_from(cell, screens[cell.split].pool)
    for cell in todo:
        if cell.filtered:
            for label, _, z_seeds in mix.to_screen(cell, reals[cell.split], screens[cell.split]):
                parts.setdefault(_key(cell, label), []).append(z_seeds)
    for key, count in wanted.items():
        text, split, label, psi, number = key
        every = screens[split].verdicts(text, label, psi)
        verdicts = every[drawn[key].start - 1 : drawn[key].stop - 1]
        asked = Demand.of((label, psi, z_seeds) for z_seeds in parts.get(key, []))
        left = Demand({at: z[every[z - 1] == UNSCORED] for at, z in asked.wanted.items()})
        yield KeepRate(
            filter=text,
            split=split,
            label=label,
            psi=psi,
            round=number,
            drawn=drawn[key],
            wanted=count,
            scored=int((verdicts != UNSCORED).sum()),
            passed=int((verdicts == PASSES).sum()),
            to_score=left.count,
            to_make=left.minus(index).count,
        )


def unscored(
    cells: Iterable[Cell],
    reals: Mapping[Split, reals.Reals],
    screens: Mapping[Split, FakeSelection],
) -> dict[tuple[Split, str], Demand]:
    """Return the fakes that cells need scored next, by split and name of the scorer."""
    parts: dict[tuple[Split, str], list[tuple[str, float, np.ndarray]]] = {}
    for cell in cells:
        if cell.filtered:
            assert cell.filter is not None
            screen = screens[cell.split]
            for label, psi, z_seeds in mix.to_screen(cell, reals[cell.split], screen):
                left = z_seeds[screen.verdicts(cell.filter, label, psi)[z_seeds - 1] == UNSCORED]
                for name in parse(cell.filter).scorers:
                    parts.setdefault((cell.split, name), []).append((label, psi, left))
    found = {key: Demand.of(of_key) for key, of_key in parts.items()}
    return {key: demand for key, demand in found.items() if demand.count}


def _key(cell: Cell, label: str) -> _Key:
    assert cell.filter is not None
    assert cell.psi is not None
    number = None if cell.rounds is None else cell.round
    return cell.filter, cell.split, label, cell.psi, number
