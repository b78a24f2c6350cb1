"""Rounds: the fakes that later rounds need, and the shards to drop after a round.

With a filter the need is known only as a range, from the fakes that a round trains on to all that
it may draw from. With `rounds.keep_shards: false`, finished rounds drop their shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fgaug.bank import Bank, Demand, drop_shards, open_bank
from fgaug.core.paths import BankNames
from fgaug.data import DatasetSpec
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.runs import mix, reals
from fgaug.study.fake_source import FakeSource
from fgaug.study.schedule import Wave


@dataclass(frozen=True, slots=True, kw_only=True)
class RemainingRounds:
    """The remaining rounds of the cells of one fake source, and the fakes they need."""

    cells: int
    rounds: int  # the most that any cell has left
    size: int  # fakes per label that a cell trains on in a round
    block: int  # z_seeds per label that a round draws from, disjoint from other rounds
    z_seeds: int  # per label, over the remaining rounds
    least: int  # minimum images of all labels and psis, over the remaining rounds
    most: int  # maximum, likewise
    most_of_round: int  # maximum for one round
    image_bytes: int  # per image
    keeps: bool  # whether the bank keeps a round's shards

    @property
    def least_bytes(self) -> int:
        """Minimum peak size of the bank; the cache takes as much again, decoded."""
        return self._largest(self.least)

    @property
    def most_bytes(self) -> int:
        """Maximum peak size of the bank."""
        return self._largest(self.most)

    def _largest(self, images: int) -> int:
        held = images if self.keeps else min(images, self.most_of_round)
        return held * self.image_bytes


def remaining_rounds(
    cells: Iterable[Cell], reals: Mapping[Split, reals.Reals], pool: int, spec: DatasetSpec
) -> RemainingRounds | None:
    """Return the needs of the cells' remaining rounds; None if no cell has rounds.

    Args:
        cells: cells to train of one fake source, each at its next round.
        reals: by split.
        pool: fakes are drawn from z_seeds 1..pool.
        spec: of the dataset.
    """
    own = [cell for cell in cells if cell.rounds is not None]
    if not own or own[0].rounds is None:
        return None
    rounds, labels = own[0].rounds, spec.labels
    first = min(cell.round for cell in own)
    block = len(mix.drawn_from(own[0], pool))
    least = most = most_of_round = 0
    for number in range(first, rounds.count + 1):
        here = [replace(cell, round=number) for cell in own if cell.round <= number]
        drawn = list(_drawn(here, reals, pool))
        low = Demand.of(drawn).count
        filtered = {
            (label, cell.psi_of(label)) for cell in here if cell.filtered for label in labels
        }
        plain = [part for part in drawn if part[:2] not in filtered]
        high = Demand.of(plain).count + len(filtered) * block
        least, most, most_of_round = least + low, most + high, max(most_of_round, high)
    left = rounds.count + 1 - first
    return RemainingRounds(
        cells=len(own),
        rounds=left,
        size=rounds.size // len(labels),
        block=block,
        z_seeds=left * block,
        least=least,
        most=most,
        most_of_round=most_of_round,
        image_bytes=spec.size**2 * spec.channels,
        keeps=rounds.keep_shards,
    )


def _drawn(
    cells: list[Cell], reals: Mapping[Split, reals.Reals], pool: int
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Yield the fakes that cells draw, ignoring filters."""
    for cell in cells:
        yield from mix.sizes(cell, reals[cell.view], pool).drawn


def drop_round_shards(
    sources: Iterable[FakeSource],
    cells: Sequence[Cell],
    wave: Wave,
    reals: Mapping[Split, reals.Reals],
    pool: int,
) -> None:
    """Drop the shards of a round that all its cells have finished.

    Keeps shards with fakes of cells without rounds, and all scores, which determine the fakes that
    were drawn.

    Args:
        sources: the grid's fake sources.
        cells: of the whole grid.
        wave: the finished round.
        reals: by split.
        pool: fakes are drawn from z_seeds 1..pool.
    """
    rounds = wave.cells[0].rounds
    if rounds is None or rounds.keep_shards:
        return
    for source in sources:
        if not source.store.has(BankNames.manifest):
            continue
        if any(cell.source == source.snapshot for cell in wave.cells):
            others = [
                cell
                for cell in cells
                if cell.source == source.snapshot and cell.uses_fakes and cell.rounds is None
            ]
            needed = mix.demand(others, reals, pool, source.screens(pool)).wanted
            names = _only_of_round(wave, open_bank(source.store), needed, pool)
            drop_shards(source.store, source.spec, names)


def _only_of_round(
    wave: Wave, bank: Bank, needed: Mapping[tuple[str, float], np.ndarray], pool: int
) -> list[str]:
    """Return the shards within a round's block that no cell without rounds needs."""
    drawn = mix.drawn_from(wave.cells[0], pool)
    index = bank.index()
    mine = {
        (label, cell.psi_of(label))
        for cell in wave.cells
        for label in bank.spec.sources
        if cell.uses_fakes and (cell.psi_by_label is None or label in dict(cell.psi_by_label))
    }
    names = []
    for name, rows in index.groupby("shard"):
        key = (str(rows["label"].iloc[0]), float(rows["psi"].iloc[0]))
        if key not in mine:
            continue
        z_seeds = rows["z_seed"].to_numpy()
        inside = drawn.start <= z_seeds.min() and z_seeds.max() < drawn.stop
        if inside and not np.isin(z_seeds, needed.get(key, np.empty(0, np.int64))).any():
            names.append(str(name))
    return names
