"""Metric values of the runs of one split, by arm, seed and patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fgaug.analysis.findings.evidence import Evidence
from fgaug.runs.results import screened, splits_of
from fgaug.stats import Arms, Influence, arms_of, influence_of
from fgaug.stats.arrays import Floats, Ints

BLOCK = 2**21  # predictions processed at a time, to keep the arrays of a metric small


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRuns:
    """The finished trials of one split, grouped by arm."""

    split: str
    y: Ints  # [N]
    group: np.ndarray  # [N]
    place: Mapping[str, int]  # arm_id -> 0..A - 1, of arms with a finished trial
    arm: Ints  # [R], 0..A - 1, rising
    cells: tuple[str, ...]  # [R]
    evidence: Evidence

    @property
    def n_images(self) -> int:
        return len(self.y)

    @property
    def n_patients(self) -> int:
        return int(pd.Series(self.group).nunique())

    def blocks(self) -> Iterator[Floats]:
        """Yield the predictions of a few runs at a time, [r, N, L]."""
        size = max(1, BLOCK // max(1, self.n_images * len(self.evidence.labels)))
        for start in range(0, len(self.cells), size):
            cells = self.cells[start : start + size]
            yield np.stack([self.evidence.probability[cell] for cell in cells]).astype(float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric of the arms of a split."""

    metric: str
    runs: SplitRuns
    value: Floats  # [R]
    arms: Arms  # of all arms of `runs`
    reason: str | None  # why the metric is undefined for all of them

    def has(self, arm_id: str | None) -> bool:
        """Return whether the arm has a finished trial, and all its trials a defined metric."""
        if arm_id is None or arm_id not in self.runs.place:
            return False
        place = self.runs.place[arm_id]
        return bool(np.isfinite(self.arms.mean[place] + self.arms.case[place, place]))

    def values(self, arm_id: str) -> Floats:
        """Return the metric of each finished trial of an arm, [S]."""
        place = self.runs.place.get(arm_id, -1)
        return self.value[slice(*np.searchsorted(self.runs.arm, [place, place + 1]))]

    def of(self, arm_ids: Sequence[str]) -> Arms:
        """Return these arms only, in this order."""
        places = [self.runs.place[arm_id] for arm_id in arm_ids]
        return replace(
            self.arms,
            mean=self.arms.mean[places],
            n_seeds=self.arms.n_seeds[places],
            seed_variance=self.arms.seed_variance[places],
            case=self.arms.case[np.ix_(places, places)],
            reason=self.reason,
        )


def runs_of(evidence: Evidence) -> dict[str, SplitRuns]:
    """Return the finished trials of the grid by split, without those of a second stage."""
    rows = evidence.rows
    rows = rows[rows["status"].eq("ok") & screened(rows)]
    found = {}
    for split, part in rows.groupby(splits_of(rows), sort=False):
        part = part.sort_values(["arm_id", "seed"], kind="stable")
        codes, names = pd.factorize(part["arm_id"])
        images = evidence.images[str(split)]
        found[str(split)] = SplitRuns(
            split=str(split),
            y=images["y"].to_numpy(np.int64),
            group=images["group"].to_numpy(),
            place={str(name): place for place, name in enumerate(names)},
            arm=codes.astype(np.int64),
            cells=tuple(map(str, part["cell_id"])),
            evidence=evidence,
        )
    return found


def measure(runs: SplitRuns, metric: str) -> Measured:
    """Return a metric of every run of a split, and its arms over seeds and patients."""
    codes, _ = pd.factorize(runs.group)
    parts = [influence_of(metric, runs.y, p, group=codes) for p in runs.blocks()]
    influence = replace(
        parts[0],
        estimate=np.concatenate([part.estimate for part in parts]),
        factors=np.concatenate([part.factors for part in parts]),
    )
    undefined = np.isnan(influence.estimate)
    reason = influence.reason if undefined.all() or np.isnan(influence.factors).all() else None
    # a run with an undefined metric makes only its own arm undefined
    with np.errstate(invalid="ignore"):
        arms = arms_of(_apart(influence, undefined), runs.arm)
    lost = np.unique(runs.arm[undefined])
    arms.mean[lost], arms.seed_variance[lost] = np.nan, np.nan
    arms.case[lost], arms.case[:, lost] = np.nan, np.nan
    return Measured(metric=metric, runs=runs, value=influence.estimate, arms=arms, reason=reason)


def _apart(influence: Influence, undefined: np.ndarray) -> Influence:
    """Return the influence with zeros for undefined runs, whose arms are handled separately."""
    if not undefined.any():
        return influence
    return replace(
        influence,
        estimate=np.where(undefined, 0.0, influence.estimate),
        factors=np.where(undefined[:, None], 0.0, influence.factors),
    )
