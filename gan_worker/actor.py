"""The Ray actor: a thin shell over a ShardMaker, and the pool that hands out pieces.

demand -> pieces -> [actors] -> shards
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ray

from fgaug import cluster
from fgaug.bank import BankSpec
from fgaug.errors import BankError, FgaugError
from gan_worker.fill import Piece, Run, ShardMaker
from gan_worker.sources import LabelSource

RETRIES = 3  # of a piece whose actor died; pieces are written whole, so a repeat is harmless


class GanWorker:
    """Generates shards on the device that Ray gave it."""

    def __init__(self, root: str, spec: BankSpec, sources: Mapping[str, LabelSource]) -> None:
        self.asked = (Path(root), spec, sources)

    @cached_property
    def maker(self) -> ShardMaker:
        """Made by the first piece: an error here would be a dead actor, started again in vain."""
        device = "cpu"
        if os.environ.get("CUDA_VISIBLE_DEVICES"):  # set by Ray where it gave this actor a GPU
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        return ShardMaker(*self.asked, device)

    def make(self, label: str, psi: float, z_seeds: np.ndarray) -> str:
        """Generate and write one shard; return its path."""
        return str(self.maker.make(label, psi, np.array(z_seeds)))


def actor_run(root: Path, spec: BankSpec, sources: Mapping[str, LabelSource]) -> Run:
    """Return a `run` for `fill` that uses every GPU of the cluster, or every core without one."""

    def run(pieces: list[Piece]) -> Iterator[tuple[Path, int]]:
        held = cluster.resources()
        gpus = int(held.get("GPU", 0))
        workers = min(len(pieces), gpus or int(held.get("CPU", 1)))
        options = {"num_cpus": 1, "num_gpus": 1 if gpus else 0}
        remote: Any = ray.remote(GanWorker)
        actors = [
            remote.options(
                **options, max_restarts=RETRIES, max_task_retries=RETRIES, name=f"gan_worker_{i}"
            ).remote(str(root), spec, dict(sources))
            for i in range(max(1, workers))
        ]
        try:
            yield from _handed_out(actors, pieces)
        finally:
            for actor in actors:
                ray.kill(actor)  # gives its share of the GPU back before trials start

    return run


def _handed_out(actors: list[Any], pieces: list[Piece]) -> Iterator[tuple[Path, int]]:
    waiting = list(reversed(pieces))
    running: dict[Any, tuple[Any, int]] = {}

    def start(actor: Any) -> None:
        if waiting:
            label, psi, z_seeds = waiting.pop()
            running[actor.make.remote(label, psi, z_seeds)] = (actor, len(z_seeds))

    for actor in actors:
        start(actor)
    while running:
        (finished,), _ = ray.wait(list(running), num_returns=1)
        actor, rows = running.pop(finished)
        yield Path(_result(finished)), rows
        start(actor)


def _result(reference: Any) -> str:
    """Return a piece's path, or raise what stopped it as an error of ours."""
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FgaugError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, FgaugError):
            raise cause from None
        reason = str(error).splitlines()[0]
        raise BankError(
            f"a gan_worker died {RETRIES + 1} times ({reason}). Free memory or use fewer GPUs, "
            "and run the same command again: whole shards are kept."
        ) from None
