"""What a finished run tells of the next: spread of seeds, share of patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug.analysis.findings.arms import arm_table, compared
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.analysis.findings.metric_values import Measured, measure, runs_of
from fgaug.analysis.power.designs import StudyDesign
from fgaug.errors import RunError, UserError
from fgaug.grid.analysis_plan import LOWER_IS_BETTER
from fgaug.runs.preregistration import planned_metric
from fgaug.runs.results import screened
from fgaug.stats import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The numbers of a run that a plan needs."""

    metric: str
    arms: int  # that were compared: no baseline, no control
    seeds: int  # of an arm, the median of those that finished
    seed_sd: float  # pooled over all arms; NaN where every arm has one seed
    seed_df: int
    patient_variance: float  # of an arm minus its baseline, mean over arms, at least 0
    n_images: int
    n_patients: int
    expected: float | None  # mean of the baselines; None where smaller is better
    notes: tuple[str, ...]


def pilot_of(run: Path, metric: str | None = None) -> Pilot:
    """Return what a run's validation predictions tell of the next run.

    Args:
        run: its folder.
        metric: None for the one its plan names.

    Raises:
        UserError: no such metric; RunError: no run, or no arm beside a baseline that finished.
    """
    if metric is not None and metric not in METRICS:
        raise UserError(f"--metric is one of {', '.join(METRICS)}, got {metric}.")
    name = metric or planned_metric(run)
    evidence = load_evidence(run)
    measured = [measure(runs, name) for runs in runs_of(evidence).values()]
    arms = compared(arm_table(evidence.rows[screened(evidence.rows)], evidence.missing))
    pairs = [
        (found, found.of([baseline, arm]))
        for arm, baseline in zip(arms["arm_id"], arms["baseline_id"], strict=True)
        for found in measured
        if found.has(arm) and found.has(baseline)
    ]
    if not pairs:
        raise RunError(
            f"{run} has no arm with a baseline of which a seed finished with a defined {name}. "
            "Give --seed-sd and --patients instead of --run."
        )
    differences = [
        float(pair.case[0, 0] + pair.case[1, 1] - 2 * pair.case[0, 1]) for _, pair in pairs
    ]
    sd, seed_df = _seed_sd(measured)
    seeds = [int(pair.n_seeds[1]) for _, pair in pairs]
    return Pilot(
        metric=name,
        arms=len(pairs),
        seeds=int(np.median(seeds)),
        seed_sd=sd,
        seed_df=seed_df,
        patient_variance=max(0.0, float(np.mean(differences))),
        n_images=pairs[0][0].runs.n_images,
        n_patients=pairs[0][0].runs.n_patients,
        expected=(
            None
            if name in LOWER_IS_BETTER
            else float(np.mean([pair.mean[0] for _, pair in pairs]))
        ),
        notes=tuple(_notes(arms, len(pairs), min(seeds))),
    )


def _seed_sd(measured: Sequence[Measured]) -> tuple[float, int]:
    """Return the sd between seeds pooled over all arms, twins too, and its degrees of freedom."""
    squares, df = 0.0, 0
    for found in measured:
        usable = np.isfinite(found.arms.seed_variance)
        own = found.arms.n_seeds[usable] - 1
        squares += float(found.arms.seed_variance[usable] @ own)
        df += int(own.sum())
    return (math.sqrt(squares / df) if df else float("nan")), df


def _notes(arms: pd.DataFrame, used: int, fewest: int) -> Iterator[str]:
    lost = {name: int(arms[name].sum()) for name in ("failed", "pruned", "missing")}
    if any(lost.values()):
        words = ", ".join(f"{count} {name}" for name, count in lost.items() if count)
        yield f"trials of its arms that are left out: {words}"
    if used < len(arms):
        yield f"{len(arms) - used} of {len(arms)} arms are left out: no finished seed or baseline"
    if fewest == 1:
        yield "arms of one seed make the patients' part too large"


def after_pilot(
    pilot: Pilot,
    *,
    arms: int | None = None,
    patients: int | None = None,
    seed_sd: float | None = None,
) -> tuple[StudyDesign, tuple[str, ...]]:
    """Return the study that a pilot leads to, and notes that say where its numbers are from.

    Args:
        pilot: of `pilot_of`.
        arms: K; None for the pilot's.
        patients: of the planned evaluation; None for the pilot's. The patients' part is scaled.
        seed_sd: None for the pilot's.

    Raises:
        UserError: a pilot of one seed an arm, without `seed_sd`.
    """
    sd = pilot.seed_sd if seed_sd is None else seed_sd
    if math.isnan(sd):
        raise UserError("Every arm of the pilot has one seed, so it tells no seed sd: --seed-sd.")
    people = pilot.n_patients if patients is None else patients
    notes = [
        f"pilot: {pilot.arms} arms, {pilot.n_images} images of {pilot.n_patients} patients; "
        f"seed sd {pilot.seed_sd:.4g} ({pilot.seed_df} degrees of freedom), sd over patients of "
        f"arm minus baseline {math.sqrt(pilot.patient_variance):.4g}",
        *pilot.notes,
    ]
    if pilot.patient_variance == 0:
        notes.append("no spread over patients between arms and baseline was found: E1 is all")
    elif people != pilot.n_patients:
        notes.append(f"the patients' part is scaled from {pilot.n_patients} to {people} patients")
    given = StudyDesign(
        metric=pilot.metric,
        arms=pilot.arms if arms is None else arms,
        seed_sd=sd,
        patient_variance=pilot.patient_variance * pilot.n_patients / people,
        patients=people,
        expected=pilot.expected,
    )
    return given, tuple(notes)
