"""bfloat16 against float32: how fast a model trains in each, and whether results are equivalent.

    python benchmarks/precision.py                        # speed
    python benchmarks/precision.py --before TREE          # and of another commit, in float32
    python benchmarks/precision.py runs/bus-bra-precision # equivalence, of a run of that grid

Speed: images per CPU-second of whole optimiser steps (augmentation, forward, backward, AdamW) on
one thread, each way in a process of its own, in turn; medians over rounds, and the median of the
ratios within a round. Which unit the processor has for bfloat16 is printed.

Equivalence: for each model and arm, the mean difference over seeds of AUC and accuracy, bfloat16
minus float32, with a 90% interval of the paired t test and the p of two one-sided tests against
half a point. Both precisions of a seed share images, batches, initial weights and augmentation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MARGIN = 0.005
MODELS = (
    ("resnet18", 128),
    ("tf_efficientnet_lite0", 128),
    ("mobilenetv3_small_050", 64),
    ("resnet10t", 64),
)
BATCH, COUNT, SECONDS = 64, 256, 8.0
MEASURES = {"valid_auc": "AUC", "valid_acc": "accuracy"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="a run with the axis recipe.precision")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="root of another commit's tree")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # model, size, precision
    options = parser.parse_args()
    if options.one is not None:
        model, size, precision = options.one
        print(json.dumps(images_per_s(model, int(size), precision)))
    elif options.run is not None:
        equivalence(options.run)
    else:
        speed(options.rounds, options.before)


def speed(rounds: int, before: Path | None) -> None:
    from fgaug.core.precision import bfloat16_unit

    here = Path(__file__).parents[1]
    ways = {"float32": (here, "float32"), "bfloat16": (here, "bfloat16")}
    if before is not None:
        ways["before"] = (before, "float32")
    base = "float32" if before is None else "before"
    print(f"unit for bfloat16: {bfloat16_unit('cpu') or 'none'}; images per CPU-s, one thread\n")
    print(f"| model | {' | '.join(ways)} | float32 / {base} | bfloat16 / {base} |")
    print("|---|" + "---:|" * (len(ways) + 2))
    for model, size in MODELS:
        found = measured(ways, model, size, rounds)
        medians = [f"{statistics.median(found[name]):.1f}" for name in ways]
        ratios = [ratio(found[name], found[base]) for name in ("float32", "bfloat16")]
        print(f"| {' | '.join([f'{model} at {size} px', *medians, *ratios])} |", flush=True)


def measured(
    ways: Mapping[str, tuple[Path, str]], model: str, size: int, rounds: int
) -> dict[str, list[float]]:
    """Return the images per CPU-second of each way and round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            found[name].append(in_process(*ways[name], model, size))
    return found


def ratio(ours: list[float], theirs: list[float]) -> str:
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})"


def in_process(tree: Path, precision: str, model: str, size: int) -> float:
    """Return the images per CPU-second of a model in a process that imports `tree`."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, __file__, "--one", model, str(size), precision]
    done = subprocess.run(words, cwd=tree, env=environment, check=True, capture_output=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def images_per_s(model: str, size: int, precision: str) -> float:
    """Return the images per CPU-second of optimiser steps; runs on older commits too."""
    import torch

    from fgaug.recipe import Budget, Recipe
    from fgaug.training.images import Images

    try:
        from fgaug.training.backends import open_learner
    except ImportError:  # its name in commit 89238ba
        from fgaug.training.backend import open_learner

    torch.set_num_threads(1)
    fields: dict[str, Any] = {"model": model, "pretrained": False, "batch_size": BATCH}
    if precision != "float32":
        fields["precision"] = precision
    pixels = np.random.RandomState(0).randint(0, 256, (COUNT, size, size, 1), dtype=np.uint8)
    row = np.arange(COUNT)
    train = Images(sources=[pixels], source=np.zeros(COUNT, np.int64), row=row, label=row % 2)
    few = Images(sources=[pixels], source=np.zeros(4, np.int64), row=row[:4], label=row[:4] % 2)
    learner = open_learner(Recipe.model_validate(fields), ("a", "b"), 0, "cpu")
    budget = Budget(unit="steps", max=300, evaluations=300)
    running = iter(learner.train(train, few, budget, seed=0))
    point = next(running)
    while point.frozen:  # and the first step after that phase
        point = next(running)
    first, cpu, wall = point.images_seen, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < SECONDS and (more := next(running, None)) is not None:
        point = more
    return (point.images_seen - first) / (time.process_time() - cpu)


def equivalence(run: str) -> None:
    import fgaug

    rows = fgaug.load_results(run)
    print("| model | arm | measure | seeds | float32 | bfloat16 | difference | 90% interval | p |")
    print("|---|---|---|---:|---:|---:|---:|---|---:|")
    for line in compared(rows[rows["status"].eq("ok")]):
        print("| " + " | ".join(line) + " |")


def compared(rows: pd.DataFrame) -> Iterator[list[str]]:
    from fgaug.stats import equivalence as tested
    from fgaug.stats import paired_t

    for (model, mode), own in rows.groupby(["recipe.model", "mode"], sort=False):
        for column, measure in MEASURES.items():
            table = own.pivot(index="seed", columns="recipe.precision", values=column).dropna()
            exact, rough = table["float32"], table["bfloat16"]
            test = paired_t(rough.to_numpy(), exact.to_numpy())
            found = tested(test, MARGIN)
            yield [
                str(model),
                str(mode),
                measure,
                str(len(table)),
                f"{exact.mean():.4f} ({exact.std():.4f})",
                f"{rough.mean():.4f} ({rough.std():.4f})",
                f"{100 * test.difference:+.2f} points",
                f"{100 * found.ci_low:+.2f} to {100 * found.ci_high:+.2f}",
                f"{found.p_value:.4f}",
            ]


if __name__ == "__main__":
    main()
