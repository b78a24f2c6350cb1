"""Fills, extends, verifies and repairs banks on a Ray cluster."""

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
from fgaug.study import generator_precision

if TYPE_CHECKING:
    from gan_worker.filling.label_generators import LabelSource
    from gan_worker.filling.rerender import Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of `verify_bank`."""

    verified: Verified
    differences: tuple[Difference, ...]
    skipped: tuple[str, ...]  # reasons why some labels were not regenerated

    @property
    def bad(self) -> dict[str, str]:
        """Problems by file; empty for a clean bank."""
        off = {
            each.shard: f"{each.shard}: regenerated images differ by up to {each.largest} grey "
            f"levels in {each.share:.2%} of their values. The shard comes from another network, "
            "psi or noise."
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
    """Fill a bank on the connected Ray cluster and show progress."""
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
    """Fill a bank from network files, without a grid: `fgaug bank fill --snapshot`.

    `files` maps each label to (file, class index or None).
    """
    from gan_worker.files.snapshot import read_snapshot
    from gan_worker.filling.label_generators import LabelSource, check_sources, describe

    sources = {
        label: LabelSource(kind="stylegan2", file=file, class_index=class_index)
        for label, (file, class_index) in files.items()
    }
    described = {label: describe(label, source) for label, source in sources.items()}
    store = open_store(bank)
    if precision == "auto":
        file, _ = next(iter(files.values()))
        precision = _settled(store, file, noise, console)
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
    check_sources(sources, spec, store)
    wanted = np.asarray(z_seeds, np.int64)
    demand = Demand.of((label, psi, wanted) for label in sources for psi in psis)
    with cluster.started(dashboard=False):
        fill_bank(store, spec, sources, demand, console)


def _settled(store: Store, file: str, noise: str, console: Console) -> str:
    """Return the precision of a bank, or of a new one that which is faster here."""
    if (held := generator_precision.of_bank(store)) is not None:
        return held
    choice = generator_precision.faster(file, noise)
    console.print(choice.described, highlight=False, soft_wrap=True)
    return choice.precision


def extend_bank(
    bank: str, z_seeds: list[int], labels: list[str], psis: list[float], console: Console
) -> None:
    """Generate more z_seeds with the bank's own copies of its networks: `fgaug bank extend`.

    Args:
        labels: empty for all labels of the bank.
        psis: empty for the psis that each label already has.

    Raises:
        BankError: the bank lacks a label, or has no network of its own for it.
    """
    from gan_worker.filling.label_generators import check_sources
    from gan_worker.filling.rerender import own_sources

    opened = open_bank(bank)
    spec, own = opened.spec, own_sources(opened.spec)
    for label in labels or spec.sources:
        if label not in spec.sources:
            raise BankError(
                f"{bank} has no label `{label}`. Its labels: {', '.join(spec.sources)}."
            )
        if label not in own:
            raise BankError(
                f"{bank} has no network to generate `{label}`: its images are "
                f"{spec.sources[label].kind}. Import more of them, or fill the bank from a grid."
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
        raise BankError(f"{bank} is empty. Give the truncation of the new images by --psi.")
    with cluster.started(dashboard=False):
        fill_bank(opened.store, spec, sources, demand, console)


def verify_bank(bank: str, *, images: int, rng: int, console: Console) -> Verdict:
    """Verify a bank's files, and regenerate a random sample of its images for comparison."""
    from gan_worker.filling.rerender import differences

    store = open_store(bank)
    with progress_of("reading the bank", console) as progress:
        verified = verify(store, progress)
    with progress_of("regenerating images", console) as progress:
        found, skipped = differences(
            store, verified.spec, verified.shards, images, np.random.default_rng(rng), progress
        )
    return Verdict(verified=verified, differences=tuple(found), skipped=tuple(skipped))


def repair_bank(bank: str, verdict: Verdict, console: Console) -> None:
    """Regenerate the bad shards of a bank: `fgaug bank verify --repair`.

    Raises:
        BankError: a bad shard holds images that the bank has no network for.
    """
    from gan_worker.filling.rerender import own_sources

    store, verified = open_store(bank), verdict.verified
    sources = own_sources(verified.spec)
    lost = [shard for shard in read_manifest(store) or () if shard.path in verdict.bad]
    for shard in lost:
        if shard.label not in sources:
            raise BankError(
                f"{shard.path} holds {verified.spec.sources[shard.label].kind} images, which the "
                "bank cannot regenerate. Remove the file and import its images again."
            )
    wanted = [(shard.label, shard.psi, verified.z_seeds_of(shard)) for shard in lost]
    for name in {*(shard.path for shard in lost), BankNames.index} & {*verdict.bad}:
        store.remove(name)
    with cluster.started(dashboard=False):
        fill_bank(store, verified.spec, sources, Demand.of(wanted), console)
