"""The analysis plan of a grid: metric, contrast, alpha and looks, fixed before the first trial.

A run stores the plan's digest when its first trial starts; later changes are exploratory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator

from fgaug.core.analysis_metrics import METRICS
from fgaug.grid.recipe import Frozen

if TYPE_CHECKING:
    Metric = str
else:  # so that a grid refuses other names; a type checker cannot read a computed Literal
    Metric = Literal[tuple(METRICS)]


class AnalysisPlan(Frozen):
    """The analysis a grid is planned for; the key `analysis` of the grid file."""

    metric: Metric = "auc"  # primary metric; reports label the others secondary
    contrast: Literal["baseline", "twin"] = "baseline"  # what gains are measured against
    # non-inferiority margin in units of the metric; None: derived from `retention`
    margin: Annotated[float, Field(gt=0)] | None = None
    # fraction of the removed reals' gain that fakes must retain
    retention: Annotated[float, Field(gt=0, lt=1)] = 0.5
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05  # two-sided, for the whole grid
    looks: Annotated[int, Field(strict=True, ge=1)] = 1  # planned looks at the sealed test set

    def at_a_look(self) -> AnalysisPlan:
        """Return the plan for one look at the sealed test set, with its equal share of alpha."""
        return self.model_copy(update={"alpha": self.alpha / self.looks})


class Confirmation(Frozen):
    """A second stage that retrains the best arms on fresh seeds for the sealed test set."""

    # seeds of the first stage; must equal the number of seeds in `axes.seed`
    screen_seeds: Annotated[int, Field(strict=True, ge=1)] | None = None
    confirm_seeds: Annotated[int, Field(strict=True, ge=2)] = 20  # per arm and per twin
    top: Annotated[int, Field(strict=True, ge=1)] = 3  # arms to confirm

    def most_cells(self, controls: int) -> int:
        """Return the maximum number of second-stage cells: arms, their twins and baselines."""
        return self.top * self.confirm_seeds * (2 + controls)


def _baseline_seeds(value: Any) -> Literal["auto"] | int:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value != "auto" and not whole:
        raise ValueError(f"must be `auto` or a whole number of at least 1, got {value!r}")
    return "auto" if value == "auto" else int(value)


BaselineSeeds = Annotated[Literal["auto"] | int, PlainValidator(_baseline_seeds)]


def seeds_of_baseline(arms: int, seeds: int) -> int:
    """Return the number of seeds for a baseline shared by `arms` arms with `seeds` seeds each.

    This is sqrt(arms) times an arm's seeds, rounded up: the allocation with the most precise
    comparisons (the square-root rule: Dunnett 1955; Bechhofer and Nocturne 1972).
    """
    return math.ceil(seeds * math.sqrt(max(1, arms)))
