"""The plan of a search: its cells, the fakes they need and the results so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from fgaug.bank import Demand
from fgaug.core.paths import RunPaths
from fgaug.data import Dataset
from fgaug.errors import GridError, UserError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.grid.space import Space
from fgaug.runs import reals
from fgaug.runs.fake_selection import FakeSelection
from fgaug.runs.row import TrialSources
from fgaug.study import fake_needs
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.precision import Choice
from fgaug.study.rounds import RemainingRounds, remaining_rounds
from fgaug.study.schedule import Wave

TRIAL_BYTES = 100_000  # row, curve and predictions of a trial with a thousand images


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `count`: a fixed subset of a grid's cells, independent of other cells."""

    number: int  # from 1
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a shard such as `3/16`.

        Raises:
            UserError: not two whole numbers K/N with 1 <= K <= N.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UserError(f"--shard must be K/N with 1 <= K <= N, such as 3/16, got {text}.")
        return cls(int(number), int(count))

    @property
    def name(self) -> str:
        """The name of the shard's lock, such as `3-of-16`."""
        return f"{self.number}-of-{self.count}"

    def of(self, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """Return the shard's cells: those whose cell_id modulo `count` is `number` - 1."""
        return tuple(c for c in cells if int(c.cell_id, 16) % self.count == self.number - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is decided before a search starts."""

    space: Space
    dataset: Dataset
    run: RunPaths
    cells: tuple[Cell, ...]  # of this shard
    grid_cells: tuple[Cell, ...]  # of the whole grid
    statuses: Mapping[str, str]  # ok, pruned or failed, for cells with a row
    stopped: frozenset[str]  # cells that the scheduler stops, given the results on disk
    needs: tuple[FakeNeeds, ...]  # one for each value of the axis `snapshot`
    sources: Mapping[str | None, TrialSources]  # by snapshot name
    reals: Mapping[Split, reals.Reals]
    # baselines whose classifiers score fakes, by split
    scoring: Mapping[Split, str] = field(default_factory=dict)
    precisions: tuple[Choice, ...] = ()  # what `precision: auto` stands for
    absent: tuple[str, ...] = ()  # what this machine lacks; only for dry runs by counts

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells that may need training, ordered by seed: neither ok nor stopped."""
        return tuple(c for c in self.cells if not is_over(c, self.statuses, self.stopped))

    @property
    def missing_bytes(self) -> int:
        """Disk space of the missing fakes, in the banks and decoded in this machine's cache."""
        return 2 * sum(self.bank_bytes(needs) for needs in self.needs)

    def bank_bytes(self, needs: FakeNeeds) -> int:
        """Return the minimum number of bytes a bank grows by, over all rounds."""
        rounds = self.rounds_left(needs)
        return max(needs.missing_bytes, rounds.least_bytes if rounds else 0)

    def rounds_left(self, needs: FakeNeeds) -> RemainingRounds | None:
        """Return the needs of the remaining rounds of the cells to train; None without rounds."""
        own = (cell for cell in self.todo if cell.source == needs.source.snapshot)
        return remaining_rounds(own, self.reals, self.space.pool, self.dataset.spec)

    def unscored(self, needs: FakeNeeds) -> dict[tuple[Split, str], Demand]:
        """Return the fakes of a bank to score next for the cells to train; see `fake_needs`."""
        source = needs.source
        own = (cell for cell in self.todo if cell.source == source.snapshot)
        return fake_needs.unscored(own, self.reals, source.screens(self.space.pool))

    def of_wave(self, wave: Wave) -> Plan:
        """Return the plan of one wave's cells, with the fakes missing from the banks now.

        Raises:
            GridError: a filter keeps too few fakes of the pool.
        """
        if wave.cells == self.cells:
            return self  # the only wave: the plan is still current
        here = replace(self, cells=wave.cells)
        indices = [fake_needs.index_of(each.source) for each in self.needs]
        if problems := [problem for _, wrong in indices for problem in wrong]:
            raise GridError(problems, self.space.name)
        pairs = zip(self.needs, indices, strict=True)
        return replace(
            here, needs=tuple(here.refreshed(each, index) for each, (index, _) in pairs)
        )

    def refreshed(
        self,
        needs: FakeNeeds,
        index: pd.DataFrame,
        screens: Mapping[Split, FakeSelection] | None = None,
    ) -> FakeNeeds:
        """Return the needs updated for the bank's current `index` and its scores or `screens`.

        Raises:
            GridError: a filter keeps too few fakes of the pool.
        """
        pool, source = self.space.pool, needs.source
        found = fake_needs.needs_of(
            source, index, self.cells, self.todo, self.reals, pool, screens
        )
        if short := [rate.problem for rate in found.keep_rates if rate.problem]:
            raise GridError(short, self.space.name)
        return found


def is_over(cell: Cell, statuses: Mapping[str, str], stopped: frozenset[str]) -> bool:
    status = statuses.get(cell.cell_id)
    return status == "ok" or (status == "pruned" and cell.cell_id in stopped)
