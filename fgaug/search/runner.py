"""The runner: cells that have no finished row -> one Ray Tune experiment -> rows on disk."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ray import tune
from rich.console import Console

from fgaug.cells import Cell, to_dict
from fgaug.errors import DiskFullError, UserError
from fgaug.paths import RunPaths
from fgaug.rows import Sources
from fgaug.search.feed import Feed
from fgaug.search.progress import Progress
from fgaug.search.worker import CellTrainable
from fgaug.space import Resources, Space


def run_cells(
    run: RunPaths,
    cells: Sequence[Cell],
    sources: Sources,
    space: Space,
    *,
    at_once: int,
    already: int,
    dashboard: str | None,
    console: Console,
    retries: int = 1,
    log: str = "auto",
) -> None:
    """Train what the grid's policy asks of `cells`; each leaves its files before Tune hears of it.

    Args:
        cells: all cells of the grid, seeds outermost; what is on disk of them is looked up.
        at_once: how many trials the cluster holds at a time.
        already: cells of the grid that need no training, for the counts on the screen.
        retries: how often a cell that failed, or whose process died, is tried again.

    Raises:
        DiskFullError: no space left; finished cells are kept.
    """
    resources, deadline = space.resources, None
    if space.time_budget is not None:
        deadline = time.time() + space.time_budget
    shared = {
        "run": str(run.root.resolve()),
        "sources": asdict(sources),
        "cells": {cell.cell_id: to_dict(cell) for cell in cells},
        "cpu": resources.cpu,
        "gpu": resources.gpu,
        "deadline": deadline,
        "keep_models": space.keep_models,
    }
    # Tune picks among the trials it has staged in no particular order: with as many staged as run
    # at a time, cells are trained in theirs, and a search cut short has its first seeds whole.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    progress = Progress(cells, already, dashboard, console, log=log)
    progress.resume(run)
    feed = Feed(
        run,
        cells,
        sources,
        space.scheduler,
        deadline=deadline,
        retries=retries,
        died=progress.why_dead,
        pruned=progress.on_pruned,
    )
    trainable = tune.with_parameters(CellTrainable, shared=shared)
    with tempfile.TemporaryDirectory(prefix="fgaug-tune-") as storage, progress:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
            tune_config=tune.TuneConfig(
                search_alg=feed,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_directory,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                verbose=0,
                stop=_StopWhenFull(progress),
                failure_config=tune.FailureConfig(max_failures=retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[progress],
                log_to_file=False,
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Tune's advice about settings chosen on purpose
            logging.getLogger("ray.tune").setLevel(logging.ERROR)
            tuner.fit()
    if progress.full_disk is not None:
        raise DiskFullError(progress.full_disk)


class _StopWhenFull(tune.Stopper):
    """Stops the experiment once a trial could not write its files."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # of this one trial

    def stop_all(self) -> bool:
        return self.progress.full_disk is not None


def _name(trial: Any) -> str:
    return str(trial.config["cell_id"])


def _directory(trial: Any) -> str:
    return f"{trial.config['cell_id']}-{trial.config['until']:.4f}"


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
