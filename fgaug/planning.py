"""The plan of a search: every check before anything runs, then cells and the fakes they lack.

space, dataset, bank -> [planning] -> what `search` does and what `--dry-run` shows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from fgaug import checks, fakes, mix, paths, results
from fgaug.bank import BankSpec, Demand, Store
from fgaug.cells import Cell, Context, expand
from fgaug.data import Dataset, open_dataset
from fgaug.data.audit import audit
from fgaug.errors import DataError, GridError, UserError
from fgaug.fakes import Describe, listed
from fgaug.paths import RunPaths
from fgaug.rows import Sources
from fgaug.search import ledger
from fgaug.space import Space

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
    stopped: frozenset[str]  # arms that the scheduler stops, given what is on disk
    bank: Store | None
    bank_spec: BankSpec | None
    demand: Demand  # every fake of every cell
    present: int  # how many of those the bank holds
    missing: Demand  # those of `todo` that it lacks
    sources: Sources

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells that may need training, seeds outermost: not ok, and not of a stopped arm."""
        return tuple(c for c in self.cells if not _over(c, self.statuses, self.stopped))

    @property
    def missing_bytes(self) -> int:
        """Disk that the missing fakes take: in the bank and decoded in this machine's cache."""
        if self.bank_spec is None:
            return 0
        return 2 * self.missing.count * self.bank_spec.size**2 * self.bank_spec.channels


def make_plan(
    space: Space, out: Path | None, describe: Describe, shard: Shard | None = None
) -> Plan:
    """Return the plan of a grid, or of a fixed share of its cells.

    Raises:
        GridError: with everything that is wrong, each line a rule, a value and a cure.
    """
    problems: list[str] = []
    dataset = _dataset(space, problems)
    bank = fakes.bank_of(space, problems)
    generated = fakes.sources_by_label(space, dataset, bank, describe, problems)
    weights = checks.weights_of(space, dataset.spec, problems) if dataset else {}
    if problems or dataset is None:
        raise GridError(problems, space.name)
    context = Context(
        dataset_digest=dataset.spec.digest,
        generator=fakes.generator_identity(space, dataset, generated),
        pool=space.pool,
        weights=weights,
        imported=fakes.imported_digests(space, bank, generated),
    )
    every = expand(space, context)
    cells = every if shard is None else shard.of(every)
    if shard is not None and space.scheduler.type != "none":
        problems.append(
            f"`scheduler: {space.scheduler.type}` compares arms over all their seeds, which no "
            "shard sees. Leave --shard out, or the scheduler"
        )
    reals = mix.Reals(dataset.manifest, dataset.spec.labels)
    problems += _mix_problems(cells, reals, space.pool)
    spec, index = fakes.spec_and_index(space, dataset, bank, generated, problems)
    run = RunPaths(out or Path("runs") / space.name)
    checks.places(run, problems)
    leakage = checks.leakage(space, dataset, generated, bank, problems)
    if problems:
        raise GridError(problems, space.name)
    statuses = results.finished(run, [cell.cell_id for cell in cells])
    stopped = stopped_arms(space, run, cells, statuses)
    todo = [cell for cell in cells if not _over(cell, statuses, stopped)]
    demand = mix.demand(cells, reals, space.pool)
    plan = Plan(
        space=space,
        dataset=dataset,
        run=run,
        cells=cells,
        grid_cells=every,
        statuses=statuses,
        stopped=stopped,
        bank=bank,
        bank_spec=spec,
        demand=demand,
        present=demand.count - demand.minus(index).count,
        missing=mix.demand(todo, reals, space.pool).minus(index),
        sources=Sources(
            dataset=str(dataset.root.resolve()),
            bank=bank.uri if bank else None,
            pool=space.pool,
            leakage=leakage,
            dataset_digest=dataset.spec.digest,
            snapshots=" ".join(f"{label}:{s.sha256[:12]}" for label, s in generated.items()),
            gan_known=all(source.kind in ("phantom", "stub") for source in generated.values()),
        ),
    )
    checks.check_disk(space.name, _bytes_to_write(plan))
    return plan


def stopped_arms(
    space: Space, run: RunPaths, cells: tuple[Cell, ...], statuses: Mapping[str, str]
) -> frozenset[str]:
    """Return the arms that the grid's scheduler stops, given what is on disk.

    Raises:
        GridError: its arms have too few seeds for it.
    """
    try:
        policy = ledger.policy_of(space.scheduler, cells)
    except ValueError as error:
        raise GridError([f"`scheduler`: {error}"], space.name) from None
    seen = ledger.seen_of(run, cells, statuses, space.scheduler)
    return frozenset(policy.decide(seen).stopped)


def _over(cell: Cell, statuses: Mapping[str, str], stopped: frozenset[str]) -> bool:
    status = statuses.get(cell.cell_id)
    return status == "ok" or (status == "pruned" and cell.arm_id in stopped)


def _dataset(space: Space, problems: list[str]) -> Dataset | None:
    try:
        dataset = open_dataset(space.dataset)
    except DataError as error:
        problems.append(f"`dataset`: {error}")
        return None
    problems += [f"`dataset`: {problem}" for problem in audit(dataset)]
    labels = set(dataset.spec.labels)
    named = [("axes.fakes", set(counts)) for counts in space.axes.fakes]
    named += [("remove", set(removal)) for removal in space.removals]
    for place, entry in enumerate(space.include):
        named += [(f"include.{place}.fakes", set(counts)) for counts in entry.fakes]
        named += [(f"include.{place}.remove", set(removal)) for removal in entry.remove]
    for key, names in named:
        if names != labels:
            problems.append(
                f"`{key}` must name the labels {listed(labels)}, it names {listed(names)}"
            )
    return dataset


def _mix_problems(cells: tuple[Cell, ...], reals: mix.Reals, pool: int) -> list[str]:
    """Return what cannot be mixed, for the first seed of each arm where something cannot.

    Counts do not depend on the seed unless a share of the patients is drawn: the other arms are
    checked at one seed.
    """
    found: dict[str, list[str]] = {}  # by arm
    for cell in cells:
        if cell.arm_id not in found or (cell.real_fraction < 1 and not found[cell.arm_id]):
            found[cell.arm_id] = mix.check(cell, reals, pool)
    return list(dict.fromkeys(problem for problems in found.values() for problem in problems))


def _bytes_to_write(plan: Plan) -> dict[Path, int]:
    """Return the bytes a search adds below each folder."""
    needs = {plan.run.root: len(plan.todo) * TRIAL_BYTES}
    if plan.bank is not None:
        if plan.bank.folder is not None:
            needs[plan.bank.folder] = plan.missing_bytes // 2
        needs[paths.cache_root()] = plan.missing_bytes // 2
    return needs


def parallel_trials(space: Space, cpus: float, gpus: float) -> int:
    """Return how many trials run at once on so many cores and GPUs."""
    fits = cpus / space.resources.cpu
    if space.resources.gpu:
        share = space.resources.gpu
        fits = min(fits, gpus / share if share >= 1 else gpus * int(1 / share + 1e-9))
    return max(1, int(fits))


def cores() -> int:
    """Return the cores of this machine."""
    return psutil.cpu_count() or 1
