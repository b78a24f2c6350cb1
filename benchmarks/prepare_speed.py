"""`fgaug data prepare`: two checkouts on the same 5,000 images, in turn, in one run.

    python benchmarks/prepare_speed.py BEFORE AFTER

BEFORE and AFTER are folders that hold the package `fgaug`. The images are those of a usual set:
half of them grey PNG, a quarter grey stored as RGB PNG, a quarter JPEG, 560 x 420 px of smoothed
noise. Each round starts a process a checkout, in changing order, on a warm page cache; the ratio
is that of the medians. Processor time is given too, as it feels other programs less.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, SIZE = 560, 420, 128
LIMIT = 1.1
PREPARE = """
import sys
from fgaug.data.prepare import prepare
prepare(out=sys.argv[2], folders=sys.argv[1], size=int(sys.argv[3]))
"""


def write_images(root: Path, count: int) -> None:
    draw = np.random.default_rng(7)
    for number in range(count):
        coarse = draw.integers(0, 256, (HEIGHT // 14, WIDTH // 14)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        speckle = draw.integers(-12, 13, (HEIGHT, WIDTH))
        image = Image.fromarray(np.clip(np.asarray(image) + speckle, 0, 255).astype(np.uint8))
        folder = root / ("benign", "malignant")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        kind = number % 4
        image = image.convert("RGB") if kind == 2 else image
        if kind == 3:
            image.save(folder / f"{number:05d}.jpg", quality=90)
        else:
            image.save(folder / f"{number:05d}.png", compress_level=1)


def timed(code: Path, images: Path) -> tuple[float, float]:
    """Return seconds of wall and of processor that one preparation takes."""
    with tempfile.TemporaryDirectory() as out:
        environment = {**os.environ, "PYTHONPATH": str(code.resolve()), "FGAUG_CACHE": f"{out}/c"}
        arguments = [sys.executable, "-c", PREPARE, str(images), f"{out}/dataset", str(SIZE)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(arguments, env=environment, cwd=out, check=True, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    codes = {"before": options.before, "after": options.after}
    for name, code in codes.items():
        if not (code / "fgaug").is_dir():
            parser.error(f"{name}: {code} holds no package fgaug")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), options.images)
        for turn in range(options.rounds):
            for name in list(codes)[:: -1 if turn % 2 else 1]:
                wall, processor = timed(codes[name], Path(folder))
                times[name].append((wall, processor))
                print(
                    f"round {turn + 1} {name}: {wall:.1f} s, processor {processor:.1f} s",
                    flush=True,
                )
    ratios = []
    for column, what in enumerate(("wall", "processor")):
        middle = {
            name: statistics.median(found[column] for found in measured)
            for name, measured in times.items()
        }
        ratios.append(middle["after"] / middle["before"])
        print(
            f"{what}: before {middle['before']:.1f} s, after {middle['after']:.1f} s, "
            f"ratio {ratios[-1]:.3f} ({options.images} images, median of {options.rounds})"
        )
    sys.exit(f"more than {LIMIT} times" if ratios[0] > LIMIT else 0)


if __name__ == "__main__":
    main()
