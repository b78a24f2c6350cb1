"""Nearest neighbours of many fakes among reals: time and memory, beside a bare matrix product.

    python benchmarks/neighbours.py [--fakes 30000] [--reals 4000] [--features 1280]
                                    [--measure scores ...]

Limits: 60 s and 2 GB on 2 cores for fakes against reals. Precision and recall also need every
fake's neighbours among the fakes, a product of (fakes / reals) times the size. Each measure runs
in a process of its own, for its peak memory; the product is that of float64 arrays, and the ratio
one of core seconds, as other processes may work beside.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from fgaug import quality
from fgaug.quality.scoring.image_scores import Reference

LIMIT_S, LIMIT_GB = 60.0, 2.0
LIMITED = ("density_coverage", "realism", "scores")  # the measures that the limits are for


def drawn(fakes: int, reals: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return reals and fakes, float32, about as a network gives them."""
    rng = np.random.default_rng(1)
    real = rng.standard_normal((reals, features), dtype=np.float32)
    fake = rng.standard_normal((fakes, features), dtype=np.float32)
    return np.maximum(real + 0.3, 0), np.maximum(fake + 0.32, 0)


def product(real: np.ndarray, fake: np.ndarray) -> None:
    """Multiply fakes with reals in float64, block by block, and keep nothing."""
    columns = real.astype(np.float64).T.copy()
    for start in range(0, len(fake), 2048):
        fake[start : start + 2048].astype(np.float64) @ columns


def scores(real: np.ndarray, fake: np.ndarray) -> None:
    """Score each fake by its neighbours: realism, density and the nearest real."""
    Reference(real).scores(fake)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "product": product,
    "density_coverage": quality.density_coverage,
    "realism": quality.realism,
    "scores": scores,
    "precision_recall": quality.precision_recall,
    "fid": quality.fid,
    "kid_subsets": quality.kid_subsets,
}


def measured(name: str, sizes: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return seconds and core seconds of one measure, and the peak of its process in GB."""
    real, fake = drawn(*sizes)
    if name != "product":  # scikit-learn's import is not what is measured
        MEASURES[name](real[:50], fake[:50])
    started, worked = time.perf_counter(), time.process_time()
    MEASURES[name](real, fake)
    wall_s, core_s = time.perf_counter() - started, time.process_time() - worked
    return wall_s, core_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("fakes", 30_000), ("reals", 4_000), ("features", 1280)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--measure", choices=MEASURES, action="append", help="all if left out")
    asked = parser.parse_args()
    sizes = (asked.fakes, asked.reals, asked.features)
    cores = len(os.sched_getaffinity(0))
    print(f"{sizes[0]} fakes x {sizes[1]} reals, {sizes[2]} features, {cores} cores")
    print(f"{'measure':<20}{'s':>8}{'core s':>8}{'peak GB':>9}{'x product':>11}")
    bare_s, ok = 0.0, True
    for name in dict.fromkeys(["product", *(asked.measure or MEASURES)]):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            wall_s, core_s, peak_gb = pool.apply(measured, (name, sizes))
        bare_s = bare_s or core_s
        over = name in LIMITED and (wall_s > LIMIT_S or peak_gb > LIMIT_GB)
        ok = ok and not over
        mark = "  OVER THE LIMIT" if over else ""
        numbers = f"{wall_s:>8.1f}{core_s:>8.1f}{peak_gb:>9.2f}{core_s / bare_s:>11.1f}"
        print(f"{name:<20}{numbers}{mark}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
