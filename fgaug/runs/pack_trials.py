"""Packs the finished trials of a run on object storage while its search goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from fgaug.core import mirror
from fgaug.core.paths import RunPaths, TrialPaths

TRIALS = 1000  # a pack; a run with fewer finished trials has none


class TrialPacker:
    """Collects finished trials, and packs every thousand of them in a thread.

    Trials with a model or a checkpoint keep their objects. Does nothing for a run in a folder.
    """

    def __init__(self, run: RunPaths) -> None:
        self.run = run
        self.waiting: list[TrialPaths] = []
        self.packing: list[Future[None]] = []
        self.thread = ThreadPoolExecutor(1, "fgaug-pack")

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles its searcher's state for a restore that is never used

    def add(self, cell_id: str) -> None:
        """Take a trial whose files are complete."""
        trial = self.run.trial(cell_id)
        if self.run.uri is None or trial.model.exists() or trial.checkpoint.exists():
            return
        self.waiting.append(trial)
        if len(self.waiting) >= TRIALS:
            folders = [each.root for each in self.waiting]
            self.packing.append(self.thread.submit(mirror.pack, folders))
            self.waiting = []

    def close(self) -> None:
        """Wait for what is being packed.

        Raises:
            StoreError: the store could not be reached; the trials keep their objects.
        """
        self.thread.shutdown()
        for each in self.packing:
            each.result()
