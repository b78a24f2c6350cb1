"""The folder of a run during a search: its locks, and the record of grid and environment."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import itertools
import json
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fgaug.core import devices, files
from fgaug.core.paths import RunPaths
from fgaug.core.version import __version__
from fgaug.data import Dataset
from fgaug.errors import RunError
from fgaug.grid.cells import Cell
from fgaug.grid.space import Space
from fgaug.runs import confirmation_records, preregistration
from fgaug.runs.row import identity_columns

_log = logging.getLogger("fgaug")
_OF_A_CELL = ("cell_id", "seed")
# Distributions that affect pixels or numbers; albumentations accepts any of OpenCV's
PACKAGES = (
    *("torch", "torchvision", "timm", "ray", "numpy", "pandas", "pyarrow", "scipy"),
    *("scikit-learn", "pillow", "albumentations", "albucore", "opencv-python-headless"),
    *("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
    *("torch-fidelity", "tensorflow", "keras"),
)
_OF_KERAS = ("tensorflow", "keras")  # not loaded without `backend: keras`


@contextlib.contextmanager
def held(run: RunPaths, part: str | None = None) -> Iterator[None]:
    """Lock the run's folder for one search; the lock ends with the process in any case.

    Shards share the folder's lock and have one lock each; a search of the whole grid locks the
    folder exclusively.

    Args:
        run: the folder, created if missing.
        part: name of a shard, such as `3-of-16`; None: the whole grid.

    Raises:
        RunError: another search holds the lock.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(run, run.lock, shared=part is not None))
        if part is not None:
            own = run.lock.with_name(f"search.{part}.lock")
            stack.enter_context(_locked(run, own, shared=False))
        else:
            _sweep(run)
        yield


def _sweep(run: RunPaths) -> None:
    """Remove temporary files of killed writers; nobody else writes to the folder now."""
    halves = (run.trials.glob("*/.*.tmp"), run.root.glob(f".{run.results.name}.*.tmp"))
    for path in itertools.chain(*halves):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(run: RunPaths, path: Path, *, shared: bool) -> Iterator[None]:
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise RunError(
                f"{run.root} is in use by another search ({lock.read().strip() or 'unknown'}). "
                "Wait for it, stop it, or give this search another --out."
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def note_start(run: RunPaths, space: Space, cells: Sequence[Cell], dataset: Dataset) -> None:
    """Record the grid, the environment and the plan of a starting search.

    Keeps the grid of an earlier search if it differs. The first search of a run freezes the plan:
    see `preregistration`.

    Args:
        run: the run's folder.
        space: the grid.
        cells: of the whole grid, including other shards'.
        dataset: the grid's dataset.
    """
    text = space.to_yaml()
    if run.space.is_file() and run.space.read_text(encoding="utf-8") != text:
        number = 1
        while (older := run.space.with_suffix(f".{number}.yaml")).exists():
            number += 1
        run.space.replace(older)
    files.write_text(run.space, text)
    spec, splits = dataset.spec, dataset.manifest["split"].value_counts()
    environment: dict[str, Any] = {
        "fgaug": __version__,
        "python": platform.python_version(),
        **_versions_of(cells),
        "computing": computing(),
        "git_commit": git_commit(),
        "host": platform.node(),
        "devices": devices.device_names(),
        "command": " ".join(sys.argv),
        "dataset": {
            "labels": list(spec.labels),
            "size": spec.size,
            "channels": spec.channels,
            "digest": spec.digest,
            **{f"n_{split}": int(splits.get(split, 0)) for split in ("train", "valid", "test")},
        },
        "plan": preregistration.to_dict(_frozen(run, space, cells, dataset)),
        "cells": _with([cell.cell_id for cell in cells], confirmation_records.cells_of(run)),
        "arms": named_arms(cells),
    }
    files.write_json(run.environment, environment)


def _versions_of(cells: Iterable[Cell]) -> dict[str, str]:
    """Return the versions of the packages that affect a search's pixels and numbers."""
    with_keras = any(cell.recipe.backend == "keras" for cell in cells)
    names = [name for name in PACKAGES if with_keras or name not in _OF_KERAS]
    found = {name: version_of(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


def version_of(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def computing() -> dict[str, str]:
    """Return the numerical libraries beneath NumPy, SciPy and torch.

    The number of threads is in each trial's row (`device`).
    """
    import numpy
    import scipy
    import torch

    found = {}
    for package in (numpy, scipy):
        built = package.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name = f"{package.__name__} blas"
        found[name] = f"{built.get('name')} {built.get('version')}"
    built_with = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version ([\w.]+)", built_with)
    one_dnn = re.search(r"(?:MKL-DNN|oneDNN) v([\w.]+)", built_with)
    parts = [("MKL", mkl), ("oneDNN", one_dnn)]
    found["torch blas"] = ", ".join(f"{name} {part[1]}" for name, part in parts if part) or "other"
    found["torch cpu"] = torch.backends.cpu.get_cpu_capability()
    if torch.version.cuda is not None and torch.cuda.is_available():
        found["torch cuda"] = f"{torch.version.cuda}, {_cudnn()}"
    return found


def _cudnn() -> str:
    import torch

    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's
    return "no cuDNN" if version is None else f"cuDNN {version}"


def named_arms(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return each arm's result columns and its cells with their seeds.

    With these, an analysis can name cells that have no row yet.
    """
    arms: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell.arm_id not in arms:
            columns = {**identity_columns(cell), "round": None}.items()  # arms span all rounds
            kept = {name: _plain(value) for name, value in columns if name not in _OF_A_CELL}
            arms[cell.arm_id] = {**kept, "cells": {}}
        arms[cell.arm_id]["cells"][cell.cell_id] = cell.seed
    return list(arms.values())


def _plain(value: Any) -> Any:
    """Convert a value to the form used in result rows."""
    return json.dumps(value, sort_keys=True) if isinstance(value, tuple | list | dict) else value


def note_cells(run: RunPaths, cells: Iterable[str]) -> None:
    """Add the cells of a second stage to the record of the run's cells."""
    environment = files.read_json(run.environment, RunError)
    environment["cells"] = _with(environment["cells"], cells)
    files.write_json(run.environment, environment)


def _with(known: list[str], further: Iterable[str]) -> list[str]:
    return [*known, *sorted({*further} - {*known})]


def _frozen(
    run: RunPaths, space: Space, cells: Sequence[Cell], dataset: Dataset
) -> preregistration.Preregistration:
    """Return a search's plan; freeze it if the run is new, else warn of deviations."""
    now = preregistration.plan_of(space, cells, dataset)
    frozen = preregistration.freeze(run, now)
    if changes := preregistration.deviations(frozen, now):
        _log.warning(
            f"the search deviates from the plan frozen when {run.root} started ({frozen.date}): "
            f"{'; '.join(changes)}. Its results are exploratory and reported as such"
        )
    return now


def git_commit() -> str | None:
    """Return the git commit of the code; None outside a clone."""
    here = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()
    return None
