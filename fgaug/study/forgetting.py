"""Drops the shards of a finished round that no other cell trains on (`keep_shards: false`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fgaug import mix
from fgaug.axes import Split
from fgaug.bank import Bank, drop_shards, open_bank
from fgaug.cells import Cell
from fgaug.fakes import FakeSource
from fgaug.paths import BankNames
from fgaug.waves import Wave


def drop_round_shards(
    sources: Iterable[FakeSource],
    cells: Sequence[Cell],
    wave: Wave,
    reals: Mapping[Split, mix.Reals],
    pool: int,
) -> None:
    """Drop the shards of a round that all its cells have trained on.

    Cells without rounds keep what they draw. The scores of the fakes stay: they tell which fakes
    were drawn.

    Args:
        sources: of the grid's fakes.
        cells: of the whole grid.
        wave: the round, trained by all its cells.
        reals: of each split.
        pool: fakes are drawn from z_seeds 1..pool.
    """
    rounds = wave.cells[0].rounds
    if rounds is None or rounds.keep_shards:
        return
    for source in sources:
        if not source.store.has(BankNames.manifest):
            continue
        if any(cell.snapshot == source.snapshot for cell in wave.cells):
            others = [
                cell
                for cell in cells
                if cell.snapshot == source.snapshot and cell.uses_fakes and cell.rounds is None
            ]
            needed = mix.demand(others, reals, pool, source.screens(pool)).wanted
            names = _only_of_round(wave, open_bank(source.store), needed, pool)
            drop_shards(source.store, source.spec, names)


def _only_of_round(
    wave: Wave, bank: Bank, needed: Mapping[tuple[str, float], np.ndarray], pool: int
) -> list[str]:
    """Return the shards that a round draws from and no cell without rounds needs."""
    drawn = mix.drawn_from(wave.cells[0], pool)
    index = bank.index()
    psis = {cell.psi for cell in wave.cells}
    names = []
    for name, rows in index[index["psi"].isin(psis)].groupby("shard"):
        key = (str(rows["label"].iloc[0]), float(rows["psi"].iloc[0]))
        z_seeds = rows["z_seed"].to_numpy()
        inside = drawn.start <= z_seeds.min() and z_seeds.max() < drawn.stop
        if inside and not np.isin(z_seeds, needed.get(key, np.empty(0, np.int64))).any():
            names.append(str(name))
    return names
