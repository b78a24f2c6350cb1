"""Where a grid's fakes come from: its bank, its networks, and what names them in a cell.

space, dataset -> [fakes] -> planning
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from fgaug.bank import (
    RESIZE_FILTER,
    BankSpec,
    Source,
    Store,
    check_new,
    imported,
    is_empty,
    open_bank,
    open_store,
    read_spec,
)
from fgaug.data import Dataset
from fgaug.errors import BankError, SnapshotError
from fgaug.paths import BankNames
from fgaug.space import Generator, SnapshotFile, Space

_log = logging.getLogger("fgaug")

Describe = Callable[[str, Generator], Source]  # label, generator -> its source by content


def bank_of(space: Space, problems: list[str]) -> Store | None:
    """Return where the grid's bank is or will be; None where it has none."""
    if space.bank is None or space.generator is None:
        return None
    try:
        return open_store(space.bank)
    except BankError as error:
        problems.append(f"`bank`: {error}")
        return None


def sources_by_label(
    space: Space,
    dataset: Dataset | None,
    bank: Store | None,
    describe: Describe,
    problems: list[str],
) -> dict[str, Source]:
    """Return what makes each label's fakes, by content; what is wrong goes to `problems`."""
    generator = space.generator
    if generator is None or dataset is None:
        return {}
    if generator.snapshots:
        for label in dataset.spec.labels:
            if label not in generator.snapshots:
                problems.append(f"`generator.snapshots` has no network for the label `{label}`")
        for label in generator.snapshots:
            if label not in dataset.spec.labels:
                problems.append(
                    f"`generator.snapshots.{label}`: the dataset has no such label, "
                    f"it has {listed(dataset.spec.labels)}"
                )
    known = _known_sources(bank)
    found = {}
    for label in dataset.spec.labels:
        if generator.snapshots and label not in generator.snapshots:
            continue
        named = generator.snapshots.get(label)
        held = known.get(label)
        if named and held and not Path(named.file).exists() and _same_name(named, held):
            _log.warning(
                f"{named.file} is not here; the bank's own record of a network of that name, "
                f"{held.sha256[:12]}, stands for it"
            )
            found[label] = held
            continue
        try:
            found[label] = describe(label, generator)
        except SnapshotError as error:
            problems.append(f"`generator`: {error}")
    return found


def _same_name(named: SnapshotFile, held: Source) -> bool:
    """Return whether a bank's network goes by the name and class that a grid gives it."""
    return (held.kind, held.name, held.class_index) == (
        "stylegan2",
        Path(named.file).name,
        named.class_index,
    )


def _known_sources(bank: Store | None) -> Mapping[str, Source]:
    """Return what a bank says of its networks; nothing where it is new or cannot be read."""
    try:
        return read_spec(bank).sources if bank is not None else {}
    except BankError:
        return {}


def generator_identity(
    space: Space, dataset: Dataset, generated: Mapping[str, Source]
) -> dict[str, object]:
    """Return what of the generator alters an image: a part of every cell's identity."""
    if space.generator is None:
        return {}
    options = {name: getattr(space.generator, name) for name in ("cutoff", "precision")}
    return {
        "sources": {label: [s.kind, s.sha256, s.class_index] for label, s in generated.items()},
        **{name: value for name, value in options.items() if value is not None},
        "noise": space.generator.noise,
        "size": dataset.spec.size,
        "channels": dataset.spec.channels,
        "resize_filter": RESIZE_FILTER,
    }


def imported_digests(
    space: Space, bank: Store | None, generated: Mapping[str, Source]
) -> dict[float, dict[str, str]]:
    """Return the digest of the imported images that the pool can draw, by psi and label."""
    labels = [label for label, source in generated.items() if source.kind == "imported"]
    if not labels or bank is None or not bank.has(BankNames.manifest):
        return {}
    shards = open_bank(bank).shards
    return {
        psi: {
            label: imported.pixels_digest(imported.digests(bank, shards, label, psi), space.pool)
            for label in labels
        }
        for psi in {float(psi) for axes in space.lists for psi in axes.psi}
    }


def spec_and_index(
    space: Space,
    dataset: Dataset,
    bank: Store | None,
    generated: Mapping[str, Source],
    problems: list[str],
) -> tuple[BankSpec | None, pd.DataFrame]:
    """Return what the grid's bank must be, and its index (empty where it has none)."""
    nothing = pd.DataFrame({"label": [], "psi": [], "z_seed": []})
    if bank is None or space.generator is None:
        return None, nothing
    spec = BankSpec(
        size=dataset.spec.size,
        channels=dataset.spec.channels,
        noise=space.generator.noise,
        cutoff=space.generator.cutoff,
        precision=space.generator.precision or "float32",
        sources=generated,
    )
    try:
        if not bank.has(BankNames.spec):
            check_new(bank)
            return spec, nothing
        found = read_spec(bank).differences(spec)
        if found and not is_empty(bank):
            problems.append(
                f"`bank`: {bank.place()} holds other fakes: {'; '.join(found)}. Give this grid a "
                "bank of its own"
            )
        elif bank.has(BankNames.manifest):
            return spec, open_bank(bank).index()
    except BankError as error:
        problems.append(f"`bank`: {error}")
    return spec, nothing


def listed(labels: Iterable[str]) -> str:
    """Return labels in backquotes, sorted."""
    return ", ".join(f"`{label}`" for label in sorted(labels))
