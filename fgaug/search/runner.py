"""The runner: cells that have no finished row -> one Ray Tune experiment -> rows on disk."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ray import tune
from rich.console import Console

from fgaug.cells import Cell, to_dict
from fgaug.errors import DiskFullError, UserError
from fgaug.paths import RunPaths
from fgaug.results import finished, write_row
from fgaug.rows import Sources, failed_row
from fgaug.search.progress import Progress
from fgaug.search.worker import CellTrainable
from fgaug.space import Resources

RETRIES = 1  # of a trial whose process died; one that merely raised has its row


def run_cells(
    run: RunPaths,
    cells: Sequence[Cell],
    sources: Sources,
    resources: Resources,
    *,
    at_once: int,
    already: int,
    dashboard: str | None,
    console: Console,
) -> None:
    """Train `cells`; each leaves its files in `run` before Tune hears of it.

    Args:
        cells: those to train, in the order to train them.
        at_once: how many trials the cluster holds at a time.
        already: cells of the grid that need no training, for the counts on the screen.

    Raises:
        DiskFullError: no space left; finished cells are kept.
    """
    fixed = {
        "run": str(run.root.resolve()),
        "sources": asdict(sources),
        "cpu": resources.cpu,
        "gpu": resources.gpu,
    }
    # Tune picks among the trials it has staged in no particular order: with as many staged as run
    # at a time, cells are trained in theirs, and a search cut short has its first seeds whole.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    progress = Progress(cells, already, dashboard, console)
    with tempfile.TemporaryDirectory(prefix="fgaug-tune-") as storage, progress:
        tuner = tune.Tuner(
            tune.with_resources(CellTrainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
            param_space=tune.grid_search([{**fixed, "cell": to_dict(cell)} for cell in cells]),
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                verbose=0,
                stop=_StopWhenFull(progress),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[progress],
                log_to_file=False,
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Tune's advice about settings chosen on purpose
            logging.getLogger("ray.tune").setLevel(logging.ERROR)
            grid = tuner.fit()
    if progress.full_disk is not None:
        raise DiskFullError(progress.full_disk)
    _note_dead(run, cells, sources, grid)


class _StopWhenFull(tune.Stopper):
    """Stops the experiment once a trial could not write its files."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # of this one trial

    def stop_all(self) -> bool:
        return self.progress.full_disk is not None


def _name(trial: Any) -> str:
    return str(trial.config["cell"]["cell_id"])


def _note_dead(run: RunPaths, cells: Sequence[Cell], sources: Sources, grid: Any) -> None:
    """Give cells whose process died a failed row."""
    dead = {
        result.config["cell"]["cell_id"]: str(result.error).strip().splitlines()[-1]
        for result in grid
        if result.error is not None and result.config
    }
    known = finished(run, dead)
    for cell in cells:
        if cell.cell_id in dead and cell.cell_id not in known:
            reason = (
                f"The trial's process died {RETRIES + 1} times (killed, or out of memory): "
                f"{dead[cell.cell_id]}"
            )
            write_row(run.trial(cell.cell_id), failed_row(cell, sources, reason))


def check_fits(resources: Resources, cpus: float, gpus: float) -> None:
    """Refuse trials that ask for more than the cluster has; they would wait for ever.

    Raises:
        UserError: with what is asked, what there is, and the cure.
    """
    problems = []
    if resources.cpu > cpus:
        problems.append(f"`resources.cpu` asks for {resources.cpu:g} cores, there are {cpus:g}")
    if resources.gpu > gpus:
        problems.append(
            f"`resources.gpu` asks for {resources.gpu:g} GPUs, there are {gpus:g}"
            + ("; set it to 0 to train on CPUs" if not gpus else "")
        )
    if problems:
        raise UserError(". ".join(problems) + ".")
