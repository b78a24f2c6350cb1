"""Designs a second stage: selects arms of a grid and fresh seeds for them.

Selection never saw the stage's runs nor the test set, so the verdict needs no correction for the
number of screened arms.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fgaug.core.analysis_metrics import LOWER_IS_BETTER, METRICS
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan, seeds_of_baseline
from fgaug.grid.cells import CONTROLS, Cell
from fgaug.grid.twins import BASELINE, COMPARATORS, Comparator
from fgaug.runs.confirmation_records import SecondStage, ShortlistedArm

FIRST_FRESH = 1_000_000  # larger than seeds in grids, so that an extended grid avoids them


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An arm that could be confirmed."""

    arm_id: str
    arm: str  # its description
    baseline: str | None  # arm_id; None if the grid excludes it
    twins: Mapping[str, str]  # arm_id by control


def candidates(cells: Sequence[Cell]) -> tuple[Candidate, ...]:
    """Return the arms of a grid except baselines and controls, in the order of its cells.

    A random subset of the grid is both a candidate and the twin of its filtered arm.
    """
    firsts = {cell.arm_id: cell for cell in reversed(cells)}
    subsets = {_unfiltered(cell): cell.arm_id for cell in firsts.values() if cell.spared}
    others = {
        _place(cell, COMPARATORS[cell.mode]): cell.arm_id
        for cell in firsts.values()
        if not _compared(cell)
    }
    return tuple(
        Candidate(
            arm_id=arm.arm_id,
            arm=arm.arm_described,
            baseline=others.get(_place(arm, BASELINE)),
            twins=_twins(arm, others) | _random_subset(arm, subsets),
        )
        for arm in reversed(firsts.values())
        if _compared(arm)
    )


def shortlist(
    arms: Sequence[Candidate], rows: pd.DataFrame, plan: AnalysisPlan, top: int
) -> tuple[tuple[ShortlistedArm, ...], tuple[str, ...]]:
    """Return the best arms on the validation set, and the ineligible arms with reasons.

    Arms rank by their gain: the mean primary metric over the seeds that are ok, minus that of the
    baseline. Ties keep the order of the grid.

    Args:
        arms: candidates in the order of the grid.
        rows: of the screening's cells.
        plan: gives the metric.
        top: number of arms to select.
    """
    ok = rows[rows["status"].eq("ok")]
    values = METRICS[plan.metric].values(ok).groupby(ok["arm_id"].to_numpy())
    means, counts = values.mean(), values.count()
    pruned = set(rows.loc[rows["status"].eq("pruned"), "arm_id"])
    sign = -1.0 if plan.metric in LOWER_IS_BETTER else 1.0
    found, left_out = [], []
    for arm in arms:
        mean, against = (float(means.get(name, math.nan)) for name in (arm.arm_id, arm.baseline))
        gain = sign * (mean - against)
        if math.isfinite(gain) and arm.arm_id not in pruned:
            found.append(_listed(arm, mean, gain, int(counts[arm.arm_id])))
        else:
            left_out.append(f"{arm.arm} ({arm.arm_id}): {_why(arm, mean, pruned, plan.metric)}")
    best = sorted(found, key=lambda each: -(each.gain or 0.0))[:top]
    return tuple(best), tuple(left_out)


def named(
    arms: Sequence[Candidate], rows: pd.DataFrame, plan: AnalysisPlan
) -> list[ShortlistedArm]:
    """Return arms chosen by the user, with their validation results.

    Raises:
        RunError: an arm has no baseline to compare it with.
    """
    known = {each.arm_id: each for each in shortlist(arms, rows, plan, len(arms))[0]}
    for arm in arms:
        if arm.baseline is None:
            raise RunError(
                f"{arm.arm} ({arm.arm_id}) has no baseline, because the grid excludes it. Choose "
                "another arm, or search with the baseline."
            )
    return [known.get(arm.arm_id) or _listed(arm, None, None, 0) for arm in arms]


def asked_before(
    stages: Iterable[SecondStage], arms: Iterable[Candidate], seeds: int
) -> SecondStage | None:
    """Return the earlier stage that `confirm` made for these arms and number of seeds, if any."""
    wanted = {arm.arm_id: seeds for arm in arms}
    for stage in stages:
        found = {arm.arm_id: len(stage.seeds[arm.arm_id]) for arm in stage.shortlist}
        if stage.by == "confirm" and found == wanted:
            return stage
    return None


def resolved(asked: Sequence[str], arms: Sequence[Candidate], run: str | Path) -> list[Candidate]:
    """Return the arms with the given ids or first digits.

    Raises:
        RunError: an id matches no arm, or several.
    """
    found: dict[str, Candidate] = {}
    for prefix in asked:
        meant = [arm for arm in arms if prefix and arm.arm_id.startswith(prefix)]
        if len(meant) != 1:
            some = ", ".join(f"{arm.arm_id} ({arm.arm})" for arm in (meant or arms)[:3])
            what = f"matches {len(meant)} arms" if meant else "matches no arm"
            raise RunError(
                f"--arm {prefix} {what} of {run}, such as {some}. `fgaug results RUN --by arm "
                "--format csv` lists all; baselines and controls are trained with their arms."
            )
        found[meant[0].arm_id] = meant[0]
    if not found:
        raise RunError("Give at least one --arm.")
    return list(found.values())


def designed(
    by: str,
    metric: str,
    arms: Sequence[ShortlistedArm],
    left_out: Sequence[str],
    seeds: int,
    used: Collection[int],
) -> SecondStage:
    """Return a second stage with `seeds` fresh seeds for each arm and its twins.

    A baseline gets about sqrt(K) times as many, where K arms are compared with it.

    Args:
        by: search or confirm.
        metric: the metric that selected the arms.
        arms: the shortlist.
        left_out: descriptions of ineligible arms.
        seeds: number per arm.
        used: all seeds of the run so far.
    """
    families: dict[str, int] = {}
    for arm in arms:
        families[arm.baseline] = families.get(arm.baseline, 0) + 1
    counts = {name: seeds_of_baseline(size, seeds) for name, size in families.items()}
    counts |= {name: seeds for arm in arms for name in (arm.arm_id, *arm.twins.values())}
    fresh = fresh_seeds(max(counts.values()), used)
    return SecondStage(
        by=by,
        date=_now(),
        metric=metric,
        shortlist=tuple(arms),
        left_out=tuple(left_out),
        seeds={name: fresh[:count] for name, count in counts.items()},
    )


def _why(arm: Candidate, mean: float, pruned: Collection[str], metric: str) -> str:
    if arm.arm_id in pruned:
        return "stopped by the scheduler"
    if arm.baseline is None:
        return "its baseline is excluded by the grid"
    return f"no finished seed with a defined {metric}" if math.isnan(mean) else "no baseline value"


def _listed(arm: Candidate, mean: float | None, gain: float | None, seeds: int) -> ShortlistedArm:
    assert arm.baseline is not None
    return ShortlistedArm(
        arm_id=arm.arm_id,
        arm=arm.arm,
        mean=mean,
        gain=gain,
        seeds=seeds,
        baseline=arm.baseline,
        twins=arm.twins,
    )


def _twins(arm: Cell, others: Mapping[Any, str]) -> dict[str, str]:
    """Return the arm_ids of an arm's twins, by control."""
    kinds = [COMPARATORS[name] for name in CONTROLS if arm.mode in COMPARATORS[name].of_modes]
    return {kind.name: others[_place(arm, kind)] for kind in kinds if _place(arm, kind) in others}


def _random_subset(arm: Cell, subsets: Mapping[Any, str]) -> dict[str, str]:
    known = arm.filtered and _unfiltered(arm) in subsets
    return {"random_subset": subsets[_unfiltered(arm)]} if known else {}


def _unfiltered(cell: Cell) -> tuple[Any, ...]:
    """Return the key that a filtered arm shares with its unfiltered twin."""
    amount = (cell.ratio, cell.fakes, cell.remove)
    psi = (cell.psi, cell.psi_by_label)
    shared = (cell.mode, cell.snapshot, *psi, *amount, cell.split, cell.real_fraction)
    return (*shared, cell.recipe.model_dump_json())


def _compared(cell: Cell) -> bool:
    return cell.mode not in ("baseline", *CONTROLS)


def _place(cell: Cell, kind: Comparator) -> tuple[Any, ...]:
    """Return the key that an arm shares with its comparator of a kind."""
    recipe = cell.recipe.model_dump_json()
    return (cell.split, cell.real_fraction, recipe, *kind.key(lambda axis: getattr(cell, axis)))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def fresh_seeds(count: int, used: Collection[int]) -> tuple[int, ...]:
    """Return the `count` smallest seeds from FIRST_FRESH that are not `used`."""
    unused = (seed for seed in itertools.count(FIRST_FRESH) if seed not in used)
    return tuple(itertools.islice(unused, count))
