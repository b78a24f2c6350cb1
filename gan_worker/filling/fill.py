"""Fill: demand - what the bank holds -> pieces -> shards, then index and manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, BankSpec, BankWriter, Demand, Shard, Store, open_store, write_shard
from fgaug.errors import SnapshotError
from gan_worker.filling.label_generators import LabelGenerator, LabelSource
from gan_worker.filling.networks import keep_network

MIN_PIECE = 256  # images of a shard where several workers share less than a shard each
PIECES_A_WORKER = 4
Piece = tuple[str, float, np.ndarray]  # label, psi, z_seeds: one shard
Progress = Callable[[int, int], None]  # images made, images wanted
# makes pieces in any order, telling how many images were made so far
Run = Callable[[list[Piece], Callable[[int], None]], Iterator[tuple[Shard, np.ndarray]]]


class ShardMaker:
    """Makes shards of one bank on one device; what an actor holds, and what runs without one.

    Two threads that call it overlap: one generates while the other encodes and writes.
    """

    def __init__(
        self,
        uri: str | Path | Store,
        spec: BankSpec,
        sources: Mapping[str, LabelSource],
        device: str,
    ) -> None:
        self.store = open_store(uri)
        self.asked = (sources, spec, device)
        self.made = 0  # images generated so far
        self._generators: dict[str, LabelGenerator] = {}
        self._turn = threading.Lock()

    def make(self, label: str, psi: float, z_seeds: np.ndarray) -> Shard:
        """Generate and write one shard; making it again gives the same file."""
        with self._turn:
            images = self._images(label, psi, z_seeds)
        return write_shard(self.store, label, psi, z_seeds, images)

    def _images(self, label: str, psi: float, z_seeds: np.ndarray) -> np.ndarray:
        if label not in self._generators:
            sources, spec, device = self.asked
            generator = LabelGenerator(label, sources[label], spec, device, self.store)
            self._generators[label] = generator
        generator, images = self._generators[label], []
        for start in range(0, len(z_seeds), generator.step):
            chosen = z_seeds[start : start + generator.step]
            images.append(generator.generate(chosen, psi))
            self.made += len(chosen)
        return np.concatenate(images)


def fill(
    uri: str | Path | Store,
    spec: BankSpec,
    sources: Mapping[str, LabelSource],
    demand: Demand,
    *,
    run: Run | None = None,
    workers: int = 1,
    progress: Progress = lambda done, wanted: None,
) -> Bank:
    """Return the bank at `uri` holding at least `demand`, generating only what it lacks.

    An interrupted fill leaves whole shards that the next one takes over; a fill of a bank that
    another process fills waits for it.

    Args:
        run: makes the pieces, for example on actors; in this process where None.
        workers: how many share the work: a demand of less than a shard each is cut smaller.

    Raises:
        BankError: the bank is of other snapshots, sizes or noise, or out of reach.
        SnapshotError: a network file is missing, refused or does not fit.
        DiskFullError: no space left; shards written so far are kept.
    """
    for label, _ in demand.wanted:
        if label not in sources:
            raise SnapshotError(f"no snapshot for label `{label}`")
    store = open_store(uri)
    with BankWriter.opened(store, spec) as writer:
        missing = demand.minus(writer.index())
        progress(0, missing.count)
        if missing.count:
            for label in dict.fromkeys(label for label, _ in missing.wanted):
                file = sources[label].file
                if sources[label].kind == "stylegan2" and file is not None:
                    keep_network(store, Path(file), writer.spec.sources[label].sha256)
            pieces = list(missing.pieces(_piece_rows(missing.count, writer.spec, workers)))
            making = (run or in_process(store, writer.spec, sources))(
                pieces, lambda made: progress(made, missing.count)
            )
            for shard, z_seeds in making:
                writer.add(shard, z_seeds)
            progress(missing.count, missing.count)
        return writer.commit()


def _piece_rows(images: int, spec: BankSpec, workers: int) -> int:
    """Return how many images a shard gets: a full one, unless workers would stand idle."""
    share = -(-images // (PIECES_A_WORKER * workers))
    return spec.shard_rows if workers == 1 else min(spec.shard_rows, max(MIN_PIECE, share))


def in_process(store: Store, spec: BankSpec, sources: Mapping[str, LabelSource]) -> Run:
    """Return a `run` for `fill` without actors: shards are written while the next is generated."""

    def run(
        pieces: list[Piece], made: Callable[[int], None]
    ) -> Iterator[tuple[Shard, np.ndarray]]:
        maker = ShardMaker(store, spec, sources, "cpu")
        with ThreadPoolExecutor(2) as threads:
            making = [threads.submit(maker.make, *piece) for piece in pieces]
            try:
                for (_, _, z_seeds), shard in zip(pieces, making, strict=True):
                    yield shard.result(), z_seeds
                    made(maker.made)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)  # after an error: no more

    return run
