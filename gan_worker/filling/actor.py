"""The Ray actor: a thin shell over a ShardMaker, and the pool that hands out pieces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import ray

from fgaug.bank import BankSpec, Shard
from fgaug.core import cluster
from fgaug.errors import BankError, FgaugError
from gan_worker.filling.fill import Piece, Run, ShardMaker
from gan_worker.filling.label_generators import LabelSource

RETRIES = 3  # actors replaced in one fill before it gives up
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
        options = {
            "num_cpus": 1,
            "num_gpus": 1 if gpus else 0,
            "max_concurrency": AT_ONCE + 1,  # and one thread that says how far it is
        }
        pool = _Pool(
            lambda: remote.options(**options).remote(uri, spec, dict(sources)),
            min(len(pieces), workers_of_cluster()),
            pieces,
            made,
        )
        try:
            yield from pool.shards()
        finally:
            pool.end()  # gives its share of the GPUs back before trials start

    return run


class _Pool:
    """Hands pieces to actors as these become free, and asks them how far they are.

    An actor that dies is replaced and its pieces are made again: shards are written whole, so a
    repeat is harmless.
    """

    def __init__(
        self,
        new: Callable[[], Any],
        actors: int,
        pieces: list[Piece],
        made: Callable[[int], None],
    ) -> None:
        self.new, self.made = new, made
        self.actors = [new() for _ in range(actors)]
        self.heirs: dict[Any, Any] = {}  # actor in place of a dead one
        self.waiting = list(reversed(pieces))
        self.running: dict[Any, tuple[Any, Piece]] = {}  # actor and piece
        self.asked: dict[Any, Any] = {}  # actor, by question
        self.told: dict[Any, int] = {}  # images each actor says it made
        self.finished = 0  # images of shards that are written

    def shards(self) -> Iterator[tuple[Shard, np.ndarray]]:
        for actor in self.actors * AT_ONCE:
            self._start(actor)
        while self.running:
            done, _ = ray.wait([*self.running, *self.asked], num_returns=1, timeout=LOOK_S)
            for reference in done:
                if reference in self.asked:
                    self._note(reference)
                    continue
                actor, piece = self.running.pop(reference)
                try:
                    shard = _result(reference)
                except ray.exceptions.RayActorError as error:
                    actor = self._replaced(actor, error)
                    self.waiting.append(piece)
                else:
                    yield shard, piece[2]
                    self.finished += len(piece[2])
                self._start(actor)
            if not done:
                self._ask()
            self.made(max(self.finished, sum(self.told.values())))

    def end(self) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def _start(self, actor: Any) -> None:
        if self.waiting:
            piece = self.waiting.pop()
            self.running[actor.make.remote(*piece)] = (actor, piece)

    def _replaced(self, dead: Any, error: Exception) -> Any:
        """Return the actor in place of a dead one, the same for all pieces it had."""
        if dead not in self.heirs:
            if len(self.heirs) == RETRIES:
                reason = str(error).splitlines()[0]
                raise BankError(
                    f"{RETRIES + 1} gan_workers died ({reason}). Free memory or use fewer GPUs, "
                    "and run the same command again: whole shards are kept."
                ) from None
            self.heirs[dead] = self.actors[self.actors.index(dead)] = self.new()
        return self.heirs[dead]

    def _ask(self) -> None:
        busy = list(self.asked.values())
        for actor in self.actors:
            if actor not in busy:
                self.asked[actor.made.remote()] = actor

    def _note(self, reference: Any) -> None:
        actor = self.asked.pop(reference)
        try:
            self.told[actor] = ray.get(reference)
        except (ray.exceptions.RayError, FgaugError):
            self.told.pop(actor, None)  # its pieces say why


def _result(reference: Any) -> Shard:
    """Return a piece's shard, or raise what stopped it as an error of ours."""
    try:
        shard: Shard = ray.get(reference)
        return shard
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FgaugError):
            raise error.cause from None
        raise
