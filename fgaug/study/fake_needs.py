"""The fakes that a grid needs from its banks, and which of them are missing.

With filters, the need depends on their keep rates: the share of fakes that pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
from scipy import stats as scipy_stats

from fgaug.bank import Demand, PoolUnion, check_new, is_empty, open_bank, read_spec
from fgaug.core.paths import BankNames
from fgaug.errors import BankError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.grid.filters import parse
from fgaug.runs import mix, reals
from fgaug.runs.fake_selection import PASSES, UNSCORED, FakeSelection
from fgaug.study.fake_source import FakeSource

EMPTY = pd.DataFrame({"label": [], "psi": [], "z_seed": []})  # the index of a new bank
LEVEL = 0.95  # confidence level of keep rates
_Key = tuple[str, Split, str, float, int | None]  # filter, split, label, psi, round


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeNeeds:
    """What the cells that use one fake source need from its bank."""

    source: FakeSource
    demand: Demand  # all fakes of its cells
    present: int  # how many of them the bank holds
    missing: Demand  # fakes of the cells to train that the bank lacks
    keep_rates: tuple[KeepRate, ...]  # per filter, from the fakes scored so far

    @property
    def missing_bytes(self) -> int:
        """Bytes of the missing fakes in the bank; the cache takes as many again, decoded."""
        spec = self.source.spec
        return self.missing.count * spec.size**2 * spec.channels


def index_of(source: FakeSource) -> tuple[pd.DataFrame, list[str]]:
    """Return the index of a bank (empty if the bank is new) and the bank's problems."""
    bank = source.store
    try:
        if not bank.has(BankNames.spec):
            check_new(bank)
            return EMPTY, []
        found = read_spec(bank).differences(source.spec)
        if found and not is_empty(bank):
            owner = "this grid" if source.snapshot is None else f"the snapshot {source.snapshot}"
            problem = (
                f"`{source.key}bank`: {bank.place()} holds different fakes: {'; '.join(found)}. "
                f"Give {owner} its own bank"
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
    """Return the fakes that the cells of a fake source need from its bank.

    Until the draw of a cell with a filter is complete, it needs the fakes to be scored next.

    Args:
        source: the fake source; cells with another source are ignored.
        index: of the source's bank.
        cells: all cells of the grid.
        todo: the cells to train.
        reals: by split.
        pool: fakes are drawn from z_seeds 1..pool.
        screens: select the fakes that pass, by split; None: from the scores on disk.
    """
    screens = source.screens(pool) if screens is None else screens
    own, waiting = (
        [cell for cell in of if cell.source == source.snapshot] for of in (cells, todo)
    )
    # usually all or none of the cells are to be trained
    different = [waiting] if waiting != own else []
    needed, *rest = mix.demands([own, *different], reals, pool, screens)
    lacking = rest[0] if rest else needed
    return FakeNeeds(
        source=source,
        demand=needed,
        present=needed.count - needed.minus(index).count,
        missing=lacking.minus(index),
        keep_rates=tuple(keep_rates(own, waiting, reals, screens, index)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRate:
    """The share of fakes of one label and psi that a filter keeps, and the number needed."""

    filter: str
    split: Split  # the scorers were trained on its training images
    label: str
    psi: float
    round: int | None  # None for cells without rounds
    drawn: range  # z_seeds that cells draw from: the pool, or their round's block
    wanted: int  # the largest number of fakes that a cell draws
    scored: int  # fakes of `drawn` with a score
    passed: int  # fakes of `scored` that pass
    to_score: int  # fakes to score next for the cells to train; a minimum if the rate is unknown
    to_make: int  # how many of those the bank lacks

    @property
    def pool(self) -> int:
        """The number of fakes that cells draw from."""
        return len(self.drawn)

    @property
    def rate(self) -> float:
        """The share of scored fakes that pass; NaN if none is scored."""
        return self.passed / self.scored if self.scored else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The Clopper-Pearson confidence interval of the rate, at LEVEL."""
        if not self.scored:
            return 0.0, 1.0
        found = scipy_stats.binomtest(self.passed, self.scored).proportion_ci(LEVEL, "exact")
        return float(found.low), float(found.high)

    @property
    def most(self) -> int:
        """The largest plausible number of passing fakes, by the interval's upper limit."""
        return self.passed + math.ceil((self.pool - self.scored) * self.interval[1])

    @property
    def problem(self) -> str | None:
        """Why the cells cannot be trained; None if they can, or if nothing is known yet."""
        if self.most >= self.wanted:
            return None
        if self.round is None:
            pool, less = f"the `pool` of {self.pool}", "the ratio"
        else:
            pool, less = f"the {self.pool} of round {self.round}", "`rounds.size`"
        return (
            f"`filter` {self.filter} keeps {self.words}: at most {self.most} of {pool}, but an "
            f"arm needs {self.wanted}. Raise `pool`, lower {less}, or loosen the filter"
        )

    @property
    def words(self) -> str:
        """The rate with its confidence interval, as text."""
        if not self.scored:
            return f"an unknown share of `{self.label}` at psi {self.psi:g}"
        low, high = self.interval
        return (
            f"{self.passed} of {self.scored} fakes of `{self.label}` at psi {self.psi:g} "
            f"({100 * self.rate:.1f}%, {100 * LEVEL:g}% confidence interval {100 * low:.1f} to "
            f"{100 * high:.1f}%)"
        )


def keep_rates(
    cells: Iterable[Cell],
    todo: Iterable[Cell],
    reals: Mapping[Split, reals.Reals],
    screens: Mapping[Split, FakeSelection],
    index: pd.DataFrame,
) -> Iterator[KeepRate]:
    """Yield the keep rate of every filter, split, label, psi and round of the cells.

    Args:
        cells: all cells of one bank; cells without a filter are ignored.
        todo: the cells to train.
        reals: by split.
        screens: of the bank, by split.
        index: of the bank.
    """
    wanted: dict[_Key, int] = {}
    drawn: dict[_Key, range] = {}
    asked: dict[_Key, PoolUnion] = {}
    for cell in cells:
        if cell.filtered:
            for label in reals[cell.view].labels:
                count = mix.fakes_wanted(cell, reals[cell.view], label)
                key = _key(cell, label)
                wanted[key] = max(count, wanted.get(key, 0))
                drawn[key] = mix.drawn_from(cell, screens[cell.split].pool)
    for cell in todo:
        if cell.filtered:
            screen = screens[cell.split]
            for label, psi, z_seeds in mix.to_screen(cell, reals[cell.view], screen):
                union = asked.setdefault(_key(cell, label), PoolUnion(screen.pool))
                union.add(label, psi, z_seeds)
    for key, count in wanted.items():
        text, split, label, psi, number = key
        every = screens[split].verdicts(text, label, psi)
        verdicts = every[drawn[key].start - 1 : drawn[key].stop - 1]
        asked_for = asked[key].demand().wanted if key in asked else {}
        left = Demand({at: z[every[z - 1] == UNSCORED] for at, z in asked_for.items()})
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
    """Return the fakes to score next for the cells, by split and scorer name."""
    found: dict[tuple[Split, str], PoolUnion] = {}
    for cell in cells:
        if cell.filtered:
            assert cell.filter is not None
            screen = screens[cell.split]
            for label, psi, z_seeds in mix.to_screen(cell, reals[cell.view], screen):
                left = z_seeds[screen.verdicts(cell.filter, label, psi)[z_seeds - 1] == UNSCORED]
                for name in parse(cell.filter).scorers:
                    union = found.setdefault((cell.split, name), PoolUnion(screen.pool))
                    union.add(label, psi, left)
    demands = {key: union.demand() for key, union in found.items()}
    return {key: demand for key, demand in demands.items() if demand.count}


def _key(cell: Cell, label: str) -> _Key:
    assert cell.filter is not None
    number = None if cell.rounds is None else cell.round
    return cell.filter, cell.split, label, cell.psi_of(label), number
