"""Settings that every trial of a search shares: runner -> Ray -> worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fgaug.core.paths import RunPaths
from fgaug.core.store_access import StoreAccess
from fgaug.core.version import __version__
from fgaug.grid.cells import Cell, from_dict
from fgaug.runs.place import mirrored
from fgaug.runs.row import TrialSources

FILES = "files"  # of a trial's report: pairs as in `mirror.contents`; Tune flattens mappings


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What a trial needs beside its cell; sent once to each worker process.

    Paths are absolute, because Ray starts workers in folders of its own.
    """

    run: Path
    cells: Mapping[str, Mapping[str, Any]]  # cell_id -> `grid.cells.to_dict`
    sources: Mapping[str | None, TrialSources]  # by the name of the snapshot
    cpu: float  # per trial
    gpu: float
    deadline: float | None  # seconds since the epoch; None: no time budget
    stop_name: str  # of a file in the run's folder, which exists once the search was interrupted
    keep_models: Literal["none", "best", "all"]
    keep: frozenset[str]  # cells that keep their model whatever `keep_models` says
    levels: tuple[float, ...]  # shares of the budget at which Ray's ASHA may stop a cell
    version: str = __version__  # of the driver's fgaug
    # with its secrets: then each node has a mirror of its own
    run_uri: str | None = field(default=None, repr=False)
    # the driver's, for nodes without
    access: StoreAccess = field(default_factory=StoreAccess)

    @property
    def paths(self) -> RunPaths:
        """The files of the run."""
        return RunPaths(self.run) if self.run_uri is None else mirrored(self.run_uri, "trials")

    @property
    def stop_file(self) -> Path:
        """Exists once the search was interrupted."""
        return self.paths.root / self.stop_name

    def cell(self, cell_id: str) -> Cell:
        """Return one cell of the search."""
        return from_dict(self.cells[cell_id])

    def arm_of(self, cell: Cell) -> tuple[str, ...]:
        """Return the cells of a cell's arm whose models `keep_models: best` may remove."""
        return tuple(
            cell_id
            for cell_id, each in self.cells.items()
            if each["arm_id"] == cell.arm_id and cell_id not in self.keep
        )
