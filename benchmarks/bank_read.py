"""Bank reading: 2,000 random fakes of a 10,000-image bank against the same images as PNG files.

Cold is the first read on a machine: the decoded copy of the shards is made. Warm reads come from
that copy, memory-mapped, as every trial after the first does. Files lie in the page cache in both
cases: this compares decoding, not disks.

    python benchmarks/bank_read.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fgaug.bank import Bank, BankSpec, Demand, open_bank
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe

SIZE, COUNT, ASKED, PSI = 128, 10_000, 2_000, 0.7
LABEL = "stub"


def make_bank(root: Path) -> Bank:
    source = LabelSource(kind="stub")
    spec = BankSpec(
        size=SIZE, channels=1, noise="seeded", sources={LABEL: describe(LABEL, source)}
    )
    demand = Demand.of([(LABEL, PSI, np.arange(1, COUNT + 1))])
    return fill(root, spec, {LABEL: source}, demand)


def write_pngs(folder: Path, bank: Bank) -> None:
    folder.mkdir()
    images = bank.read(LABEL, PSI, list(range(1, COUNT + 1)))
    for z_seed, image in enumerate(images, start=1):
        Image.fromarray(image[..., 0]).save(folder / f"{z_seed}.png")


def read_pngs(folder: Path, z_seeds: np.ndarray) -> np.ndarray:
    out = np.empty((len(z_seeds), SIZE, SIZE, 1), np.uint8)
    for number, z_seed in enumerate(z_seeds):
        with Image.open(folder / f"{z_seed}.png") as picture:
            out[number, ..., 0] = np.asarray(picture)
    return out


def read_first(root: Path, z_seeds: np.ndarray) -> np.ndarray:
    return open_bank(root).read(LABEL, PSI, z_seeds.tolist())


def timed(read: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Return CPU-seconds, seconds and the images of one reading."""
    cpu, wall = time.process_time(), time.perf_counter()
    images = read()
    return time.process_time() - cpu, time.perf_counter() - wall, images


def forget(cache: Path) -> None:
    for file in cache.glob("*.npy"):
        file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.rounds)


def measure(folder: Path, rounds: int) -> None:
    cache = folder / "cache"
    os.environ["FGAUG_CACHE"] = str(cache)
    root, pngs = folder / "bank", folder / "png"
    write_pngs(pngs, make_bank(root))
    seconds: dict[str, list[tuple[float, float]]] = {
        "PNG files, Pillow": [],
        "bank, cold": [],
        "bank, warm": [],
    }
    for number in range(rounds):
        asked = np.random.RandomState(number).choice(COUNT, ASKED, replace=False) + 1
        forget(cache)
        readings = {
            "PNG files, Pillow": timed(partial(read_pngs, pngs, asked)),
            "bank, cold": timed(partial(read_first, root, asked)),
        }
        bank = open_bank(root)
        bank.index()  # a trial reads it once, then its images
        readings["bank, warm"] = timed(partial(bank.read, LABEL, PSI, asked.tolist()))
        expected = readings["PNG files, Pillow"][2]
        for name, (cpu, wall, images) in readings.items():
            assert np.array_equal(images, expected), name
            seconds[name].append((cpu, wall))
    shards = sum(shard.bytes for shard in open_bank(root).shards)
    files = sum(file.stat().st_size for file in pngs.iterdir())
    print(f"{ASKED} of {COUNT} grey images of {SIZE} px, median of {rounds} rounds")
    print(f"on disk: bank {shards / 2**20:.0f} MiB, PNG {files / 2**20:.0f} MiB")
    print(
        f"{'':<20}{'CPU s':>9}{'wall s':>9}{'images/CPU s':>14}{'CPU ratio':>11}{'wall ratio':>12}"
    )
    base = [statistics.median(one[i] for one in seconds["PNG files, Pillow"]) for i in (0, 1)]
    for name, found in seconds.items():
        cpu, wall = (statistics.median(one[i] for one in found) for i in (0, 1))
        print(
            f"{name:<20}{cpu:>9.4f}{wall:>9.4f}{ASKED / cpu:>14.0f}"
            f"{base[0] / cpu:>11.1f}{base[1] / wall:>12.1f}"
        )


if __name__ == "__main__":
    main()
