"""Executes a plan: fills banks, trains cells and removes superseded models."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from rich.console import Console

from fgaug.bank import open_store
from fgaug.core import cluster
from fgaug.errors import GridError
from fgaug.grid.load import load_space
from fgaug.runs import results
from fgaug.study import estimate
from fgaug.study.fill import fill_and_score
from fgaug.study.plan import Plan
from fgaug.study.planner import plan
from fgaug.study.resources import Room
from fgaug.study.rounds import drop_round_shards
from fgaug.study.schedule import is_through, waves_of
from fgaug.training import saved_model

_log = logging.getLogger("fgaug")


def execute(
    planned: Plan,
    dashboard: bool,
    console: Console,
    address: str | None,
    retries: int,
    log: str,
    room: Room | None = None,
) -> None:
    """Fill the banks of a plan and train its cells, on a local or existing Ray cluster."""
    space = planned.space
    cpus, gpus = (None, None) if room is None else (room.cpus, room.gpus)
    with cluster.starting(cpus=cpus, gpus=gpus, dashboard=dashboard, address=address) as ready:
        from fgaug.study.tune import (
            probe,
            runner,  # a second of imports, while Ray starts up
        )

        running = ready()
        if address is not None:
            cluster.check_nodes()
        if not isinstance(space.resources, str):
            runner.check_fits(space.resources, running.cpus, running.gpus)
        if running.dashboard:
            console.print(f"Ray dashboard: {running.dashboard} (token: `ray get-auth-token`)")
        if isinstance(space.resources, str):
            found = probe.resources_for(planned.todo, planned.sources, console)
            space = space.model_copy(update={"resources": found})
        ends = None if space.time_budget is None else time.monotonic() + space.time_budget
        for wave in waves_of(planned.run, planned.cells, planned.scoring.values()):
            these = planned.of_wave(wave)
            if not these.todo:
                continue
            for needs in these.needs:
                fill_and_score(these, needs, console)
            if ends is not None:
                left = max(0.1, ends - time.monotonic())
                space = space.model_copy(update={"time_budget": left})
            if wave.round is not None:
                last = wave.cells[0].last_round
                console.print(f"round {wave.round} of {last}: {len(wave.cells)} cells")
            runner.run_cells(
                planned.run,
                these.cells,
                planned.sources,
                space,
                at_once=estimate.parallel_trials(space, running.cpus, running.gpus),
                already=len(these.cells) - len(these.todo),
                dashboard=running.dashboard,
                console=console,
                retries=retries,
                log=log,
                until=wave.until,
                keep=planned.scoring.values(),
            )
            if not is_through(planned.run, wave):
                return  # interrupted, or the time budget is used up
            if wave.round is not None:
                drop_round_shards(
                    (needs.source for needs in planned.needs),
                    planned.grid_cells,
                    wave,
                    planned.reals,
                    space.pool,
                )


def set_aside_damaged(planned: Plan) -> None:
    """Rename damaged result files of a plan's cells, which are then retrained, and warn."""
    if lost := results.set_aside_damaged(planned.run, [c.cell_id for c in planned.cells]):
        _log.warning(
            f"set aside {len(lost)} damaged row{'s' * (len(lost) > 1)} as result.json.corrupt "
            f"({', '.join(lost[:5])}{', ...' * (len(lost) > 5)}) and retraining these cells"
        )


def fill_for_grid(grid: Path, bank: str, console: Console) -> None:
    """Fill a bank with all fakes that a grid needs from it: `fgaug bank fill --grid`.

    Raises:
        GridError: the grid has an axis `snapshot` without this bank.
    """
    space = load_space(grid)
    if not (space.axes.snapshot or space.preparations):
        space = space.model_copy(update={"bank": bank})
    uri = open_store(bank).uri
    planned = plan(space)
    matching = [needs for needs in planned.needs if needs.source.store.uri == uri]
    if not matching:
        axis = "dataset" if space.preparations else "snapshot"
        banks = ", ".join(needs.source.store.place() for needs in planned.needs) or "none"
        raise GridError(
            [f"{bank} is not a bank of `axes.{axis}`. Give one of these: {banks}"],
            space.name,
        )
    (needs,) = matching
    if not needs.missing.count and not planned.unscored(needs):
        console.print(f"bank {bank} already holds all {needs.demand.count} fakes of the grid")
        return
    with cluster.started(dashboard=False):
        fill_and_score(planned, needs, console)


def prune_models(planned: Plan) -> None:
    """With `keep_models: best`, remove every model except the best of each arm."""
    if planned.space.keep_models != "best":
        return
    arms: dict[str, list[str]] = {}
    for cell in planned.grid_cells:  # including those of other shards
        if cell.cell_id not in planned.scoring.values():  # its model scores fakes
            arms.setdefault(cell.arm_id, []).append(cell.cell_id)
    for cell_ids in arms.values():
        saved_model.keep_best(planned.run.trial(cell_id) for cell_id in cell_ids)
