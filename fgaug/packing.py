"""How many trials run side by side, so that memory and cores suffice.  footprint -> [packing]

Pure: `search/probe.py` measures what comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fgaug.space import Resources

MARGIN = 0.2  # of memory left free: fragments, checkpoints being written, other programs
_PARTS = 10_000  # of a GPU: Ray counts no finer


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one trial takes at its peak."""

    memory_bytes: int  # of its process
    gpu_bytes: int | None  # with what CUDA itself takes; None where it trains on cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine of a cluster."""

    cores: int
    memory_bytes: int
    gpus: int
    gpu_bytes: int | None  # of its smallest GPU; None where that is unknown


def assumed(gpus: float) -> Resources:
    """Return what a trial holds as long as nothing is measured: a core, and a GPU of those."""
    return Resources(cpu=1, gpu=1 if gpus else 0)


def pack(footprint: Footprint, nodes: Sequence[Node]) -> Resources:
    """Return what each trial holds, so that as many as fit run at once.

    Where there are GPUs, trials share them in equal parts, no more on one than it has memory for
    and than there are cores a GPU; a GPU of unknown memory gets one trial. Cores that are left
    over are shared out, and where memory holds fewer trials than there are places, each gets more
    cores. A machine that has not the memory for a single trial gets one all the same.

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
    """Return how many trials that hold `resources` run at a time."""
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
    # the machine's memory counts too: Ray would fill the first GPU and leave the last idle
    return max(1, min(by_memory, node.cores // node.gpus, -(-fits // node.gpus)))


def _usable(memory_bytes: int) -> int:
    return int(memory_bytes * (1 - MARGIN))


def _equal_part(whole: int, most: int) -> int:
    """Return the largest equal part of `whole` that fits in often enough, but `most` times.

    The smallest part that fits in no more than `most` times says how often that is; parts of that
    number may then be a little larger: thirds of 10,000 are 3,333, not 2,501.
    """
    smallest = whole // (most + 1) + 1
    return whole // (whole // smallest)
