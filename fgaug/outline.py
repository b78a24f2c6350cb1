"""Outlines: the plan of a grid whose dataset is not at hand, by the counts that the grid gives.

space -> [outline] -> what `--dry-run` shows.  Nothing can be trained by it: names of cells,
finished rows and patients are those of a dataset, so whatever needs them is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug import checks, stocks
from fgaug.bank import RESIZE_FILTER, Source
from fgaug.counts import DatasetCounts
from fgaug.data import Dataset, DatasetSpec
from fgaug.errors import GridError
from fgaug.fakes import Describe, FakeSource, ScorerOf
from fgaug.filters import NONE, parse
from fgaug.generators import Generator
from fgaug.machine.room import Room
from fgaug.paths import BankNames, RunPaths
from fgaug.planning import Plan, draft
from fgaug.space import Space
from fgaug.supplied import OWN


class CountedDataset(Dataset):
    """Rows without images; what is timed on it sees black ones."""

    __slots__ = ()

    def pixels(self) -> np.ndarray:
        """Return zeros, uint8 [N, H, W, C], that take no memory."""
        spec = self.spec
        return np.broadcast_to(np.uint8(0), (len(self), spec.size, spec.size, spec.channels))


def goes_by_counts(space: Space) -> bool:
    """Return whether a grid gives counts and its dataset is not on this machine."""
    return space.counts is not None and not Path(space.dataset).exists()


def plan_by_counts(
    space: Space,
    run: RunPaths,
    describe: Describe,
    scorer_of: ScorerOf,
    room: Room | None = None,
) -> Plan:
    """Return the plan of a grid by its `counts`, all its cells to be trained.

    What is not on this machine is listed in the plan's `absent`: the dataset, networks, pretrained
    weights. What is there is checked as ever.

    Args:
        space: the grid; `goes_by_counts`.
        run: where its run would go.
        describe: a label and a generator -> what makes its fakes, by content.
        scorer_of: as of `make_plan`.
        room: as of `make_plan`; what is missing of it is one more thing that is not here.

    Raises:
        GridError: with everything that is wrong, or cannot be told without the dataset.
    """
    assert space.counts is not None
    dataset = _counted(space.dataset, space.counts)
    absent = [
        f"dataset {space.dataset} is not on this machine: this plan goes by the published counts "
        f"in the grid ({space.counts.source}); a search would be refused"
    ]
    absent += [] if room is None else room.misfits(space.resources)
    problems = [*checks.label_problems(space, dataset.spec.labels), *_unknowable(space)]
    # without pretrained weights a trial takes as long from scratch
    recipe = space.recipe.model_copy(update={"allow_scratch": True})
    timed = space.model_copy(update={"recipe": recipe})
    networks: dict[str, Source] = {}  # stand-ins by file
    drafted = draft(timed, dataset, _with_stand_ins(describe, networks), scorer_of, problems)
    absent += [f"network {file} is not on this machine" for file in networks]
    absent += [
        f"no pretrained weights of {model} are on this machine"
        for model in dict.fromkeys(drafted.scratch)
    ]
    cells, reals = drafted.cells, drafted.reals
    problems = [*drafted.problems, *checks.mix_problems(cells, reals, space.pool)]
    indices = []
    for source in drafted.fake_sources:
        index, unknown, wrong = _index(source, networks)
        indices.append(index)
        absent += unknown
        problems += wrong
    if problems:
        raise GridError(problems, space.name)
    needs = tuple(
        stocks.needs_of(source, index, cells, cells, reals, space.pool)
        for source, index in zip(drafted.fake_sources, indices, strict=True)
    )
    return Plan(
        space=timed,
        dataset=dataset,
        run=run,
        cells=cells,
        grid_cells=cells,
        statuses={},
        stopped=frozenset(),
        needs=needs,
        sources={},
        reals=reals,
        scoring=drafted.scoring,
        absent=tuple(absent),
    )


def _counted(folder: str, counts: DatasetCounts) -> CountedDataset:
    spec = DatasetSpec(
        labels=tuple(sorted(counts.labels)),
        size=counts.size,
        channels=counts.channels,
        strata=(),
        source={"kind": "counts"},
        split={"kind": "counts"},
        crop=None,
        resize_filter=RESIZE_FILTER,
        sizes={},
        digest="",
    )
    return CountedDataset(root=Path(folder), spec=spec, manifest=counts.rows())


def _unknowable(space: Space) -> Iterator[str]:
    """Yield what a grid asks of its dataset that counts do not tell."""
    cure = "`counts` do not tell them. Prepare the dataset first, or leave it out"
    if any(axes.split != ["dataset"] for axes in space.lists):
        yield f"`axes.split` divides patients, and {cure}"
    if any(share < 1 for axes in space.lists for share in axes.real_fraction):
        yield f"`axes.real_fraction` keeps patients, and {cure}"
    if space.remove_by == "group":
        yield f"`remove_by: group` removes patients, and {cure}"
    filters = {text for axes in space.lists for text in axes.filter} - {NONE}
    named = space.scorers is not None and space.scorers.classifier == OWN  # by its cell
    if any(not named or parse(text).scorers != ("classifier",) for text in filters):
        yield f"`axes.filter` reads scores that are learned from images, and {cure}"


def _with_stand_ins(describe: Describe, networks: dict[str, Source]) -> Describe:
    """Return `describe`, but for networks that are not here: a stand-in, kept in `networks`."""

    def described(label: str, generator: Generator) -> Source:
        named = generator.snapshots.get(label)
        if named is None or Path(named.file).exists():
            return describe(label, generator)
        networks[named.file] = Source(
            kind=generator.kind,
            sha256=hashlib.sha256(named.file.encode()).hexdigest(),
            name=Path(named.file).name,
            class_index=named.class_index,
        )
        return networks[named.file]

    return described


def _index(
    source: FakeSource, networks: Mapping[str, Source]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the index of a bank, what of it is unknown, and what is wrong with it.

    The index is empty where a stand-in cannot be compared with the bank.
    """
    if not set(source.spec.sources.values()) & set(networks.values()):
        index, problems = stocks.index_of(source)
        return index, [], problems
    if not source.store.has(BankNames.manifest):
        return stocks.EMPTY, [], []
    unknown = (
        f"bank {source.store.place()} cannot be compared without its networks: it is counted "
        "as empty"
    )
    return stocks.EMPTY, [unknown], []
