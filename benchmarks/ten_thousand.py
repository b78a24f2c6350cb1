"""A grid of 10,000 one-step cells: its dry run, the driver's memory, its rate, its results.

    python benchmarks/ten_thousand.py
    python benchmarks/ten_thousand.py --cells 300     # does it run?
    python benchmarks/ten_thousand.py --until 5100    # an interrupt ends the search there

The cells are baselines of as many seeds on a few phantom images of 32 px, with the smallest
network that fits; each takes the two steps that a budget must have, one of them frozen. The dry
run is that of this grid, and of another of as many cells with fakes that no bank holds. Memory is
the resident size of the driver, read every second beside the number of trial folders (a trial
makes its own as it ends); at full size the marks are trials 1,000 and 5,000. Results are loaded
from copies of one real row under as many cell ids, twice.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

import fgaug
from fgaug.core.paths import RunPaths
from fgaug.data.prepare import prepare
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.runs.results import read_rows, write_row
from fgaug.study import planner
from fgaug.study import search as study_search

PSIS, RATIOS = (0.5, 0.6, 0.7, 0.8, 1.0), (0.5, 1.0, 2.0, 4.0)  # of the dry run with fakes
MB = 1 << 20


class Watch:
    """Resident bytes of this process beside the trials that have ended."""

    def __init__(self, trials: Path, until: int) -> None:
        self.trials, self.until = trials, until
        self.seen: list[tuple[int, int]] = []  # trials, bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, count: int) -> float:
        """Return the megabytes held once `count` trials had ended."""
        return next(held for ended, held in self.seen if ended >= count) / MB

    def _look(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(1.0):
            ended = len(os.listdir(self.trials)) if self.trials.is_dir() else 0
            self.seen.append((ended, process.memory_info().rss))
            if ended >= self.until:
                os.kill(os.getpid(), signal.SIGINT)  # once: what trains is saved
                return


def baselines(root: Path, cells: int) -> Space:
    return parse_space(
        {
            "name": "ten-thousand",
            "dataset": str(root / "dataset"),
            "axes": {"mode": ["baseline"], "seed": list(range(cells))},
            "recipe": {
                "model": "test_efficientnet",
                "pretrained": False,
                "augmentation": "none",
                "batch_size": 4,
            },
            "budget": {"unit": "steps", "max": 2, "evaluations": 1},
        }
    )


def with_fakes(root: Path, cells: int) -> Space:
    """Return a grid of about as many cells, all but the baselines with fakes."""
    arms = 1 + len(PSIS) * len(RATIOS)
    base: dict[str, Any] = baselines(root, max(1, round(cells / arms))).model_dump(mode="json")
    axes = {"psi": PSIS, "ratio": RATIOS, "seed": base["axes"]["seed"]}
    return parse_space(
        {
            **{name: base[name] for name in ("name", "dataset", "recipe", "budget")},
            "bank": str(root / "bank"),
            "generator": {"kind": "phantom"},
            "axes": {"mode": ["baseline", "augmentation"], **axes},
        }
    )


def dry_run_s(space: Space, out: Path) -> tuple[int, float]:
    """Return the cells of a grid and the seconds of its plan."""
    clock = time.perf_counter()
    planned = planner.plan(space, out)
    return len(planned.cells), time.perf_counter() - clock


def fabricate(one: Path, out: Path, count: int) -> None:
    """Write a run of `count` copies of one row, each under a cell id of its own."""
    first = next((one / "trials").iterdir()).name
    row = read_rows(RunPaths(one).trial(first))[-1]
    run = RunPaths(out)
    for seed in range(count):
        cell_id = f"{seed:0{len(first)}x}"
        write_row(run.trial(cell_id), {**row, "cell_id": cell_id, "seed": seed})


def load_s(run: Path, count: int) -> float:
    clock = time.perf_counter()
    frame = fgaug.load_results(run)
    taken = time.perf_counter() - clock
    assert len(frame) == count
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--until", type=int, help="interrupt the search after so many trials")
    parser.add_argument("--no-search", action="store_true", help="train 4 cells alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fgaug-benchmark-") as folder:
        os.environ["FGAUG_CACHE"] = str(Path(folder) / "cache")
        until = options.until or 2 * options.cells
        for what, value in measure(Path(folder), options.cells, until, not options.no_search):
            print(f"| {what} | {value} |", flush=True)


def measure(root: Path, cells: int, until: int, search: bool) -> list[tuple[str, str]]:
    """Return each measured quantity and its value."""
    prepare(out=root / "dataset", size=32, preset="phantom", phantom={"images": 40})
    space = baselines(root, cells)
    dry_run_s(baselines(root, 2), root / "run")  # imports
    count, plain_s = dry_run_s(space, root / "run")
    count_fakes, fakes_s = dry_run_s(with_fakes(root, cells), root / "unused")
    table = [
        ("what", "measured"),
        ("---", "---:"),
        (f"dry run, {count:,} baselines", f"{plain_s:.1f} s"),
        (f"dry run, {count_fakes:,} cells with fakes", f"{fakes_s:.1f} s"),
    ]
    trained = cells if search else 4
    with Watch(root / "run" / "trials", until) as watch:
        clock = time.perf_counter()
        run = study_search.search(
            baselines(root, trained), root / "run", console=Console(quiet=True)
        )
        taken = time.perf_counter() - clock
    assert run.ok == trained or until <= run.ok < trained, run
    if search:
        early, late = cells // 10, cells // 2
        table += [
            (f"driver at trial {early:,}", f"{watch.at(early):.1f} MB"),
            (f"driver at trial {late:,}", f"{watch.at(late):.1f} MB"),
            ("growth between", f"{watch.at(late) - watch.at(early):.1f} MB"),
            (f"driver at trial {run.ok:,}", f"{watch.seen[-1][1] / MB:.1f} MB"),
            ("driver, the most", f"{max(held for _, held in watch.seen) / MB:.1f} MB"),
            (f"search of {run.ok:,} cells, all in", f"{taken:.1f} s"),
            ("rate, start-up and end included", f"{run.ok / taken:.2f} trials/s"),
            ("dry run after that", f"{dry_run_s(space, root / 'run')[1]:.1f} s"),
        ]
    fabricate(root / "run", root / "copies", cells)
    for moment in ("first", "again"):
        taken = load_s(root / "copies", cells)
        table.append((f"results of {cells:,} trials, {moment}", f"{taken:.2f} s"))
    return table


if __name__ == "__main__":
    main()
