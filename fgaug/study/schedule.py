"""Waves: which cells of a search train together, one wave after the other.

First the baselines by which fakes are scored,
then all other cells, then those with rounds, round by round: what a wave needs of the bank is made
and scored before it trains.
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
    """Cells that train until they have used the same share of their budget."""

    cells: tuple[Cell, ...]
    until: float = 1.0
    round: int | None = None  # of cells with rounds


def waves_of(run: RunPaths, cells: Sequence[Cell], scoring: Collection[str]) -> Iterator[Wave]:
    """Yield each wave once its turn has come: what it consists of follows from the run's files.

    A cell that failed in its round is in no later one, and one that was cut short neither.

    Args:
        run: where the cells leave their files.
        cells: also those that need no training: a scheduler compares others with them.
        scoring: of them, those whose classifiers score the fakes of the others.
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
    """Return a cell with the round that it trains next; of one whose status is ok the last."""
    if cell.rounds is None:
        return cell
    share = 1.0 if status == "ok" else paused_share(run.trial(cell.cell_id))
    ends = [number / cell.last_round for number in range(1, cell.last_round + 1)]
    done = reached(ends, share)  # a round that is half through is not done
    return replace(cell, round=min(done + 1, cell.last_round))


def is_through(run: RunPaths, wave: Wave) -> bool:
    """Return whether each of a wave's cells has come to its end or failed: the next may begin."""
    statuses = statuses_of(run, [cell.cell_id for cell in wave.cells])
    waiting = (cell for cell in wave.cells if cell.cell_id not in statuses)
    shares = (paused_share(run.trial(cell.cell_id)) for cell in waiting)
    return all(share >= wave.until for share in shares)
