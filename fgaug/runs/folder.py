"""The record of grid and environment that a search writes when it starts."""

from __future__ import annotations

import json
import logging
import platform
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from fgaug.core import devices, files, paths
from fgaug.core.paths import RunPaths
from fgaug.core.version import __version__
from fgaug.data import Dataset
from fgaug.grid.cells import Cell
from fgaug.grid.space import Space
from fgaug.runs import confirmation_records, environment, preregistration, software
from fgaug.runs.environment import ArmRecord, DatasetRecord, Environment
from fgaug.runs.row import identity_columns

_log = logging.getLogger("fgaug")
_OF_A_CELL = ("cell_id", "seed", "fold")


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
        files.move(run.space, older)
    files.write_text(run.space, text)
    plan = _frozen(run, space, cells, dataset)
    known = environment.joined(
        (cell.cell_id for cell in cells), confirmation_records.cells_of(run)
    )
    record = Environment(
        versions={
            "fgaug": __version__,
            "python": platform.python_version(),
            **software.versions_of(cells),
        },
        computing=software.computing(),
        git_commit=software.git_commit(),
        host=platform.node(),
        devices=tuple(devices.device_names()),
        command=" ".join(map(paths.without_secrets, sys.argv)),
        dataset=_dataset_record(dataset),
        plan=preregistration.to_dict(plan),
        cells=known,
        arms=_arm_records(cells),
    )
    environment.write(run, record)


def _dataset_record(dataset: Dataset) -> DatasetRecord:
    spec, splits = dataset.spec, dataset.manifest["split"].value_counts()
    return DatasetRecord(
        labels=tuple(spec.labels),
        size=spec.size,
        channels=spec.channels,
        digest=spec.digest,
        n_images={split: int(splits.get(split, 0)) for split in ("train", "valid", "test")},
    )


def _arm_records(cells: Iterable[Cell]) -> tuple[ArmRecord, ...]:
    """Return each arm's result columns and its cells with their seeds.

    With these, an analysis can name cells that have no row yet.
    """
    columns: dict[str, dict[str, Any]] = {}
    seeds: dict[str, dict[str, int]] = {}
    for cell in cells:
        if cell.arm_id not in columns:
            known = {**identity_columns(cell), "round": None}  # arms span all rounds
            columns[cell.arm_id] = {
                name: _plain(value) for name, value in known.items() if name not in _OF_A_CELL
            }
        seeds.setdefault(cell.arm_id, {})[cell.cell_id] = cell.seed
    return tuple(ArmRecord(columns=columns[arm], seeds=seeds[arm]) for arm in columns)


def _plain(value: Any) -> Any:
    """Convert a value to the form used in result rows."""
    return json.dumps(value, sort_keys=True) if isinstance(value, tuple | list | dict) else value


def _frozen(
    run: RunPaths, space: Space, cells: Sequence[Cell], dataset: Dataset
) -> preregistration.Preregistration:
    """Return a search's plan; freeze it if the run is new, else warn of deviations."""
    now = preregistration.plan_of(space, cells, dataset)
    frozen = preregistration.freeze(run, now)
    if changes := preregistration.deviations(frozen, now):
        _log.warning(
            f"the search deviates from the plan frozen when {run.place} started ({frozen.date}): "
            f"{'; '.join(changes)}. Its results are exploratory and reported as such"
        )
    return now
