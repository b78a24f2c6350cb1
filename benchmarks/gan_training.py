"""Seconds per thousand images of a training, against the bare passes of the same two networks.

    python benchmarks/gan_training.py                     # preset auto, 64 px, batch 32
    python benchmarks/gan_training.py --set channel_max=64 --rounds 3
    python benchmarks/gan_training.py --device cuda --size 128 --preset thesis-trv

Bare: forward and backward of the four phases on tensors made before the clock starts, path
lengths every 4th and R1 every 16th iteration; no augmentation, optimiser, average, draws or
images. A cycle has 16 iterations: 12 of the main phases alone, 3 with path lengths, 1 with both.
One of each of these three kinds is timed a round, ours and bare in turn, the augmentation at
p = 0.5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fgaug.data import open_dataset
from fgaug.data.prepare import prepare
from gan_worker.training.images import TrainingBatches, training_images
from gan_worker.training.jobs import option_of
from gan_worker.training.losses import (
    discriminator_losses,
    generator_loss,
    path_lengths,
    r1_penalty,
)
from gan_worker.training.options import resolve
from gan_worker.training.trainer import D_INTERVAL, G_INTERVAL, PATH_SHRINK, Trainer

# iterations of a cycle by what they hold beside the main phases: (number, first such iteration)
KINDS = {"main": (12, 1), "with path lengths": (3, 4), "with both": (1, 0)}
LIMIT = 1.15


class Bare:
    """The same networks on tensors that lie ready."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, options = trainer, trainer.options
        config, device = trainer.generator.config, trainer.device
        count = options.batch

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, device=device)

        side, channels = options.resolution, options.img_channels
        self.z, self.reals = normal(count, config.z_dim), normal(count, channels, side, side)
        self.noise = [normal(count, 1, size, size) for size in config.noise_sizes]
        self.half = count // PATH_SHRINK
        self.y = normal(self.half, channels, side, side)

    def fakes(self, count: int) -> tuple[Tensor, Tensor]:
        generator = self.trainer.generator
        w = generator.mapping.untruncated(self.z[:count])
        ws = w[:, None, :].repeat(1, generator.config.num_ws, 1)
        with self.trainer._precision():
            return generator.synthesis(ws, [maps[:count] for maps in self.noise]).float(), ws

    def logits(self, images: Tensor) -> Tensor:
        with self.trainer._precision():
            return self.trainer.discriminator(images).float()

    def iteration(self, number: int) -> None:
        """Do the passes of an iteration."""
        g, d = self.trainer.generator, self.trainer.discriminator
        g.requires_grad_(True)
        generator_loss(self.logits(self.fakes(len(self.z))[0])).backward()
        if number % G_INTERVAL == 0:
            images, ws = self.fakes(self.half)
            path_lengths(images, ws, self.y).square().mean().backward()
        g.requires_grad_(False)
        d.requires_grad_(True)
        with torch.no_grad():
            images, _ = self.fakes(len(self.z))
        sum(discriminator_losses(self.logits(images), self.logits(self.reals))).backward()
        if number % D_INTERVAL == 0:
            r1_penalty(self.logits, self.reals, 1.0).mean().backward()
        d.requires_grad_(False)
        g.zero_grad(set_to_none=True)
        d.zero_grad(set_to_none=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE of an option")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    changes = {
        name: option_of(name, value) for name, value in (text.split("=", 1) for text in asked.set)
    }
    with tempfile.TemporaryDirectory() as folder:
        ours = trainer_of(Path(folder), asked.preset, asked.size, asked.device, changes)
        bare = Bare(ours)
        times: dict[str, dict[str, list[float]]] = {k: {"ours": [], "bare": []} for k in KINDS}
        for number in range(asked.rounds + 1):  # the first one warms up
            for kind, (_, first) in KINDS.items():
                ours.iteration = first
                found = {
                    "ours": seconds(ours.step, ours.device),
                    "bare": seconds(lambda first=first: bare.iteration(first), ours.device),
                }
                for way, value in found.items():
                    times[kind][way] += [value] if number else []
    return report(times, ours.options.batch, asked.rounds)


def trainer_of(
    folder: Path, preset: str, size: int, device: str, changes: dict[str, object]
) -> Trainer:
    """Return a trainer over phantom images."""
    dataset = folder / "dataset"
    prepare(out=dataset, size=size, preset="phantom", phantom={"images": 200})
    options = resolve(preset, resolution=size, img_channels=1, changes={"p": 0.5, **changes})
    images = training_images(open_dataset(dataset), ["trv"])
    batches = TrainingBatches(images, seed=0, mirror=options.mirror, device=device)
    print(options)
    return Trainer(options, batches, torch.device(device))


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def report(times: dict[str, dict[str, list[float]]], batch: int, rounds: int) -> int:
    """Print the table; return 1 if the overhead is above the limit."""
    whole = {"ours": 0.0, "bare": 0.0}
    print(f"\n{'iteration':<20}{'ours s':>10}{'bare s':>10}{'ratio':>8}")
    for kind, (count, _) in KINDS.items():
        medians = {way: statistics.median(values) for way, values in times[kind].items()}
        for way in whole:
            whole[way] += count * medians[way]
        ratio = medians["ours"] / medians["bare"]
        print(f"{kind:<20}{medians['ours']:>10.3f}{medians['bare']:>10.3f}{ratio:>8.3f}")
    images = batch * sum(count for count, _ in KINDS.values())
    per_kimg = {way: 1000 * value / images for way, value in whole.items()}
    ratio = whole["ours"] / whole["bare"]
    print(
        f"\n{per_kimg['ours']:.1f} s/kimg, bare {per_kimg['bare']:.1f}: {ratio:.3f} times "
        f"(at most {LIMIT}), medians of {rounds} rounds, {torch.get_num_threads()} threads"
    )
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
