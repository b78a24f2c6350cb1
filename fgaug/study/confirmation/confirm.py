"""Runs a second stage: trains arms on fresh seeds and tests them with one look at the test set.

Every step is on disk before the next begins (arms and seeds, rows, the look, the verdict), so the
same command resumes a stage after any interruption.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from fgaug.core import cache
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.load import load_space
from fgaug.grid.space import Scheduler, Space
from fgaug.runs import confirmation_records, environment, preregistration, results, run_lock
from fgaug.runs.confirmation_records import SealedVerdict, SecondStage
from fgaug.runs.looks import load_sealed, looks_of, open_test
from fgaug.runs.place import run_of_search
from fgaug.runs.results import last_rounds
from fgaug.study import execute, tracking
from fgaug.study.confirmation import verdict
from fgaug.study.confirmation.design import (
    asked_before,
    candidates,
    designed,
    named,
    resolved,
    shortlist,
)
from fgaug.study.execute import prune_models
from fgaug.study.plan import Plan
from fgaug.study.planner import NO_TEST
from fgaug.study.planner import plan as plan_grid
from fgaug.study.resources import room_of

SEEDS = 20  # default number of fresh seeds per arm
PURPOSE = "confirmation"
NOT_BY_SHARDS = (
    "Shards do not train the second stage. Once all shards have finished, run `fgaug search` on "
    "this grid without --shard."
)
Train = Callable[[Plan], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The current state of a second stage."""

    root: Path
    stage: SecondStage
    statuses: tuple[str, ...]  # ok, failed or missing, for each of its cells

    @property
    def exit_code(self) -> int:
        """0 complete, 1 failures, 3 incomplete."""
        return 3 if "missing" in self.statuses else 1 if "failed" in self.statuses else 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict as text; while the stage is incomplete, its progress."""
        if "missing" not in self.statuses and self.stage.judged:
            return tuple(verdict.in_words(self.stage, self.stage.judged[-1]))
        return (_progress(self.stage, self.statuses),)


def confirm(
    run: str | PathLike[str],
    arms: Sequence[str],
    *,
    seeds: int | None = None,
    dashboard: bool = True,
    console: Console | None = None,
    address: str | None = None,
    retries: int = 1,
    log: str = "auto",
    cpus: int | None = None,
    gpus: int | None = None,
) -> Confirmed:
    """Train arms of a run on fresh seeds and test them on its sealed test set.

    The test set is opened once all cells are finished, and the look is recorded first. Repeating
    the command trains nothing but counts as another look.

    Args:
        run: the folder of a search.
        arms: arm_ids or their first digits.
        seeds: fresh seeds per arm and twin; None: from the grid's `confirmation`, else 20.
        dashboard, console, address, retries, log, cpus, gpus: as in `search`.

    Raises:
        RunError: unknown run or arm, no test set, another active search, or a damaged file.
        GridError: the run's grid can no longer be trained.
    """
    folder = run_of_search(run, "")
    if not folder.space.is_file():
        raise RunError(
            f"{folder.place} is not a run (no file {folder.space.name}). Give the folder of a "
            "search."
        )
    console = console or Console(stderr=True)
    room = room_of(cpus, gpus, address)
    planned = plan_grid(load_space(folder.space), folder.uri or folder.root, room=room)
    if planned.space.preparations:
        raise RunError(
            f"{folder.place} has several datasets (`axes.dataset`), and a second stage needs one. "
            "Search the chosen dataset in a grid of its own and confirm there"
        )
    if planned.space.folds:
        raise RunError(
            f"{folder.place} holds out every patient in its folds, so no sealed test set is left "
            "to confirm an arm on. Its held-out folds stopped no network: read its verdict in "
            "`fgaug report`, or confirm the arm on new patients"
        )
    if not (planned.dataset.manifest["split"] == "test").any():
        raise RunError(f"{NO_TEST.format(planned.dataset.place)}.")
    if planned.scoring:
        raise RunError(
            f"{folder.place} scores fakes with its own baseline, which a second stage with other "
            "seeds cannot use. Give that model to a grid as `scorers: {classifier: model:FILE}`."
        )
    chosen = resolved(arms, candidates(planned.grid_cells), folder.root)
    planned_seeds = planned.space.confirmation
    seeds = seeds or (planned_seeds.confirm_seeds if planned_seeds else SEEDS)
    cache.evict()

    def train(these: Plan) -> None:
        execute.set_aside_damaged(these)
        execute.execute(these, dashboard, console, address, retries, log, room)
        prune_models(these)
        results.compact(these.run)

    with run_lock.held(folder):
        plan = _plan_of(planned)
        stage = asked_before(confirmation_records.read(folder), chosen, seeds)
        if stage is None:
            rows = _rows(planned)
            listed = named(chosen, rows, plan)
            stage = designed("confirm", plan.metric, listed, (), seeds, _used(planned, rows))
        stage = _resumed(planned, stage, plan, train, None, console)
        tracking.finish(planned, console)
        return Confirmed(root=folder.root, stage=stage, statuses=_statuses(folder, stage))


def second_stage(
    planned: Plan, train: Train, seconds: float | None, console: Console
) -> tuple[str, ...]:
    """Confirm the best arms of a complete screening, or resume an interrupted second stage.

    The shortlist is made once. Returns the status of each cell of the stage.

    Args:
        planned: the screening's plan.
        train: trains the missing cells of a plan.
        seconds: time left for training; None: unlimited.
        console: prints progress and results.
    """
    run, plan = planned.run, _plan_of(planned)
    settings = planned.space.confirmation
    assert settings is not None
    stage = next((each for each in confirmation_records.read(run) if each.by == "search"), None)
    if stage is None:
        rows = _rows(planned)
        listed, left_out = shortlist(candidates(planned.grid_cells), rows, plan, settings.top)
        if not listed:
            raise RunError(f"No arm of {run.place} can be confirmed: {'; '.join(left_out)}.")
        used = _used(planned, rows)
        stage = designed("search", plan.metric, listed, left_out, settings.confirm_seeds, used)
    if not stage.judged:
        stage = _resumed(planned, stage, plan, train, seconds, console)
    confirmed = Confirmed(root=run.root, stage=stage, statuses=_statuses(run, stage))
    for line in confirmed.lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return confirmed.statuses


def _resumed(
    planned: Plan,
    stage: SecondStage,
    plan: AnalysisPlan,
    train: Train,
    seconds: float | None,
    console: Console,
) -> SecondStage:
    """Train the missing cells of a stage; once all are finished, add a verdict to it."""
    run = planned.run
    these = _planned(planned.space, run, stage, seconds)
    if not stage.cells:
        stage = replace(stage, cells=tuple(cell.cell_id for cell in these.cells))
        confirmation_records.write(run, (*confirmation_records.read(run), stage))
    environment.add_cells(run, stage.cells)
    if these.todo and seconds != 0:
        arms = "; ".join(f"{arm.arm} ({arm.arm_id})" for arm in stage.shortlist)
        say = f"second stage: {len(these.todo)} of {len(these.cells)} cells to train for {arms}"
        console.print(say, highlight=False, soft_wrap=True, markup=False)
        train(these)
    if "missing" in _statuses(run, stage):
        return stage
    judged = _judged(run, stage, plan)
    stage = replace(stage, judged=(*stage.judged, judged))
    known = confirmation_records.read(run)
    confirmation_records.write(
        run, (stage if each.cells == stage.cells else each for each in known)
    )
    return stage


def _planned(space: Space, run: RunPaths, stage: SecondStage, seconds: float | None) -> Plan:
    """Return the plan of a stage's cells: arms of the run's grid on the stage's seeds.

    No scheduler stops any of them.
    """
    longest = max(map(list, stage.seeds.values()), key=len)  # other lists are prefixes of it
    changes = {
        "axes": space.axes.model_copy(update={"seed": longest}),
        "include": [entry.model_copy(update={"seed": []}) for entry in space.include],
        "time_budget": seconds,
        **dict.fromkeys(("baseline_seeds", "confirmation", "cells")),
        "scheduler": Scheduler(),
    }
    planned = plan_grid(
        space.model_copy(update=changes),
        run.uri or run.root,
        keep=lambda cell: cell.seed in stage.seeds.get(cell.arm_id, ()),
    )
    found = {(cell.arm_id, cell.seed) for cell in planned.cells}
    gone = {(arm, seed) for arm, seeds in stage.seeds.items() for seed in seeds} - found
    if gone:
        arms = ", ".join(sorted({arm for arm, _ in gone}))
        raise RunError(
            f"The second stage of {run.place} has arms that the grid no longer contains ({arms}). "
            "Search with the grid they were chosen from, or give this grid another --out."
        )
    return planned


def _judged(run: RunPaths, stage: SecondStage, plan: AnalysisPlan) -> SealedVerdict:
    """Record the look, open the test set and return the verdict.

    If a command was killed between look and verdict, its recorded look is reused.
    """
    last = stage.judged[-1].look if stage.judged else 0
    begun = [look for look in looks_of(run) if look.cells == stage.cells and look.number > last]
    look = begun[-1] if begun else open_test(run, stage.seeds, PURPOSE, stage.cells)
    rows = pd.DataFrame([results.read_rows(run.trial(cell))[-1] for cell in stage.cells])
    sealed = load_sealed(run, rows.loc[rows["status"].eq("ok"), "cell_id"].tolist())
    found = verdict.judge(stage, sealed, rows, plan)
    return SealedVerdict(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        look=look.number,
        counted=look.counted,
        comparisons=tuple(_plain(row) for row in found.to_dict("records")),
    )


def _plan_of(planned: Plan) -> AnalysisPlan:
    """Return the run's preregistered analysis plan, regardless of later changes of the grid."""
    now = preregistration.plan_of(planned.space, planned.grid_cells, planned.dataset)
    return preregistration.freeze(planned.run, now).analysis


def _rows(planned: Plan) -> pd.DataFrame:
    """Return the rows of the screening's cells; for cells with rounds, the last row."""
    frame = last_rounds(results.load_results(planned.run.root))
    return frame[frame["cell_id"].isin([cell.cell_id for cell in planned.grid_cells])]


def _used(planned: Plan, rows: pd.DataFrame) -> set[int]:
    """Return all seeds that the run has used, will use for its grid, or excludes."""
    everything = results.load_results(planned.run.root)["seed"] if len(rows) else ()
    used = {int(seed) for seed in everything} | {cell.seed for cell in planned.grid_cells}
    for entry in planned.space.exclude:
        used.update(entry.seed)
    for stage in confirmation_records.read(planned.run):
        used.update(*stage.seeds.values())
    return used


def _statuses(run: RunPaths, stage: SecondStage) -> tuple[str, ...]:
    known = results.statuses_of(run, stage.cells)
    return tuple(known.get(cell, "missing") for cell in stage.cells)


def _progress(stage: SecondStage, statuses: Sequence[str]) -> str:
    done = len(statuses) - statuses.count("missing")
    return (
        f"second stage: {done} of {len(statuses)} cells done; the test set is still sealed. Run "
        "the same command again to resume."
    )


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Convert a row for strict JSON; NaN becomes null."""
    return {
        str(name): None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
