"""The Ray actor: a thin shell over a ShardMaker, and the pool that hands out pieces.

demand -> pieces -> [actors] -> shards
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import ray

from fgaug import cluster
from fgaug.bank import BankSpec, Shard
from fgaug.errors import BankError, FgaugError
from gan_worker.fill import Piece, Run, ShardMaker
from gan_worker.sources import LabelSource

RETRIES = 3  # of a piece whose actor died; pieces are written whole, so a repeat is harmless
AT_ONCE = 2  # pieces of an actor: one is generated while the other is encoded and written
LOOK_S = 1.0  # between two questions how far the actors are


class GanWorker:
    """Generates shards on the device that Ray gave it."""

    def __init__(self, uri: str, spec: BankSpec, sources: Mapping[str, LabelSource]) -> None:
        device = "cpu"
        if os.environ.get("CUDA_VISIBLE_DEVICES"):  # set by Ray where it gave this actor a GPU
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        # opens networks at its first piece: an error here would be an actor started again in vain
        self.maker = ShardMaker(uri, spec, sources, device)

    def make(self, label: str, psi: float, z_seeds: np.ndarray) -> Shard:
        """Generate and write one shard; return its line of the manifest."""
        return self.maker.make(label, psi, np.array(z_seeds))

    def made(self) -> int:
        """Return how many images this actor has generated."""
        return self.maker.made


def workers_of_cluster() -> int:
    """Return how many actors a fill gets: every GPU of the cluster, or every core without one."""
    held = cluster.resources()
    return max(1, int(held.get("GPU", 0)) or int(held.get("CPU", 1)))


def actor_run(uri: str, spec: BankSpec, sources: Mapping[str, LabelSource]) -> Run:
    """Return a `run` for `fill` that spreads pieces over actors, one a device."""

    def run(
        pieces: list[Piece], made: Callable[[int], None]
    ) -> Iterator[tuple[Shard, np.ndarray]]:
        gpus = int(cluster.resources().get("GPU", 0))
        remote: Any = ray.remote(GanWorker)
        actors = [
            remote.options(
                num_cpus=1,
                num_gpus=1 if gpus else 0,
                max_restarts=RETRIES,
                max_task_retries=RETRIES,
                max_concurrency=AT_ONCE + 1,  # and one thread that says how far it is
                name=f"gan_worker_{i}",
            ).remote(uri, spec, dict(sources))
            for i in range(min(len(pieces), workers_of_cluster()))
        ]
        try:
            yield from _Pool(actors, pieces, made).shards()
        finally:
            for actor in actors:
                ray.kill(actor)  # gives its share of the GPU back before trials start

    return run


class _Pool:
    """Hands pieces to actors as these become free, and asks them how far they are."""

    def __init__(
        self, actors: list[Any], pieces: list[Piece], made: Callable[[int], None]
    ) -> None:
        self.actors, self.made = actors, made
        self.waiting = list(reversed(pieces))
        self.running: dict[Any, tuple[int, np.ndarray]] = {}  # actor and z_seeds, by piece
        self.asked: dict[Any, int] = {}  # actor, by question
        self.told = [0] * len(actors)  # images each actor says it made
        self.finished = 0  # images of shards that are written

    def shards(self) -> Iterator[tuple[Shard, np.ndarray]]:
        for _ in range(AT_ONCE):
            for number in range(len(self.actors)):
                self._start(number)
        while self.running:
            done, _ = ray.wait([*self.running, *self.asked], num_returns=1, timeout=LOOK_S)
            for reference in done:
                if reference in self.asked:
                    self._note(reference)
                    continue
                number, z_seeds = self.running.pop(reference)
                yield _result(reference), z_seeds
                self.finished += len(z_seeds)
                self._start(number)
            if not done:
                self._ask()
            self.made(max(self.finished, sum(self.told)))

    def _start(self, number: int) -> None:
        if self.waiting:
            label, psi, z_seeds = self.waiting.pop()
            reference = self.actors[number].make.remote(label, psi, z_seeds)
            self.running[reference] = (number, z_seeds)

    def _ask(self) -> None:
        busy = set(self.asked.values())
        for number, actor in enumerate(self.actors):
            if number not in busy:
                self.asked[actor.made.remote()] = number

    def _note(self, reference: Any) -> None:
        number = self.asked.pop(reference)
        try:
            self.told[number] = ray.get(reference)
        except (ray.exceptions.RayError, FgaugError):
            return  # its piece says why


def _result(reference: Any) -> Shard:
    """Return a piece's shard, or raise what stopped it as an error of ours."""
    try:
        shard: Shard = ray.get(reference)
        return shard
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
