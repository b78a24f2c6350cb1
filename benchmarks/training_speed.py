"""Training speed: images/s of the training loop against the bare loop of the same model.

The real loop takes grey uint8 images, augments them as fastai does, trains by the one-cycle
schedule and counts; the bare one runs forward, backward and AdamW on float tensors that lie in
memory. Both take turns in one process, since a busy machine changes its pace by the minute.

    python benchmarks/training_speed.py --threads 1 --rounds 5 --seconds 6
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fgaug.grid.recipe import Budget, Recipe
from fgaug.training import weights
from fgaug.training.images import Images, epochs
from fgaug.training.pytorch import augmentation, fine_tuning, models
from fgaug.training.pytorch.fine_tuning import Steps

CPU = torch.device("cpu")
SIZE, BATCH, COUNT = 128, 64, 640
RECIPES = {
    "resnet18 from scratch": Recipe(model="resnet18", pretrained=False, batch_size=BATCH),
    weights.LITE0: Recipe(model=weights.LITE0, batch_size=BATCH),
}
Step = Callable[[], object]  # trains on one batch


@dataclass(frozen=True, slots=True)
class Timed:
    """Images a second of one turn."""

    cpu: float  # of processor time, all threads together
    wall: float


def images() -> Images:
    pixels = np.random.RandomState(0).randint(0, 256, (COUNT, SIZE, SIZE, 1), dtype=np.uint8)
    row = np.arange(COUNT)
    return Images(sources=[pixels], source=np.zeros(COUNT, np.int64), row=row, label=row % 2)


def real(recipe: Recipe) -> Step:
    """Return one step of the unfrozen phase, as `fgaug.training.pytorch.fine_tuning` runs it."""
    model = models.build(recipe, weights.find(recipe), 2)
    train = images()
    transform = augmentation.build(recipe, 0, CPU)
    run = Steps(model, train, train, ("a", "b"), recipe, transform, CPU)
    budget = Budget(unit="steps", max=1000)
    phase = fine_tuning._phases(recipe, budget, len(train), model.group_count)[1]
    run.begin(phase)
    model.train()
    order, steps = epochs(len(train), BATCH, 0), iter(range(phase.cycle.steps))
    return lambda: run._step(phase.cycle, next(steps), next(order))


def bare(recipe: Recipe) -> Step:
    """Return one step of the same model on float batches made beforehand, three channels each."""
    model = models.build(recipe, weights.find(recipe), 2).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batches = _float_batches()

    def step() -> None:
        x, y = next(batches)
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        optimiser.step()

    return step


def bare_contiguous(recipe: Recipe) -> Step:
    """Return the bare step in PyTorch's default memory format."""
    model = models.build(recipe, weights.find(recipe), 2).train()
    model = model.to(memory_format=torch.contiguous_format)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batches = _float_batches()

    def step() -> None:
        x, y = next(batches)
        logits = model.head(model.body.forward_features((x - model.mean) / model.std))
        loss = F.cross_entropy(logits, y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        optimiser.step()

    return step


def _float_batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    batches = [(torch.rand(BATCH, 3, SIZE, SIZE), torch.arange(BATCH) % 2) for _ in range(4)]
    while True:
        yield from batches


def timed(step: Step, seconds: float) -> Timed:
    """Return the speed of whole steps over about `seconds`."""
    cpu, wall, count = time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - wall < seconds:
        step()
        count += BATCH
    return Timed(count / (time.process_time() - cpu), count / (time.perf_counter() - wall))


def compare(recipe: Recipe, rounds: int, seconds: float) -> tuple[dict[str, list[Timed]], str]:
    """Return the turns of each loop and the name of the faster bare one."""
    peers = {"bare, channels last": bare(recipe), "bare, contiguous": bare_contiguous(recipe)}
    loops = {"real": real(recipe), **peers}
    for step in loops.values():
        step()  # memory and kernels are set up by the first
    first = {name: timed(step, seconds / 2) for name, step in peers.items()}
    peer = max(first, key=lambda name: first[name].cpu)
    found: dict[str, list[Timed]] = {"real": [], peer: []}
    for number in range(rounds):
        turns = ["real", peer] if number % 2 == 0 else [peer, "real"]
        for name in turns:
            found[name].append(timed(loops[name], seconds))
    return found, peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4, help="turns of each loop")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), batch {BATCH}, {SIZE} px grey")
    print(f"{'images a second of':<24}{'loop':<22}{'CPU':>8}{'wall':>8}")
    for name, recipe in RECIPES.items():
        found, peer = compare(recipe, options.rounds, options.seconds)
        for loop, turns in found.items():
            cpu = statistics.median(turn.cpu for turn in turns)
            wall = statistics.median(turn.wall for turn in turns)
            print(f"{name:<24}{loop:<22}{cpu:>8.1f}{wall:>8.1f}")
        pairs = list(zip(found["real"], found[peer], strict=True))
        cpus = [ours.cpu / theirs.cpu for ours, theirs in pairs]
        walls = [ours.wall / theirs.wall for ours, theirs in pairs]
        print(
            f"{name:<24}{'real / bare':<22}{statistics.median(cpus):>8.3f}"
            f"{statistics.median(walls):>8.3f}   CPU ratios {min(cpus):.3f}-{max(cpus):.3f}"
        )


if __name__ == "__main__":
    main()
