"""Dry runs: the plan of a grid, based on its dataset or, without it, on the grid's `counts`.

Cell ids, finished rows and patients need the dataset, so a plan by counts cannot be trained and
rejects everything that depends on them. Generator speed is measured on a few fakes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug.bank import RESIZE_FILTER, Source, open_bank
from fgaug.core import devices, node_cache, paths
from fgaug.core.paths import BankNames, RunPaths
from fgaug.data import Dataset, DatasetSpec
from fgaug.errors import GridError, UserError
from fgaug.grid.dataset_counts import DatasetCounts
from fgaug.grid.filters import NONE, parse
from fgaug.grid.generators import Generator
from fgaug.grid.load import load_space
from fgaug.grid.space import Space
from fgaug.runs.place import run_of_search
from fgaug.study import checks, fake_needs
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.fake_source import Describe, FakeSource, ScorerOf
from fgaug.study.generators import describe_source, label_sources
from fgaug.study.plan import Plan, Shard
from fgaug.study.planner import OWN, check_networks, draft, plan, precisions_of
from fgaug.study.resources import Room
from fgaug.study.scorers import score_options_of, scorer_of

ENOUGH_S = 1.0  # seconds to measure, after a first batch as warm-up
BATCH_CPU, BATCH_GPU = 4, 64
SAMPLE = 256  # fakes per label and psi: a keep rate of .5 is known to within .06


class CountedDataset(Dataset):
    """A dataset without images, whose pixels are all black."""

    __slots__ = ()

    def pixels(self) -> np.ndarray:
        """Return zeros, uint8 [N, H, W, C], as a view that takes no memory."""
        spec = self.spec
        return np.broadcast_to(np.uint8(0), (len(self), spec.size, spec.size, spec.channels))


def goes_by_counts(space: Space) -> bool:
    """Return whether a grid has `counts` and its dataset is not on this machine."""
    return space.counts is not None and not node_cache.may_exist(space.dataset)


def plan_by_counts(
    space: Space,
    run: RunPaths,
    describe: Describe,
    scorer_of: ScorerOf,
    room: Room | None = None,
) -> Plan:
    """Plan a grid from its `counts`, with all cells to be trained.

    The plan's `absent` lists what is missing on this machine: the dataset, networks, pretrained
    weights. Everything that is present is checked as usual.

    Args:
        space: a grid for which `goes_by_counts` is true.
        run: the run's folder.
        describe: returns the content of the generator of a label.
        scorer_of: as in `make_plan`.
        room: as in `make_plan`; a shortage is added to `absent`.

    Raises:
        GridError: the grid has problems or needs the dataset itself; all are listed.
    """
    assert space.counts is not None
    dataset = _counted(space.dataset, space.counts)
    absent = [
        f"dataset {space.dataset} is not on this machine: this plan uses the published counts in "
        f"the grid ({space.counts.source}); a search needs the dataset"
    ]
    absent += [] if room is None else room.misfits(space.resources)
    problems = [*checks.label_problems(space, dataset.spec.labels), *_unknowable(space)]
    # a trial from scratch takes as long as one from pretrained weights
    recipe = space.recipe.model_copy(update={"allow_scratch": True})
    timed = space.model_copy(update={"recipe": recipe})
    networks: dict[str, Source] = {}  # stand-ins for missing networks, by file
    precisions = precisions_of(space, run, room)
    described = _with_stand_ins(describe, networks)
    drafted = draft(timed, dataset, described, scorer_of, problems, precisions)
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
        precisions=precisions.used,
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
    """Yield the problems of keys that need the dataset itself, not only its counts."""
    cure = "`counts` lack these. Prepare the dataset first, or drop the key"
    if space.preparations:
        yield f"`axes.dataset` needs the datasets themselves; {cure}"
    if space.axes.fold is not None:
        yield f"`axes.fold` needs the dataset's folds; {cure}"
    if any(axes.split != ["dataset"] for axes in space.lists):
        yield f"`axes.split` needs the dataset's patients; {cure}"
    if any(share < 1 for axes in space.lists for share in axes.real_fraction):
        yield f"`axes.real_fraction` needs the dataset's patients; {cure}"
    if space.remove_by == "group":
        yield f"`remove_by: group` needs the dataset's patients; {cure}"
    filters = {text for axes in space.lists for text in axes.filter} - {NONE}
    named = space.scorers is not None and space.scorers.classifier == OWN  # identified by its cell
    if any(not named or parse(text).scorers != ("classifier",) for text in filters):
        yield f"`axes.filter` needs the dataset's images to train its scorers; {cure}"


def _with_stand_ins(describe: Describe, networks: dict[str, Source]) -> Describe:
    """Wrap `describe` to return stand-ins for missing networks, and add those to `networks`."""

    def described(label: str, generator: Generator) -> Source:
        named = generator.snapshots.get(label)
        if named is None or node_cache.may_exist(named.file):
            return describe(label, generator)
        networks[named.file] = Source(
            kind=generator.kind,
            sha256=hashlib.sha256(named.file.encode()).hexdigest(),
            name=paths.name_of(named.file),
            class_index=named.class_index,
        )
        return networks[named.file]

    return described


def _index(
    source: FakeSource, networks: Mapping[str, Source]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the index of a bank, what is unknown about it, and its problems.

    The index is empty if the source is a stand-in, which cannot be compared with the bank.
    """
    if not set(source.spec.sources.values()) & set(networks.values()):
        index, problems = fake_needs.index_of(source)
        return index, [], problems
    if not source.store.has(BankNames.manifest):
        return fake_needs.EMPTY, [], []
    unknown = (
        f"bank {source.store.place()} cannot be checked without its networks and counts as empty"
    )
    return fake_needs.EMPTY, [unknown], []


def fakes_per_s(needs: FakeNeeds) -> float | None:
    """Measure how many fakes per second one label's network generates on this machine.

    Uses one GPU, or all CPU cores without a GPU. Returns None if the network is missing or the
    fakes come from another kind of generator: phantoms take no time, external programs an unknown
    time.
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
        return None  # not on this machine, as the plan's `absent` says
    generator.generate(np.arange(1, batch + 1), psi)
    made, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < ENOUGH_S:
        generator.generate(np.arange(made + 1, made + batch + 1), psi)
        made += batch
    return made / taken


def dry_plan(
    grid: str | Path,
    out: str | PathLike[str] | None = None,
    shard: Shard | None = None,
    room: Room | None = None,
) -> Plan:
    """Return the plan that a dry run prints, based on the grid's counts if the dataset is absent.

    Whether trials fit this machine is not checked unless the plan goes by counts: a grid for
    another machine has a plan here, too.

    Raises:
        GridError: as `plan`, or the grid needs its dataset, which is absent.
        SnapshotError: a network on this machine cannot be used.
    """
    space = load_space(node_cache.local_file(str(grid), UserError))
    if not goes_by_counts(space):
        return sampled(plan(space, out, shard))
    if shard is not None:
        problem = (
            f"--shard needs cell ids, which depend on {space.dataset}, and that is not on this "
            "machine. Drop --shard"
        )
        raise GridError([problem], space.name)
    run = run_of_search(out, space.name)
    planned = plan_by_counts(space, run, describe_source, scorer_of, room)
    for needs in planned.needs:
        sources = label_sources(needs.source).items()
        here = {k: s for k, s in sources if s.file is None or node_cache.may_exist(s.file)}
        check_networks(needs, here)
    return planned


def sampled(planned: Plan) -> Plan:
    """Return a plan whose unknown keep rates are estimated from a sample, writing nothing.

    Scores up to SAMPLE fakes from the bank per filter, label and psi.

    Raises:
        GridError: a filter keeps too few fakes of the pool.
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
            continue  # the search trains it first
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
