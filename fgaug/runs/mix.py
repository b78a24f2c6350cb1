"""Mixes: which real images and which fakes train a cell.

Plans hold row numbers and z_seeds, never pixels. Every draw is a prefix of a seeded permutation of
all there is, so a small ratio's draw is part of a larger one's at the same seed, and what else the
bank holds changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fgaug.bank import Demand
from fgaug.core.seeding import Stream, permutation
from fgaug.errors import BankError, GridError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.grid.filters import NONE
from fgaug.grid.rounds import block
from fgaug.runs.fake_selection import FakeSelection
from fgaug.runs.reals import Reals, removed_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPlan:
    """The training set of one cell."""

    real: np.ndarray  # int64, rows of the dataset's manifest; repeats are listed again
    fakes: Mapping[str, np.ndarray]  # int64 z_seeds by label, in drawing order
    psi: float  # truncation that the fakes are drawn at; NaN where there are none
    dropped: np.ndarray  # int64, rows of reals left out, by `real_fraction` and by removals

    @property
    def drawn(self) -> Iterator[tuple[str, float, np.ndarray]]:
        """The fakes as (label, psi, z_seeds), the way a bank is asked for them."""
        return ((label, self.psi, z_seeds) for label, z_seeds in self.fakes.items())

    @property
    def n_real(self) -> int:
        return len(self.real)

    @property
    def n_fake(self) -> int:
        return sum(len(z_seeds) for z_seeds in self.fakes.values())

    @property
    def n_dropped(self) -> int:
        return len(self.dropped)


def plan(cell: Cell, reals: Reals, pool: int, screen: FakeSelection | None = None) -> MixPlan:
    """Return the training set of a cell, to the letter of its mode.

    Args:
        cell: the cell.
        reals: of its split.
        pool: z_seeds that a label's fakes are drawn from.
        screen: of its split and bank; what a cell with a filter draws is in its scores.

    Raises:
        GridError: more fakes than the pool holds, more removals than there are images, or a label
            without a real to repeat.
        BankError: fakes that the cell may draw are not scored.
    """
    here = reals.share(cell.real_fraction, cell.seed)
    removed = {
        label: removed_rows(cell, label, here.removable(label), flagged=reals.any_flag)
        for label in reals.labels
    }
    kept = {
        label: np.setdiff1d(here.rows(label), removed[label], assume_unique=True)
        for label in reals.labels
    }
    out = [
        np.setdiff1d(reals.rows(label), rows, assume_unique=True) for label, rows in kept.items()
    ]
    dropped = np.concatenate(out)
    if cell.mode == "oversample":
        repeats: list[np.ndarray] = [
            _repeats(cell, label, kept[label], fakes_wanted(cell, reals, label))
            for label in reals.labels
        ]
        real = np.concatenate([*kept.values(), *repeats])
        return MixPlan(real=real, fakes={}, psi=math.nan, dropped=dropped)
    if cell.mode == "synthetic":
        real = np.empty(0, np.int64)
        dropped = np.empty(0, np.int64)  # none is used, so none is missed
    else:
        real = np.concatenate(list(kept.values()))
    fakes, psi = {}, math.nan
    if cell.uses_fakes:
        assert cell.psi is not None
        psi = cell.psi
        fakes = {label: _fakes(cell, reals, label, pool, screen) for label in reals.labels}
        fakes = {label: z_seeds for label, z_seeds in fakes.items() if len(z_seeds)}
    return MixPlan(real=real, fakes=fakes, psi=psi, dropped=dropped)


def demand(
    cells: Iterable[Cell],
    reals: Mapping[Split, Reals],
    pool: int,
    screens: Mapping[Split, FakeSelection] | None = None,
) -> Demand:
    """Return every fake that `cells` need next; `reals` and `screens` are those of each split.

    That is what they train on; of a cell with a filter, until what it draws is whole, the fakes
    to be scored for it.
    """
    parts: list[tuple[str, float, np.ndarray]] = []
    for cell in cells:
        if cell.filtered:
            assert screens is not None
            parts += to_screen(cell, reals[cell.split], screens[cell.split])
        elif cell.uses_fakes:
            parts += plan(cell, reals[cell.split], pool).drawn
    return Demand.of(parts)


def to_screen(
    cell: Cell, reals: Reals, screen: FakeSelection
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Yield (label, psi, z_seeds) that a cell with a filter needs next, see `demand`."""
    assert cell.filter is not None
    assert cell.psi is not None
    for label in reals.labels:
        wanted = fakes_wanted(cell, reals, label)
        asked = (cell.filter, label, cell.psi, order(cell, label, screen.pool), wanted)
        draw = screen.draw(*asked)
        yield label, cell.psi, draw.z_seeds if draw.whole else screen.prefix(*asked)


def order(cell: Cell, label: str, pool: int) -> np.ndarray:
    """Return the z_seeds of a pool in the order in which a cell draws them; they count from 1.

    In rounds, each has an order of its own.
    """
    of_cell = drawn_from(cell, pool)
    purpose = Stream.FAKES if cell.rounds is None else Stream.FAKES.of_round(cell.round)
    return permutation(cell.seed, purpose, label, len(of_cell)) + of_cell.start


def drawn_from(cell: Cell, pool: int) -> range:
    """Return the z_seeds that a cell draws from: the pool, in rounds its round's block of it."""
    if cell.rounds is None:
        return range(1, pool + 1)
    return block(pool, cell.rounds.count, cell.round)


def sizes(cell: Cell, reals: Reals, pool: int) -> MixPlan:
    """Return a plan of as many images as the cell's, whatever is scored: its filter left out."""
    return plan(replace(cell, filter=NONE) if cell.filtered else cell, reals, pool)


def fakes_wanted(cell: Cell, reals: Reals, label: str) -> int:
    """Return how many fakes (or repeats) of a label a cell adds: int(n_l x ratio) or the count.

    In rounds: those of one round.
    """
    if cell.rounds is not None:
        return cell.rounds.size // len(reals.labels)
    if cell.fakes is not None:
        return dict(cell.fakes)[label]
    assert cell.ratio is not None
    return int(reals.count(label) * cell.ratio)


def check(cell: Cell, reals: Reals, pool: int) -> list[str]:
    """Return why a cell cannot be mixed, one line a problem; empty where it can.

    What its filter keeps is not looked at: see `keeping`.
    """
    if cell.rounds is not None and (bad := [*cell.rounds.misfits(pool, len(reals.labels))]):
        return bad
    try:
        mixed = sizes(cell, reals, pool)
    except GridError as error:
        return list(error.problems)
    if cell.uses_fakes and not mixed.n_fake:
        return [f"{cell.described} adds no fake. Raise the ratio or the counts, or drop the mode"]
    return [
        f"{cell.described} leaves no training image of `{label}`. "
        "Raise its fakes, or remove fewer reals"
        for label in reals.labels
        if not len(mixed.fakes.get(label, ())) and not np.isin(reals.rows(label), mixed.real).any()
    ]


def _fakes(
    cell: Cell, reals: Reals, label: str, pool: int, screen: FakeSelection | None
) -> np.ndarray:
    wanted = fakes_wanted(cell, reals, label)
    if wanted > pool:
        raise GridError(
            [
                f"`pool` holds {pool} fakes a label, but {cell.described} needs {wanted} of "
                f"`{label}` ({reals.count(label)} real). Raise `pool` or lower the ratio"
            ]
        )
    ordered = order(cell, label, pool)
    if not cell.filtered:
        return ordered[:wanted]
    assert screen is not None
    assert cell.filter is not None
    assert cell.psi is not None
    draw = screen.draw(cell.filter, label, cell.psi, ordered, wanted)
    if not draw.whole:
        raise BankError(
            f"{screen.store.place()} lacks scores that {cell.described} needs to choose {wanted} "
            f"fakes of `{label}`. Run `fgaug search` of its grid: it makes and scores them"
        )
    return draw.z_seeds


def _repeats(cell: Cell, label: str, rows: np.ndarray, wanted: int) -> np.ndarray:
    """Return `wanted` repeats of a label's reals: whole passes first, then part of one."""
    if wanted and not len(rows):
        raise GridError(
            [
                f"`controls: oversample` has no real of `{label}` left to repeat "
                f"for {cell.described}"
            ]
        )
    if not wanted:
        return np.empty(0, np.int64)
    order = rows[permutation(cell.seed, Stream.REPEATS, label, len(rows))]
    return np.resize(order, wanted)
