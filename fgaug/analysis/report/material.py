"""Material: the inputs of a report, loaded before any of it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from fgaug.analysis.report.fakes.sets import KnownFakes
from fgaug.analysis.report.panels import varying
from fgaug.analysis.report.parts import Picture
from fgaug.core.split_names import FOLDS
from fgaug.grid.arm_names import arm_name
from fgaug.grid.cells import CONTROLS
from fgaug.runs.environment import Environment

if TYPE_CHECKING:
    from fgaug.analysis.findings.analysis import Analysis
    from fgaug.analysis.findings.evidence import Evidence


def _no_curves(cell_ids: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"cell_id": []})


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Inputs of a run's report; a missing item carries its reason in words."""

    name: str
    rows: pd.DataFrame  # of `load_results`, with any status
    arms: pd.DataFrame  # of `by_arm`
    space: Mapping[str, Any]  # the resolved grid
    environment: Environment = field(default_factory=Environment)
    missing: int = 0  # cells of the grid without a row
    curves: Callable[[Sequence[str]], pd.DataFrame] = _no_curves  # of some cells, by id
    evidence: Evidence | None = None
    analysis: Analysis | None = None
    no_analysis: str = "the comparisons have not been computed"
    strata: pd.DataFrame | None = None  # image_id, and a column a stratum
    no_strata: str = "the dataset has not been read"
    sheets: tuple[Picture, ...] = ()  # of fakes
    no_sheets: str = "the bank has not been read"
    fakes: tuple[KnownFakes, ...] = ()  # the records of each bank
    no_fakes: str = "the bank has not been read"
    plan: Mapping[str, Any] = field(default_factory=dict)  # of plan.json
    deviations: tuple[str, ...] = ()  # from that plan
    looks: tuple[Mapping[str, Any], ...] = ()  # of looks.json
    confirmed: tuple[tuple[str, pd.DataFrame], ...] = ()  # second stages: head, comparisons
    sealed: bool = False  # whether the scores are from the sealed test set

    @property
    def images(self) -> str:
        """The set that the scores come from, in words."""
        if self.pooled:
            return "held-out folds"
        return "sealed test set" if self.sealed else "validation set"

    @property
    def pooled(self) -> bool:
        """Whether the rows are pooled over folds."""
        return "split" in self.rows and bool(self.rows["split"].eq(FOLDS).any())

    @property
    def has_test(self) -> bool:
        """Whether the dataset has a sealed test set, as far as is known."""
        dataset = self.environment.dataset
        return dataset is None or dataset.n_images.get("test") != 0

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.analysis.plan.metric if self.analysis else "auc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """The best arm, its control and its baseline; None for one that does not exist."""

    best: str | None
    control: str | None
    baseline: str | None

    def named(self) -> list[tuple[str, str]]:
        """Return (role, arm_id) of the arms that exist."""
        roles = (("baseline", self.baseline), ("control", self.control), ("best arm", self.best))
        return [(role, arm_id) for role, arm_id in roles if arm_id is not None]


def picks(material: Material) -> Picks:
    """Return the best arm by the primary metric, its oversample twin and its baseline.

    Without an analysis: the arm with the highest mean validation AUC, and the first baseline.
    """
    analysis = material.analysis
    if analysis is not None and len(analysis.best):
        best = analysis.best[analysis.best["metric"].eq(material.metric)]
        best_id = str(best.iloc[0]["arm_id"]) if len(best) else ""
        arm = analysis.arms[analysis.arms["arm_id"].eq(best_id)]
        if len(arm):
            control, baseline = (_text(arm.iloc[0][name]) for name in ("twin_id", "baseline_id"))
            return Picks(best=best_id, control=control, baseline=baseline)
    scored = material.arms[material.arms["valid_auc_mean"].notna()]
    reals = scored[scored["mode"].eq("baseline")]
    tried = scored[~scored["mode"].isin(["baseline", *CONTROLS])]
    tried = tried.sort_values("valid_auc_mean", ascending=False, kind="stable")
    return Picks(
        best=None if tried.empty else str(tried["arm_id"].iloc[0]),
        control=None,
        baseline=None if reals.empty else str(reals.iloc[0]["arm_id"]),
    )


def names_of(material: Material) -> dict[str, str]:
    """Return each arm's name in words by arm_id; names leave out rounds."""
    axes = varying(material.arms)
    names = {}
    for row in material.arms.drop_duplicates("arm_id").to_dict("records"):
        words = arm_name({str(key): row[key] for key in row if key != "round"}, axes)
        names[str(row["arm_id"])] = words + (" (control)" if row["mode"] in CONTROLS else "")
    return names


def compared(material: Material, against: str, metric: str | None = None) -> pd.DataFrame:
    """Return the comparisons with one kind of arm by arm_id, in the primary metric by default."""
    if material.analysis is None:
        return pd.DataFrame()
    rows = material.analysis.comparisons
    if rows.empty:
        return rows
    rows = rows[rows["against"].eq(against) & rows["metric"].eq(metric or material.metric)]
    return rows.drop_duplicates("arm_id").set_index("arm_id")


def _text(value: Any) -> str | None:
    return None if value is None or value != value or value is pd.NA else str(value)
