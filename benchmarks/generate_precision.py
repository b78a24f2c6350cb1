"""Generation in bfloat16 against float32: processor time, pixel difference and FID.

Speed: the thesis's network (128 px, random weights) at batch 8 on one thread, in turn with
float32 here and, with --before, in another commit's tree. Quality: the networks that ship, the
same z_seeds in both precisions; FID against the training images of their label by the packaged
lite0, and between the two sets.

    OMP_WAIT_POLICY=passive python benchmarks/generate_precision.py --before TREE
    python benchmarks/generate_precision.py --dataset data/bus-bra --images 1000   # and BUS-BRA's
    python benchmarks/generate_precision.py --quick
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from generate import _made, random_snapshot, thesis_config
from other_tree import OtherTree

from fgaug import quality
from fgaug.core.precision import bfloat16_unit
from fgaug.data import open_dataset
from fgaug.data.prepare import prepare
from fgaug.quality.features.networks import FeatureNetwork, load_network
from gan_worker.generators.stylegan2 import StyleGan2Generator, load_generator
from gan_worker.training.images import training_images

ROOT = Path(__file__).resolve().parents[1]
NETS = ROOT / "search_spaces" / "nets"
BATCH, PSI = 8, 0.7
PRECISIONS = ("float32", "bfloat16")
# what another tree runs: a line of processor seconds an image for every line that it reads
PEER = """
import sys, time, torch
sys.path.insert(0, "benchmarks")
from generate import StyleGan2Generator, _made, random_snapshot, thesis_config
torch.set_num_threads(1)
made = StyleGan2Generator(random_snapshot(thesis_config({quick})))
_made(made, {batch})
print("ready", flush=True)
for _ in sys.stdin:
    began = time.process_time()
    _made(made, {batch})
    print((time.process_time() - began) / {batch}, flush=True)
"""


def here(precision: str, quick: bool) -> Callable[[], float]:
    """Return a function that makes a batch and returns processor seconds an image."""
    generator = StyleGan2Generator(random_snapshot(thesis_config(quick)), precision=precision)
    _made(generator, BATCH)

    def timed() -> float:
        began = time.process_time()
        _made(generator, BATCH)
        return (time.process_time() - began) / BATCH

    return timed


def speed(before: Path | None, rounds: int, quick: bool) -> None:
    ways = (
        {}
        if before is None
        else {"other tree, float32": OtherTree(before, PEER.format(quick=quick, batch=BATCH))}
    )
    ways = {**ways, **{f"here, {name}": here(name, quick) for name in PRECISIONS}}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            took[name].append(ways[name]())
    first = took[next(iter(ways))]
    print(f"\n| batch {BATCH}, one thread | CPU s/image, median of {rounds} | times as fast |")
    print("|---|---|---|")
    for name, own in took.items():
        ratios = sorted(theirs / mine for theirs, mine in zip(first, own, strict=True))
        print(
            f"| {name} | {statistics.median(own):.4f} "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


def compare_images(file: Path, reals: np.ndarray, images: int, network: FeatureNetwork) -> None:
    """Print a row: how far apart a network's images in both precisions are."""
    exact, rough = (
        load_generator(file, "seeded", precision=name).generate(range(1, images + 1), PSI)
        for name in PRECISIONS
    )
    off = np.abs(exact.astype(np.int16) - rough)
    real, first, second = (network.features(each) for each in (reals, exact, rough))
    fids = [quality.fid(real, each) for each in (first, second)]
    print(
        f"| {file.stem}, {exact.shape[1]} px | {off.mean():.3f} | {np.percentile(off, 99):g} "
        f"| {off.max()} | {fids[0]:.3f} | {fids[1]:.3f} | {100 * (fids[1] / fids[0] - 1):+.2f}% "
        f"| {quality.fid(first, second):.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="root of another commit's tree")
    parser.add_argument("--dataset", type=Path, help="BUS-BRA, prepared at 64 px")
    parser.add_argument("--images", type=int, default=500, help="fakes of each network")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small network, few images")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rounds, images = (1, 24) if asked.quick else (asked.rounds, asked.images)
    print(f"torch {torch.__version__}, unit for bfloat16: {bfloat16_unit('cpu')}")
    speed(asked.before, rounds, asked.quick)
    network = load_network("lite0")
    print(f"\n{images} fakes a network at psi {PSI}, features {network.label}; levels apart\n")
    print("| network | mean | 99% | worst | FID float32 | FID bfloat16 | change | between them |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        phantom = Path(folder) / "phantom"
        prepare(out=phantom, size=32, preset="phantom", phantom={"images": 600})
        sets = [("phantom", phantom, ("dbp", "trv"))]
        if asked.dataset is not None:
            sets.append(("bus-bra", asked.dataset, ("benign", "malignant")))
        for name, place, labels in sets:
            for label in labels:
                reals = training_images(open_dataset(place), [label])
                pixels = reals.take(np.arange(len(reals)))
                compare_images(NETS / f"{name}-{label}.safetensors", pixels, images, network)


if __name__ == "__main__":
    main()
