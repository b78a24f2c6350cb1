"""Dry runs: the plan of a grid, from its dataset or from the counts that the grid gives.

A plan by counts cannot be trained: names of cells, finished rows and patients are those of a
dataset, so whatever needs them is refused. The speed of the generators is measured on a few fakes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug.bank import RESIZE_FILTER, Source, open_bank
from fgaug.core import devices
from fgaug.core.paths import BankNames, RunPaths
from fgaug.data import Dataset, DatasetSpec
from fgaug.errors import GridError
from fgaug.grid.dataset_counts import DatasetCounts
from fgaug.grid.filters import NONE, parse
from fgaug.grid.generators import Generator
from fgaug.grid.load import load_space
from fgaug.grid.space import Space
from fgaug.study import checks, fake_needs
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.fake_source import Describe, FakeSource, ScorerOf
from fgaug.study.generators import describe_source, label_sources
from fgaug.study.plan import Plan, Shard
from fgaug.study.planner import OWN, check_networks, draft, plan
from fgaug.study.resources import Room
from fgaug.study.scorers import score_options_of, scorer_of

ENOUGH_S = 1.0  # of images, after a first batch that warms up
BATCH_CPU, BATCH_GPU = 4, 64
SAMPLE = 256  # fakes of a label and psi: a rate of .5 is known to .06


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
        fake_needs.needs_of(source, index, cells, cells, reals, space.pool)
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
        index, problems = fake_needs.index_of(source)
        return index, [], problems
    if not source.store.has(BankNames.manifest):
        return fake_needs.EMPTY, [], []
    unknown = (
        f"bank {source.store.place()} cannot be compared without its networks: it is counted "
        "as empty"
    )
    return fake_needs.EMPTY, [unknown], []


def fakes_per_s(needs: FakeNeeds) -> float | None:
    """Return how many fakes a second one device of this machine makes, by one label's network.

    A GPU where there is one, else all cores. None where none of our networks, or one that is not
    here, makes them: simulated fakes take no time, and another program's is not known.
    """
    if needs.source.generator.kind != "stylegan2":
        return None
    from fgaug.errors import SnapshotError
    from gan_worker.filling.label_generators import LabelGenerator

    on_gpu = devices.visible_gpus() > 0
    label, source = next(iter(label_sources(needs.source).items()))
    _, psi = next(iter(needs.missing.wanted), (label, 1.0))
    device, batch = ("cuda", BATCH_GPU) if on_gpu else ("cpu", BATCH_CPU)
    try:
        generator = LabelGenerator(label, source, needs.source.spec, device, needs.source.store)
    except SnapshotError:
        return None  # not on this machine: a plan by counts has said so
    generator.generate(np.arange(1, batch + 1), psi)
    made, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < ENOUGH_S:
        generator.generate(np.arange(made + 1, made + batch + 1), psi)
        made += batch
    return made / taken


def dry_plan(
    grid: Path, out: Path | None = None, shard: Shard | None = None, room: Room | None = None
) -> Plan:
    """Return the plan that a dry run shows, where need be by the counts that the grid gives.

    Raises:
        GridError: as `plan`, or what is asked cannot be told without the grid's dataset.
        SnapshotError: a network that is on this machine cannot be used.
    """
    space = load_space(grid)
    if not goes_by_counts(space):
        return sampled(plan(space, out, shard, room=room))
    if shard is not None:
        problem = (
            f"--shard divides cells by their names, and {space.dataset}, which is not on this "
            "machine, is part of them. Leave it out"
        )
        raise GridError([problem], space.name)
    run = RunPaths(out or Path("runs") / space.name)
    planned = plan_by_counts(space, run, describe_source, scorer_of, room)
    for needs in planned.needs:
        sources = label_sources(needs.source).items()
        here = {k: s for k, s in sources if s.file is None or Path(s.file).exists()}
        check_networks(needs, here)
    return planned


def sampled(planned: Plan) -> Plan:
    """Return a plan with keep rates by a sample where nothing is scored; nothing is written.

    That needs SAMPLE fakes that the bank holds, or as many as it has.

    Raises:
        GridError: a filter keeps too few of the pool.
    """
    return replace(planned, needs=tuple(_sampled(planned, each) for each in planned.needs))


def _sampled(planned: Plan, needs: FakeNeeds) -> FakeNeeds:
    from fgaug.quality.scoring.score_bank import ProgressCounter, judge_of

    unknown = [kept for kept in needs.keep_rates if not kept.scored]
    if not unknown or not needs.source.store.has(BankNames.manifest):
        return needs
    bank, screens = open_bank(needs.source.store), needs.source.screens(planned.space.pool)
    index = bank.index()
    for kept in unknown:
        own = planned.scoring.get(kept.split)
        if own is not None and not planned.run.trial(own).model.is_file():
            continue  # it is trained first
        how = score_options_of(planned, needs, kept.split)
        held = index.loc[index["label"].eq(kept.label) & index["psi"].eq(kept.psi), "z_seed"]
        chosen = np.sort(held[held.between(kept.drawn[0], kept.drawn[-1])].to_numpy())[:SAMPLE]
        if not len(chosen):
            continue
        dataset, scorers = planned.dataset.with_split(kept.split), needs.source.scorers[kept.split]
        judges = (
            judge_of(scorers[n], dataset, how, ProgressCounter())
            for n in parse(kept.filter).scorers
        )
        frames = [judge.scores(bank, kept.label, kept.psi, chosen) for judge in judges]
        sample = pd.concat([pd.DataFrame({"z_seed": chosen}), *frames], axis=1)
        screens[kept.split].suppose(kept.filter, kept.label, kept.psi, sample)
    return planned.refreshed(needs, index, screens)
