"""A bank of 240,000 images: filled, opened, listed, sampled.

`python benchmarks/large_bank.py` fills a bank of 32 px grey stub images (2 labels, 4 psis, 30,000
z_seeds each) on Ray actors in a temporary folder, and prints how long each step takes. Sampling is
what a trial does: 30,000 rows in a random order, of one (label, psi) and spread over all eight;
first with nothing decoded, then with the decoded copy that all later trials map.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, BankSpec, Demand, open_bank
from fgaug.core import cluster
from gan_worker.filling.actor import actor_run, workers_of_cluster
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe

LABELS, PSIS = ("dbp", "trv"), (0.3, 0.5, 0.7, 1.0)
SAMPLED = 30_000


@contextmanager
def timed(what: str, images: int = 0) -> Iterator[None]:
    started = time.perf_counter()
    yield
    wall_s = time.perf_counter() - started
    rate = f"{images / wall_s:,.0f} images/s" if images else ""
    print(f"| {what} | {wall_s:.3f} | {rate} |", flush=True)


def sample(bank: Bank, keys: list[tuple[str, float]], held: int, rng: np.random.Generator) -> None:
    """Read 30,000 rows, as many of each (label, psi), in a random order."""
    share = SAMPLED // len(keys)
    for label, psi in keys:
        wanted = rng.permutation(held)[:share] + 1
        images = bank.read(label, psi, wanted)
        assert images.shape == (share, 32, 32, 1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=30_000, help="z_seeds a label and psi")
    seeds: int = arguments.parse_args().seeds
    sources = {label: LabelSource(kind="stub") for label in LABELS}
    described = {label: describe(label, source) for label, source in sources.items()}
    spec = BankSpec(size=32, channels=1, noise="none", sources=described)
    wanted = np.arange(1, seeds + 1)
    demand = Demand.of((label, psi, wanted) for label in LABELS for psi in PSIS)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FGAUG_CACHE"] = str(Path(folder) / "cache")
        root = Path(folder) / "bank"
        print("| step | wall s | |\n|---|---|---|")
        with cluster.started(dashboard=False):
            run, workers = actor_run(str(root), spec, sources), workers_of_cluster()
            with timed(f"fill of {demand.count:,} images, {workers} actors", demand.count):
                fill(root, spec, sources, demand, run=run, workers=workers)
            with timed("fill again: nothing to do"):
                fill(root, spec, sources, demand, run=run, workers=workers)
        with timed("open"):
            bank = open_bank(root)
        with timed("list (label, psi, z_seed, shard, row)"):
            index = bank.index()
        assert len(index) == demand.count
        rng = np.random.default_rng(0)
        keys = list(demand.wanted)
        size = min(SAMPLED, seeds)
        with timed(f"sample {size:,} of one label and psi, nothing decoded", size):
            sample(bank, keys[:1], seeds, rng)
        with timed(f"sample {size:,} of one label and psi, decoded", size):
            sample(bank, keys[:1], seeds, rng)
        with timed(f"sample {size:,} of all eight, the other seven not decoded", size):
            sample(bank, keys, seeds, rng)
        with timed(f"sample {size:,} of all eight, decoded", size):
            sample(bank, keys, seeds, rng)


if __name__ == "__main__":
    main()
