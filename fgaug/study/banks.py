"""Banks filled, grown, checked and repaired on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from fgaug.bank import BankSpec, Demand, Store, open_bank, open_store, read_manifest
from fgaug.bank.verify import Verified, verify
from fgaug.core import cluster
from fgaug.core.paths import BankNames
from fgaug.core.progress import progress_of
from fgaug.errors import BankError

if TYPE_CHECKING:
    from gan_worker.filling.label_generators import LabelSource
    from gan_worker.filling.rerender import Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `verify_bank` found."""

    verified: Verified
    differences: tuple[Difference, ...]
    skipped: tuple[str, ...]  # why some labels were not made anew

    @property
    def bad(self) -> dict[str, str]:
        """What is wrong, by file; empty for a clean bank."""
        off = {
            each.shard: f"{each.shard}: images made anew differ by up to {each.largest} levels, "
            f"{each.share:.2%} of their values. It is of another network, psi or noise."
            for each in self.differences
            if not each.tolerable
        }
        return {**self.verified.bad, **off}


def fill_bank(
    store: Store,
    spec: BankSpec,
    sources: Mapping[str, LabelSource],
    demand: Demand,
    console: Console,
) -> None:
    """Fill a bank on the cluster that this process is connected to, showing progress."""
    from gan_worker.filling.actor import actor_run, workers_of_cluster
    from gan_worker.filling.fill import fill

    with progress_of("filling the bank", console) as progress:
        bank = fill(
            store,
            spec,
            sources,
            demand,
            run=actor_run(store.uri, spec, sources),
            workers=workers_of_cluster(),
            progress=progress,
        )
    console.print(f"bank {store.place()}: {len(bank.index())} images in {len(bank.shards)} shards")


def fill_from_snapshots(
    bank: str,
    files: Mapping[str, tuple[str, int | None]],
    psis: list[float],
    z_seeds: list[int],
    *,
    noise: str,
    size: int | None,
    channels: int | None,
    cutoff: int | None,
    precision: str,
    console: Console,
) -> None:
    """Fill a bank from network files alone: `fgaug bank fill --snapshot`.

    `files` holds (file, class or None) by label.
    """
    from gan_worker.files.snapshot import read_snapshot
    from gan_worker.filling.label_generators import LabelSource, check_sources, describe

    sources = {
        label: LabelSource(kind="stylegan2", file=file, class_index=class_index)
        for label, (file, class_index) in files.items()
    }
    described = {label: describe(label, source) for label, source in sources.items()}
    if size is None or channels is None:
        file, _ = next(iter(files.values()))
        native = read_snapshot(file)
        size, channels = size or native.resolution, channels or native.channels
    spec = BankSpec(
        size=size,
        channels=channels,
        noise=noise,
        cutoff=cutoff,
        precision=precision,
        sources=described,
    )
    store = open_store(bank)
    check_sources(sources, spec, store)
    wanted = np.asarray(z_seeds, np.int64)
    demand = Demand.of((label, psi, wanted) for label in sources for psi in psis)
    with cluster.started(dashboard=False):
        fill_bank(store, spec, sources, demand, console)


def extend_bank(
    bank: str, z_seeds: list[int], labels: list[str], psis: list[float], console: Console
) -> None:
    """Add z_seeds to a bank from its own copies of the networks: `fgaug bank extend`.

    Args:
        labels: empty for all of the bank's.
        psis: empty for those that each label has.

    Raises:
        BankError: a label that the bank does not have, or whose images it cannot make by itself.
    """
    from gan_worker.filling.label_generators import check_sources
    from gan_worker.filling.rerender import own_sources

    opened = open_bank(bank)
    spec, own = opened.spec, own_sources(opened.spec)
    for label in labels or spec.sources:
        if label not in spec.sources:
            raise BankError(f"{bank} has no label `{label}`; it has {', '.join(spec.sources)}.")
        if label not in own:
            raise BankError(
                f"{bank} holds {spec.sources[label].kind} images of `{label}`, which it cannot "
                "make by itself. Import more, or fill it from a grid."
            )
    sources = {label: own[label] for label in labels or spec.sources}
    check_sources(sources, spec, opened.store)
    held = opened.index().drop_duplicates(["label", "psi"])
    wanted = np.asarray(z_seeds, np.int64)
    demand = Demand.of(
        (label, psi, wanted)
        for label in sources
        for psi in psis or held.loc[held["label"] == label, "psi"]
    )
    if not demand.count:
        raise BankError(f"{bank} holds no image yet, so --psi must say which to make.")
    with cluster.started(dashboard=False):
        fill_bank(opened.store, spec, sources, demand, console)


def verify_bank(bank: str, *, images: int, rng: int, console: Console) -> Verdict:
    """Return what is wrong with a bank's files and with a sample of its images made anew."""
    from gan_worker.filling.rerender import differences

    store = open_store(bank)
    with progress_of("reading the bank", console) as looked:
        verified = verify(store, looked)
    with progress_of("making images anew", console) as looked:
        found, skipped = differences(
            store, verified.spec, verified.shards, images, np.random.default_rng(rng), looked
        )
    return Verdict(verified=verified, differences=tuple(found), skipped=tuple(skipped))


def repair_bank(bank: str, verdict: Verdict, console: Console) -> None:
    """Make the images of a bank's bad shards anew: `fgaug bank verify --repair`.

    Raises:
        BankError: bad shards hold images that the bank cannot make by itself.
    """
    from gan_worker.filling.rerender import own_sources

    store, verified = open_store(bank), verdict.verified
    sources = own_sources(verified.spec)
    lost = [shard for shard in read_manifest(store) or () if shard.path in verdict.bad]
    for shard in lost:
        if shard.label not in sources:
            raise BankError(
                f"{shard.path} holds {verified.spec.sources[shard.label].kind} images, which the "
                "bank cannot make by itself. Remove the file and bring its images again."
            )
    wanted = [(shard.label, shard.psi, verified.z_seeds_of(shard)) for shard in lost]
    for name in {*(shard.path for shard in lost), BankNames.index} & {*verdict.bad}:
        store.remove(name)
    with cluster.started(dashboard=False):
        fill_bank(store, verified.spec, sources, Demand.of(wanted), console)
