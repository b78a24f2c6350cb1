"""A run: the folder of a search as an object.

Nothing heavy is imported before a method needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.core.paths import RunPaths

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from fgaug.runs.status import Status
    from fgaug.study.confirmation.confirm import Confirmed
    from fgaug.study.replay import Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The folder of a search and how many of its cells are finished.

    The counts are those of the moment when the search ended or the run was opened; `status` reads
    them again. A Run is path-like: functions that take the folder of a run also take a Run.
    """

    root: Path  # its folder; of a URI, this machine's mirror
    # with its secrets; None for a folder
    uri: str | None = field(default=None, repr=False)
    ok: int
    pruned: int
    failed: int
    missing: int  # paused cells included

    def __fspath__(self) -> str:
        """Return the run's folder or URI, so that functions that open a run take a Run."""
        return self.uri or str(self.root)

    @property
    def place(self) -> str:
        """The run's location for messages."""
        return RunPaths(self.root, self.uri).place

    @property
    def exit_code(self) -> int:
        """0 complete, 1 failures, 3 incomplete."""
        return 3 if self.missing else 1 if self.failed else 0

    def results(self) -> pd.DataFrame:
        """Return one row per trial (one per reported round): see `fgaug.load_results`.

        Raises:
            RunError: a damaged row (named).
        """
        from fgaug.runs.results import load_results

        return load_results(self)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves, one row per evaluation: see `fgaug.load_curves`."""
        from fgaug.runs.results import load_curves

        return load_curves(self)

    def predictions(self) -> pd.DataFrame:
        """Return the validation predictions, one row per image and trial.

        The sealed test predictions stay sealed: `report(open_test=True)` and `confirm` open them.
        """
        from fgaug.runs.results import load_predictions

        return load_predictions(self)

    def status(self) -> Status:
        """Return the progress of the run as of now; a search may be running in the folder.

        Raises:
            RunError: the folder is gone or damaged.
        """
        from fgaug.runs import status

        return status.read(self)

    def report(self, *, open_test: bool = False) -> Path:
        """Write the report with its tables and figures, and return the path of its page.

        Args:
            open_test: report on the sealed test set, below `report/test`. The look is recorded
                and counted.

        Raises:
            RunError: no cell has finished, or there is no test set to open.
        """
        from fgaug.analysis.report.write import report

        return report(self, open_test=open_test)

    def confirm(
        self,
        arms: Sequence[str],
        seeds: int | None = None,
        *,
        dashboard: bool = True,
        console: Console | None = None,
        address: str | None = None,
        retries: int = 1,
        log: str = "auto",
        cpus: int | None = None,
        gpus: int | None = None,
    ) -> Confirmed:
        """Train arms on fresh seeds and evaluate them once on the sealed test set.

        The look is recorded and counted. A second call with the same arms and seeds trains
        nothing and is another look.

        Args:
            arms: arm_ids, or enough of their first digits to tell them apart.
            seeds: fresh seeds per arm. None: `confirm_seeds` of the grid, or 20 without it.
            dashboard, console, address, retries, log, cpus, gpus: see `fgaug.search`.

        Raises:
            RunError: no such arm, no test set, or another search is running in the folder.
            GridError: the grid of the run can no longer be trained.
        """
        from fgaug.study.confirmation.confirm import confirm

        return confirm(
            self,
            arms,
            seeds=seeds,
            dashboard=dashboard,
            console=console,
            address=address,
            retries=retries,
            log=log,
            cpus=cpus,
            gpus=gpus,
        )

    def replay(
        self,
        cell: str,
        *,
        device: str | None = None,
        tolerance: float = 1e-6,
        console: Console | None = None,
    ) -> Replay:
        """Train a cell again outside the run, and return how its numbers compare.

        Args:
            cell: a cell_id, or enough of its first digits to tell it from the others.
            device: cpu or cuda. None: the kind that trained the cell, if this machine has it.
            tolerance: the largest difference of a metric or a probability that counts as equal.
            console: where to print progress. None: stderr.

        Raises:
            RunError: no such cell, it has not finished, or the grid no longer contains it.
        """
        from fgaug.study.replay import replay

        return replay(self, cell, device=device, tolerance=tolerance, console=console)


def open_run(run: str | PathLike[str]) -> Run:
    """Return the run in a folder, counted from its files; 10,000 cells take under a second.

    A pruned cell counts as pruned whether or not a change of the grid would resume it.

    Args:
        run: the folder or URI of a search.

    Raises:
        RunError: it is not a run.
    """
    from fgaug.runs import status

    found = status.read(run)
    return Run(
        root=found.root,
        uri=found.uri,
        ok=found.ok,
        pruned=found.pruned,
        failed=found.failed,
        missing=found.missing + found.paused,
    )
