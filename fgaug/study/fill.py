"""Fills banks and scores fakes for filters, until every cell has the fakes it draws.

Which fakes pass a filter is known only after scoring. So growing prefixes of each cell's order are
generated and scored, guided by the keep rate so far, before any trial starts.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from fgaug.bank import Demand, open_bank
from fgaug.core.progress import progress_of
from fgaug.grid.axes import Split
from fgaug.study.banks import fill_bank
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.generators import label_sources
from fgaug.study.plan import Plan
from fgaug.study.scorers import score_options_of


def fill_and_score(planned: Plan, needs: FakeNeeds, console: Console) -> None:
    """Generate the missing fakes of the cells to train, on the connected Ray cluster.

    With filters, also score fakes and continue until every cell's draw is complete.

    Raises:
        GridError: a filter keeps too few fakes of the pool.
    """
    while True:
        if needs.missing.count:
            sources = label_sources(needs.source)
            fill_bank(needs.source.store, needs.source.spec, sources, needs.missing, console)
        if not (waiting := planned.unscored(needs)):
            return
        score_waiting(planned, needs, waiting, console)
        needs = planned.refreshed(needs, open_bank(needs.source.store).index())


def score_waiting(
    planned: Plan, needs: FakeNeeds, waiting: Mapping[tuple[Split, str], Demand], console: Console
) -> None:
    """Score fakes in the bank, one scorer after the other."""
    from fgaug.quality.scoring.score_bank import score_fakes

    bank = open_bank(needs.source.store)
    for (split, name), demand in waiting.items():
        how = score_options_of(planned, needs, split)
        scorer, dataset = needs.source.scorers[split][name], planned.dataset.with_split(split)
        for (label, psi), z_seeds in demand.wanted.items():
            with progress_of(f"scoring {label}, psi {psi:g}: {name}", console) as progress:
                score_fakes(bank, [scorer], label, psi, z_seeds, dataset, progress, how)
