"""Generate images of a bank again and compare them with the stored ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fgaug.bank import BankSpec, Shard, Store
from fgaug.bank.reader import shard_columns, shard_images
from fgaug.errors import SnapshotError
from gan_worker.filling.label_generators import LabelGenerator, LabelSource

LIMIT = 2  # levels: rounding on another machine changes a value by 1, or rarely 2 after resizing
# of 16-bit formats: another order of sums turns roundings, and a GPU rounds more of them. Against
# float32 the worst value of the thesis's network is off by 7 levels on a CPU
LIMIT_16_BITS = 16
REMADE_KINDS = ("stylegan2", "phantom", "stub")  # kinds that a bank can regenerate


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference between regenerated and stored images of a shard."""

    shard: str
    images: int  # compared
    largest: int  # largest difference of a value, in levels of 0-255
    share: float  # share of differing values
    limit: int = LIMIT

    @property
    def tolerable(self) -> bool:
        return self.largest <= self.limit


def own_sources(spec: BankSpec) -> dict[str, LabelSource]:
    """Return the sources of all labels that can be generated from the bank alone."""
    return {
        label: LabelSource(kind=source.kind, class_index=source.class_index)
        for label, source in spec.sources.items()
        if source.kind in REMADE_KINDS
    }


def differences(
    store: Store,
    spec: BankSpec,
    shards: Sequence[Shard],
    images: int,
    rng: np.random.Generator,
    looked: Callable[[int, int], None] = lambda done, wanted: None,
) -> tuple[list[Difference], list[str]]:
    """Compare `images` random images of each shard with regenerated ones.

    Also returns one line for each label that could not be compared.
    """
    sources, found = own_sources(spec), []
    skipped: dict[str, str] = {}
    generators: dict[str, LabelGenerator] = {}
    for done, shard in enumerate(shards):
        label = shard.label
        if label not in sources and label not in skipped:
            kind = spec.sources[label].kind if label in spec.sources else "unknown"
            skipped[label] = f"{label}: {kind} images cannot be regenerated from the bank"
        if label not in generators and label not in skipped:
            try:
                generators[label] = LabelGenerator(label, sources[label], spec, "cpu", store)
            except SnapshotError as error:
                skipped[label] = f"{label}: {error}"
        if label in generators:
            found.append(_difference(store, shard, generators[label], images, rng))
        looked((done + 1) * images, len(shards) * images)
    return found, list(skipped.values())


def _difference(
    store: Store, shard: Shard, generator: LabelGenerator, images: int, rng: np.random.Generator
) -> Difference:
    z_seeds = shard_columns(store, shard.path, ["z_seed"]).column("z_seed").to_numpy()
    rows = np.sort(rng.choice(shard.rows, min(images, shard.rows), replace=False))
    held = shard_images(store, shard)[rows].astype(np.int16)
    off = np.abs(generator.generate(z_seeds[rows], shard.psi) - held)
    return Difference(
        shard=shard.path,
        images=len(rows),
        largest=int(off.max()),
        share=float((off > 0).mean()),
        limit=LIMIT if generator.spec.precision == "float32" else LIMIT_16_BITS,
    )
