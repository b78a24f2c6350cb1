"""The runner: cells that have no finished row -> one Ray Tune experiment -> rows on disk."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ray import tune
from rich.console import Console

from fgaug.core.paths import RunPaths
from fgaug.errors import DiskFullError, UserError
from fgaug.grid.cells import Cell, to_dict
from fgaug.grid.space import Resources, Space
from fgaug.runs.row import TrialSources
from fgaug.study.resources import misfits
from fgaug.study.tune.asha import ShareASHA, asked_at
from fgaug.study.tune.interrupt import Interrupt
from fgaug.study.tune.loggers import loggers_of
from fgaug.study.tune.progress import Progress
from fgaug.study.tune.ray_metrics import Metrics
from fgaug.study.tune.searcher import CellSearcher
from fgaug.study.tune.worker import CellTrainable

# Tune keeps 0.1 MB of every trial until its experiment ends, so one follows the other. Each costs
# some seconds, and its last trials leave places free.
LEGS, LEGS_A_PLACE = 400, 40


def run_cells(
    run: RunPaths,
    cells: Sequence[Cell],
    sources: Mapping[str | None, TrialSources],
    space: Space,
    *,
    at_once: int,
    already: int,
    dashboard: str | None,
    console: Console,
    retries: int = 1,
    log: str = "auto",
    until: float = 1.0,
    keep: Collection[str] = (),
) -> None:
    """Train what the grid's policy asks of `cells`; each leaves its files before Tune hears of it.

    Args:
        cells: all cells of the grid, seeds outermost; what is on disk of them is looked up.
        sources: of the cells by the name of their snapshot.
        at_once: how many trials the cluster holds at a time.
        already: cells of the grid that need no training, for the counts on the screen.
        retries: how often a cell that failed, or whose process died, is tried again.
        until: the share of the budget to train to, where no scheduler stops any: a round's end.
        keep: cells whose models are kept, whatever the grid says of the others.

    Raises:
        DiskFullError: no space left; finished cells are kept.
    """
    resources, deadline = space.resources, None
    assert not isinstance(resources, str), "measured before"
    if space.time_budget is not None:
        deadline = time.time() + space.time_budget
    interrupt = Interrupt(run)
    shared = {
        "run": str(run.root.resolve()),
        "sources": dict(sources),
        "cells": {cell.cell_id: to_dict(cell) for cell in cells},
        "cpu": resources.cpu,
        "gpu": resources.gpu,
        "deadline": deadline,
        "stop": str(interrupt.file.resolve()),
        "keep_models": space.keep_models,
        "keep": tuple(keep),
        "levels": asked_at(space.scheduler),
    }
    # Tune picks among the trials it has staged in no particular order: with as many staged as run
    # at a time, cells are trained in theirs, and a search cut short has its first seeds whole.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a cell that failed reports no metric
    progress = Progress(
        cells, already, dashboard, console, log=log, stopping=lambda: interrupt.asked
    )
    progress.resume(run)
    feed = CellSearcher(
        run,
        cells,
        sources,
        space.scheduler,
        deadline=deadline,
        stopping=lambda: interrupt.asked,
        retries=retries,
        died=progress.why_dead,
        until=until,
        pruned=progress.on_pruned,
    )
    metrics = Metrics(progress.tally)
    loggers = loggers_of(space.loggers, run, cells)
    trainable = tune.with_resources(
        tune.with_parameters(CellTrainable, shared=shared),
        {"cpu": resources.cpu, "gpu": resources.gpu},
    )
    with tempfile.TemporaryDirectory(prefix="fgaug-tune-") as storage, interrupt, progress:
        for number in itertools.count():
            feed.allow(max(LEGS, LEGS_A_PLACE * at_once))
            asha = None
            if space.scheduler.type == "asha":
                asha = ShareASHA(space.scheduler, cells, feed.seen, feed.cut)
            callbacks = [progress, metrics, *loggers]
            _fit(
                trainable,
                tune.TuneConfig(
                    search_alg=feed,
                    scheduler=asha,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=_name,
                    trial_dirname_creator=_directory,
                ),
                tune.RunConfig(
                    name=f"search-{number}",
                    storage_path=storage,
                    verbose=0,
                    stop=_StopWhenFull(progress),
                    failure_config=tune.FailureConfig(max_failures=retries),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=callbacks,
                    log_to_file=False,
                ),
            )
            if not feed.more or progress.full_disk is not None:
                break
    if progress.full_disk is not None:
        raise DiskFullError(progress.full_disk)


def _fit(trainable: Any, tune_config: Any, run_config: Any) -> None:
    tuner = tune.Tuner(trainable, tune_config=tune_config, run_config=run_config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tune's advice about settings chosen on purpose
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        tuner.fit()
    del tuner
    gc.collect()  # its trials refer to each other
    with contextlib.suppress(OSError, AttributeError):  # the C library is another one
        ctypes.CDLL("libc.so.6").malloc_trim(0)


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
    if problems := misfits(resources, cpus, gpus):
        raise UserError(f"{'. '.join(problems)}.")
