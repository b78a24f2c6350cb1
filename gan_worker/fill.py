"""Fill: demand - what the bank holds -> pieces -> shards, then index and manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, BankSpec, BankWriter, Demand, write_shard
from fgaug.errors import SnapshotError
from fgaug.paths import BankPaths
from gan_worker.sources import LabelGenerator, LabelSource, open_sources

BATCH = 64  # images made at once; the result does not depend on it

Piece = tuple[str, float, np.ndarray]  # label, psi, z_seeds: one shard
Progress = Callable[[int, int], None]  # images made, images wanted
Run = Callable[[list[Piece]], Iterator[tuple[Path, int]]]  # makes pieces, in any order


class ShardMaker:
    """Makes shards of one bank on one device; what an actor holds, and what runs without one."""

    def __init__(
        self, root: Path, spec: BankSpec, sources: Mapping[str, LabelSource], device: str
    ) -> None:
        self.paths = BankPaths(root)
        self.generators: dict[str, LabelGenerator] = open_sources(sources, spec, device)

    def make(self, label: str, psi: float, z_seeds: np.ndarray) -> Path:
        """Generate and write one shard; making it again gives the same file."""
        generator = self.generators[label]
        images = [
            generator.generate(z_seeds[start : start + BATCH], psi)
            for start in range(0, len(z_seeds), BATCH)
        ]
        return write_shard(self.paths, label, psi, z_seeds, np.concatenate(images))


def fill(
    root: Path,
    spec: BankSpec,
    sources: Mapping[str, LabelSource],
    demand: Demand,
    *,
    run: Run | None = None,
    progress: Progress = lambda done, wanted: None,
) -> Bank:
    """Return the bank at `root` holding at least `demand`, generating only what it lacks.

    An interrupted fill leaves whole shards that the next one takes over.

    Args:
        run: makes the pieces, for example on actors; in this process where None.

    Raises:
        BankError: the bank is of other snapshots, sizes or noise.
        SnapshotError: a network file is missing, refused or does not fit.
        DiskFullError: no space left; shards written so far are kept.
    """
    for label, _ in demand.wanted:
        if label not in sources:
            raise SnapshotError(f"no snapshot for label `{label}`")
    writer = BankWriter(root, spec)
    missing = demand.minus(writer.index())
    pieces = list(missing.pieces(writer.spec.shard_rows))
    done, wanted = 0, missing.count
    progress(done, wanted)
    for path, rows in (run or _here(root, writer.spec, sources))(pieces) if pieces else ():
        writer.add(path)
        done += rows
        progress(done, wanted)
    return writer.commit()


def _here(root: Path, spec: BankSpec, sources: Mapping[str, LabelSource]) -> Run:
    def run(pieces: Iterable[Piece]) -> Iterator[tuple[Path, int]]:
        maker = ShardMaker(root, spec, sources, "cpu")
        for label, psi, z_seeds in pieces:
            yield maker.make(label, psi, z_seeds), len(z_seeds)

    return run
