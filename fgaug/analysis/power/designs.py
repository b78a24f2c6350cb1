"""Designs of a study and what each can see, before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fgaug.analysis.power.limits import warnings_of
from fgaug.errors import UserError
from fgaug.grid.analysis_plan import seeds_of_baseline
from fgaug.stats import (
    Plan,
    ceiling,
    power,
    smallest_gain,
    smallest_two_stage_gain,
    two_stage_power,
)

MOST_SEEDS = 10**9  # so many that only patients are left
GAINS = (0.005, 0.0075, 0.01, 0.015)  # whose power is told where none is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStage:
    """All arms on a few seeds, then the best again on fresh ones and on other patients."""

    screen: int  # seeds of an arm
    confirm: int
    top: int  # arms that are confirmed

    def __post_init__(self) -> None:
        """Refuse sizes below 1.

        Raises:
            UserError: naming all three.
        """
        if min(self.screen, self.confirm, self.top) < 1:
            raise UserError(
                "--two-stage is screening seeds, confirming seeds, arms confirmed, each at least "
                f"1, got {self.screen},{self.confirm},{self.top}. For example 5,20,3."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDesign:
    """What is known or assumed of a study."""

    metric: str
    arms: int  # compared with the baseline, K
    seed_sd: float
    patient_variance: float  # of one arm minus the baseline over `patients`; 0: not counted
    patients: int | None  # of the planned evaluation; None: not counted
    expected: float | None  # the baseline's metric, for the room above it
    alpha: float = 0.05

    def __post_init__(self) -> None:
        """Refuse sizes that no study has.

        Raises:
            UserError: naming the option.
        """
        if self.arms < 1:
            raise UserError(f"--arms must be at least 1, got {self.arms}.")
        if self.patients is not None and self.patients < 2:
            raise UserError(f"--patients (or --images) must be at least 2, got {self.patients}.")
        if not 0 <= self.seed_sd < math.inf:
            raise UserError(f"--seed-sd must be 0 or more, got {self.seed_sd:g}. Give a pilot's.")

    def plan(self, arms: int, seeds: int, baseline_seeds: int) -> Plan:
        """Return the comparison of so many arms on so many seeds.

        Raises:
            UserError: for sizes below 1.
        """
        return Plan(
            arms=arms,
            seeds=seeds,
            baseline_seeds=baseline_seeds,
            seed_sd=self.seed_sd,
            case_variance=self.patient_variance,
            patients=self.patients if self.patient_variance else None,
            alpha=self.alpha,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What designs can see; gains are in units of the metric."""

    given: StudyDesign
    level: str  # E2, or E1 where patients are not counted
    # design and seeds (words), runs, smallest_gain at power .8, power_<gain>; the last rows, of
    # level E2 only: what no number of seeds can exceed
    designs: pd.DataFrame
    gains: tuple[float, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def outlook(
    given: StudyDesign,
    *,
    seeds: Sequence[int],
    baseline_seeds: int | None,
    gains: Sequence[float] = (),
    stages: TwoStage | None = None,
    notes: Sequence[str] = (),
) -> Outlook:
    """Return runs, smallest visible gain and power of each design.

    Args:
        given: of the study.
        seeds: of an arm; one design for each number, the first is the plan that is warned about.
        baseline_seeds: None for about sqrt(K) times an arm's, with a design of as many beside it.
        gains: whose power is told, and what they need where that is below .8; GAINS if none.
        stages: a design of two stages.
        notes: what was assumed.

    Raises:
        UserError: for sizes and gains that no study has.
    """
    if bad := [gain for gain in gains if not 0 < gain < math.inf]:
        raise UserError(f"--gain must be above 0, in units of the metric, got {bad[0]:g}.")
    shown = tuple(gains) or GAINS
    rows = []
    for count in dict.fromkeys(seeds):
        for base in _baselines(given.arms, count, baseline_seeds):
            plan = given.plan(given.arms, count, base)
            powers = [power(plan, gain) for gain in shown]
            rows.append(_row(plan, f"{given.arms} arms", smallest_gain(plan), shown, powers))
    if stages is not None:
        rows.append(_two_stage_row(given, stages, baseline_seeds, shown))
    if given.patient_variance:
        rows += _ceilings(given, stages, shown)
    plan = given.plan(
        given.arms, seeds[0], baseline_seeds or seeds_of_baseline(given.arms, seeds[0])
    )
    return Outlook(
        given=given,
        level="E2" if given.patient_variance else "E1",
        designs=pd.DataFrame(rows).astype({"runs": "Int64"}),
        gains=shown,
        warnings=tuple(warnings_of(plan, gains, expected=given.expected)),
        notes=tuple(notes),
    )


def _baselines(arms: int, seeds: int, baseline_seeds: int | None) -> list[int]:
    if baseline_seeds is not None:
        return [baseline_seeds]
    return list(dict.fromkeys([seeds, seeds_of_baseline(arms, seeds)]))


def _row(
    plan: Plan, words: str, smallest: float, gains: Sequence[float], powers: Sequence[float]
) -> dict[str, object]:
    return {
        "design": words if plan.arms > 1 else words.replace("arms", "arm"),
        "seeds": f"{plan.seeds} + {plan.baseline_seeds}",
        "runs": plan.arms * plan.seeds + plan.baseline_seeds,
        "smallest_gain": smallest,
        **{f"power_{gain:g}": value for gain, value in zip(gains, powers, strict=True)},
    }


def stage_plans(
    given: StudyDesign, stages: TwoStage, baseline_seeds: int | None
) -> tuple[Plan, Plan]:
    """Return the plans of a screening and of the confirmation of its best arms.

    The confirmation's baseline always has about sqrt(top) times the seeds of an arm.

    Raises:
        UserError: more arms to confirm than there are.
    """
    if stages.top > given.arms:
        raise UserError(
            f"--two-stage confirms {stages.top} arms of {given.arms}. Confirm fewer, or give more "
            "--arms."
        )
    base = baseline_seeds or seeds_of_baseline(given.arms, stages.screen)
    again = seeds_of_baseline(stages.top, stages.confirm)
    screen = given.plan(given.arms, stages.screen, base)
    return screen, given.plan(stages.top, stages.confirm, again)


def _two_stage_row(
    given: StudyDesign, stages: TwoStage, baseline_seeds: int | None, gains: Sequence[float]
) -> dict[str, object]:
    screen, confirm = stage_plans(given, stages, baseline_seeds)
    powers = [two_stage_power(screen, confirm, gain) for gain in gains]
    row = _row(screen, "", smallest_two_stage_gain(screen, confirm), gains, powers)
    second = _row(confirm, "", math.nan, (), ())
    runs = screen.arms * screen.seeds + screen.baseline_seeds
    return {
        **row,
        "design": f"two stages: {screen.arms} arms, then the best {confirm.arms}",
        "seeds": f"{row['seeds']}, then {second['seeds']}",
        "runs": runs + confirm.arms * confirm.seeds + confirm.baseline_seeds,
    }


def _ceilings(
    given: StudyDesign, stages: TwoStage | None, gains: Sequence[float]
) -> list[dict[str, object]]:
    """Return what no number of seeds exceeds, of one stage and of two."""
    endless = given.plan(given.arms, MOST_SEEDS, MOST_SEEDS)
    powers = [ceiling(endless, gain) for gain in gains]
    rows = [_row(endless, f"{given.arms} arms", smallest_gain(endless), gains, powers)]
    if stages is not None:
        many = TwoStage(screen=MOST_SEEDS, confirm=MOST_SEEDS, top=stages.top)
        rows.append(_two_stage_row(given, many, MOST_SEEDS, gains))
    return [{**row, "seeds": "however many", "runs": None} for row in rows]
