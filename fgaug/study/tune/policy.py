"""Policies: which cells to train, and how far.

A policy is made once from the arms and asked again after every result. It keeps nothing between
two calls: the same results on disk give the same answer, whenever and in whichever order they
came, so a search that was cut short goes on as if it had not been. It knows nothing of what runs:
its caller skips the legs that are running already.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fgaug.grid.cells import CONTROLS, Cell

_ROUNDING = 1e-9  # shares are quotients: 7 / 21 may lie below 3 ** -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One point of the grid with all its seeds."""

    arm_id: str
    cell_ids: tuple[str, ...]  # in the order of seeds
    stoppable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProgress:
    """What is on disk of one cell.

    Training is deterministic, so a curve is true whatever became of its cell: give also what a
    failed, paused or pruned cell evaluated before it ended.
    """

    # ok: trained to its end, also by patience; failed: for good, retries are "none";
    # paused: has a checkpoint where the curve ends; pruned: the same, with a row; none: not begun
    status: str
    # (share of the budget, value) of its evaluations, shares rising in (0, 1]. The value is that
    # of the best look so far (lowest validation loss); larger is better; NaN where undefined.
    curve: tuple[tuple[float, float], ...]

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.status in ("ok", "failed")


NOTHING = CellProgress(status="none", curve=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a cell's training that is certain to be needed."""

    cell_id: str
    until: float  # train to the first evaluation at or after this share of the budget; 1: its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from the results so far."""

    legs: tuple[Segment, ...]  # all that may run now, most urgent first; one a cell at most
    stopped: Mapping[str, int]  # arm_id -> rung or round, from 0, after which the arm is out
    complete: bool  # nothing is left to run or to decide
    kept: frozenset[str] = frozenset()  # pruned cells that stay so, whatever their arms


class Policy(Protocol):
    """Decides what runs from what is on disk, and from nothing else."""

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return what may run now; a cell that `seen` lacks has not begun."""
        ...


class WholeCells:
    """Every cell to its end, or to one share of its budget, seeds outermost: no early stopping."""

    def __init__(self, arms: Sequence[Arm], until: float = 1.0) -> None:
        self.arms, self.until = tuple(arms), until

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return a leg for each cell that is neither ok nor failed."""
        legs = tuple(legs_to_the_end(self.arms, seen, self.until))
        return Decision(legs=legs, stopped={}, complete=not legs)


class SingleCells:
    """Every cell to its end, but what was pruned stays so: Ray's ASHA stops cells by itself.

    Its decisions hang on who came first, so they cannot be made again from the files, and are
    not taken back.
    """

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.arms = tuple(arms)

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return a leg for each cell that is not ok, failed or pruned."""
        kept = frozenset(cell_id for cell_id, cell in seen.items() if cell.status == "pruned")
        legs = tuple(leg for leg in legs_to_the_end(self.arms, seen) if leg.cell_id not in kept)
        return Decision(legs=legs, stopped={}, complete=not legs, kept=kept)


def stoppable(cell: Cell) -> bool:
    """Return whether a cell's arm may be stopped: others are not measured against it."""
    return cell.mode not in ("baseline", *CONTROLS) and not cell.spared


def arms_of(cells: Sequence[Cell]) -> tuple[Arm, ...]:
    """Return the arms of cells in the order of their first cells.

    The baseline and the controls are not stoppable: every comparison of the report needs them.
    """
    seeds: dict[str, list[Cell]] = {}
    for cell in cells:
        seeds.setdefault(cell.arm_id, []).append(cell)
    return tuple(
        Arm(
            arm_id=arm_id,
            cell_ids=tuple(cell.cell_id for cell in group),
            stoppable=stoppable(group[0]),
        )
        for arm_id, group in seeds.items()
    )


def legs_to_the_end(
    arms: Iterable[Arm], seen: Mapping[str, CellProgress], until: float = 1.0
) -> Iterator[Segment]:
    """Yield a leg for each cell that is not over, to the end or a share, seeds outermost."""
    for cell_id in seeds_outermost(arm.cell_ids for arm in arms):
        if not seen.get(cell_id, NOTHING).over:
            yield Segment(cell_id=cell_id, until=until)


def seeds_outermost(groups: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the first name of every group, then every second, as far as each group goes."""
    for names in itertools.zip_longest(*groups):
        yield from (name for name in names if name is not None)


def levels_of(eta: int, rungs: int) -> tuple[float, ...]:
    """Return the shares of the budget that rungs stand at, rising: `eta ** -(rungs - 1)` to 1."""
    return tuple(float(eta) ** (rung + 1 - rungs) for rung in range(rungs))


def reached(levels: Sequence[float], share: float) -> int:
    """Return how many of the levels lie at or below a share of the budget."""
    return bisect_right(levels, share + _ROUNDING)


def value_at(cell: CellProgress, share: float) -> float | None:
    """Return a cell's value at a share of the budget; None if it has not come so far.

    That is the value of its first evaluation at or after the share, however far it went on later;
    of a cell that ended earlier, by patience, the last one.
    """
    place = bisect_left(cell.curve, (share - _ROUNDING,))
    if place < len(cell.curve):
        return cell.curve[place][1]
    if cell.status == "ok":
        return cell.curve[-1][1] if cell.curve else math.nan
    return None


def check_seeds(arms: Iterable[Arm], min_seeds: int) -> None:
    """Refuse arms that can never be compared.

    Raises:
        ValueError: if a stoppable arm has fewer than `min_seeds` seeds.
    """
    if min_seeds < 1:
        raise ValueError(f"`min_seeds` must be at least 1, got {min_seeds}.")
    fewest = min((len(arm.cell_ids) for arm in arms if arm.stoppable), default=min_seeds)
    if fewest < min_seeds:
        seeds = f"{fewest} seed{'s' if fewest != 1 else ''}"
        raise ValueError(
            f"`min_seeds` is {min_seeds}, but an arm has {seeds}. "
            f"Give at least {min_seeds} seeds, or lower `min_seeds`."
        )
