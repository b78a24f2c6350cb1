"""Runs a search: plan the grid, fill the banks, train the cells, confirm the best arms."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from os import PathLike
from pathlib import Path

from rich.console import Console

from fgaug.core import cache
from fgaug.grid.space import Space
from fgaug.runs import folder, results, run_lock
from fgaug.study import execute, planner, precision, tracking
from fgaug.study.confirmation import confirm
from fgaug.study.execute import prune_models
from fgaug.study.plan import Plan, Shard
from fgaug.study.planner import plan
from fgaug.study.resources import room_of
from fgaug.study.run import Run
from fgaug.study.storage import stage_inputs, storage_of

_log = logging.getLogger("fgaug")


def search(
    grid: str | Path | Space,
    out: str | PathLike[str] | None = None,
    *,
    dashboard: bool = True,
    console: Console | None = None,
    address: str | None = None,
    shard: Shard | None = None,
    retries: int = 1,
    log: str = "auto",
    cpus: int | None = None,
    gpus: int | None = None,
    storage: str | None = None,
) -> Run:
    """Generate the fakes a grid needs, then train every cell without a result.

    If the grid has `confirmation`, the best arms are then trained on fresh seeds and tested on the
    sealed test set: see `confirmation.confirm.second_stage`.

    Args:
        grid: a YAML file, its URI, or a Space.
        out: the run's folder or `pyarrow.fs` URI; None: `runs/<name>`.
        dashboard: start Ray's dashboard on the loopback interface.
        console: for progress; None: stderr.
        address: of a running Ray cluster to join; `auto`: the cluster running on this machine. Its
            nodes must see the folders of the grid and the run, unless these are given by URI.
        shard: train only this shard of the cells; other shards may use the run at the same time.
        retries: how often to retry a failed or crashed trial.
        log: `auto` (table or lines), `json` (one object per event) or `quiet`.
        cpus: CPU cores to use; None: all that this process may use.
        gpus: GPUs to use; None: all that this process sees.
        storage: URI to which the grid's local dataset, networks, weights and bank are copied,
            where every node finds them. None: `inputs` beside a run at a URI if `address` is
            given, else nothing is copied.

    Raises:
        GridError: the grid, dataset, bank or snapshots have problems; nothing was started.
        RunError: another search is running in the run's folder.
    """
    console = console or Console(stderr=True)
    room = room_of(cpus, gpus, address)
    store = storage_of(storage, None if out is None else os.fspath(out), address)
    planned = plan(grid, out, shard, room=room)
    if store is not None:
        planned = plan(stage_inputs(planned, store, console), out, shard, room=room)
    cache.evict()
    began = time.monotonic()

    def train(these: Plan) -> None:
        execute.set_aside_damaged(these)
        if these.todo:
            execute.execute(these, dashboard, console, address, retries, log, room)
        prune_models(these)
        results.compact(these.run)

    with run_lock.held(planned.run, None if shard is None else shard.name):
        precision.record(planned.run, planned.precisions)
        for choice in planned.precisions:
            console.print(choice.described, highlight=False, markup=False, soft_wrap=True)
        folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
        train(planned)
        counts = _counts(planned)
        if planned.space.confirmation is not None and not counts["missing"]:
            if shard is None:
                left = planned.space.time_budget
                left = None if left is None else max(0.0, left - (time.monotonic() - began))
                counts.update(confirm.second_stage(planned, train, left, console))
            else:
                console.print(confirm.NOT_BY_SHARDS)
        tracking.finish(planned, console)
    return Run(
        root=planned.run.root,
        uri=planned.run.uri,
        ok=counts["ok"],
        pruned=counts["pruned"],
        failed=counts["failed"],
        missing=counts["missing"],
    )


def _counts(planned: Plan) -> Counter[str]:
    """Return how many cells of a plan are ok, pruned, failed and missing."""
    statuses = results.statuses_of(planned.run, [cell.cell_id for cell in planned.cells])
    stopped = planner.stopped_cells(planned.space, planned.run, planned.cells, statuses)
    found: Counter[str] = Counter()
    for cell in planned.cells:
        status = statuses.get(cell.cell_id, "missing")
        # a pruned cell that the scheduler no longer stops waits to be resumed
        resumable = status == "pruned" and cell.cell_id not in stopped
        found["missing" if resumable else status] += 1
    return found
