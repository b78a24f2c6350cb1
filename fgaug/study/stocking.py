"""Banks filled, and scored for filters, until cells have all they draw.  plan -> [stocking]

A filter's draw is known only once its fakes are scored: prefixes of each cell's order are made and
scored, longer ones as the keep rate becomes known, before any trial starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console

from fgaug.axes import Split
from fgaug.bank import Demand, Scorer, Source, open_bank
from fgaug.data import Dataset
from fgaug.errors import SnapshotError, UserError
from fgaug.fakes import FakeSource
from fgaug.filters import parse
from fgaug.generators import Generator
from fgaug.paths import BankNames
from fgaug.planning import Plan
from fgaug.progress import progress_of
from fgaug.space import Scorers, Space
from fgaug.stocks import FakeNeeds
from fgaug.study.banks import fill_bank

if TYPE_CHECKING:
    from fgaug.study.scoring import OwnBaseline, ScoreHow
    from gan_worker.sources import LabelSource


SAMPLE = 256  # fakes of a label and psi: a rate of .5 is known to .06


def fill_and_score(planned: Plan, needs: FakeNeeds, console: Console) -> None:
    """Fill a bank, on this process's cluster, with what the cells to train lack.

    Where cells have a filter, it is scored too, and filled on until each draw is whole.

    Raises:
        GridError: a filter keeps too few of the pool.
    """
    while True:
        if needs.missing.count:
            sources = label_sources(needs.source)
            fill_bank(needs.source.store, needs.source.spec, sources, needs.missing, console)
        if not (waiting := planned.unscored(needs)):
            return
        score_waiting(planned, needs, waiting, console)
        needs = planned.refreshed(needs, open_bank(needs.source.store).index())


def sampled(planned: Plan) -> Plan:
    """Return a plan with keep rates by a sample where nothing is scored; nothing is written.

    That needs SAMPLE fakes that the bank holds, or as many as it has.

    Raises:
        GridError: a filter keeps too few of the pool.
    """
    return replace(planned, needs=tuple(_sampled(planned, each) for each in planned.needs))


def _sampled(planned: Plan, needs: FakeNeeds) -> FakeNeeds:
    from fgaug.study.scoring import Count, judge_of

    unknown = [kept for kept in needs.keep_rates if not kept.scored]
    if not unknown or not needs.source.store.has(BankNames.manifest):
        return needs
    bank, screens = open_bank(needs.source.store), needs.source.screens(planned.space.pool)
    index = bank.index()
    for kept in unknown:
        own = planned.scoring.get(kept.split)
        if own is not None and not planned.run.trial(own).model.is_file():
            continue  # it is trained first
        how = _how_of(planned, needs, kept.split)
        held = index.loc[index["label"].eq(kept.label) & index["psi"].eq(kept.psi), "z_seed"]
        chosen = np.sort(held[held.between(kept.drawn[0], kept.drawn[-1])].to_numpy())[:SAMPLE]
        if not len(chosen):
            continue
        dataset, scorers = planned.dataset.with_split(kept.split), needs.source.scorers[kept.split]
        judges = (judge_of(scorers[n], dataset, how, Count()) for n in parse(kept.filter).scorers)
        frames = [judge.scores(bank, kept.label, kept.psi, chosen) for judge in judges]
        sample = pd.concat([pd.DataFrame({"z_seed": chosen}), *frames], axis=1)
        screens[kept.split].suppose(kept.filter, kept.label, kept.psi, sample)
    return planned.refreshed(needs, index, screens)


def scorer_of(
    name: str, space: Space, dataset: Dataset, source: FakeSource, baseline: str | None = None
) -> Scorer:
    """Return a scorer by what the grid says of it; `dataset` has the split that it learns from.

    `baseline` is the cell of this search that scores, where one does.
    """
    from fgaug.study import scoring

    if name == "discriminator" and not source.generator.snapshots:
        raise UserError(
            f"`logit` is said by the discriminator beside a network, and `kind: "
            f"{source.generator.kind}` has none. Leave it out of the filters."
        )
    own = baseline and scoring.OwnBaseline(cell_id=baseline, file="")
    return scoring.scorer_of(name, dataset, _how(space, source, own or None))


def check_critics(planned: Plan, needs: FakeNeeds) -> None:
    """Refuse discriminators that cannot judge the fakes that wait for it, before any is made.

    Raises:
        SnapshotError: a file holds none, or one of images of another size.
    """
    if not any(name == "discriminator" for _, name in planned.unscored(needs)):
        return
    from gan_worker.critic import Critic

    spec = needs.source.spec
    for label, snapshot in needs.source.generator.snapshots.items():
        critic = Critic(snapshot.file, class_index=snapshot.class_index)
        if (critic.size, critic.channels) != (spec.size, spec.channels):
            raise SnapshotError(
                f"The discriminator of `{label}` judges {critic.size} px of {critic.channels} "
                f"channels, the dataset has {spec.size} px of {spec.channels}. Leave `logit` out "
                "of the filters, or prepare the dataset in the network's size."
            )


def _how_of(planned: Plan, needs: FakeNeeds, split: Split) -> ScoreHow:
    """Return by what fakes are scored for a split."""
    from fgaug.study.scoring import OwnBaseline

    cell_id = planned.scoring.get(split)
    if cell_id is None:
        return _how(planned.space, needs.source)
    file = str(planned.run.trial(cell_id).model)
    return _how(planned.space, needs.source, OwnBaseline(cell_id=cell_id, file=file))


def _how(space: Space, source: FakeSource, baseline: OwnBaseline | None = None) -> ScoreHow:
    from fgaug.study.scoring import ScoreHow

    asked, snapshots = space.scorers or Scorers(), source.generator.snapshots
    return ScoreHow(
        features=asked.features,
        classifier=asked.classifier,
        baseline=baseline,
        discriminators=tuple((label, each.file) for label, each in snapshots.items()),
    )


def score_waiting(
    planned: Plan, needs: FakeNeeds, waiting: Mapping[tuple[Split, str], Demand], console: Console
) -> None:
    """Score fakes that are in the bank, scorer by scorer."""
    from fgaug.study.scoring import score_fakes

    bank = open_bank(needs.source.store)
    for (split, name), demand in waiting.items():
        how = _how_of(planned, needs, split)
        scorer, dataset = needs.source.scorers[split][name], planned.dataset.with_split(split)
        for (label, psi), z_seeds in demand.wanted.items():
            with progress_of(f"scoring {label}, psi {psi:g}: {name}", console) as progress:
                score_fakes(bank, [scorer], label, psi, z_seeds, dataset, progress, how)


def label_sources(source: FakeSource) -> dict[str, LabelSource]:
    """Return what makes each label's fakes, as the parts that make them want it."""
    return {label: _label_source(label, source.generator) for label in source.spec.sources}


def describe(label: str, generator: Generator) -> Source:
    from gan_worker.sources import describe

    return describe(label, _label_source(label, generator))


def _label_source(label: str, generator: Generator) -> LabelSource:
    from gan_worker.sources import LabelSource

    if not generator.snapshots:
        return LabelSource(kind=generator.kind)
    snapshot = generator.snapshots[label]
    return LabelSource(
        kind=generator.kind,
        file=snapshot.file,
        class_index=snapshot.class_index,
        python=generator.python,
        repo=generator.repo,
        program=generator.program,
        prefix=generator.prefix,
    )
