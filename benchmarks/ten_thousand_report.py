"""Seconds and memory that the analysis of a run of 10,000 trials takes.

    python benchmarks/ten_thousand_report.py [--arms 200] [--seeds 50] [--report] [FOLDER]

Writes a run that never was into FOLDER (a temporary one if none is given): 500 patients, two
images each, two labels; every arm copies one set of predictions, with noise of its own and of
each seed. Loads and analyses it, or with `--report` makes its report, and prints what that took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.analysis.findings.analysis import analyse
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.core.paths import RunPaths
from fgaug.grid.analysis_plan import AnalysisPlan

PATIENTS, IMAGES, RATIOS = 500, 2, (0.5, 1.0, 2.0, 4.0, 8.0)
LABELS = ("benign", "malignant")


def arms_of(count: int) -> Iterator[dict[str, Any]]:
    """Yield the columns of a baseline, a twin a ratio, and arms psi by ratio: `count` in all."""
    yield {"mode": "baseline", "psi": None, "ratio": None, "n_fake": 0}
    for ratio in RATIOS:
        yield {"mode": "oversample", "psi": None, "ratio": ratio, "n_fake": 0}
    left = count - 1 - len(RATIOS)
    psis = np.linspace(0.3, 1, -(-left // len(RATIOS)))
    for psi, ratio in itertools.islice(itertools.product(psis, RATIOS), left):
        amount = int(400 * ratio)
        yield {"mode": "augmentation", "psi": float(psi), "ratio": ratio, "n_fake": amount}


def write(root: Path, arms: int, seeds: int) -> None:
    """Write the folder of the run."""
    rng, run = np.random.default_rng(5), RunPaths(root)
    y = np.repeat(np.arange(PATIENTS) % 2, IMAGES)
    images = pd.DataFrame(
        {
            "image_id": [f"image-{number:06d}" for number in range(y.size)],
            "group": np.repeat([f"patient {number}" for number in range(PATIENTS)], IMAGES),
            "label": [LABELS[label] for label in y],
        }
    )
    shared = rng.standard_normal(y.size) + 1.5 * (y - 0.5)
    named = []
    for number, columns in enumerate(arms_of(arms)):
        worth = 0.2 * np.log2(1 + (columns["ratio"] or 0)) / 4
        own = shared + 0.2 * rng.standard_normal(y.size) + worth * (y - 0.5)
        arm = {"arm_id": f"{number:012x}", **columns, "filter": None}
        cells = {}
        for seed in range(seeds):
            score = own + 0.2 * rng.standard_normal(y.size)
            score += 0.1 * rng.standard_normal() * (y - 0.5)
            _write_trial(run, f"{number:06x}{seed:06x}", arm, seed, score, images)
            cells[f"{number:06x}{seed:06x}"] = seed
        named.append({**arm, "cells": cells})
    environment = {
        "dataset": {"labels": list(LABELS), "size": 64, "channels": 1, "digest": "0" * 64},
        "cells": [cell for arm in named for cell in arm["cells"]],
        "arms": named,
    }
    run.environment.write_text(json.dumps(environment), encoding="utf-8")
    run.space.write_text("name: ten-thousand\ndataset: data/none\n", encoding="utf-8")


def _write_trial(
    run: RunPaths,
    cell: str,
    arm: dict[str, Any],
    seed: int,
    score: np.ndarray,
    images: pd.DataFrame,
) -> None:
    trial = run.trial(cell)
    trial.root.mkdir(parents=True, exist_ok=True)
    second = 1 / (1 + np.exp(-score))
    columns = {f"p_{LABELS[0]}": 1 - second, f"p_{LABELS[1]}": second}
    frame = images.assign(**columns, round=pd.array([pd.NA] * len(images), dtype="Int64"))
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), trial.predictions)
    right = float(((second >= 0.5) == (images["label"] == LABELS[1])).mean())
    curve = {"epoch": [1], "step": [50], "frozen": [False], "train_loss": [0.5]}
    metrics = {"valid_loss": 0.5, "valid_acc": right, "valid_auc": right}
    curve |= {name: [value] for name, value in metrics.items()}
    pq.write_table(pa.table({**curve, "images_seen": [800], "train_s": [1.0]}), trial.curve)
    row = {
        "cell_id": cell,
        **arm,
        "seed": seed,
        "round": None,
        "status": "ok",
        "stopped_by": "budget",
        "n_real": 400,
        "n_dropped": 0,
        **metrics,
    }
    trial.result.write_text(json.dumps({"schema": 1, "rows": [row]}), encoding="utf-8")


def measure(root: Path, report: bool) -> None:
    """Print what loading, analysis and the report take."""
    start = time.perf_counter()

    def said(step: str) -> None:
        nonlocal start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{step:>10}  {time.perf_counter() - start:6.1f} s  peak {peak:4.1f} GB", flush=True)
        start = time.perf_counter()

    if report:
        from fgaug.analysis.report.write import report as write_report

        write_report(root)
        said("report")
        return
    evidence = load_evidence(root)
    said("load")
    found = analyse(evidence, AnalysisPlan())
    said("analyse")
    print(f"{len(found.comparisons)} comparisons of {len(found.arms)} arms")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="an empty or earlier one of this")
    parser.add_argument("--arms", type=int, default=200, help="baseline and twins counted")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--report", action="store_true", help="through `fgaug report` instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.folder or Path(scratch) / "run"
        if not (root / "environment.json").is_file():
            start = time.perf_counter()
            write(root, asked.arms, asked.seeds)
            print(f"{'write':>10}  {time.perf_counter() - start:6.1f} s", flush=True)
        measure(root, asked.report)


if __name__ == "__main__":
    main()
