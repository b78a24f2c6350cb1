"""Runs the cells of a search as Ray Tune experiments."""

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
from pathlib import PurePath
from typing import Any

from ray import tune
from rich.console import Console

from fgaug.core.paths import RunPaths
from fgaug.core.store_access import StoreAccess
from fgaug.errors import UserError
from fgaug.grid.cells import Cell, to_dict
from fgaug.grid.space import Resources, Space
from fgaug.runs.row import TrialSources
from fgaug.study.resources import misfits
from fgaug.study.tune.asha import ShareASHA, asked_at
from fgaug.study.tune.interrupt import Interrupt
from fgaug.study.tune.loggers import loggers_of
from fgaug.study.tune.names import Names, TrialResources, trial_class
from fgaug.study.tune.progress import Progress
from fgaug.study.tune.ray_metrics import Metrics
from fgaug.study.tune.searcher import CellSearcher
from fgaug.study.tune.settings import SearchSettings
from fgaug.study.tune.worker import CellTrainable

# Tune keeps 0.1 MB per trial until its experiment ends, so a search runs several in a row. Each
# costs some seconds, and its last trials leave resources idle.
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
    """Train cells as the grid's policy decides; a cell writes its files before it reports to Tune.

    Args:
        cells: all cells of the grid, ordered by seed; loads existing results.
        sources: image sources by snapshot name.
        at_once: how many trials the cluster runs at once.
        already: number of finished cells, for the progress display.
        retries: how often to retry a failed or crashed trial.
        until: without a scheduler, the fraction of the budget to train to (the end of a round).
        keep: cells whose models are kept regardless of `keep_models`.

    Raises:
        DiskFullError: no space left; finished cells are kept.
        UserError: a node has another version of fgaug; finished cells are kept.
    """
    resources, deadline = space.resources, None
    assert not isinstance(resources, str), "measured before"
    if space.time_budget is not None:
        deadline = time.time() + space.time_budget
    by_file = run.uri is not None
    interrupt = Interrupt(run, deadline if by_file else None)
    settings = SearchSettings(
        run=run.root.resolve(),
        run_uri=run.uri,
        cells={cell.cell_id: to_dict(cell) for cell in cells},
        sources=dict(sources),
        cpu=resources.cpu,
        gpu=resources.gpu,
        deadline=None if by_file else deadline,
        stop_name=interrupt.file.name,
        keep_models=space.keep_models,
        keep=frozenset(keep),
        access=StoreAccess.of_this_process(),
        levels=asked_at(space.scheduler),
    )
    # Tune starts staged trials in arbitrary order. Staging only as many as run at once keeps the
    # cells in order, so that an interrupted search has its first seeds complete.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # failed cells report no metrics
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"  # tracebacks; the progress names the cells
    progress = Progress(
        cells, already, dashboard, console, log=log, stopping=lambda: interrupt.asked
    )
    progress.resume(run)
    names = Names(cells)
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
        alone=names.long,
    )
    metrics = Metrics(progress.tally, PurePath(run.place).name or run.root.resolve().name)
    loggers = loggers_of(space.loggers, run, cells)
    trainable = trial_class(
        tune.with_parameters(CellTrainable, settings=settings),
        TrialResources(cpu=resources.cpu, gpu=resources.gpu),
    )
    with tempfile.TemporaryDirectory(prefix="fgaug-tune-") as storage, interrupt, progress:
        for number in itertools.count():
            feed.allow(max(LEGS, LEGS_A_PLACE * at_once))
            asha = None
            if space.scheduler.type == "asha":
                asha = ShareASHA(space.scheduler, cells, feed.seen, feed.cut)
            callbacks = [progress, names, metrics, *loggers]
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
                    stop=_StopByTrial(progress),
                    failure_config=tune.FailureConfig(max_failures=retries),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=callbacks,
                    log_to_file=False,
                ),
            )
            if not feed.more or progress.stopped_by is not None:
                break
    feed.packer.close()
    if progress.stopped_by is not None:
        raise progress.stopped_by


def _fit(trainable: Any, tune_config: Any, run_config: Any) -> None:
    tuner = tune.Tuner(trainable, tune_config=tune_config, run_config=run_config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tune's advice about deliberate settings
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        tuner.fit()
    del tuner
    gc.collect()  # its trials refer to each other
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class _StopByTrial(tune.Stopper):
    """Stops the experiment as soon as a trial cannot write its files, or may not train."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # of this one trial

    def stop_all(self) -> bool:
        return self.progress.stopped_by is not None


def _name(trial: Any) -> str:
    return str(trial.config["cell_id"])


def _directory(trial: Any) -> str:
    return f"{trial.config['cell_id']}-{trial.config['until']:.4f}"


def check_fits(resources: Resources, cpus: float, gpus: float) -> None:
    """Check that a trial fits on the cluster; otherwise it would wait forever.

    Raises:
        UserError: a trial needs more than there is; the message gives both and the cure.
    """
    if problems := misfits(resources, cpus, gpus):
        raise UserError(f"{'. '.join(problems)}.")
