"""What fake sources give a grid: scorers of its filters, cell ids, where trials find images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fgaug import fakes
from fgaug.axes import Split
from fgaug.bank import Scorer
from fgaug.cells import Cell, Context, first_baselines
from fgaug.data import Dataset
from fgaug.errors import UserError
from fgaug.fakes import FakeSource, ScorerOf
from fgaug.filters import parse
from fgaug.leakage import exposure, leakage
from fgaug.points import Point
from fgaug.rows import Sources
from fgaug.space import Space

OWN = "baseline"  # of `scorers.classifier`: trained by the search itself


def with_scorers(
    space: Space,
    dataset: Dataset,
    fake_sources: tuple[FakeSource, ...],
    scorer_of: ScorerOf,
    baselines: Mapping[Split, str],
) -> tuple[tuple[FakeSource, ...], list[str]]:
    """Return the fake sources with the scorers that the grid's filters read, and what is wrong.

    Args:
        baselines: cells of this search that score fakes, see `scoring_baselines`.
    """
    names: dict[Split, dict[str, None]] = {}
    for axes in space.lists:
        used = [name for text in axes.filter for name in parse(text).scorers]
        for split in axes.split if used else ():
            names.setdefault(split, {}).update(dict.fromkeys(used))
    divided = {split: dataset.with_split(split) for split in names}
    found: list[FakeSource] = []
    problems: list[str] = []
    for fake_source in fake_sources:
        scorers: dict[Split, dict[str, Scorer]] = {split: {} for split in names}
        for split, name in ((split, name) for split, used in names.items() for name in used):
            try:
                scorers[split][name] = scorer_of(
                    name, space, divided[split], fake_source, baselines.get(split)
                )
            except UserError as error:
                problems.append(f"`filter`: {error}")
        found.append(replace(fake_source, scorers=scorers))
    return tuple(found), list(dict.fromkeys(problems))


def scoring_baselines(
    space: Space, points: Iterable[Point], dataset: Dataset, weights: Mapping[str, str]
) -> dict[Split, str]:
    """Return the baselines, by split, that `scorers.classifier: baseline` scores fakes by."""
    asked = space.scorers is not None and space.scorers.classifier == OWN
    read = (parse(text).scorers for axes in space.lists for text in axes.filter)
    if not asked or not any("classifier" in names for names in read):
        return {}
    return first_baselines(space, points, _without_fakes(space, dataset, weights))


def contexts_of(
    space: Space,
    dataset: Dataset,
    fake_sources: tuple[FakeSource, ...],
    weights: Mapping[str, str],
) -> tuple[dict[str | None, Context], list[str]]:
    """Return what cell ids depend on beside the grid, by snapshot, and what is wrong with it."""
    imported = {each.snapshot: fakes.imported_digests(space, each) for each in fake_sources}
    none = _without_fakes(space, dataset, weights)
    contexts: dict[str | None, Context] = {None: none}
    for source in fake_sources:
        contexts[source.snapshot] = replace(
            none,
            generator=source.identity,
            imported=imported[source.snapshot],
            scorers=source.scorer_digests,
        )
    return contexts, fakes.alike(fake_sources, imported)


def _without_fakes(space: Space, dataset: Dataset, weights: Mapping[str, str]) -> Context:
    return Context(
        dataset_digest=dataset.spec.digest, generator={}, pool=space.pool, weights=weights
    )


def sources_of(
    space: Space,
    dataset: Dataset,
    cells: tuple[Cell, ...],
    fake_sources: tuple[FakeSource, ...],
    splits: Mapping[Split, Dataset],
) -> tuple[dict[str | None, Sources], list[str]]:
    """Return where trials find their images, by the snapshot of their cell, and the leaks."""
    problems: list[str] = []
    no_fakes = Sources(
        dataset=str(dataset.root.resolve()),
        bank=None,
        pool=space.pool,
        leakage="none",
        dataset_digest=dataset.spec.digest,
        snapshots="",
    )
    found: dict[str | None, Sources] = {None: no_fakes}
    for fake_source in fake_sources:
        judged = {
            cell.split: splits[cell.split]
            for cell in cells
            if cell.uses_fakes and cell.snapshot == fake_source.snapshot
        }
        known, leaks = leakage(fake_source, judged)
        problems += leaks
        by_label = fake_source.spec.sources.items()
        found[fake_source.snapshot] = replace(
            no_fakes,
            bank=fake_source.store.uri,
            leakage=known,
            snapshots=" ".join(f"{label}:{source.sha256[:12]}" for label, source in by_label),
            exposure=exposure(fake_source, dataset),
            scorers=fake_source.scorers,
        )
    return found, problems
