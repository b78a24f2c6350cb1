"""The table of the comparison with fastai: which runs it holds, and what they say.

rows -> [fastai_peer_table] -> means, differences with their 90% intervals
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

SETTING = ("size", "n_train", "n_valid", "epochs", "patience")
ARM = ("program", "head", "dropout", "order", "augmentation")
KEY = ("images", *SETTING, *ARM, "seed")
MARGIN = 0.01  # of AUC: what counts as equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference of two means and its interval."""

    value: float
    low: float
    high: float

    @property
    def within_margin(self) -> bool:
        """Whether the interval lies within the margin: two one-sided tests at 5% each."""
        return self.low > -MARGIN and self.high < MARGIN


def welch(a: np.ndarray, b: np.ndarray, level: float = 0.9) -> Difference:
    """Return mean(a) - mean(b) with Welch's interval; not a number below two values a side."""
    if min(len(a), len(b)) == 0:
        return Difference(value=math.nan, low=math.nan, high=math.nan)
    value = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) == 1:
        return Difference(value=value, low=math.nan, high=math.nan)
    of_a, of_b = (float(np.var(x, ddof=1)) / len(x) for x in (a, b))
    if of_a + of_b == 0:
        return Difference(value=value, low=value, high=value)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(of_a + of_b)
    return Difference(value=value, low=value - half, high=value + half)


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells a run from all others."""
    return tuple(str(row[name]) for name in KEY)


def finished(rows: Path) -> set[tuple[str, ...]]:
    """Return the keys of the runs that a table holds; a line cut by a kill is left out."""
    if not rows.exists():
        return set()
    found = pd.read_csv(rows, dtype=str, on_bad_lines="skip").dropna()
    return {key_of(row) for row in found.to_dict("records")}


def report(rows: pd.DataFrame) -> str:
    """Return a Markdown table: each arm of our loop against fastai, two lines a set.

    `best` is the AUC of the weights that the recipe keeps, `last` of those after the last epoch.
    """
    lines = [
        "| images | px | epochs | draws from fastai | weights | n | fgaug AUC (sd) | n "
        "| fastai AUC (sd) | difference | 90% interval | within .01 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (images, *setting), runs in rows.groupby(["images", *SETTING], sort=True):
        size, epochs = setting[0], setting[SETTING.index("epochs")]
        fastai, ours = (runs[runs["program"] == program] for program in ("fastai", "fgaug"))
        for streams, arm in ours.groupby(list(ARM[1:]), sort=False):
            taken = [n for n, of in zip(ARM[1:], streams, strict=True) if of == "fastai"]
            start = f"| {images} | {size} | 1+{epochs} | {', '.join(taken) or 'none'}"
            for weights, column in (("best", "auc"), ("last", "last_auc")):
                own, theirs = arm[column].to_numpy(), fastai[column].to_numpy()
                found = welch(own, theirs)
                lines.append(
                    f"{start} | {weights} | {_mean(own)} | {_mean(theirs)} "
                    f"| {found.value:+.4f} | {found.low:+.4f} to {found.high:+.4f} "
                    f"| {'yes' if found.within_margin else 'no'} |"
                )
    return "\n".join(lines)


def _mean(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{len(values)} | {np.mean(values):.4f} (-)" if len(values) else "0 | -"
    return f"{len(values)} | {np.mean(values):.4f} ({np.std(values, ddof=1):.4f})"
