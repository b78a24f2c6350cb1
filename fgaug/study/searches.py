"""A search from its grid to its rows: plan, fill, train.  grid -> [searches] -> run"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from fgaug import cluster, pixels, planning, results, run_folder
from fgaug.bank import Source
from fgaug.planning import Plan, Shard
from fgaug.space import Generator, Space, load_space
from fgaug.study.banks import fill_bank
from fgaug.study.models import prune_models

if TYPE_CHECKING:
    from gan_worker.sources import LabelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run on disk and how complete it is."""

    root: Path
    ok: int
    pruned: int
    failed: int
    missing: int

    @property
    def exit_code(self) -> int:
        """0 complete, 1 failures, 3 incomplete."""
        return 3 if self.missing else 1 if self.failed else 0

    def results(self) -> pd.DataFrame:
        """Return one row a trial; see `load_results`."""
        return results.load_results(self.root)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves of all trials."""
        return results.load_curves(self.root)

    def predictions(self) -> pd.DataFrame:
        """Return the validation predictions of all trials."""
        return results.load_predictions(self.root)


def plan(
    grid: str | Path | Space, out: str | Path | None = None, shard: Shard | None = None
) -> Plan:
    """Return the plan of a grid, all checks made; see `planning.make_plan`."""
    space = grid if isinstance(grid, Space) else load_space(Path(grid))
    place = Path(out) if out is not None else None
    planned = planning.make_plan(space, place, _describe, shard)
    if planned.missing.count:
        from gan_worker.sources import check_sources

        assert planned.bank_spec is not None
        check_sources(_label_sources(planned), planned.bank_spec, planned.bank)
    return planned


def search(
    grid: str | Path | Space,
    out: str | Path | None = None,
    *,
    dashboard: bool = True,
    console: Console | None = None,
    address: str | None = None,
    shard: Shard | None = None,
    retries: int = 1,
    log: str = "auto",
) -> Run:
    """Train every cell of a grid that has no finished row, filling its bank first.

    Args:
        grid: a YAML file or a Space.
        out: the run's folder, `runs/<name>` where None.
        dashboard: start Ray's dashboard on loopback.
        console: where progress is shown, stderr where None.
        address: of a running Ray cluster to join, `auto` for the one of this machine; its nodes
            see the same folders.
        shard: train only this share of the cells; other shards may write to the run meanwhile.
        retries: how often a cell that failed, or whose process died, is tried again.

    Raises:
        GridError: the grid, dataset, bank or snapshots break a rule; nothing was started.
        RunError: another search holds the run's folder.
    """
    console = console or Console(stderr=True)
    planned = plan(grid, out, shard)
    pixels.evict()
    with run_folder.held(planned.run, shard):
        run_folder.note_start(planned)
        if planned.todo:
            _execute(planned, dashboard, console, address, retries, log)
        prune_models(planned)
        results.compact(planned.run)
    return _counted(planned)


def fill_for_grid(grid: Path, bank: str, console: Console) -> None:
    """Fill a bank with every fake a grid's cells need: `fgaug bank fill --grid`."""
    space = load_space(grid).model_copy(update={"bank": bank})
    planned = plan(space)
    if not planned.missing.count:
        console.print(f"bank {bank}: holds all {planned.demand.count} fakes of the grid")
        return
    with cluster.started(dashboard=False):
        _fill_on_cluster(planned, console)


def _execute(
    planned: Plan, dashboard: bool, console: Console, address: str | None, retries: int, log: str
) -> None:
    space = planned.space
    with cluster.started(dashboard=dashboard, address=address) as running:
        from fgaug.search import runner

        runner.check_fits(space.resources, running.cpus, running.gpus)
        if running.dashboard:
            console.print(f"Ray dashboard: {running.dashboard} (token: `ray get-auth-token`)")
        _fill_on_cluster(planned, console)
        runner.run_cells(
            planned.run,
            planned.cells,
            planned.sources,
            space,
            at_once=planning.parallel_trials(space, running.cpus, running.gpus),
            already=len(planned.cells) - len(planned.todo),
            dashboard=running.dashboard,
            console=console,
            retries=retries,
            log=log,
        )


def _fill_on_cluster(planned: Plan, console: Console) -> None:
    """Fill what the grid's unfinished cells lack, with every device, before any trial starts."""
    if not planned.missing.count:
        return
    assert planned.bank is not None
    assert planned.bank_spec is not None
    fill_bank(planned.bank, planned.bank_spec, _label_sources(planned), planned.missing, console)


def _label_sources(planned: Plan) -> dict[str, LabelSource]:
    assert planned.bank_spec is not None
    assert planned.space.generator is not None
    generator = planned.space.generator
    return {label: _label_source(label, generator) for label in planned.bank_spec.sources}


def _describe(label: str, generator: Generator) -> Source:
    from gan_worker.sources import describe

    return describe(label, _label_source(label, generator))


def _label_source(label: str, generator: Generator) -> LabelSource:
    from gan_worker.sources import LabelSource

    if not generator.snapshots:
        return LabelSource(kind=generator.kind)
    snapshot = generator.snapshots[label]
    return LabelSource(
        kind=generator.kind,
        file=snapshot.file,
        class_index=snapshot.class_index,
        python=generator.python,
        repo=generator.repo,
        program=generator.program,
        prefix=generator.prefix,
    )


def _counted(planned: Plan) -> Run:
    statuses = results.finished(planned.run, [cell.cell_id for cell in planned.cells])
    stopped = planning.stopped_arms(planned.space, planned.run, planned.cells, statuses)
    found: Counter[str] = Counter()
    for cell in planned.cells:
        status = statuses.get(cell.cell_id, "missing")
        # a pruned cell whose arm is wanted again is one that waits to go on
        wanted_again = status == "pruned" and cell.arm_id not in stopped
        found["missing" if wanted_again else status] += 1
    return Run(
        root=planned.run.root,
        ok=found["ok"],
        pruned=found["pruned"],
        failed=found["failed"],
        missing=found["missing"],
    )
