"""Waves: groups of cells that train together, one group after the other.

First come the baselines whose models score fakes, then all cells without rounds, then those with
rounds, round by round. The fakes of a wave are generated and scored before it trains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.runs.results import paused_share, statuses_of
from fgaug.study.tune.policy import reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Cells that train together to the same fraction of their budget."""

    cells: tuple[Cell, ...]
    until: float = 1.0
    round: int | None = None  # for cells with rounds


def waves_of(run: RunPaths, cells: Sequence[Cell], scoring: Collection[str]) -> Iterator[Wave]:
    """Yield the waves one by one, each determined from the run's files at its turn.

    A cell that failed or was interrupted in a round is not in any later round.

    Args:
        run: the run's folder.
        cells: all cells, including finished ones, which schedulers compare others with.
        scoring: ids of the cells whose classifiers score fakes.
    """
    first = tuple(cell for cell in cells if cell.cell_id in scoring)
    plain = tuple(cell for cell in cells if cell.rounds is None and cell.cell_id not in scoring)
    for of_wave in (first, plain):
        if of_wave:
            yield Wave(cells=of_wave)
    cascades = [cell for cell in cells if cell.rounds is not None]
    for number in range(1, max((cell.last_round for cell in cascades), default=0) + 1):
        statuses = statuses_of(run, [cell.cell_id for cell in cascades])
        left = [cell for cell in cascades if statuses.get(cell.cell_id) != "ok"]
        here = tuple(c for cell in left if (c := at_its_round(run, cell, None)).round == number)
        if here:
            yield Wave(cells=here, until=number / here[0].last_round, round=number)


def at_its_round(run: RunPaths, cell: Cell, status: str | None) -> Cell:
    """Return a cell set to its next round, or to its last one if its status is ok."""
    if cell.rounds is None:
        return cell
    share = 1.0 if status == "ok" else paused_share(run.trial(cell.cell_id))
    ends = [number / cell.last_round for number in range(1, cell.last_round + 1)]
    done = reached(ends, share)  # only complete rounds count
    return replace(cell, round=min(done + 1, cell.last_round))


def is_through(run: RunPaths, wave: Wave) -> bool:
    """Return whether every cell of a wave is finished or failed, so that the next may start."""
    statuses = statuses_of(run, [cell.cell_id for cell in wave.cells])
    waiting = (cell for cell in wave.cells if cell.cell_id not in statuses)
    shares = (paused_share(run.trial(cell.cell_id)) for cell in waiting)
    return all(share >= wave.until for share in shares)
