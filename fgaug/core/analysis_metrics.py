"""The metrics that an analysis can use: words, direction and place in a result row.

`fgaug.stats.influence` computes each of them with its variation over patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisMetric:
    """A metric as grids, result rows and reports know it."""

    words: str  # in reports
    column: str  # of a result row; `recall_*` is the mean over the columns with this prefix
    lower_is_better: bool = False
    unit: str = "points"  # of differences; a point is 0.01
    from_labels: bool = False  # predicted labels suffice, no probabilities needed

    def values(self, rows: pd.DataFrame) -> pd.Series[float]:
        """Return the metric of each result row; NaN if undefined."""
        if not self.column.endswith("*"):
            return rows[self.column].astype(float)
        prefix = self.column[:-1]
        names = [name for name in map(str, rows.columns) if name.startswith(prefix)]
        means: pd.Series[float] = rows[names].astype(float).mean(axis=1, skipna=False)
        return means


METRICS = {
    "auc": AnalysisMetric(words="AUC", column="valid_auc"),
    "accuracy": AnalysisMetric(words="accuracy", column="valid_acc", from_labels=True),
    "balanced_accuracy": AnalysisMetric(
        words="balanced accuracy", column="recall_*", from_labels=True
    ),
    "brier": AnalysisMetric(
        words="Brier score", column="valid_brier", lower_is_better=True, unit=""
    ),
    "log_loss": AnalysisMetric(
        words="log loss", column="valid_loss", lower_is_better=True, unit="nats"
    ),
    "f1_macro": AnalysisMetric(words="macro F1", column="valid_f1_macro", from_labels=True),
}
LOWER_IS_BETTER = tuple(name for name, metric in METRICS.items() if metric.lower_is_better)
