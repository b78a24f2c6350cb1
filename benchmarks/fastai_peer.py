"""The recipe against fastai itself: AUC over many seeds on the same images, side by side.

    python benchmarks/fastai_peer.py environment DIR
    DIR/bin/python benchmarks/fastai_peer.py run BUS-BRA rows.csv --seeds 40 --jobs 2
    python benchmarks/fastai_peer.py report rows.csv

Two sets (BUS-BRA whole images, lesion crops), each with 324 training images drawn by patient; both
programs fine-tune `tf_efficientnet_lite0` from the packaged weights, choose the epoch on the same
validation images, and are judged by the AUC on every image that was not trained on. `run` adds a
line to the table for each finished training, seeds outermost and programs side by side, so that
any part of it is balanced; called again, it does what is missing.

Our loop draws its own head, dropout, order of images and augmentation. `--head fastai`, `--dropout
fastai`, `--order fastai`, `--augmentation fastai` put fastai's draws of the same seed in their
place, one stream or several; `--programs fgaug` leaves fastai out, where its rows exist already.

`environment` needs PyPI once. fastai and what it alone needs are pinned; torch, timm and this
project are those of the interpreter that makes the environment.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastai_peer_sets as sets
import fastai_peer_table as table
import pandas as pd

if TYPE_CHECKING:
    from fastai_peer_runs import Job

STREAMS = ("head", "dropout", "order", "augmentation")
PINS = (
    "fastai==2.8.12",
    "fastcore==2.2.39",
    "fasttransform==0.0.5",
    "fastdownload==0.0.8",
    "fastprogress==1.0.3",
    "plum-dispatch==2.9.0",
    "beartype==0.23.1",
    "cloudpickle==3.1.3",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("environment", help="make an environment with fastai")
    made.add_argument("folder", type=Path)
    read = commands.add_parser("report", help="print means, differences and intervals")
    read.add_argument("rows", type=Path)
    run = commands.add_parser("run", help="train what the table lacks")
    run.add_argument("bus_bra", type=Path)
    run.add_argument("rows", type=Path)
    run.add_argument("--cache", type=Path, default=Path("fastai-peer-images"))
    run.add_argument("--sets", nargs="+", choices=sets.SETS, default=list(sets.SETS))
    run.add_argument("--programs", nargs="+", default=["fastai", "fgaug"])
    run.add_argument("--seeds", type=int, default=20, help="1 to this one")
    run.add_argument("--first-seed", type=int, default=1)
    run.add_argument("--epochs", type=int, default=8, help="unfrozen, after one frozen")
    run.add_argument("--patience", type=int, default=5, help="epochs; --epochs: never stop early")
    run.add_argument("--size", type=int, default=128, help="pixels")
    run.add_argument("--train", type=int, default=324, help="images")
    run.add_argument("--valid", type=int, default=400, help="images that choose the epoch")
    run.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    for stream in STREAMS:
        run.add_argument(f"--{stream}", choices=("ours", "fastai"), default="ours")
    arguments = parser.parse_args()
    if arguments.command == "environment":
        return make_environment(arguments.folder)
    if arguments.command == "run":
        train_missing(arguments)
    print(table.report(pd.read_csv(arguments.rows)))
    return 0


def make_environment(folder: Path) -> int:
    """Make a virtual environment with fastai, on top of this interpreter's packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout[:-1])
    (packages / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", *PINS]
    return subprocess.run(install, check=False).returncode


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Yield the runs that are asked for: seeds outermost, then sets, then programs."""
    from fastai_peer_runs import Job

    for seed in range(arguments.first_seed, arguments.seeds + 1):
        for name in arguments.sets:
            for program in arguments.programs:
                fastais = dict.fromkeys(STREAMS, "fastai")
                own = {stream: getattr(arguments, stream) for stream in STREAMS}
                yield Job(
                    images=name,
                    size=arguments.size,
                    n_train=arguments.train,
                    n_valid=arguments.valid,
                    epochs=arguments.epochs,
                    patience=arguments.patience,
                    program=program,
                    seed=seed,
                    **(fastais if program == "fastai" else own),
                )


def train_missing(arguments: argparse.Namespace) -> None:
    """Train what the table lacks and add a line to it for each finished run."""
    from fastai_peer_runs import run

    done = table.finished(arguments.rows)
    missing = [job for job in jobs(arguments) if table.key_of(vars_of(job)) not in done]
    of = {
        name: sets.peer_set(
            arguments.bus_bra,
            name,
            arguments.size,
            arguments.train,
            arguments.valid,
            arguments.cache,
        )
        for name in arguments.sets
    }
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes, before they load torch
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as pool:
        for future in as_completed([pool.submit(run, job, of[job.images]) for job in missing]):
            _append(arguments.rows, future.result())


def vars_of(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in table.KEY}


def _append(rows: Path, row: dict[str, Any]) -> None:
    fresh = not rows.exists()
    with rows.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(", ".join(f"{name} {row[name]}" for name in ("images", "program", "seed", "auc")))


if __name__ == "__main__":
    sys.exit(main())
