"""Keep rates: the share of a bank that each filter keeps, and how many fakes a grid must make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from fgaug import mix
from fgaug.axes import Split
from fgaug.bank import Demand
from fgaug.cells import Cell
from fgaug.filters import parse
from fgaug.screening import PASSES, UNSCORED, Screen

LEVEL = 0.95  # of the interval of a keep rate

_Key = tuple[str, Split, str, float, int | None]  # filter, split, label, psi, round


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
    reals: Mapping[Split, mix.Reals],
    screens: Mapping[Split, Screen],
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
    cells: Iterable[Cell], reals: Mapping[Split, mix.Reals], screens: Mapping[Split, Screen]
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
