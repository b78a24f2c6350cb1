"""Processor time of `fgaug --help` and its kin: two checkouts, in turn, in one run.

    python benchmarks/start_up.py BEFORE AFTER

BEFORE and AFTER are folders that hold the package `fgaug`; both run under the interpreter that
runs this script. Each round starts every command once a checkout, in changing order, after one
round that only warms the disk cache and the byte code. Processor time (user and system) feels
other programs less than wall time does; the ratio is that of the medians. Without BEFORE the
commands of AFTER alone are measured. The run that `fgaug status` reads is made here: 200 cells,
a tenth of them failed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HELPS = ("", "search", "status", "report", "compare", "power", "data", "bank", "gan", "bank fill")
CELLS, FAILED_EVERY = 200, 10
LIMIT = 0.4 / 1.4  # of what the two commands took: 1.4 s


def write_run(root: Path) -> None:
    """Write what `fgaug status` reads of a run."""
    cells = [f"{number:012x}" for number in range(CELLS)]
    root.mkdir()
    (root / "environment.json").write_text(json.dumps({"cells": cells}))
    (root / "space.resolved.yaml").write_text("name: start-up\n")
    for number, cell in enumerate(cells):
        row = {"mode": "augmentation", "psi": 0.5, "ratio": 1, "filter": "none", "seed": number}
        failed = number % FAILED_EVERY == 0
        row |= {"status": "failed", "error": "out of memory"} if failed else {"status": "ok"}
        folder = root / "trials" / cell
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"schema": 1, "rows": [row]}))


def processor_s(code: Path, arguments: list[str], folder: Path) -> float:
    """Return the seconds of user and system time that one command takes."""
    environment = {**os.environ, "PYTHONPATH": str(code.resolve())}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "fgaug", *arguments],
        env=environment,
        cwd=folder,  # `python -m` looks for packages in the working folder first
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    codes = {"before": options.before, "after": options.after}
    for name, code in codes.items():
        if not (code / "fgaug").is_dir():
            parser.error(f"{name}: {code} holds no package fgaug")
    commands = [[*words.split(), "--help"] for words in HELPS] + [["status", "run"]]
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder) / "run")
        for turn in range(-1, options.rounds):
            for command in commands:
                for name in list(codes)[:: -1 if turn % 2 else 1]:
                    spent = processor_s(codes[name], command, Path(folder))
                    if turn >= 0:
                        times.setdefault((" ".join(command), name), []).append(spent)
    print("| command | before, CPU-s | after, CPU-s | ratio |\n|---|---|---|---|")
    ratios = {}
    for words in map(" ".join, commands):
        before, after = (statistics.median(times[words, name]) for name in codes)
        ratios[words] = after / before
        print(f"| `fgaug {words}` | {before:.2f} | {after:.2f} | {ratios[words]:.2f} |")
    slow = [words for words in ("--help", "status run") if ratios[words] > LIMIT]
    sys.exit(f"above {LIMIT:.2f}: {', '.join(slow)}" if slow else 0)


if __name__ == "__main__":
    main()
