"""The resident memory of eight concurrent trials on one bank of 30,000 images.

    python benchmarks/memory.py
    python benchmarks/memory.py --images 2000 --size 64     # does it run?

Fills a bank with stub images (grey, 128 px), then runs eight trials at once, twice: on a mix of
few images (what a worker takes by itself: interpreter, torch, a model, batches) and on a mix of
4,000 fakes, drawn by each from the whole bank. All memory of the workers is summed as the kernel's
proportional set size, so a page that eight processes map counts once. The difference of the two
peaks is what the images cost; it must not exceed one bank plus eight mixes. Decoding a bank that
is not yet decoded takes the memory of one bank besides, once, in one worker: that is left in.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import threading
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

import fgaug
from fgaug.bank import BankSpec, Demand
from fgaug.core import cluster
from fgaug.data.phantom import PLANES
from fgaug.data.prepare import prepare
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe

TRIALS = 8
MB = 1 << 20


class Watch:
    """The workers' memory, looked at four times a second; only the peaks are kept."""

    def __init__(self) -> None:
        self.peak: dict[str, float] = {}  # MB, of all workers together
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.25):
            children = psutil.Process().children(recursive=True)
            held = [fields for fields in map(_memory, children) if fields]
            now = {name: sum(fields[name] for fields in held) for name in (held or [{}])[0]}
            now["workers"] = float(len(held))
            self.peak |= {k: max(v, self.peak.get(k, 0.0)) for k, v in now.items()}


def _memory(process: psutil.Process) -> dict[str, float]:
    """Return a trial's proportional set size in MB, in all, anonymous and file-backed."""
    with contextlib.suppress(psutil.Error, OSError):
        if " ".join(process.cmdline()).startswith("ray::synthetic "):  # its cell, in a step
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            kb = dict(re.findall(r"^(Pss|Pss_Anon|Pss_File):\s+(\d+)", text, re.MULTILINE))
            return {name: int(value) / 1024 for name, value in kb.items()}
    return {}


def space(root: Path, name: str, fakes: int, pool: int) -> Space:
    """Return a grid of eight cells, each trained on `fakes` fakes a label."""
    return parse_space(
        {
            "name": name,
            "dataset": str(root / "dataset"),
            "bank": str(root / "bank"),
            "generator": {"kind": "stub", "noise": "none"},
            "pool": pool,
            "axes": {
                "mode": ["synthetic"],
                "psi": [1.0],
                "fakes": [dict.fromkeys(PLANES, fakes)],
                "seed": list(range(TRIALS)),
            },
            "exclude": [{"mode": ["baseline"]}],
            "recipe": {
                "model": "mobilenetv3_small_050",
                "pretrained": False,
                "augmentation": "fastai",
                "batch_size": 16,
            },
            "budget": {"unit": "steps", "max": 40, "evaluations": 2},
        }
    )


def fill_bank(root: Path, images: int, size: int) -> None:
    """Fill a bank of so many stub images, half of them of each label."""
    sources = {label: LabelSource(kind="stub") for label in PLANES}
    described = {label: describe(label, source) for label, source in sources.items()}
    spec = BankSpec(size=size, channels=1, noise="none", sources=described)
    wanted = np.arange(1, images // len(PLANES) + 1)
    fill(root, spec, sources, Demand.of((label, 1.0, wanted) for label in PLANES))


def measure(root: Path, images: int, size: int, fakes: int) -> None:
    """Print the table of the module's words."""
    prepare(out=root / "dataset", size=size, preset="phantom", phantom={"images": 60})
    pool = images // len(PLANES)
    peaks = {}
    with cluster.started(cpus=TRIALS, dashboard=False):
        fill_bank(root / "bank", images, size)
        for name, count in (("few", 16), ("all", fakes)):
            os.environ["FGAUG_CACHE"] = str(root / "cache")
            grid = space(root, name, count, pool)
            with Watch() as watch:
                run = fgaug.search(grid, root / name, console=Console(quiet=True))
            assert run.ok == TRIALS, run
            peaks[name] = watch.peak
    image = size * size / MB
    grown = peaks["all"]["Pss"] - peaks["few"]["Pss"]
    allowed = (images + TRIALS * len(PLANES) * fakes) * image
    print(f"| bank of {images:,} images of {size} px | {images * image:.0f} MB |")
    print(f"| a mix of {len(PLANES) * fakes:,} fakes | {len(PLANES) * fakes * image:.0f} MB |")
    for name, peak in peaks.items():
        parts = ", ".join(f"{key} {value:.0f}" for key, value in peak.items())
        print(f"| peak of {TRIALS} trials, mix of {name} | {parts} |")
    print(f"| grown by the images | {grown:.0f} MB |")
    print(f"| allowed: a bank and {TRIALS} mixes | {allowed:.0f} MB |")
    assert grown <= allowed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--fakes", type=int, default=2000, help="a label, in each mix")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fgaug-memory-") as folder:
        measure(Path(folder), options.images, options.size, options.fakes)


if __name__ == "__main__":
    main()
