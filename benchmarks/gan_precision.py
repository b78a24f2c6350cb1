"""A GAN training step in bfloat16 against float32, processor time of one thread.

The three kinds of iterations of `gan_training.py` (12, 3 and 1 in a cycle of 16), preset `auto`,
in turn with float32 here and, with --before, in another commit's tree.

    OMP_WAIT_POLICY=passive python benchmarks/gan_precision.py --before TREE --set batch=8
    python benchmarks/gan_precision.py --rounds 1 --size 16 --set batch=8   # a smoke test
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gan_training import KINDS, trainer_of
from other_tree import OtherTree

from fgaug.core.precision import bfloat16_unit
from gan_worker.training.jobs import option_of

PRECISIONS = ("float32", "bfloat16")
PEER = """
import sys, tempfile, time, torch
from pathlib import Path
sys.path.insert(0, "benchmarks")
from gan_training import trainer_of
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    changes = {{**{changes}, "precision": "float32"}}
    trainer = trainer_of(Path(folder), "auto", {size}, "cpu", changes)
print("ready", flush=True)
for line in sys.stdin:
    trainer.iteration = int(line)
    began = time.process_time()
    trainer.step()
    print(time.process_time() - began, flush=True)
"""
Step = Callable[[str], float]  # iteration -> processor seconds


def here(size: int, changes: dict[str, object], precision: str) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        own = {**changes, "precision": precision}
        trainer = trainer_of(Path(folder), "auto", size, "cpu", own)

    def step(iteration: str) -> float:
        trainer.iteration = int(iteration)
        began = time.process_time()
        trainer.step()
        return time.process_time() - began

    return step


def table(took: dict[str, dict[str, list[float]]], rounds: int) -> None:
    """Print each way's seconds of each kind of iteration, and of a whole cycle by rounds."""
    names = list(next(iter(took.values())))
    print(f"\n| CPU s, median of {rounds} | {' | '.join(KINDS)} | a cycle | times as fast |")
    print("|---|" + "---|" * (len(KINDS) + 2))
    cycles = {
        name: [
            sum(count * took[kind][name][number] for kind, (count, _) in KINDS.items())
            for number in range(rounds)
        ]
        for name in names
    }
    for name in names:
        pairs = zip(cycles[names[0]], cycles[name], strict=True)
        ratios = sorted(theirs / own for theirs, own in pairs)
        each = " | ".join(f"{statistics.median(took[kind][name]):.2f}" for kind in KINDS)
        print(
            f"| {name} | {each} | {statistics.median(cycles[name]):.1f} "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="root of another commit's tree")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE of an option")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pairs = (text.split("=", 1) for text in asked.set)
    changes = {name: option_of(name, value) for name, value in pairs}
    ways: dict[str, Step] = {}
    if asked.before is not None:
        program = PEER.format(changes=changes, size=asked.size)
        ways["other tree, float32"] = OtherTree(asked.before, program)
    for precision in PRECISIONS:
        ways[f"here, {precision}"] = here(asked.size, changes, precision)
    print(f"torch {torch.__version__}, unit for bfloat16: {bfloat16_unit('cpu')}")
    took: dict[str, dict[str, list[float]]] = {k: {name: [] for name in ways} for k in KINDS}
    for number in range(asked.rounds + 1):  # the first one warms up
        for kind, (_, first) in KINDS.items():
            for name in list(ways)[:: 1 if number % 2 else -1]:
                seconds = ways[name](str(first))
                took[kind][name] += [seconds] if number else []
    table(took, asked.rounds)


if __name__ == "__main__":
    main()
