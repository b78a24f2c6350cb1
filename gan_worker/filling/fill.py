"""Fill a bank: generate the missing part of a demand in shards, then write index and manifest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, BankSpec, BankWriter, Demand, Shard, Store, open_store, write_shard
from fgaug.errors import SnapshotError
from gan_worker.filling.label_generators import LabelGenerator, LabelSource, network_file
from gan_worker.filling.networks import keep_network

MIN_PIECE = 256  # images per shard if several workers have less than a shard each
PIECES_A_WORKER = 4
Piece = tuple[str, float, np.ndarray]  # label, psi, z_seeds: one shard
Progress = Callable[[int, int], None]  # images made, total
Batch = Callable[[str, float, int, float], None]  # label, psi, images made, seconds it took
# makes pieces in any order, and reports the number of images made so far
Run = Callable[[list[Piece], Callable[[int], None]], Iterator[tuple[Shard, np.ndarray]]]


class ShardMaker:
    """Makes shards of one bank on one device, in an actor or in this process.

    Two calling threads overlap: one generates while the other encodes and writes.
    """

    def __init__(
        self,
        uri: str | Path | Store,
        spec: BankSpec,
        sources: Mapping[str, LabelSource],
        device: str,
        batch: Batch = lambda label, psi, images, seconds: None,
    ) -> None:
        self.store, self.batch = open_store(uri), batch
        self.asked = (sources, spec, device)
        self.made = 0  # images generated so far
        self._generators: dict[str, LabelGenerator] = {}
        self._turn = threading.Lock()

    def make(self, label: str, psi: float, z_seeds: np.ndarray) -> Shard:
        """Generate and write one shard; repeating it gives the same file."""
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
            began = time.perf_counter()
            images.append(generator.generate(chosen, psi))
            self.made += len(chosen)
            self.batch(label, psi, len(chosen), time.perf_counter() - began)
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
    """Fill the bank at `uri` with the missing part of `demand` and return it.

    An interrupted fill leaves finished shards, which the next one adopts. If another process is
    filling the bank, this one waits.

    Args:
        run: makes the pieces, for example on actors; None means in this process.
        workers: number of workers; a demand of less than a shard each is split into smaller
            pieces.

    Raises:
        BankError: the bank has other snapshots, sizes or noise, or is unreachable.
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
                    keep_network(store, network_file(file), writer.spec.sources[label].sha256)
            pieces = list(missing.pieces(_piece_rows(missing.count, writer.spec, workers)))
            making = (run or in_process(store, writer.spec, sources))(
                pieces, lambda made: progress(made, missing.count)
            )
            for shard, z_seeds in making:
                writer.add(shard, z_seeds)
            progress(missing.count, missing.count)
        return writer.commit()


def _piece_rows(images: int, spec: BankSpec, workers: int) -> int:
    """Return the number of images per shard: a full one, unless workers would be idle."""
    share = -(-images // (PIECES_A_WORKER * workers))
    return spec.shard_rows if workers == 1 else min(spec.shard_rows, max(MIN_PIECE, share))


def in_process(store: Store, spec: BankSpec, sources: Mapping[str, LabelSource]) -> Run:
    """Return a `run` for `fill` without actors, which writes a shard while generating the next."""

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
                threads.shutdown(wait=False, cancel_futures=True)  # after an error, start no more

    return run
