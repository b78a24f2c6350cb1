"""Estimates a grid's training time on this machine, and how many trials fit at once."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch

from fgaug.data import Dataset
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.grid.recipe import Budget, Recipe
from fgaug.grid.space import Resources, Space
from fgaug.runs import mix
from fgaug.runs.reals import Reals
from fgaug.runs.row import TrialSources
from fgaug.runs.trial_inputs import dataset_at
from fgaug.training.backends import open_learner
from fgaug.training.budget import frozen_epochs, total_steps
from fgaug.training.gpu_share import CUDA_BYTES
from fgaug.training.images import Images, resident_bytes

# Share of memory to leave free, for fragmentation, checkpoints and other programs. A trial's share
# of a GPU is also the cap of its memory (`training.gpu_share`), so this is the distance between
# what a trial was measured to need and its cap.
MARGIN = 0.2
_PARTS = 10_000  # Ray's resolution of a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Speed and peak memory of a recipe, measured over a few steps and evaluations."""

    train_per_s: float  # training images per second
    valid_per_s: float  # validation images per second
    memory_bytes: int  # peak of the process, without memory shared with other processes
    gpu_bytes: int | None  # peak on the GPU, including CUDA's own memory; None on CPU


def trial_seconds(cells: Sequence[Cell], dataset: Dataset, pool: int, threads: int) -> float:
    """Return the estimated seconds to train all `cells` one after the other, without patience.

    Measures each recipe for a few steps on `threads` threads of this machine.
    """
    sides: dict[Split, tuple[Reals, int]] = {}  # reals and number of validation images by split
    for split in dict.fromkeys(cell.split for cell in cells):
        manifest = dataset.with_split(split).manifest
        n_valid = int((manifest["split"] == "valid").sum())
        sides[split] = Reals(manifest, dataset.spec.labels), n_valid
    rates: dict[str, Measured] = {}  # by recipe as JSON: recipes with a pipeline are not hashable
    known: dict[Hashable, float] = {}
    total = 0.0
    for cell in cells:
        key = (mix.same_sizes(cell), id(cell.recipe))  # the cells of a plan share recipes
        if key not in known:
            known[key] = _seconds(cell, dataset, pool, threads, sides[cell.split], rates)
        total += known[key]
    return total


def _seconds(
    cell: Cell,
    dataset: Dataset,
    pool: int,
    threads: int,
    side: tuple[Reals, int],
    rates: dict[str, Measured],
) -> float:
    """Return the estimated seconds to train a cell; measures its recipe if `rates` lacks it."""
    name = cell.recipe.model_dump_json()
    if name not in rates:
        rates[name] = measure(cell.recipe, dataset, threads)
    rate = rates[name]
    reals, n_valid = side
    plan = mix.sizes(cell, reals, pool)
    count = plan.n_real + plan.n_fake
    steps = total_steps(cell.budget, count, cell.recipe.batch_size, frozen_epochs(cell.recipe))
    batch = min(cell.recipe.batch_size, count)
    seconds = steps * batch / rate.train_per_s
    seconds += _looks(cell.budget, cell.recipe) * n_valid / rate.valid_per_s
    return (cell.last_round - cell.round + 1) * seconds  # each round has the full budget


def measure(recipe: Recipe, dataset: Dataset, threads: int) -> Measured:
    """Measure a recipe on a few batches, on a GPU if this process sees one.

    The memory peaks equal a trial's only in a process that has done nothing else before.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return measure_on(recipe, dataset.spec.labels, dataset.pixels(), threads, device)


def measure_on(
    recipe: Recipe, labels: Sequence[str], pixels: np.ndarray, threads: int, device: str
) -> Measured:
    """Measure a recipe on images of uint8 [N, H, W, C], on a `device`, cpu or cuda."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measure(recipe, tuple(labels), pixels, torch.device(device))
    finally:
        torch.set_num_threads(before)


def _measure(
    recipe: Recipe, labels: tuple[str, ...], pixels: np.ndarray, device: torch.device
) -> Measured:
    process = psutil.Process()
    own, resident = process.memory_full_info().uss, process.memory_info().rss
    count = 4 * recipe.batch_size
    places = np.resize(np.arange(len(pixels)), count)
    images = Images(
        sources=[pixels],
        source=np.zeros(count, np.int64),
        row=places,
        label=np.arange(count) % len(labels),
    )
    learner = open_learner(recipe, labels, 0, device.type)
    budget = Budget(unit="steps", max=4, evaluations=2)
    running = iter(learner.train(images, images, budget, seed=0))
    warm = next(running)
    started = time.perf_counter()
    last = next(running)
    both = time.perf_counter() - started
    train_s = last.train_s - warm.train_s
    trained = last.images_seen - warm.images_seen
    peaks = learner.peaks()
    learner.close()
    gpu_bytes = _gpu_peak() if device.type == "cuda" else None
    if recipe.backend == "keras":
        gpu_bytes = None if peaks.gpu_bytes is None else peaks.gpu_bytes + CUDA_BYTES
    return Measured(
        train_per_s=trained / max(train_s, 1e-6),
        valid_per_s=count / max(both - train_s, 1e-6),
        memory_bytes=own + max(0, peaks.memory_bytes - resident),
        gpu_bytes=gpu_bytes,
    )


def _gpu_peak() -> int:
    """Return the peak GPU memory of this process in bytes.

    torch does not count CUDA's own memory. It is estimated as the memory in use now that torch has
    not reserved, which is too much if other processes use the GPU, hence the bound CUDA_BYTES.
    """
    free, total = torch.cuda.mem_get_info()
    beside = total - free - torch.cuda.memory_reserved()
    return torch.cuda.max_memory_reserved() + min(max(0, beside), CUDA_BYTES)


def pixel_bytes(cells: Sequence[Cell], sources: Mapping[str | None, TrialSources]) -> int:
    """Return the most bytes of pixels that a trial of these cells keeps on a GPU.

    Keras copies its images batch by batch and keeps none.

    Args:
        cells: the cells to train; one per arm and split is counted.
        sources: their image sources, by `Cell.source`.
    """
    one_of_each = {(cell.arm_id, cell.view): cell for cell in cells}
    known: dict[tuple[str, Split], tuple[Reals, int, tuple[int, int, int]]] = {}
    most = 0
    for cell in one_of_each.values():
        if cell.recipe.backend == "keras":
            continue
        its = sources[cell.source]
        if (its.dataset, cell.split) not in known:
            dataset = dataset_at(its.dataset, its.dataset_digest).with_split(cell.split)
            spec = dataset.spec
            shape = (spec.size, spec.size, spec.channels)
            others = dataset.manifest["split"].loc[lambda split: split != "train"].value_counts()
            evaluated = sum(resident_bytes(int(count), shape) for count in others)
            reals = Reals(dataset.manifest, dataset.spec.labels)
            known[its.dataset, cell.split] = reals, evaluated, shape
        reals, evaluated, shape = known[its.dataset, cell.split]
        plan = mix.sizes(replace(cell, round=cell.last_round), reals, its.pool)
        most = max(most, resident_bytes(plan.n_real + plan.n_fake, shape) + evaluated)
    return most


def _looks(budget: Budget, recipe: Recipe) -> int:
    if budget.unit == "steps":
        return budget.evaluations or 1
    return budget.max + frozen_epochs(recipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Peak memory of one trial."""

    memory_bytes: int  # of its process
    gpu_bytes: int | None  # including CUDA's own memory; None when training on CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of a cluster."""

    cores: int
    memory_bytes: int
    gpus: int
    gpu_bytes: int | None  # memory of its smallest GPU; None if unknown


def assumed(gpus: float) -> Resources:
    """Return a trial's resources without a measurement: one core, and one GPU if there is any."""
    return Resources(cpu=1, gpu=1 if gpus else 0)


def pack(footprint: Footprint, nodes: Sequence[Node]) -> Resources:
    """Return the resources per trial with which the most trials fit at once.

    With GPUs, trials share each GPU in equal parts, as many as its memory and the cores per GPU
    allow; a GPU of unknown memory gets one trial. Leftover cores are distributed, and if memory
    limits the number of trials, each gets more cores. A machine with too little memory for one
    trial still gets one.

    Raises:
        ValueError: no machine has a core.
    """
    nodes = [node for node in nodes if node.cores]
    if not nodes:
        raise ValueError("no machine of the cluster has a core")
    nodes = [node for node in nodes if node.gpus] or list(nodes)
    fits = [max(1, _usable(node.memory_bytes) // footprint.memory_bytes) for node in nodes]
    if not nodes[0].gpus:
        part, places = 0, [node.cores for node in nodes]
    else:
        most = min(_on_each_gpu(footprint, *pair) for pair in zip(nodes, fits, strict=True))
        part = _equal_part(_PARTS, most)
        places = [min(node.cores, node.gpus * (_PARTS // part)) for node in nodes]
    cpu = min(node.cores // place for node, place in zip(nodes, places, strict=True))
    for node, place, fit in zip(nodes, places, fits, strict=True):
        if fit < place:
            cpu = max(cpu, _equal_part(node.cores, fit))
    return Resources(cpu=cpu, gpu=part / _PARTS)


def at_once(resources: Resources, nodes: Sequence[Node]) -> int:
    """Return how many trials with these resources run at once."""
    found = 0
    for node in nodes:
        places = int(node.cores / resources.cpu)
        if resources.gpu:
            places = min(places, node.gpus * int(1 / resources.gpu + 1e-9))
        found += places
    return found


def _on_each_gpu(footprint: Footprint, node: Node, fits: int) -> int:
    if footprint.gpu_bytes is None or node.gpu_bytes is None:
        return 1
    by_memory = _usable(node.gpu_bytes) // footprint.gpu_bytes
    # main memory counts too, or Ray would fill the first GPU and leave the last idle
    return max(1, min(by_memory, node.cores // node.gpus, -(-fits // node.gpus)))


def _usable(memory_bytes: int) -> int:
    return int(memory_bytes * (1 - MARGIN))


def _equal_part(whole: int, most: int) -> int:
    """Return the largest integer part that divides `whole` into as many parts as `most` allows.

    The smallest part that fits at most `most` times determines the number of parts; that number
    may allow a larger part: a third of 10,000 is 3,333, not 2,501.
    """
    smallest = whole // (most + 1) + 1
    return whole // (whole // smallest)


def parallel_trials(space: Space, cpus: float, gpus: float) -> int:
    """Return how many trials run at once on these cores and GPUs; `auto` counts as `assumed`."""
    resources = space.resources
    held = assumed(gpus) if isinstance(resources, str) else resources
    fits = cpus / held.cpu
    if held.gpu:
        share = held.gpu
        fits = min(fits, gpus / share if share >= 1 else gpus * int(1 / share + 1e-9))
    return max(1, int(fits))
