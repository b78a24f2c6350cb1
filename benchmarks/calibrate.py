"""Does the instrument measure? Known answers, and what `fgaug` makes of them.

    python benchmarks/calibrate.py                    # all: about 20 minutes of two cores
    python benchmarks/calibrate.py --part frames --only "two auc 150" --repetitions 500

Frames: simulated runs whose effect on new patients is known, 2,000 draws of patients and seeds a
line. Phantom: real trainings on simulated ultrasound with fakes that are worth nothing, something,
and less than nothing. Writes its tables to --out, and exits with 1 when a figure is outside its
bounds. With --state, lines that an earlier call has finished there are not run again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import calibrate_phantom as phantom
import numpy as np
import scipy
from calibrate_lines import lines
from calibrate_studies import Line, means_of, run_part
from calibrate_table import SECTIONS, Means, complaints, section, split

from fgaug.core.files import write_json

PART = 500  # repetitions that a process does at a time
AGAIN = 4  # times as many for a line with a figure outside its bounds, as a few are by chance
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Found = list[tuple[Line, Means]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("all", "frames", "phantom"), default="all")
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--only", default="", help="lines with these words in their names")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--state", type=Path, help="keep finished lines here")
    parser.add_argument("--out", type=Path, default=Path("reports/calibration.md"))
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        state = asked.state or Path(scratch)
        state.mkdir(parents=True, exist_ok=True)
        found: Found = []
        doubted: list[str] = []
        if asked.part != "phantom":
            chosen = [line for line in lines() if asked.only in line.name]
            found = run_frames(chosen, asked.repetitions, asked.processes, state)
            doubted = outside(found, asked.repetitions)
            names = {text.partition(": ")[0] for text in doubted}
            again = [line for line, _ in found if line.name in names]
            more = dict(run_frames(again, AGAIN * asked.repetitions, asked.processes, state))
            found = [(line, more.get(line, means)) for line, means in found]
        answers: list[phantom.Answer] = []
        if asked.part != "frames":
            answers = phantom.run(state, asked.only)
    wrong = outside(found, asked.repetitions)
    wrong += [answer.complaint for answer in answers if answer.complaint]
    asked.out.write_text(
        page(found, answers, doubted, wrong, asked.repetitions, arguments), "utf-8"
    )
    print("\n".join([f"{asked.out}: {len(wrong)} figures outside their bounds", *wrong]))
    return 1 if wrong else 0


def outside(found: Found, repetitions: int) -> list[str]:
    """Return every figure outside its bounds, in words; hard lines promise nothing."""
    return [
        f"{line.name}: {name} {means[name][0]:.4f} is {text}"
        for line, means in found
        if not line.note
        for name, text in complaints(line, means, repetitions).items()
    ]


def run_frames(chosen: Sequence[Line], repetitions: int, processes: int, state: Path) -> Found:
    """Return the measures of all lines; finished parts are kept in `state`."""
    sizes = [min(PART, repetitions - start) for start in range(0, repetitions, PART)]
    files = {
        (line, part): state / f"{line.name} {part} {size}.json"
        for line in chosen
        for part, size in enumerate(sizes)
    }
    todo = sorted((key for key, path in files.items() if not path.exists()), key=_cost)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # of the processes that are started now
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, processes), mp_context=spawn) as pool:
        running = {pool.submit(run_part, *key, sizes[key[1]]): key for key in reversed(todo)}
        for done, future in enumerate(as_completed(running), start=1):
            key = running[future]
            write_json(files[key], future.result())
            print(f"{done}/{len(todo)} {key[0].name}", file=sys.stderr, flush=True)
    return [
        (line, means_of([_read(files[line, part]) for part in range(len(sizes))]))
        for line in chosen
    ]


def _read(path: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = json.loads(path.read_text("utf-8"))
    return found


def _cost(key: tuple[Line, int]) -> int:
    """Return about how long a part takes: by its scores, a grid's several times as much."""
    line = key[0]
    runs = line.arms * line.seeds + (line.baseline or line.seeds)
    return runs * line.patients.count * line.patients.images * (9 if line.study == "grid" else 1)


def page(
    found: Found,
    answers: Sequence[phantom.Answer],
    doubted: Sequence[str],
    wrong: Sequence[str],
    repetitions: int,
    arguments: Sequence[str] | None,
) -> str:
    """Return the report, Markdown."""
    words = shlex.join(sys.argv[1:] if arguments is None else arguments)
    parts = [
        "# Calibration of the statistics",
        f"`{' '.join(['python benchmarks/calibrate.py', words]).strip()}` (`make calibrate`), "
        f"{datetime.datetime.now(datetime.UTC).date()}. {_machine()}",
        f"Each line of the simulated frames: {repetitions:,} draws of patients, seeds and runs; "
        "in brackets the Monte Carlo standard error. The last two columns of the grids say how "
        "large the noise is: the standard deviation between the seeds of an arm, and that of the "
        "difference of two arms over patients.",
        "**Every figure is within its bounds.**"
        if not wrong
        else "**Outside their bounds:**\n\n" + "\n".join(f"- {text}" for text in wrong),
    ]
    if doubted:
        parts.append(
            f"Outside at first, as a few of so many figures are by chance, so asked again with "
            f"{AGAIN * repetitions:,} draws, the first ones among them, which is what their rows "
            "show:\n\n" + "\n".join(f"- {text}" for text in doubted)
        )
    for key in SECTIONS:
        rows = [(line, means) for line, means in found if split(line) == key]
        parts.append(section(key, rows, repetitions))
    parts.append(phantom.section(answers))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _machine() -> str:
    return (
        f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}."
    )


if __name__ == "__main__":
    sys.exit(main())
