"""The table of speed targets: each line measured beside another commit's build, in one run.

    python benchmarks/table.py                       # builds 89238ba's tree itself; two hours
    python benchmarks/table.py --before TREE --rounds 1 --lines resnet18 help

Each line runs one of the benchmarks beside this file and reads its figures from what it prints;
that output goes to --logs. A line whose benchmark fails says so, and the rest goes on. Targets
that want another machine (AMX, a GPU) are measured all the same: the first line says what the
processor has.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BEFORE = "89238ba"
Shown = Callable[[str], str]  # a benchmark's output -> what the table shows


@dataclass(frozen=True, slots=True)
class Line:
    """One target: a benchmark's words, and how to read its output."""

    name: str  # for --lines
    what: str
    target: str
    words: tuple[str, ...]  # {before}, {rounds} and {scratch} are replaced
    shown: Shown
    tree: str = "here"  # whose code runs: a benchmark that knows only one tree runs once in each


def column(row: str, number: int) -> Shown:
    """Return a reader of one column of the Markdown row that starts with `row`."""

    def shown(output: str) -> str:
        for line in output.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("|") and cells[0].startswith(row):
                return cells[number]
        raise ValueError(f"no row {row}")

    return shown


def found(pattern: str) -> Shown:
    """Return a reader of what a pattern's groups match, joined by commas."""

    def shown(output: str) -> str:
        match = re.search(pattern, output)
        if match is None:
            raise ValueError(f"nothing matches {pattern}")
        return ", ".join(match.groups())

    return shown


TRAIN = ("precision.py", "--before", "{before}", "--rounds", "{rounds}")
FAKES = ("generate_precision.py", "--before", "{before}", "--rounds", "{rounds}")
GAN = ("gan_precision.py", "--before", "{before}", "--rounds", "{rounds}")
START = ("start_up.py", "{before}", str(HERE.parent), "--rounds", "{rounds}")
SEARCH = ("search.py", "--before", "{before}", "--rounds", "{rounds}", "--ways", "fgaug", "before")
REPORT = ("ten_thousand_report.py", "--report", "{scratch}/run")
LITE0 = "tf_efficientnet_lite0"
OVER = r"fgaug over {}: (\S+ \(\S+\)) times"
LINES = (
    Line("resnet18", "resnet18 128 px, bfloat16 / before", ">= 2.3", TRAIN, column("resnet18", 5)),
    Line("lite0", "lite0 128 px, bfloat16 / before", ">= 1.35", TRAIN, column(LITE0, 5)),
    Line("float32", "resnet18, float32 / before", ">= 1.0", TRAIN, column("resnet18", 4)),
    Line("float32", "lite0, float32 / before", ">= 1.0", TRAIN, column(LITE0, 4)),
    Line("fakes", "generation, bfloat16 / before", ">= 2.5", FAKES, column("here, bfloat16", 2)),
    Line("gan", "GAN cycle, bfloat16 / before", ">= 1.6", GAN, column("here, bfloat16", -1)),
    Line(
        "heavy",
        "heavy search, cells/hour / before",
        ">= 2",
        (*SEARCH, "--setting", "heavy"),
        found(OVER.format("fgaug before")),
    ),
    Line(
        "small",
        "small search, cells/hour / plain Ray Tune",
        ">= 3.6",
        (*SEARCH, "tune"),
        found(OVER.format("plain Ray Tune")),
    ),
    Line("small", "its start-up, s", "<= 6", (*SEARCH, "tune"), column("fgaug", 1)),
    Line("small", "before", "", (*SEARCH, "tune"), column("fgaug before", 1)),
    Line(
        "plan",
        "plan of 10,000 cells",
        "<= 3 s",
        ("scale.py", "--part", "plan", "--cells", "10000"),
        column("plan of", 1),
    ),
    Line("report", "report, 10,000 trials", "<= 15 s, 0.6 GB", REPORT, found(r"report +(.*B)")),
    Line("report", "before", "", REPORT, found(r"report +(.*B)"), "before"),
    Line("help", "`fgaug --help`, CPU-s", "<= 0.4", START, column("`fgaug --help`", 2)),
    Line("help", "before", "", START, column("`fgaug --help`", 1)),
    Line("help", "`fgaug status`, CPU-s", "<= 0.4", START, column("`fgaug status run`", 2)),
)


def main() -> None:
    names = tuple(dict.fromkeys(line.name for line in LINES))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help=f"root of a tree (default: of {BEFORE})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", nargs="+", choices=names, default=names)
    parser.add_argument("--logs", type=Path, default=Path("bench-logs"))
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    from fgaug.core.precision import bfloat16_unit

    print(f"{os.cpu_count()} cores, unit for bfloat16: {bfloat16_unit('cpu') or 'none'}\n")
    print("| what | measured | target |\n|---|---:|---:|")
    with tree_before(options.before) as before, tempfile.TemporaryDirectory() as scratch:
        outputs: dict[tuple[str, ...], str] = {}
        for line in LINES:
            if line.name not in options.lines:
                continue
            known = {"before": str(before), "rounds": str(options.rounds), "scratch": scratch}
            words = tuple(word.format(**known) for word in line.words)
            if (line.tree, *words) not in outputs:
                root = before if line.tree == "before" else HERE.parent
                outputs[line.tree, *words] = ran(root, words, options.logs)
            try:
                shown = line.shown(outputs[line.tree, *words])
            except (ValueError, IndexError) as error:
                shown = f"not measured ({error}), see {options.logs}"
            print(f"| {line.what} | {shown} | {line.target} |", flush=True)


def ran(root: Path, words: tuple[str, ...], logs: Path) -> str:
    """Run a benchmark with a tree's code and return what it prints, kept in a log, too."""
    program, *arguments = words
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / program, *arguments],
        env=environment,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with (logs / f"{Path(program).stem}.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(words)}\n{done.stdout}\n")
    return done.stdout


@contextlib.contextmanager
def tree_before(given: Path | None) -> Iterator[Path]:
    """Yield the root of the tree to compare with; that of BEFORE is checked out for the block."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "before"
        git = ["git", "-C", str(HERE.parent), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", place, BEFORE], check=True)
        try:
            (place / ".venv").symlink_to(HERE.parent / ".venv")
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", place], check=True)


if __name__ == "__main__":
    main()
