"""Banks filled, and scored for filters, until cells have all they draw.  plan -> [stocking]

A filter's draw is known only once its fakes are scored: prefixes of each cell's order are made and
scored, longer ones as the keep rate becomes known, before any trial starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from fgaug.axes import Split
from fgaug.bank import Demand, Scorer, Source, open_bank, unscored
from fgaug.data import Dataset
from fgaug.errors import GridError
from fgaug.fakes import Supply
from fgaug.generators import Generator
from fgaug.planning import Plan
from fgaug.progress import progress_of
from fgaug.space import Space
from fgaug.study.banks import fill_bank

if TYPE_CHECKING:
    from gan_worker.sources import LabelSource


def stock(planned: Plan, supply: Supply, console: Console) -> None:
    """Fill a bank, on this process's cluster, with what the cells to train lack.

    Where cells have a filter, it is scored too, and filled on until each draw is whole.

    Raises:
        GridError: a filter keeps too few of the pool.
    """
    while True:
        if supply.missing.count:
            sources = label_sources(supply)
            fill_bank(supply.store, supply.spec, sources, supply.missing, console)
        if not (waiting := planned.unscored(supply)):
            return
        _score(planned, supply, waiting, console)
        supply = planned.restocked(supply, open_bank(supply.store).index())
        if short := [kept.problem for kept in supply.kept if kept.problem]:
            raise GridError(short, planned.space.name)


def scorer_of(name: str, space: Space, dataset: Dataset, supply: Supply) -> Scorer:
    """Return a scorer by what the grid says of it; `dataset` has the split that it learns from."""
    from fgaug.study import scoring

    return scoring.scorer_of(name, dataset)


def _score(
    planned: Plan, supply: Supply, waiting: Mapping[tuple[Split, str], Demand], console: Console
) -> None:
    """Score fakes that are in the bank, scorer by scorer."""
    from fgaug.study.scoring import score_fakes

    bank = open_bank(supply.store)
    for (split, name), demand in waiting.items():
        scorer, dataset = supply.scorers[split][name], planned.dataset.with_split(split)
        for (label, psi), z_seeds in demand.wanted.items():
            left = unscored(supply.store, scorer, label, psi, z_seeds)
            with progress_of(f"scoring {label}, psi {psi:g}: {name}", console) as progress:
                score_fakes(bank, [scorer], label, psi, left, dataset, progress)


def label_sources(supply: Supply) -> dict[str, LabelSource]:
    """Return what makes each label's fakes, as the parts that make them want it."""
    return {label: _label_source(label, supply.generator) for label in supply.spec.sources}


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
