"""A run: the outcome of a search, counted from the files of its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from fgaug.runs import results


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run on disk and how complete it is."""

    root: Path
    ok: int
    pruned: int
    failed: int
    missing: int

    @property
    def exit_code(self) -> int:
        """0 complete, 1 failures, 3 incomplete."""
        return 3 if self.missing else 1 if self.failed else 0

    def and_also(self, statuses: Sequence[str]) -> Run:
        """Return the run with cells of a second stage counted too; each ok, failed or missing."""
        more = Counter(statuses)
        counts = {name: getattr(self, name) + more[name] for name in ("ok", "failed", "missing")}
        return replace(self, **counts)

    def results(self) -> pd.DataFrame:
        """Return one row a trial; see `load_results`."""
        return results.load_results(self.root)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves of all trials."""
        return results.load_curves(self.root)

    def predictions(self) -> pd.DataFrame:
        """Return the validation predictions of all trials."""
        return results.load_predictions(self.root)
