"""Pilot: estimates from a finished run for the design of the next one."""

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
from fgaug.core.analysis_metrics import LOWER_IS_BETTER
from fgaug.errors import RunError, UserError
from fgaug.runs.preregistration import planned_metric
from fgaug.runs.results import screened
from fgaug.stats import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The estimates from a run that a plan needs."""

    metric: str
    arms: int  # arms compared, without baselines and controls
    seeds: int  # median number of finished seeds per arm
    seed_sd: float  # pooled over all arms; NaN if every arm has one seed
    seed_df: int
    patient_variance: float  # of an arm minus its baseline, mean over arms, at least 0
    n_images: int
    n_patients: int
    expected: float | None  # mean of the baselines; None if lower is better
    notes: tuple[str, ...]


def pilot_of(run: Path, metric: str | None = None) -> Pilot:
    """Return the estimates from a run's validation predictions for the next run.

    Args:
        run: the run folder.
        metric: the metric; by default the one in the run's plan.

    Raises:
        UserError: there is no such metric.
        RunError: there is no run, or no finished arm with a finished baseline.
    """
    if metric is not None and metric not in METRICS:
        raise UserError(f"--metric must be one of {', '.join(METRICS)}, got {metric}.")
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
            f"{run} has no arm and baseline that both have a finished seed with a defined "
            f"{name}. Give --seed-sd and --patients instead of --run."
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
    """Return the sd between seeds pooled over all arms and twins, and its degrees of freedom."""
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
        yield f"trials left out: {words}"
    if used < len(arms):
        yield (
            f"{len(arms) - used} of {len(arms)} arms are left out for lack of a finished "
            "seed or baseline"
        )
    if fewest == 1:
        yield "arms with one seed inflate the variance over patients"


def after_pilot(
    pilot: Pilot,
    *,
    arms: int | None = None,
    patients: int | None = None,
    seed_sd: float | None = None,
) -> tuple[StudyDesign, tuple[str, ...]]:
    """Return the study design that follows from a pilot, and notes on the source of its numbers.

    Args:
        pilot: the result of `pilot_of`.
        arms: K; by default the pilot's.
        patients: number of patients in the planned evaluation, to which the variance over
            patients is scaled; by default the pilot's.
        seed_sd: sd between seeds; by default the pilot's.

    Raises:
        UserError: the pilot has one seed per arm, and `seed_sd` is not given.
    """
    sd = pilot.seed_sd if seed_sd is None else seed_sd
    if math.isnan(sd):
        raise UserError(
            "Every arm of the pilot has one seed, so the sd between seeds is unknown. Give "
            "--seed-sd."
        )
    people = pilot.n_patients if patients is None else patients
    notes = [
        f"pilot: {pilot.arms} arms, {pilot.n_images} images of {pilot.n_patients} patients; sd "
        f"between seeds {pilot.seed_sd:.4g} ({pilot.seed_df} degrees of freedom), sd over "
        f"patients of arm minus baseline {math.sqrt(pilot.patient_variance):.4g}",
        *pilot.notes,
    ]
    if pilot.patient_variance == 0:
        notes.append(
            "no variance over patients between arms and baseline was found: only level E1 applies"
        )
    elif people != pilot.n_patients:
        notes.append(
            f"the variance over patients is scaled from {pilot.n_patients} to {people} patients"
        )
    given = StudyDesign(
        metric=pilot.metric,
        arms=pilot.arms if arms is None else arms,
        seed_sd=sd,
        patient_variance=pilot.patient_variance * pilot.n_patients / people,
        patients=people,
        expected=pilot.expected,
    )
    return given, tuple(notes)
