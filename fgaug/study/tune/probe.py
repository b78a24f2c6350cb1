"""`resources: auto`: measures every recipe on the cluster to size its trials."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from fgaug.data import open_dataset
from fgaug.errors import FgaugError, one_line
from fgaug.grid.cells import Cell
from fgaug.grid.recipe import Recipe
from fgaug.grid.space import Resources
from fgaug.runs.row import TrialSources
from fgaug.study import estimate
from fgaug.study.estimate import Footprint, Measured, Node


def resources_for(
    cells: Sequence[Cell], sources: Mapping[str | None, TrialSources], console: Console
) -> Resources:
    """Return the resources per trial, and print them with the reason.

    Runs a few steps of every recipe on every dataset in its own process and uses the largest
    peaks. Recipes that fail here are ignored; their trials will report the error.

    Args:
        cells: the cells to train.
        sources: their image sources, by `Cell.source`.
        console: prints the result.
    """
    nodes = _nodes()
    gpus = sum(node.gpus for node in nodes)
    pairs = {(cell.recipe.model_dump_json(), sources[cell.source].dataset) for cell in cells}
    found = [_measured(recipe, root, gpus > 0) for recipe, root in sorted(pairs)]
    measured = [one for one in found if isinstance(one, Measured)]
    if measured:
        footprint = _largest(measured, estimate.pixel_bytes(cells, sources) if gpus else 0)
        resources = estimate.pack(footprint, nodes)
        why = f"measured: {_described(footprint, measured)}"
        if gpus and footprint.gpu_bytes is None:
            why += "; no CUDA here, so one trial per GPU"
    else:
        resources, why = estimate.assumed(gpus), f"measurement failed: {found[0]}"
    held = f"{{cpu: {resources.cpu:g}, gpu: {resources.gpu:g}}}"
    count = estimate.at_once(resources, nodes)
    line = f"resources: auto: {held} per trial, {count} at once; {why}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
    return resources


def _apart(**options: Any) -> Any:
    """Return a Ray decorator for tasks that run in their own process."""
    return ray.remote(max_calls=1, **options)


def _measured(recipe: str, dataset: str, on_gpu: bool) -> Measured | str:
    """Measure a recipe, given as JSON; return the reason as text if that fails."""
    task = _apart(max_retries=0, num_cpus=1, num_gpus=int(on_gpu))(_measure)
    try:
        found: Measured | str = ray.get(task.remote(recipe, dataset))
    except ray.exceptions.RayError as error:
        return f"{type(error).__name__}: {one_line(str(getattr(error, 'cause', None) or error))}"
    return found


def _measure(recipe: str, dataset: str) -> Measured | str:
    try:
        opened = open_dataset(dataset)
        return estimate.measure(Recipe.model_validate_json(recipe), opened, threads=1)
    except FgaugError as error:
        return one_line(str(error))


def _nodes() -> list[Node]:
    """Return the machines of the cluster, as Ray counts their resources."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # ray's
    sizes = {}
    for node in alive:
        if node["Resources"].get("GPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = _apart(num_cpus=0, scheduling_strategy=there)(_smallest_gpu)
            sizes[node["NodeID"]] = task.remote()
    return [
        Node(
            cores=int(node["Resources"].get("CPU", 0)),
            memory_bytes=int(node["Resources"].get("memory", 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
            gpu_bytes=ray.get(sizes[node["NodeID"]]) if node["NodeID"] in sizes else None,
        )
        for node in alive
    ]


def _smallest_gpu() -> int | None:
    """Return the memory of a machine's smallest GPU; None without CUDA.

    Ray hides GPUs from a task that requests none, and requesting all would mean waiting until they
    are free. So the task unsets CUDA_VISIBLE_DEVICES, in a process that has not used CUDA yet.
    """
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    count = torch.cuda.device_count()
    sizes = (int(torch.cuda.get_device_properties(i).total_memory) for i in range(count))
    return min(sizes, default=None)


def _largest(measured: Sequence[Measured], pixels: int) -> Footprint:
    """Return the largest peaks; on a GPU with the pixels that a trial, unlike a probe, keeps."""
    on_gpu = [one.gpu_bytes for one in measured if one.gpu_bytes is not None]
    return Footprint(
        memory_bytes=max(one.memory_bytes for one in measured),
        gpu_bytes=max(on_gpu) + pixels if on_gpu else None,
    )


def _described(footprint: Footprint, measured: Sequence[Measured]) -> str:
    """Return the peak memory and the range of speeds as text."""
    rates = sorted(round(one.train_per_s) for one in measured)
    speed = f"{rates[0]}" if len(rates) == 1 else f"{rates[0]} to {rates[-1]}"
    words = f"{footprint.memory_bytes / 1e9:.2f} GB of memory"
    if footprint.gpu_bytes is not None:
        words += f", {footprint.gpu_bytes / 1e9:.2f} GB of a GPU"
    return f"{words}, {speed} images/s"
