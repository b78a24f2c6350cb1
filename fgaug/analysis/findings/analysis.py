"""The complete analysis of a run under its plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fgaug.analysis.findings.arms import arm_table, compared, records
from fgaug.analysis.findings.best_arm import best_of
from fgaug.analysis.findings.comparisons import compare_metric, metrics_of
from fgaug.analysis.findings.datasets import across_datasets
from fgaug.analysis.findings.evidence import Evidence
from fgaug.analysis.findings.exchange_rate import exchange_of
from fgaug.analysis.findings.metric_values import Measured, measure, runs_of
from fgaug.analysis.findings.notes import remarks_of
from fgaug.analysis.findings.replacement import replacement_of
from fgaug.analysis.findings.response_surface import surface_of
from fgaug.analysis.findings.verdicts import verdicts_of
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.arm_names import frozen as plain
from fgaug.runs.results import screened

AT_ONCE = 2  # metrics; each needs arrays of all runs and images
ABSENT = ("cell_id", "arm_id", "seed", "status", "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Results of a run: frames of plain values; undefined is NaN with a `reason`."""

    plan: AnalysisPlan
    deviations: tuple[str, ...]  # differences from the frozen plan: reported as exploratory
    arms: pd.DataFrame  # of `arms.arm_table`
    comparisons: pd.DataFrame  # of `comparisons.compare_metric`, the primary metric first
    verdicts: pd.DataFrame  # of `verdicts.verdicts_of`: one row per arm with fakes
    best: pd.DataFrame  # of `best.best_of`, the primary metric first
    replacement: pd.DataFrame  # of `replacing.replacement_of`
    exchange: pd.DataFrame  # of `exchange.exchange_of`
    surface: pd.DataFrame  # of `surface.surface_of`
    absent: pd.DataFrame  # cells failed, pruned or missing: cell_id, arm_id, seed, status, why
    notes: tuple[str, ...]
    # of `datasets.across_datasets`; empty without the axis `dataset`
    datasets: pd.DataFrame = field(default_factory=pd.DataFrame)


def analyse(
    evidence: Evidence,
    plan: AnalysisPlan,
    *,
    frozen: AnalysisPlan | None = None,
    resamples: int = 1000,
) -> Analysis:
    """Return the analysis of a run under its plan.

    Args:
        evidence: the result of `load_evidence`.
        plan: metric, contrast, margin, alpha.
        frozen: the plan recorded when the run started, if any.
        resamples: maximum for the best arm's corrected gain; large runs use fewer, see `best_of`.
    """
    rows = evidence.rows[screened(evidence.rows)]
    arms = arm_table(rows, evidence.missing)
    tried, runs = compared(arms), runs_of(evidence)

    def judged(metric: str) -> tuple[dict[str, Measured], pd.DataFrame, pd.DataFrame]:
        measured = {split: measure(each, metric) for split, each in runs.items()}
        found = compare_metric(metric, measured, tried, plan)
        return measured, found, best_of(measured, tried, found, resamples)

    with ThreadPoolExecutor(AT_ONCE) as pool:  # array operations, which run side by side
        each_metric = list(pool.map(judged, metrics_of(plan)))
    primary = each_metric[0][0]
    comparisons, best = [of[1] for of in each_metric], [of[2] for of in each_metric]
    replaced = replacement_of(primary, arms, plan)
    return Analysis(
        plan=plan,
        deviations=tuple(_deviations(plan, frozen)),
        arms=arms,
        comparisons=_stacked(comparisons),
        verdicts=verdicts_of(comparisons[0], tried, replaced, plan),
        best=_stacked(best),
        replacement=replaced,
        exchange=exchange_of(primary, arms, plan),
        surface=surface_of(primary, arms, comparisons[0], plan),
        absent=absent(rows, evidence.missing),
        notes=tuple(remarks_of(rows, evidence.missing, arms, primary, plan)),
        datasets=across_datasets(rows, primary, plan),
    )


def _stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the frames concatenated; empty ones are skipped because they have no types."""
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else parts[0]


def absent(rows: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    """Return every cell of the grid without a finished trial, with the reason."""
    lost = rows[rows["status"].ne("ok")]
    known = pd.DataFrame(
        {
            **{name: lost[name] for name in ("cell_id", "arm_id", "seed", "status")},
            "why": [_why(row) for row in records(lost)],
        }
    )
    why = missing["status"].map(_WHY)
    unknown = missing.assign(why=why.fillna(missing["why"]) if "why" in missing else why)
    parts = [part[list(ABSENT)].astype(object) for part in (known, unknown) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(ABSENT))


_WHY = {"missing": "not trained yet", "paused": "paused at a rung"}


def _why(row: Mapping[str, Any]) -> str:
    if row["status"] == "pruned":
        rung = plain(row.get("rung"))
        return "pruned by the scheduler" + (f" at rung {rung:g}" if rung is not None else "")
    lines = str(row.get("error") or "no reason given").splitlines()
    return lines[0] if lines else "no reason given"


def _deviations(plan: AnalysisPlan, frozen: AnalysisPlan | None) -> Iterator[str]:
    for name in type(plan).model_fields if frozen is not None else ():
        then, now = getattr(frozen, name), getattr(plan, name)
        if then != now:
            yield f"`analysis.{name}`: {then} in the plan, {now} now"
