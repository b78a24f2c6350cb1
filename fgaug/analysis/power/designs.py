"""Study designs and their power, before a run."""

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

MOST_SEEDS = 10**9  # so many that only the variance over patients remains
GAINS = (0.005, 0.0075, 0.01, 0.015)  # default gains for which power is reported


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStage:
    """Two stages: all arms on a few seeds, then the best on fresh seeds and other patients."""

    screen: int  # seeds per arm
    confirm: int
    top: int  # arms that are confirmed

    def __post_init__(self) -> None:
        """Refuse sizes below 1.

        Raises:
            UserError: names all three.
        """
        if min(self.screen, self.confirm, self.top) < 1:
            raise UserError(
                "--two-stage takes screening seeds, confirmation seeds and confirmed arms, each "
                f"at least 1, got {self.screen},{self.confirm},{self.top}. For example 5,20,3."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDesign:
    """The known or assumed numbers of a study."""

    metric: str
    arms: int  # K, compared with the baseline
    seed_sd: float
    patient_variance: float  # of one arm minus the baseline over `patients`; 0: ignored
    patients: int | None  # in the planned evaluation; None: ignored
    expected: float | None  # the baseline's metric, which limits the possible gain
    alpha: float = 0.05

    def __post_init__(self) -> None:
        """Refuse impossible sizes.

        Raises:
            UserError: names the option.
        """
        if self.arms < 1:
            raise UserError(f"--arms must be at least 1, got {self.arms}.")
        if self.patients is not None and self.patients < 2:
            raise UserError(f"--patients (or --images) must be at least 2, got {self.patients}.")
        if not 0 <= self.seed_sd < math.inf:
            raise UserError(
                f"--seed-sd must be 0 or more, got {self.seed_sd:g}. Use that of a pilot."
            )

    def plan(self, arms: int, seeds: int, baseline_seeds: int) -> Plan:
        """Return the comparison of `arms` arms on `seeds` seeds each.

        Raises:
            UserError: a size is below 1.
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
    """The power of several designs; gains are in units of the metric."""

    given: StudyDesign
    level: str  # E2, or E1 if patients are ignored
    # design and seeds (words), runs, smallest_gain at power .8, power_<gain>; at level E2 the last
    # rows are the limit for any number of seeds
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
    """Return runs, smallest detectable gain and power of each design.

    Args:
        given: the numbers of the study.
        seeds: seeds per arm, one design for each; warnings concern the first.
        baseline_seeds: None for about sqrt(K) times the seeds of an arm, and a second design with
            equal seeds.
        gains: gains for which power is reported, with the requirements of those below .8; by
            default GAINS.
        stages: adds a design with two stages.
        notes: the assumptions.

    Raises:
        UserError: a size or gain is impossible.
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
    """Return the plans of the screening and of the confirmation of the best arms.

    The baseline of the confirmation always has about sqrt(top) times the seeds of an arm.

    Raises:
        UserError: more arms are to be confirmed than the study has.
    """
    if stages.top > given.arms:
        raise UserError(
            f"--two-stage cannot confirm {stages.top} of {given.arms} arms. Confirm fewer, or "
            "give more --arms."
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
    """Return the limits for any number of seeds, with one stage and with two."""
    endless = given.plan(given.arms, MOST_SEEDS, MOST_SEEDS)
    powers = [ceiling(endless, gain) for gain in gains]
    rows = [_row(endless, f"{given.arms} arms", smallest_gain(endless), gains, powers)]
    if stages is not None:
        many = TwoStage(screen=MOST_SEEDS, confirm=MOST_SEEDS, top=stages.top)
        rows.append(_two_stage_row(given, many, MOST_SEEDS, gains))
    return [{**row, "seeds": "unlimited", "runs": None} for row in rows]
