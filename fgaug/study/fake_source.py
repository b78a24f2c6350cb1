"""The sources of a grid's fakes: generators, banks and their identity in cell ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fgaug.bank import (
    RESIZE_FILTER,
    BankSpec,
    Scorer,
    Source,
    Store,
    import_images,
    open_bank,
    open_store,
    read_spec,
)
from fgaug.core import paths
from fgaug.core.node_cache import may_exist
from fgaug.core.paths import BankNames
from fgaug.data import Dataset, DatasetSpec
from fgaug.errors import BankError, SnapshotError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Context
from fgaug.grid.generators import Generator, SnapshotFile
from fgaug.grid.space import Space
from fgaug.runs.fake_selection import FakeSelection

_log = logging.getLogger("fgaug")
Describe = Callable[[str, Generator], Source]  # (label, generator) -> content of the source
# replaces `precision: auto` of a generator, given the sources of labels and the bank
Settle = Callable[[Generator, Mapping[str, Source], Store], Generator]


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSource:
    """A generator of fakes and the bank that holds them."""

    snapshot: str | None  # name on the axis `snapshot`; None without that axis
    key: str  # prefix of its keys in the grid: `axes.snapshot.0.`, or empty
    generator: Generator
    store: Store
    spec: BankSpec  # the required spec of the bank, with the source of each label
    # the scorers of filters by split (they train on its images) and name
    scorers: Mapping[Split, Mapping[str, Scorer]] = field(default_factory=dict)

    @property
    def scorer_digests(self) -> dict[Split, dict[str, str]]:
        """The digests of the scorers, which cell ids include."""
        return {
            split: {name: scorer.digest for name, scorer in named.items()}
            for split, named in self.scorers.items()
        }

    def screens(self, pool: int) -> dict[Split, FakeSelection]:
        """Return the fake selections of the bank by split, from the scores on disk now."""
        return {
            split: FakeSelection(self.store, named, pool) for split, named in self.scorers.items()
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that affects the images, as part of the id of every cell that uses them."""
        options = {name: getattr(self.generator, name) for name in ("cutoff", "precision")}
        sources = self.spec.sources.items()
        return {
            "sources": {label: [s.kind, s.sha256, s.class_index] for label, s in sources},
            **{name: value for name, value in options.items() if value is not None},
            "noise": self.generator.noise,
            "size": self.spec.size,
            "channels": self.spec.channels,
            "resize_filter": RESIZE_FILTER,
        }


# (name, grid, dataset with a split, fake source, that split's scoring baseline) -> scorer
ScorerOf = Callable[[str, Space, Dataset, FakeSource, str | None], Scorer]


def fake_sources_of(
    space: Space, dataset: DatasetSpec | None, describe: Describe, settle: Settle
) -> tuple[tuple[FakeSource, ...], list[str]]:
    """Return the fake sources of a grid and their problems.

    Without a dataset only the banks' locations are checked.
    """
    found: list[FakeSource] = []
    problems: list[str] = []
    for place, entry in enumerate(space.snapshot_entries):
        key = "" if entry.name is None else f"axes.snapshot.{place}."
        try:
            store = open_store(entry.bank)
        except BankError as error:
            problems.append(f"`{key}bank`: {error}")
            continue
        if dataset is None:
            continue
        generator = entry.generator
        sources, wrong = _sources(generator, dataset.labels, store, describe, f"{key}generator")
        problems += wrong
        generator = settle(generator, sources, store)
        spec = BankSpec(
            size=dataset.size,
            channels=dataset.channels,
            noise=generator.noise,
            cutoff=generator.cutoff,
            precision=generator.precision or "float32",
            sources=sources,
        )
        found.append(
            FakeSource(snapshot=entry.name, key=key, generator=generator, store=store, spec=spec)
        )
    return tuple(found), problems


def _sources(
    generator: Generator,
    labels: tuple[str, ...],
    bank: Store,
    describe: Describe,
    key: str,
) -> tuple[dict[str, Source], list[str]]:
    """Return the content of each label's source and the problems of the generator."""
    problems: list[str] = []
    if generator.snapshots:
        for label in labels:
            if label not in generator.snapshots:
                problems.append(f"`{key}.snapshots` has no network for label `{label}`")
        for label in generator.snapshots:
            if label not in labels:
                problems.append(
                    f"`{key}.snapshots.{label}`: the dataset has no such label; "
                    f"its labels are {listed(labels)}"
                )
    known = _known_sources(bank)
    found = {}
    for label in labels:
        if generator.snapshots and label not in generator.snapshots:
            continue
        named = generator.snapshots.get(label)
        held = known.get(label)
        if named and held and not may_exist(named.file) and _same_name(named, held):
            _log.warning(
                f"{named.file} does not exist; using the bank's record of a network with the same "
                f"name, {held.sha256[:12]}"
            )
            found[label] = held
            continue
        try:
            found[label] = describe(label, generator)
        except SnapshotError as error:
            problems.append(f"`{key}`: {error}")
    return found, problems


def _same_name(named: SnapshotFile, held: Source) -> bool:
    """Return whether a bank's network has the file name and class given in the grid."""
    return (held.kind, held.name, held.class_index) == (
        "stylegan2",
        paths.name_of(named.file),
        named.class_index,
    )


def _known_sources(bank: Store) -> Mapping[str, Source]:
    """Return the sources recorded in a bank; empty if the bank is new or unreadable."""
    try:
        return read_spec(bank).sources
    except BankError:
        return {}


def imported_digests(space: Space, fake_source: FakeSource) -> dict[float, dict[str, str]]:
    """Return the digests of the imported images within the pool, by psi and label."""
    labels = [label for label, s in fake_source.spec.sources.items() if s.kind == "imported"]
    if not labels or not fake_source.store.has(BankNames.manifest):
        return {}
    store, shards = fake_source.store, open_bank(fake_source.store).shards
    return {
        psi: {
            label: import_images.pixels_digest(
                import_images.digests(store, shards, label, psi), space.pool
            )
            for label in labels
        }
        for psi in space.psis
    }


def contexts_of(
    space: Space, context: Context, fake_sources: tuple[FakeSource, ...]
) -> tuple[dict[str | None, Context], list[str]]:
    """Return the context of cell ids by snapshot, and the snapshots that give identical images.

    Args:
        space: the grid.
        context: of cells without fakes.
        fake_sources: of the grid, including their scorers.
    """
    contexts: dict[str | None, Context] = {None: context}
    problems: list[str] = []
    known: list[tuple[FakeSource, Context]] = []
    for source in fake_sources:
        mine = replace(
            context,
            generator=source.identity,
            imported=imported_digests(space, source),
            scorers=source.scorer_digests,
        )
        contexts[source.snapshot] = mine
        # banks without imported images so far do not count as identical
        comparable = source.generator.kind != "imported" or mine.imported
        problems += [
            f"`axes.snapshot`: {other.snapshot} and {source.snapshot} give the same images. "
            "Drop one of them"
            for other, of_other in known
            if comparable
            and (mine.generator, mine.imported) == (of_other.generator, of_other.imported)
        ]
        known.append((source, mine))
    return contexts, problems


def listed(labels: Iterable[str]) -> str:
    """Return labels in backquotes, sorted."""
    return ", ".join(f"`{label}`" for label in sorted(labels))
