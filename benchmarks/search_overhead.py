"""What a search costs beyond training: its start-up, and the seconds of each finished trial.

    python benchmarks/search_overhead.py [--cells 40]

Runs a grid of short trials on warm workers. Start-up is what passes before the first trial starts,
piece by piece. The overhead of a trial is the time a worker spends from one finished trial to the
next, less the trial's training and evaluation (its own set-up, files, Tune's turn-round).
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

import fgaug
from fgaug.core import cluster
from fgaug.core.machine import cores
from fgaug.data.prepare import prepare
from fgaug.grid.load import parse_space
from fgaug.runs.results import load_curves
from fgaug.study import estimate, planner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--dashboard", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.cells, arguments.dashboard)


def measure(root: Path, cells: int, dashboard: bool) -> None:
    prepare(out=root / "dataset", size=32, preset="phantom", phantom={"images": 200})
    grid = {
        "name": "overhead",
        "dataset": str(root / "dataset"),
        "axes": {"mode": ["baseline"], "seed": list(range(cells))},
        "recipe": {
            "model": "mobilenetv3_small_050",
            "pretrained": False,
            "augmentation": "none",
            "batch_size": 16,
        },
        "budget": {"unit": "steps", "max": 10, "evaluations": 1},
    }
    space = parse_space(grid)
    clock = time.time()
    planned = planner.plan(space, root / "run")
    plan_s = time.time() - clock
    clock = time.time()
    with cluster.started(dashboard=dashboard):
        ray_s = time.time() - clock
        from fgaug.study.tune import runner

        (root / "run").mkdir()
        clock = time.time()
        runner.run_cells(
            planned.run,
            planned.todo,
            planned.sources,
            space,
            at_once=estimate.parallel_trials(space, cores(), 0),
            already=0,
            dashboard=None,
            console=Console(quiet=True),
        )
        fit_s = time.time() - clock
    frame = fgaug.load_results(root / "run")
    curves = load_curves(root / "run").groupby("cell_id")["train_s"].max()
    ends = np.sort([p.stat().st_mtime for p in root.glob("run/trials/*/result.json")])
    workers = estimate.parallel_trials(space, cores(), 0)
    started = min(
        datetime.datetime.fromisoformat(text).timestamp() for text in frame["started_at"]
    )
    # each worker's first trial pays imports, a decode and allocations: start-up, not overhead
    warm = len(frame) - workers
    turn = (ends[-1] - ends[workers - 1]) * workers / warm
    last = frame.sort_values("started_at")["cell_id"].iloc[workers:]
    trained = float(curves[last].mean())
    wall = float(frame.set_index("cell_id").loc[last, "wall_s"].mean())
    print(f"{len(frame)} trials of 10 steps, {workers} at once")
    print(
        f"start-up: checks and plan {plan_s:.1f} s, Ray {ray_s:.1f} s, "
        f"to the first trial {started - clock:.1f} s, "
        f"first trials {ends[workers - 1] - started:.1f} s"
    )
    print(
        f"a warm trial: {turn:.3f} s from end to end, of it {trained:.3f} s training; "
        f"{turn - trained:.3f} s beyond (inside the trial {wall - trained:.3f} s: model, "
        f"evaluation, files; outside {turn - wall:.3f} s: Tune's turn-round)"
    )
    print(f"whole experiment {fit_s:.1f} s")


if __name__ == "__main__":
    main()
