"""What supplies of fakes give to a grid: scorers for its filters, names of cells, trials' sources.

space, supplies -> [supplied] -> planning
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fgaug import fakes
from fgaug.axes import Split
from fgaug.bank import Scorer
from fgaug.cells import Cell, Context, expand, first_baselines
from fgaug.data import Dataset
from fgaug.errors import UserError
from fgaug.fakes import ScorerOf, Supply
from fgaug.filters import parse
from fgaug.leakage import exposure, leakage
from fgaug.rows import Sources
from fgaug.space import Space

OWN = "baseline"  # of `scorers.classifier`: trained by the search itself


def with_scorers(
    space: Space,
    dataset: Dataset,
    supplies: tuple[Supply, ...],
    scorer_of: ScorerOf,
    baselines: Mapping[Split, str],
    problems: list[str],
) -> tuple[Supply, ...]:
    """Return supplies with what the grid's filters read of their fakes, for each split.

    Args:
        baselines: cells of this search that score fakes, see `scoring_baselines`.
    """
    names: dict[Split, dict[str, None]] = {}
    for axes in space.lists:
        used = [name for text in axes.filter for name in parse(text).scorers]
        for split in axes.split if used else ():
            names.setdefault(split, {}).update(dict.fromkeys(used))
    divided = {split: dataset.with_split(split) for split in names}
    found = []
    for supply in supplies:
        scorers: dict[Split, dict[str, Scorer]] = {split: {} for split in names}
        for split, name in ((split, name) for split, used in names.items() for name in used):
            try:
                scorers[split][name] = scorer_of(
                    name, space, divided[split], supply, baselines.get(split)
                )
            except UserError as error:
                problems.append(f"`filter`: {error}")
        found.append(replace(supply, scorers=scorers))
    problems[:] = dict.fromkeys(problems)
    return tuple(found)


def scoring_baselines(
    space: Space, dataset: Dataset, weights: Mapping[str, str]
) -> dict[Split, str]:
    """Return the baselines, by split, that `scorers.classifier: baseline` scores fakes by."""
    asked = space.scorers is not None and space.scorers.classifier == OWN
    read = (parse(text).scorers for axes in space.lists for text in axes.filter)
    if not asked or not any("classifier" in names for names in read):
        return {}
    digest = dataset.spec.digest
    return first_baselines(
        space, Context(dataset_digest=digest, generator={}, pool=space.pool, weights=weights)
    )


def cells_of(
    space: Space,
    dataset: Dataset,
    supplies: tuple[Supply, ...],
    weights: Mapping[str, str],
    problems: list[str],
) -> tuple[Cell, ...]:
    """Return the cells of a grid, those with fakes named by the content of their supply."""
    imported = {supply.snapshot: fakes.imported_digests(space, supply) for supply in supplies}
    problems += fakes.alike(supplies, imported)
    none = Context(
        dataset_digest=dataset.spec.digest, generator={}, pool=space.pool, weights=weights
    )
    contexts = {
        supply.snapshot: replace(
            none,
            generator=supply.identity,
            imported=imported[supply.snapshot],
            scorers=supply.scorer_digests,
        )
        for supply in supplies
    }
    named = {name: context for name, context in contexts.items() if name is not None}
    return expand(space, contexts.get(None, none), named)


def sources_of(
    space: Space,
    dataset: Dataset,
    cells: tuple[Cell, ...],
    supplies: tuple[Supply, ...],
    splits: Mapping[Split, Dataset],
    problems: list[str],
) -> dict[str | None, Sources]:
    """Return where trials find their images, by the snapshot of their cell."""
    no_fakes = Sources(
        dataset=str(dataset.root.resolve()),
        bank=None,
        pool=space.pool,
        leakage="none",
        dataset_digest=dataset.spec.digest,
        snapshots="",
    )
    found: dict[str | None, Sources] = {None: no_fakes}
    for supply in supplies:
        judged = {
            cell.split: splits[cell.split]
            for cell in cells
            if cell.uses_fakes and cell.snapshot == supply.snapshot
        }
        by_label = supply.spec.sources.items()
        found[supply.snapshot] = replace(
            no_fakes,
            bank=supply.store.uri,
            leakage=leakage(supply, judged, problems),
            snapshots=" ".join(f"{label}:{source.sha256[:12]}" for label, source in by_label),
            exposure=exposure(supply, dataset),
            scorers=supply.scorers,
        )
    return found
