"""A search from its grid to its rows: plan, fill, train, confirm."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from fgaug import outline, pixels, planning, results, run_folder
from fgaug.errors import GridError
from fgaug.grid_load import load_space
from fgaug.machine.room import Room, room_of
from fgaug.paths import RunPaths
from fgaug.planning import Plan, Shard
from fgaug.space import Space
from fgaug.study import confirming, execute
from fgaug.study.models import prune_models
from fgaug.study.planner import check_networks, plan
from fgaug.study.stocking import (
    describe,
    label_sources,
    sampled,
    scorer_of,
)

if TYPE_CHECKING:
    pass

_log = logging.getLogger("fgaug")


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

    def and_also(self, statuses: Sequence[str]) -> Run:
        """Return the run with cells of a second stage counted too; each ok, failed or missing."""
        more = Counter(statuses)
        counts = {name: getattr(self, name) + more[name] for name in ("ok", "failed", "missing")}
        return replace(self, **counts)

    def results(self) -> pd.DataFrame:
        """Return one row a trial; see `load_results`."""
        return results.load_results(self.root)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves of all trials."""
        return results.load_curves(self.root)

    def predictions(self) -> pd.DataFrame:
        """Return the validation predictions of all trials."""
        return results.load_predictions(self.root)


def dry_plan(
    grid: Path, out: Path | None = None, shard: Shard | None = None, room: Room | None = None
) -> Plan:
    """Return the plan that a dry run shows, where need be by the counts that the grid gives.

    Raises:
        GridError: as `plan`, or what is asked cannot be told without the grid's dataset.
        SnapshotError: a network that is on this machine cannot be used.
    """
    space = load_space(grid)
    if not outline.goes_by_counts(space):
        return sampled(plan(space, out, shard, room=room))
    if shard is not None:
        problem = (
            f"--shard divides cells by their names, and {space.dataset}, which is not on this "
            "machine, is part of them. Leave it out"
        )
        raise GridError([problem], space.name)
    run = RunPaths(out or Path("runs") / space.name)
    planned = outline.plan_by_counts(space, run, describe, scorer_of, room)
    for needs in planned.needs:
        sources = label_sources(needs.source).items()
        here = {k: s for k, s in sources if s.file is None or Path(s.file).exists()}
        check_networks(needs, here)
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
    cpus: int | None = None,
    gpus: int | None = None,
) -> Run:
    """Train every cell of a grid that has no finished row, filling its bank first.

    Where the grid has `confirmation`, the best arms are then trained on fresh seeds and judged on
    the sealed test set: see `confirming.second_stage`.

    Args:
        grid: a YAML file or a Space.
        out: the run's folder, `runs/<name>` where None.
        dashboard: start Ray's dashboard on loopback.
        console: where progress is shown, stderr where None.
        address: of a running Ray cluster to join, `auto` for the one of this machine; its nodes
            see the same folders.
        shard: train only this share of the cells; other shards may write to the run meanwhile.
        retries: how often a cell that failed, or whose process died, is tried again.
        cpus: cores to use, all that this process may use where None.
        gpus: GPUs to use, all that this process sees where None.

    Raises:
        GridError: the grid, dataset, bank or snapshots break a rule; nothing was started.
        RunError: another search holds the run's folder.
    """
    console = console or Console(stderr=True)
    room = room_of(cpus, gpus, address)
    planned = plan(grid, out, shard, room=room)
    pixels.evict()
    began = time.monotonic()

    def train(these: Plan) -> None:
        execute.set_aside_damaged(these)
        if these.todo:
            execute.execute(these, dashboard, console, address, retries, log, room)
        prune_models(these)
        results.compact(these.run)

    with run_folder.held(planned.run, None if shard is None else shard.name):
        run_folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
        train(planned)
        counted = _counted(planned)
        if planned.space.confirmation is None or counted.missing:
            return counted
        if shard is not None:
            console.print(confirming.NOT_BY_SHARDS)
            return counted
        left = planned.space.time_budget
        left = None if left is None else max(0.0, left - (time.monotonic() - began))
        return counted.and_also(confirming.second_stage(planned, train, left, console))


def _counted(planned: Plan) -> Run:
    statuses = results.finished(planned.run, [cell.cell_id for cell in planned.cells])
    stopped = planning.stopped_cells(planned.space, planned.run, planned.cells, statuses)
    found: Counter[str] = Counter()
    for cell in planned.cells:
        status = statuses.get(cell.cell_id, "missing")
        # a pruned cell that is wanted again is one that waits to go on
        wanted_again = status == "pruned" and cell.cell_id not in stopped
        found["missing" if wanted_again else status] += 1
    return Run(
        root=planned.run.root,
        ok=found["ok"],
        pruned=found["pruned"],
        failed=found["failed"],
        missing=found["missing"],
    )
