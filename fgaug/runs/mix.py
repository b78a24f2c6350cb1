"""Mixes: the real images and fakes that a cell trains on.

Plans hold row numbers and z_seeds, never pixels. Every draw is a prefix of a seeded permutation of
the whole pool, so at the same seed the draw of a small ratio is part of that of a larger one, and
other fakes in the bank have no influence.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fgaug.bank import Demand, PoolUnion
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

    real: np.ndarray  # int64, rows of the dataset's manifest, with repeats
    fakes: Mapping[str, np.ndarray]  # int64 z_seeds by label, in drawing order
    psi: Mapping[str, float]  # truncation of the fakes by label
    dropped: np.ndarray  # int64, rows of reals left out by `real_fraction` and removals

    @property
    def drawn(self) -> Iterator[tuple[str, float, np.ndarray]]:
        """The fakes as (label, psi, z_seeds), the form that banks take."""
        return ((label, self.psi[label], z_seeds) for label, z_seeds in self.fakes.items())

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
    """Return the training set of a cell.

    Args:
        cell: the cell.
        reals: of its split.
        pool: fakes are drawn from z_seeds 1..pool.
        screen: of its split and bank; required for cells with a filter.

    Raises:
        GridError: the cell needs more fakes than the pool holds, more removals than there are
            images, or repeats of a label without reals.
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
        return MixPlan(real=real, fakes={}, psi={}, dropped=dropped)
    if cell.mode == "synthetic":
        real = np.empty(0, np.int64)
        dropped = np.empty(0, np.int64)  # reals are not used at all
    else:
        real = np.concatenate(list(kept.values()))
    fakes: dict[str, np.ndarray] = {}
    if cell.uses_fakes:
        fakes = {label: _fakes(cell, reals, label, pool, screen) for label in reals.labels}
        fakes = {label: z_seeds for label, z_seeds in fakes.items() if len(z_seeds)}
    psi = {label: cell.psi_of(label) for label in fakes}
    return MixPlan(real=real, fakes=fakes, psi=psi, dropped=dropped)


def demand(
    cells: Iterable[Cell],
    reals: Mapping[Split, Reals],
    pool: int,
    screens: Mapping[Split, FakeSelection] | None = None,
) -> Demand:
    """Return all fakes that `cells` need next; `reals` and `screens` are given by split.

    These are the fakes they train on or, until the draw of a cell with a filter is complete, those
    to be scored for it.
    """
    return demands([cells], reals, pool, screens)[0]


def demands(
    several: Sequence[Iterable[Cell]],
    reals: Mapping[Split, Reals],
    pool: int,
    screens: Mapping[Split, FakeSelection] | None = None,
) -> list[Demand]:
    """Return the `demand` of several sets of cells, ordering the pool once per seed and label."""
    unions = [PoolUnion(pool) for _ in several]
    draws: dict[Hashable, _Draws] = {}
    amounts = _Amounts(reals, pool)
    for cells, union in zip(several, unions, strict=True):
        for cell in cells:
            if cell.filtered:
                assert screens is not None
                for part in to_screen(cell, reals[cell.view], screens[cell.split]):
                    union.add(*part)
            elif cell.uses_fakes:
                key = (cell.seed, cell.rounds and (cell.rounds.count, cell.round))
                here = draws.setdefault(key, _Draws(cell))
                for label, psi, wanted in amounts.of(cell):
                    here.add(union, label, psi, wanted)
    for here in draws.values():
        here.carry_out(pool)
    return [union.demand() for union in unions]


class _Amounts:
    """How many fakes of each label a cell draws, which its seed does not change."""

    def __init__(self, reals: Mapping[Split, Reals], pool: int) -> None:
        self.reals, self.pool = reals, pool
        self._known: dict[Hashable, list[tuple[str, float, int]]] = {}

    def of(self, cell: Cell) -> list[tuple[str, float, int]]:
        """Return (label, psi, number) of a cell without a filter."""
        size = cell.rounds and cell.rounds.size
        key = (cell.view, cell.psi, cell.psi_by_label, cell.ratio, cell.fakes, size)
        if key not in self._known:
            here = self.reals[cell.view]
            counts = {label: _wanted(cell, here, label, self.pool) for label in here.labels}
            # a label without fakes may have no psi
            self._known[key] = [(x, cell.psi_of(x), n) for x, n in counts.items() if n]
        return self._known[key]


class _Draws:
    """The draws of cells with one order of the pool: the longest contains all others."""

    def __init__(self, cell: Cell) -> None:
        """Start with the cell that gives the order."""
        self.cell = cell
        self._longest: dict[str, dict[tuple[PoolUnion, float], int]] = {}  # by label

    def add(self, union: PoolUnion, label: str, psi: float, wanted: int) -> None:
        longest = self._longest.setdefault(label, {})
        longest[union, psi] = max(wanted, longest.get((union, psi), 0))

    def carry_out(self, pool: int) -> None:
        """Add the draws to their unions."""
        for label, longest in self._longest.items():
            left = {key: n for key, n in longest.items() if not key[0].is_whole(label, key[1])}
            if left:  # else many seeds have drawn the whole pool
                ordered = order(self.cell, label, pool)
                for (union, psi), wanted in left.items():
                    union.add(label, psi, ordered[:wanted])


def to_screen(
    cell: Cell, reals: Reals, screen: FakeSelection
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Yield the (label, psi, z_seeds) that a cell with a filter needs next; see `demand`."""
    assert cell.filter is not None
    for label in reals.labels:
        psi, wanted = cell.psi_of(label), fakes_wanted(cell, reals, label)
        query = (cell.filter, label, psi, order(cell, label, screen.pool), wanted)
        draw = screen.draw(*query)
        yield label, psi, draw.z_seeds if draw.whole else screen.prefix(*query)


def order(cell: Cell, label: str, pool: int) -> np.ndarray:
    """Return the z_seeds of a pool, counted from 1, in the order in which a cell draws them.

    Every round has its own order.
    """
    of_cell = drawn_from(cell, pool)
    purpose = Stream.FAKES if cell.rounds is None else Stream.FAKES.of_round(cell.round)
    return permutation(cell.seed, purpose, label, len(of_cell)) + of_cell.start


def drawn_from(cell: Cell, pool: int) -> range:
    """Return the z_seeds that a cell draws from: the pool, or its round's block of the pool."""
    if cell.rounds is None:
        return range(1, pool + 1)
    return block(pool, cell.rounds.count, cell.round)


def sizes(cell: Cell, reals: Reals, pool: int) -> MixPlan:
    """Return a plan with the cell's numbers of images, ignoring its filter."""
    return plan(replace(cell, filter=NONE) if cell.filtered else cell, reals, pool)


def same_sizes(cell: Cell) -> Hashable:
    """Return a key that cells share if their mixes have equal numbers of images and problems."""
    by_seed = cell.real_fraction < 1 or (cell.remove is not None and cell.remove_by == "group")
    amount = (cell.ratio, cell.fakes, cell.rounds and (cell.rounds.size, cell.rounds.count))
    reals = (cell.view, cell.real_fraction, cell.remove, cell.remove_by)
    return cell.mode, amount, reals, cell.round, cell.seed if by_seed else None


def fakes_wanted(cell: Cell, reals: Reals, label: str) -> int:
    """Return the number of fakes (or repeats) of a label a cell adds: int(n_l x ratio) or a count.

    For cells with rounds, this is the number per round.
    """
    if cell.rounds is not None:
        return cell.rounds.size // len(reals.labels)
    if cell.fakes is not None:
        return dict(cell.fakes)[label]
    assert cell.ratio is not None
    return int(reals.count(label) * cell.ratio)


def check(cell: Cell, reals: Reals, pool: int) -> list[str]:
    """Return the problems of a cell's mix, one line each; empty if there are none.

    Filters are not considered here: see `study.fake_needs`.
    """
    if cell.rounds is not None and (bad := [*cell.rounds.misfits(pool, len(reals.labels))]):
        return bad
    try:
        mixed = sizes(cell, reals, pool)
    except GridError as error:
        return list(error.problems)
    if cell.uses_fakes and not mixed.n_fake:
        return [f"{cell.described} adds no fakes. Raise the ratio or the counts, or drop the mode"]
    return [
        f"{cell.described} leaves no training images of `{label}`. "
        "Add more fakes, or remove fewer reals"
        for label in reals.labels
        if not len(mixed.fakes.get(label, ())) and not np.isin(reals.rows(label), mixed.real).any()
    ]


def _fakes(
    cell: Cell, reals: Reals, label: str, pool: int, screen: FakeSelection | None
) -> np.ndarray:
    wanted = _wanted(cell, reals, label, pool)
    ordered = order(cell, label, pool)
    if not cell.filtered:
        return ordered[:wanted]
    assert screen is not None
    assert cell.filter is not None
    draw = screen.draw(cell.filter, label, cell.psi_of(label), ordered, wanted)
    if not draw.whole:
        raise BankError(
            f"{screen.store.place()} lacks scores that {cell.described} needs to select {wanted} "
            f"fakes of `{label}`. Run `fgaug search` on its grid to generate and score them"
        )
    return draw.z_seeds


def _wanted(cell: Cell, reals: Reals, label: str, pool: int) -> int:
    """Return `fakes_wanted`; raise GridError if the pool holds fewer."""
    wanted = fakes_wanted(cell, reals, label)
    if wanted > pool:
        raise GridError(
            [
                f"`pool` holds {pool} fakes per label, but {cell.described} needs {wanted} of "
                f"`{label}` ({reals.count(label)} real). Raise `pool` or lower the ratio"
            ]
        )
    return wanted


def _repeats(cell: Cell, label: str, rows: np.ndarray, wanted: int) -> np.ndarray:
    """Return `wanted` repeats of a label's reals: full passes over all, then a partial pass."""
    if wanted and not len(rows):
        raise GridError(
            [
                f"`controls: oversample` has no reals of `{label}` left to repeat for "
                f"{cell.described}. Remove fewer, or drop the control"
            ]
        )
    if not wanted:
        return np.empty(0, np.int64)
    order = rows[permutation(cell.seed, Stream.REPEATS, label, len(rows))]
    return np.resize(order, wanted)
