"""What a grid sets out to show, said before its first trial.

Frozen by digest when the first trial starts; what changes later is shown as exploratory.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from fgaug.grid.recipe import Frozen

Metric = Literal["auc", "accuracy", "balanced_accuracy", "brier", "log_loss"]
LOWER_IS_BETTER = ("brier", "log_loss")


class AnalysisPlan(Frozen):
    """The claim a grid is after; the key `analysis` of the grid file."""

    metric: Metric = "auc"  # the primary one; others are secondary and labelled so
    contrast: Literal["baseline", "twin"] = "baseline"  # what a gain is a gain over
    # of non-inferiority, in units of the metric; None: half of what the removed reals bring
    margin: Annotated[float, Field(gt=0)] | None = None
    retention: Annotated[float, Field(gt=0, lt=1)] = 0.5  # share of that gain fakes must keep
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05  # two-sided, of the whole grid
    looks: Annotated[int, Field(strict=True, ge=1)] = 1  # planned at the sealed test set

    def at_a_look(self) -> AnalysisPlan:
        """Return the plan of one look at the sealed test set: planned looks share alpha."""
        return self.model_copy(update={"alpha": self.alpha / self.looks})


class Confirmation(Frozen):
    """A second stage: the best arms of a screening again, on fresh seeds and the sealed test."""

    # of the first stage: as many as the axis `seed` has, which a number given here must be
    screen_seeds: Annotated[int, Field(strict=True, ge=1)] | None = None
    confirm_seeds: Annotated[int, Field(strict=True, ge=2)] = 20  # of an arm and of its twins
    top: Annotated[int, Field(strict=True, ge=1)] = 3  # arms that are confirmed

    def most_cells(self, controls: int) -> int:
        """Return the cells of the second stage, at most: each arm has its twins and a baseline."""
        return self.top * self.confirm_seeds * (2 + controls)


def _baseline_seeds(asked: Any) -> Literal["auto"] | int:
    whole = isinstance(asked, int) and not isinstance(asked, bool) and asked >= 1
    if asked != "auto" and not whole:
        raise ValueError(f"must be `auto` or a whole number of at least 1, got {asked!r}")
    return "auto" if asked == "auto" else int(asked)


BaselineSeeds = Annotated[Literal["auto"] | int, PlainValidator(_baseline_seeds)]


def seeds_of_baseline(arms: int, seeds: int) -> int:
    """Return the seeds of a baseline that `arms` arms of so many seeds are compared with.

    About sqrt(K) times an arm's, the split of runs that gives the sharpest differences (the
    square-root rule: Dunnett 1955; Bechhofer and Nocturne 1972); never fewer than an arm's.
    """
    return math.ceil(seeds * math.sqrt(max(1, arms)))
