"""What a round need not leave behind: fakes that no other cell trains on.

run, bank -> [forgetting], where `rounds.keep_shards` is false
"""

from __future__ import annotations

import numpy as np

from fgaug import mix
from fgaug.bank import Bank, drop_shards, open_bank
from fgaug.paths import BankNames
from fgaug.planning import Plan
from fgaug.stocks import FakeNeeds
from fgaug.waves import Wave


def forget_round(planned: Plan, wave: Wave) -> None:
    """Drop the shards of a round that all its cells are through with.

    Cells of the grid without rounds keep what they draw. What the fakes were scored stays: it says
    which ones were drawn.

    Args:
        planned: of the whole search, after the round.
        wave: the round.
    """
    rounds = wave.cells[0].rounds
    if rounds is None or rounds.keep_shards:
        return
    for needs in planned.needs:
        own = [cell for cell in wave.cells if cell.snapshot == needs.source.snapshot]
        if own and needs.source.store.has(BankNames.manifest):
            names = _only_of_round(planned, needs, open_bank(needs.source.store), wave)
            drop_shards(needs.source.store, needs.source.spec, names)


def _only_of_round(planned: Plan, needs: FakeNeeds, bank: Bank, wave: Wave) -> list[str]:
    """Return the shards whose fakes a round draws from and no cell without rounds does."""
    pool = planned.space.pool
    drawn = mix.drawn_from(wave.cells[0], pool)
    others = [
        cell
        for cell in planned.grid_cells
        if cell.snapshot == needs.source.snapshot and cell.uses_fakes and cell.rounds is None
    ]
    needed = mix.demand(others, planned.reals, pool, needs.source.screens(pool)).wanted
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
