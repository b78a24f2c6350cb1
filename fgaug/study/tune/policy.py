"""Policies: which cells to train, and how far.

A policy is built once from the arms and called again after every result. It is stateless: the same
results on disk give the same decision, regardless of when and in which order they arrived, so an
interrupted search resumes as if it had never stopped. It does not know what is running; its caller
skips segments that already are.
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
    cell_ids: tuple[str, ...]  # ordered by seed
    stoppable: bool
    folds: int = 1  # cells per seed


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProgress:
    """The progress of one cell on disk.

    Training is deterministic, so curves stay valid: include the evaluations of failed, paused and
    pruned cells too.
    """

    # ok: fully trained, also by patience; failed: with no retries left, else "none";
    # paused: has a checkpoint at the end of the curve; pruned: the same, with a row; none: new
    status: str
    # (fraction of the budget, value) of its evaluations, fractions increasing in (0, 1]. The value
    # is that of the best evaluation so far (lowest validation loss); larger is better; may be NaN
    curve: tuple[tuple[float, float], ...]

    @property
    def over(self) -> bool:
        """Whether training is over."""
        return self.status in ("ok", "failed")


NOTHING = CellProgress(status="none", curve=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a cell's training that is certain to be needed."""

    cell_id: str
    until: float  # train to the first evaluation at or after this fraction of the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision of a policy on the results so far."""

    legs: tuple[Segment, ...]  # segments that may run now, most urgent first; at most one per cell
    stopped: Mapping[str, int]  # by arm_id: rung or round, from 0, after which the arm stopped
    complete: bool  # nothing left to run or decide
    kept: frozenset[str] = frozenset()  # pruned cells that stay pruned


class Policy(Protocol):
    """Decides what to train, based only on the results on disk."""

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return what may run now; cells missing from `seen` have not started."""
        ...


class WholeCells:
    """Trains every cell fully, or to one fraction of its budget, ordered by seed."""

    def __init__(self, arms: Sequence[Arm], until: float = 1.0) -> None:
        self.arms, self.until = tuple(arms), until

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return a segment for each cell that is neither ok nor failed."""
        legs = tuple(legs_to_the_end(self.arms, seen, self.until))
        return Decision(legs=legs, stopped={}, complete=not legs)


class SingleCells:
    """Trains every cell fully unless it was pruned; for Ray's ASHA, which stops cells itself.

    ASHA's decisions depend on the order of arrival, so they cannot be reproduced from the files
    and are final.
    """

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.arms = tuple(arms)

    def decide(self, seen: Mapping[str, CellProgress]) -> Decision:
        """Return a segment for each cell that is not ok, failed or pruned."""
        kept = frozenset(cell_id for cell_id, cell in seen.items() if cell.status == "pruned")
        legs = tuple(leg for leg in legs_to_the_end(self.arms, seen) if leg.cell_id not in kept)
        return Decision(legs=legs, stopped={}, complete=not legs, kept=kept)


def stoppable(cell: Cell) -> bool:
    """Return whether a cell's arm may be stopped, because no other arm is compared with it."""
    return cell.mode not in ("baseline", *CONTROLS) and not cell.spared


def arms_of(cells: Sequence[Cell]) -> tuple[Arm, ...]:
    """Return the arms of cells, ordered by their first cells.

    Baselines and controls are not stoppable, because the report's comparisons need them.
    """
    seeds: dict[str, list[Cell]] = {}
    for cell in cells:
        seeds.setdefault(cell.arm_id, []).append(cell)
    return tuple(
        Arm(
            arm_id=arm_id,
            cell_ids=tuple(cell.cell_id for cell in group),
            stoppable=stoppable(group[0]),
            folds=len({cell.fold for cell in group}),
        )
        for arm_id, group in seeds.items()
    )


def legs_to_the_end(
    arms: Iterable[Arm], seen: Mapping[str, CellProgress], until: float = 1.0
) -> Iterator[Segment]:
    """Yield a segment for each unfinished cell, to the fraction `until`, ordered by seed."""
    for cell_id in seeds_outermost(arm.cell_ids for arm in arms):
        if not seen.get(cell_id, NOTHING).over:
            yield Segment(cell_id=cell_id, until=until)


def seeds_outermost(groups: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the first name of every group, then the second of every group, and so on."""
    for names in itertools.zip_longest(*groups):
        yield from (name for name in names if name is not None)


def levels_of(eta: int, rungs: int) -> tuple[float, ...]:
    """Return the budget fractions of the rungs, increasing from `eta ** -(rungs - 1)` to 1."""
    return tuple(float(eta) ** (rung + 1 - rungs) for rung in range(rungs))


def reached(levels: Sequence[float], share: float) -> int:
    """Return how many levels lie at or below a fraction of the budget."""
    return bisect_right(levels, share + _ROUNDING)


def value_at(cell: CellProgress, share: float) -> float | None:
    """Return a cell's value at a fraction of the budget; None if it has not got there yet.

    This is the value of the first evaluation at or after the fraction; for a cell that ended
    earlier by patience, the last value.
    """
    place = bisect_left(cell.curve, (share - _ROUNDING,))
    if place < len(cell.curve):
        return cell.curve[place][1]
    if cell.status == "ok":
        return cell.curve[-1][1] if cell.curve else math.nan
    return None


def check_seeds(arms: Iterable[Arm], min_seeds: int) -> None:
    """Check that arms have enough seeds to be compared.

    Raises:
        ValueError: a stoppable arm has fewer than `min_seeds` seeds.
    """
    if min_seeds < 1:
        raise ValueError(f"`min_seeds` must be at least 1, got {min_seeds}.")
    seeds_of = (len(arm.cell_ids) // arm.folds for arm in arms if arm.stoppable)
    fewest = min(seeds_of, default=min_seeds)
    if fewest < min_seeds:
        seeds = f"{fewest} seed{'s' if fewest != 1 else ''}"
        raise ValueError(
            f"`min_seeds` is {min_seeds}, but an arm has {seeds}. "
            f"Give at least {min_seeds} seeds, or lower `min_seeds`."
        )
