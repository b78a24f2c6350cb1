"""The plan of a search: every check before anything runs, then cells and the fakes they lack.

space, dataset, bank -> [planning] -> what `search` does and what `--dry-run` shows
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from fgaug import checks, fakes, keeping, mix, packing, paths, results, stocks
from fgaug.axes import Split
from fgaug.bank import Demand
from fgaug.cascade import RemainingRounds, remaining_rounds
from fgaug.cells import Cell, cells_of
from fgaug.data import Dataset
from fgaug.errors import GridError, UserError
from fgaug.fakes import Describe, FakeSource, ScorerOf
from fgaug.machine.room import Room
from fgaug.paths import RunPaths
from fgaug.points import expand
from fgaug.rows import Sources
from fgaug.screening import Screen
from fgaug.search import ledger
from fgaug.space import Space
from fgaug.stocks import FakeNeeds
from fgaug.supplied import contexts_of, scoring_baselines, sources_of, with_scorers
from fgaug.waves import Wave, at_its_round

_log = logging.getLogger("fgaug")

NO_TEST = (
    "`confirmation` judges arms on the test set, and {} has none. Prepare it with one "
    "(`fgaug data prepare --test 0.2`), or leave `confirmation` out"
)
TRIAL_BYTES = 100_000  # row, curve and predictions of a trial of a thousand images


@dataclass(frozen=True, slots=True)
class Shard:
    """A fixed share of a grid's cells, whatever else it holds: the `number`-th of `count`."""

    number: int  # from 1
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `3/16` names.

        Raises:
            UserError: not two whole numbers, or out of range.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UserError(f"--shard is K/N with 1 <= K <= N, such as 3/16, got {text}.")
        return cls(int(number), int(count))

    @property
    def name(self) -> str:
        """The shard as its lock is named: `3-of-16`."""
        return f"{self.number}-of-{self.count}"

    def of(self, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """Return its cells: those whose identity, a number, leaves the shard's remainder."""
        return tuple(c for c in cells if int(c.cell_id, 16) % self.count == self.number - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is settled before a search starts."""

    space: Space
    dataset: Dataset
    run: RunPaths
    cells: tuple[Cell, ...]  # of this shard
    grid_cells: tuple[Cell, ...]  # of the whole grid
    statuses: Mapping[str, str]  # of cells that have a row: ok, pruned or failed
    stopped: frozenset[str]  # cells that the scheduler stops, given what is on disk
    needs: tuple[FakeNeeds, ...]  # one for each value of the axis `snapshot`
    sources: Mapping[str | None, Sources]  # of cells by the name of their snapshot
    reals: Mapping[Split, mix.Reals]
    # cells whose classifiers score fakes, by split: baselines
    scoring: Mapping[Split, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()  # what is not on this machine; only a dry run goes without

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells that may need training, seeds outermost: not ok, and not of a stopped arm."""
        return tuple(c for c in self.cells if not _over(c, self.statuses, self.stopped))

    @property
    def missing_bytes(self) -> int:
        """Disk that the missing fakes take: in banks and decoded in this machine's cache."""
        return 2 * sum(self.bank_bytes(needs) for needs in self.needs)

    def bank_bytes(self, needs: FakeNeeds) -> int:
        """Return at least how many bytes a bank grows by, all rounds together."""
        rounds = self.rounds_left(needs)
        return max(needs.missing_bytes, rounds.least_bytes if rounds else 0)

    def rounds_left(self, needs: FakeNeeds) -> RemainingRounds | None:
        """Return what the remaining rounds of the cells to train need; None without rounds."""
        own = (cell for cell in self.todo if cell.snapshot == needs.source.snapshot)
        return remaining_rounds(own, self.reals, self.space.pool, self.dataset.spec)

    def unscored(self, needs: FakeNeeds) -> dict[tuple[Split, str], Demand]:
        """Return the fakes of a bank that cells to train need scored next; see `keeping`."""
        source = needs.source
        own = (cell for cell in self.todo if cell.snapshot == source.snapshot)
        return keeping.unscored(own, self.reals, source.screens(self.space.pool))

    def of_wave(self, wave: Wave) -> Plan:
        """Return the plan of one wave's cells, and what the banks lack for them as they are now.

        Raises:
            GridError: a filter keeps too few of the pool.
        """
        if wave.cells == self.cells:
            return self  # as it was planned: there is no wave before it
        here = replace(self, cells=wave.cells)
        indices = [stocks.index_of(each.source) for each in self.needs]
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
        screens: Mapping[Split, Screen] | None = None,
    ) -> FakeNeeds:
        """Return the needs as the bank is now: by its `index`, and its scores or `screens`.

        Raises:
            GridError: a filter keeps too few of the pool.
        """
        pool, source = self.space.pool, needs.source
        found = stocks.needs_of(source, index, self.cells, self.todo, self.reals, pool, screens)
        if short := [rate.problem for rate in found.keep_rates if rate.problem]:
            raise GridError(short, self.space.name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A grid on a dataset: its cells and what makes their fakes, before any run is looked at."""

    cells: tuple[Cell, ...]
    fake_sources: tuple[FakeSource, ...]  # with their scorers
    scoring: Mapping[Split, str]  # cells whose classifiers score fakes, by split
    splits: Mapping[Split, Dataset]
    reals: Mapping[Split, mix.Reals]
    scratch: tuple[str, ...]  # models that start from scratch as their weights are not here
    problems: tuple[str, ...]  # of the cells, to be reported with those of later checks


def draft(
    space: Space,
    dataset: Dataset,
    describe: Describe,
    scorer_of: ScorerOf,
    problems: Iterable[str],
    keep: Callable[[Cell], bool] | None = None,
) -> Draft:
    """Return the cells of a grid on a dataset, the grid expanded once.

    Args:
        space: the grid.
        dataset: of the grid, or rows that stand for it.
        describe: as of `make_plan`.
        scorer_of: as of `make_plan`.
        problems: found before; reported with those of networks, banks and models.
        keep: the cells that the grid consists of; None: all.

    Raises:
        GridError: with what is wrong so far, if anything is.
    """
    points = expand(space)
    fake_sources, wrong = fakes.fake_sources_of(space, dataset.spec, describe)
    weights = checks.weights_of(points, dataset)
    if found := [*problems, *wrong, *weights.problems]:
        raise GridError(found, space.name)
    scoring = scoring_baselines(space, points, dataset, weights.identities)
    fake_sources, found = with_scorers(space, dataset, fake_sources, scorer_of, scoring)
    if found:
        raise GridError(found, space.name)
    contexts, found = contexts_of(space, dataset, fake_sources, weights.identities)
    cells = cells_of(space, points, contexts)
    cells = cells if keep is None else tuple(filter(keep, cells))
    if space.confirmation is not None and not (dataset.manifest["split"] == "test").any():
        found.append(NO_TEST.format(space.dataset))
    drawn = dict.fromkeys(cell.split for cell in cells)
    splits = {split: dataset.with_split(split) for split in drawn}
    return Draft(
        cells=cells,
        fake_sources=fake_sources,
        scoring=scoring,
        splits=splits,
        reals={name: mix.Reals(of.manifest, dataset.spec.labels) for name, of in splits.items()},
        scratch=weights.scratch,
        problems=tuple(found),
    )


def make_plan(
    space: Space,
    out: Path | None,
    describe: Describe,
    scorer_of: ScorerOf,
    shard: Shard | None = None,
    keep: Callable[[Cell], bool] | None = None,
    room: Room | None = None,
) -> Plan:
    """Return the plan of a grid, or of some of its cells.

    Args:
        space: the grid.
        out: the run's folder, `runs/<name>` where None.
        describe: a label and a generator -> what makes its fakes, by content.
        scorer_of: name, grid, a split of the dataset and a fake source -> the scorer.
        shard: a fixed share of the cells.
        keep: of which cells the grid is to consist; None: all.
        room: what trials may use; None where that does not matter, or is known later.

    Raises:
        GridError: with everything that is wrong, each line a rule, a value and a cure.
    """
    problems = checks.logger_problems(space)
    problems += room.misfits(space.resources) if room is not None else []
    dataset, wrong = checks.dataset_of(space)
    problems += wrong
    if dataset is None:
        _, wrong = fakes.fake_sources_of(space, None, describe)
        raise GridError([*problems, *wrong], space.name)
    drafted = draft(space, dataset, describe, scorer_of, problems, keep)
    checks.warn_of_scratch(drafted.scratch)
    every, scoring, reals = drafted.cells, drafted.scoring, drafted.reals
    cells = every if shard is None else shard.of(every)
    problems = [*drafted.problems]
    problems += [] if shard is None else _shard_problems(space, scoring)
    if scoring and space.confirmation is not None:
        problems.append(
            "`scorers.classifier: baseline` is of this stage's seeds, and `confirmation` has "
            "others. Keep a baseline's model by a grid of its own, and give it as model:FILE"
        )
    problems += checks.split_problems(drafted.splits)
    problems += checks.mix_problems(cells, reals, space.pool)
    if not problems:
        checks.warn_of_large_batches(cells, reals, space.pool)
    indices = []
    for source in drafted.fake_sources:
        index, wrong = stocks.index_of(source)
        indices.append(index)
        problems += wrong
    run = RunPaths(out or Path("runs") / space.name)
    problems += checks.place_problems(run)
    sources, leaks = sources_of(space, dataset, every, drafted.fake_sources, drafted.splits)
    if problems or leaks:
        raise GridError([*problems, *leaks], space.name)
    if space.scheduler.type == "asha":
        _log.warning(ledger.ASHA_CAUTION)
    statuses = results.finished(run, [cell.cell_id for cell in cells])
    cells = tuple(at_its_round(run, cell, statuses.get(cell.cell_id)) for cell in cells)
    if unkept := _unkept(run, scoring, statuses):
        raise GridError(unkept, space.name)
    stopped = stopped_cells(space, run, cells, statuses)
    todo = [cell for cell in cells if not _over(cell, statuses, stopped)]
    needs = tuple(
        stocks.needs_of(source, index, cells, todo, reals, space.pool)
        for source, index in zip(drafted.fake_sources, indices, strict=True)
    )
    if short := [rate.problem for each in needs for rate in each.keep_rates if rate.problem]:
        raise GridError(short, space.name)
    plan = Plan(
        space=space,
        dataset=dataset,
        run=run,
        cells=cells,
        grid_cells=every,
        statuses=statuses,
        stopped=stopped,
        needs=needs,
        sources=sources,
        reals=reals,
        scoring=scoring,
    )
    checks.check_disk(space.name, _bytes_to_write(plan))
    return plan


def _shard_problems(space: Space, scoring: Mapping[Split, str]) -> list[str]:
    """Return why the cells of a grid cannot be divided among shards."""
    problems = []
    if space.scheduler.type != "none":
        problems.append(
            f"`scheduler: {space.scheduler.type}` compares a cell with those of the whole grid, "
            "which no shard sees. Leave --shard out, or the scheduler"
        )
    if scoring or (space.rounds and not space.rounds.keep_shards):
        key = "scorers.classifier: baseline" if scoring else "rounds.keep_shards: false"
        problems.append(
            f"`{key}` has the cells of a grid wait for each other, which shards do not. Leave "
            "--shard out, or the key"
        )
    return problems


def _unkept(run: RunPaths, scoring: Mapping[Split, str], statuses: Mapping[str, str]) -> list[str]:
    """Return which baselines score fakes but were trained before their models were kept."""
    return [
        f"`scorers.classifier: baseline` wants the model of cell {cell_id}, which was trained "
        f"without keeping it. Remove {run.trial(cell_id).root}; it is trained again"
        for cell_id in dict.fromkeys(scoring.values())
        if statuses.get(cell_id) == "ok" and not run.trial(cell_id).model.is_file()
    ]


def stopped_cells(
    space: Space, run: RunPaths, cells: tuple[Cell, ...], statuses: Mapping[str, str]
) -> frozenset[str]:
    """Return the cells that the grid's scheduler stops, given what is on disk.

    Raises:
        GridError: its arms have too few seeds for it.
    """
    try:
        return ledger.stopped_cells(run, cells, statuses, space.scheduler)
    except ValueError as error:
        raise GridError([f"`scheduler`: {error}"], space.name) from None


def _over(cell: Cell, statuses: Mapping[str, str], stopped: frozenset[str]) -> bool:
    status = statuses.get(cell.cell_id)
    return status == "ok" or (status == "pruned" and cell.cell_id in stopped)


def _bytes_to_write(plan: Plan) -> dict[Path, int]:
    """Return the bytes a search adds below each folder."""
    found = {plan.run.root: len(plan.todo) * TRIAL_BYTES}
    sizes = [plan.bank_bytes(needs) for needs in plan.needs]
    for needs, size in zip(plan.needs, sizes, strict=True):
        if needs.source.store.folder is not None:
            found[needs.source.store.folder] = size
    if plan.needs:
        found[paths.cache_root()] = sum(sizes)  # decoded
    return found


def parallel_trials(space: Space, cpus: float, gpus: float) -> int:
    """Return how many trials run at once on so many cores and GPUs; `auto` is assumed."""
    asked = space.resources
    held = packing.assumed(gpus) if isinstance(asked, str) else asked
    fits = cpus / held.cpu
    if held.gpu:
        share = held.gpu
        fits = min(fits, gpus / share if share >= 1 else gpus * int(1 / share + 1e-9))
    return max(1, int(fits))
