"""What each scheduler would have decided, replayed on the curves of a run that stopped nothing.

    python benchmarks/schedulers.py RUN [--metric auc] [--rungs 3] [--at-once 4] [--orders 200]

RUN is a run of `scheduler: {type: none}`, finished. Training is deterministic, so a scheduler
would have seen the same curves up to the evaluation at which it stops a cell. `arm_asha` decides
by these alone. Ray's `asha` also depends on the order in which cells arrive: it is replayed with
the cells in many random orders, `--at-once` of them side by side.

For each scheduler the table gives the optimiser steps spent on arms, the arms and cells that were
trained to the end, the arm with the best mean over its finished cells, that mean, and the mean of
the same arm over all its seeds, which only the whole run knows. A positive difference is optimism.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fgaug import open_run
from fgaug.grid.cells import CONTROLS
from fgaug.grid.recipe import Budget
from fgaug.grid.space import Scheduler
from fgaug.study.tune.asha import ShareASHA
from fgaug.study.tune.history import SIGNS, best_so_far
from fgaug.study.tune.policy import Arm, CellProgress
from fgaug.study.tune.successive_halving import ArmHalving

ETA = 3  # the best third goes on


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scheduler trained, and what it would report."""

    steps: float  # over those of training every cell of an arm to the end
    arms: int  # with at least one cell trained to the end
    cells: int  # trained to the end
    best: str  # arm_id
    reported: float  # mean of that arm over its cells trained to the end
    whole: float  # mean of that arm over all its cells


class Curves:
    """The evaluations of every cell of the arms of a finished run."""

    def __init__(self, folder: Path, metric: str) -> None:
        run = open_run(folder)
        rows = run.results()
        rows = rows[~rows["mode"].isin(("baseline", *CONTROLS))]
        assert (rows["status"] == "ok").all(), "the run must be finished and stop nothing"
        curves = run.curves()
        self.sign = SIGNS[metric]
        self.arms: dict[str, tuple[str, ...]] = {
            str(arm): tuple(group["cell_id"])
            for arm, group in rows.sort_values("seed").groupby("arm_id", sort=False)
        }
        steps = int(rows["budget_used"].max())
        budget = Budget(
            unit="steps", max=steps, evaluations=len(curves) // curves.cell_id.nunique()
        )
        self.seen = {
            str(cell): CellProgress(
                status="ok",
                curve=best_so_far(curves[curves["cell_id"] == cell], budget, metric),
            )
            for cell in rows["cell_id"]
        }

    def outcome(self, reach: Mapping[str, float]) -> Outcome:
        """Return the outcome of training each cell to a fraction of its budget."""
        finished = {
            arm: [self.final(cell) for cell in cells if reach[cell] >= 1]
            for arm, cells in self.arms.items()
        }
        finished = {arm: values for arm, values in finished.items() if values}
        best = max(finished, key=lambda arm: self.sign * statistics.mean(finished[arm]))
        return Outcome(
            steps=statistics.mean(reach.values()),
            arms=len(finished),
            cells=sum(map(len, finished.values())),
            best=best,
            reported=statistics.mean(finished[best]),
            whole=statistics.mean(self.final(cell) for cell in self.arms[best]),
        )

    def final(self, cell: str) -> float:
        """Return a cell's metric at the end of its budget."""
        return self.sign * self.seen[cell].curve[-1][1]


def no_scheduler(curves: Curves) -> Outcome:
    """Train every cell to the end."""
    return curves.outcome(dict.fromkeys(curves.seen, 1.0))


def arm_asha(curves: Curves, rungs: int) -> Outcome:
    """Ask the policy on what it has seen until it asks for no more."""
    arms = [Arm(arm_id=a, cell_ids=cells, stoppable=True) for a, cells in curves.arms.items()]
    policy = ArmHalving(arms, ETA, rungs, min_seeds=2)
    reach = dict.fromkeys(curves.seen, 0.0)
    while legs := policy.decide({cell: _until(curves, cell, reach[cell]) for cell in reach}).legs:
        reach |= {leg.cell_id: leg.until for leg in legs}
    return curves.outcome(reach)


def _until(curves: Curves, cell: str, share: float) -> CellProgress:
    """Return what is on disk of a cell that was trained to a fraction of its budget."""
    points: list[tuple[float, float]] = []
    for point in curves.seen[cell].curve:
        if points and points[-1][0] >= share - 1e-9:
            break
        points.append(point)
    return CellProgress(
        status="none" if not share else "ok" if share >= 1 else "paused",
        curve=tuple(points) if share else (),
    )


def asha(curves: Curves, metric: str, rungs: int, order: Sequence[str], at_once: int) -> Outcome:
    """Run Ray's ASHA over the cells in an order of arrival."""
    cells: list[Any] = [
        SimpleNamespace(cell_id=cell, mode="augmentation", spared=False) for cell in order
    ]
    options = Scheduler.model_validate(
        {"type": "asha", "metric": metric, "eta": ETA, "rungs": rungs}
    )
    scheduler = ShareASHA(options, cells, {}, {})
    waiting, running = list(order), Counter[str]()
    reach = dict.fromkeys(order, 0.0)
    while waiting or running:
        while waiting and len(running) < at_once:
            running[waiting.pop(0)] = 0
        for cell, place in list(running.items()):
            share, value = curves.seen[cell].curve[place]
            trial = SimpleNamespace(config={"cell_id": cell})
            result = {"share": share, f"best_{metric}": curves.sign * value}
            decision = scheduler.on_trial_result(None, trial, result)
            reach[cell], running[cell] = share, place + 1
            if decision == "STOP" or share >= 1:
                del running[cell]
    return curves.outcome(reach)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--metric", default="auc", choices=sorted(SIGNS))
    parser.add_argument("--rungs", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--orders", type=int, default=200)
    given = parser.parse_args()
    curves = Curves(given.run, given.metric)
    names = list(curves.seen)
    rng = random.Random(19)
    drawn = [
        asha(curves, given.metric, given.rungs, rng.sample(names, len(names)), given.at_once)
        for _ in range(given.orders)
    ]
    print("| scheduler | steps | arms finished | cells finished | best arm | mean | all seeds |")
    print("|---|---|---|---|---|---|---|")
    for name, one in (("none", no_scheduler(curves)), ("arm_asha", arm_asha(curves, given.rungs))):
        print(
            f"| {name} | {one.steps:.2f} | {one.arms} | {one.cells} | {one.best} | "
            f"{one.reported:.4f} | {one.whole:.4f} |"
        )
    best = Counter(each.best for each in drawn)
    columns = [
        f"asha, {len(drawn)} orders",
        *(
            _range(drawn, field, digits)
            for field, digits in (("steps", 2), ("arms", 0), ("cells", 0))
        ),
        ", ".join(f"{arm} {count}" for arm, count in best.most_common()),
        *(_range(drawn, field, 4) for field in ("reported", "whole")),
    ]
    print(f"| {' | '.join(columns)} |")
    optimism = [each.reported - each.whole for each in drawn]
    print(f"optimism of asha: mean {statistics.mean(optimism):+.4f}, largest {max(optimism):+.4f}")


def _range(drawn: Sequence[Outcome], field: str, digits: int) -> str:
    values = [float(getattr(each, field)) for each in drawn]
    mean, low, high = (
        f"{x:.{digits}f}" for x in (statistics.mean(values), min(values), max(values))
    )
    return f"{mean} ({low} to {high})"


if __name__ == "__main__":
    main()
