"""The planner: every check before anything runs, then the cells and the fakes they need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.bank import Scorer
from fgaug.core import paths
from fgaug.core.paths import RunPaths
from fgaug.data import Dataset
from fgaug.errors import GridError, UserError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell, Context, cells_of, first_baselines, recipes_of
from fgaug.grid.checks import problems_of
from fgaug.grid.filters import parse
from fgaug.grid.load import load_space
from fgaug.grid.points import Point, expand
from fgaug.grid.space import Space
from fgaug.runs import reals, results
from fgaug.runs.row import TrialSources
from fgaug.study import checks, fake_needs
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.fake_source import (
    Describe,
    FakeSource,
    ScorerOf,
    alike,
    fake_sources_of,
    imported_digests,
)
from fgaug.study.generators import check_critics, describe_source, label_sources
from fgaug.study.leakage import exposure, leakage
from fgaug.study.plan import TRIAL_BYTES, Plan, Shard, is_over
from fgaug.study.resources import Room
from fgaug.study.schedule import at_its_round
from fgaug.study.scorers import scorer_of
from fgaug.study.tune import history

if TYPE_CHECKING:
    from gan_worker.filling.label_generators import LabelSource

_log = logging.getLogger("fgaug")
NO_TEST = (
    "`confirmation` judges arms on the test set, and {} has none. Prepare it with one "
    "(`fgaug data prepare --test 0.2`), or leave `confirmation` out"
)
OWN = "baseline"  # of `scorers.classifier`: trained by the search itself


def plan(
    grid: str | Path | Space,
    out: str | Path | None = None,
    shard: Shard | None = None,
    keep: Callable[[Cell], bool] | None = None,
    room: Room | None = None,
) -> Plan:
    """Return the plan of a grid, all checks made; see `planning.make_plan`."""
    space = grid if isinstance(grid, Space) else load_space(Path(grid))
    # `load_space` has checked its grid; `keep` comes with one derived from a checked grid
    if isinstance(grid, Space) and keep is None and (problems := problems_of(space)):
        raise GridError(problems, space.name)
    place = Path(out) if out is not None else None
    planned = make_plan(space, place, describe_source, scorer_of, shard, keep, room)
    for needs in planned.needs:
        check_networks(needs, label_sources(needs.source))
        check_critics(planned, needs)
    return planned


def check_networks(needs: FakeNeeds, sources: Mapping[str, LabelSource]) -> None:
    """Refuse networks that cannot make the fakes that their bank lacks."""
    if needs.missing.count:
        from gan_worker.filling.label_generators import check_sources

        check_sources(sources, needs.source.spec, needs.source.store)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A grid on a dataset: its cells and what makes their fakes, before any run is looked at."""

    cells: tuple[Cell, ...]
    fake_sources: tuple[FakeSource, ...]  # with their scorers
    scoring: Mapping[Split, str]  # cells whose classifiers score fakes, by split
    splits: Mapping[Split, Dataset]
    reals: Mapping[Split, reals.Reals]
    scratch: tuple[str, ...]  # models that start from scratch as their weights are not here
    problems: tuple[str, ...]  # of the cells, to be reported with those of later checks


def draft(
    space: Space,
    dataset: Dataset,
    describe: Describe,
    scorer_of: ScorerOf,
    problems: Iterable[str],
    keep: Callable[[Cell], bool] | None = None,
) -> Draft:
    """Return the cells of a grid on a dataset, the grid expanded once.

    Args:
        space: the grid.
        dataset: of the grid, or rows that stand for it.
        describe: as of `make_plan`.
        scorer_of: as of `make_plan`.
        problems: found before; reported with those of networks, banks and models.
        keep: the cells that the grid consists of; None: all.

    Raises:
        GridError: with what is wrong so far, if anything is.
    """
    points = expand(space)
    recipes = recipes_of(points)
    fake_sources, wrong = fake_sources_of(space, dataset.spec, describe)
    weights = checks.weights_of(recipes, dataset)
    if found := [*problems, *wrong, *weights.problems]:
        raise GridError(found, space.name)
    context = Context(
        dataset_digest=dataset.spec.digest,
        generator={},
        pool=space.pool,
        weights=weights.identities,
    )
    scoring = scoring_baselines(space, points, context)
    fake_sources, found = with_scorers(space, dataset, fake_sources, scorer_of, scoring)
    if found:
        raise GridError(found, space.name)
    contexts, found = contexts_of(space, context, fake_sources)
    cells = cells_of(space, points, contexts)
    cells = cells if keep is None else tuple(filter(keep, cells))
    if space.confirmation is not None and not (dataset.manifest["split"] == "test").any():
        found.append(NO_TEST.format(space.dataset))
    drawn = dict.fromkeys(cell.split for cell in cells)
    splits = {split: dataset.with_split(split) for split in drawn}
    return Draft(
        cells=cells,
        fake_sources=fake_sources,
        scoring=scoring,
        splits=splits,
        reals={name: reals.Reals(of.manifest, dataset.spec.labels) for name, of in splits.items()},
        scratch=weights.scratch,
        problems=tuple(found),
    )


def make_plan(
    space: Space,
    out: Path | None,
    describe: Describe,
    scorer_of: ScorerOf,
    shard: Shard | None = None,
    keep: Callable[[Cell], bool] | None = None,
    room: Room | None = None,
) -> Plan:
    """Return the plan of a grid, or of some of its cells.

    Args:
        space: the grid.
        out: the run's folder, `runs/<name>` where None.
        describe: a label and a generator -> what makes its fakes, by content.
        scorer_of: name, grid, a split of the dataset and a fake source -> the scorer.
        shard: a fixed share of the cells.
        keep: of which cells the grid is to consist; None: all.
        room: what trials may use; None where that does not matter, or is known later.

    Raises:
        GridError: with everything that is wrong, each line a rule, a value and a cure.
    """
    problems = checks.logger_problems(space)
    problems += room.misfits(space.resources) if room is not None else []
    dataset, wrong = checks.dataset_of(space)
    problems += wrong
    if dataset is None:
        _, wrong = fake_sources_of(space, None, describe)
        raise GridError([*problems, *wrong], space.name)
    drafted = draft(space, dataset, describe, scorer_of, problems, keep)
    checks.warn_of_scratch(drafted.scratch)
    every, scoring, reals = drafted.cells, drafted.scoring, drafted.reals
    cells = every if shard is None else shard.of(every)
    problems = [*drafted.problems]
    problems += [] if shard is None else _shard_problems(space, scoring)
    if scoring and space.confirmation is not None:
        problems.append(
            "`scorers.classifier: baseline` is of this stage's seeds, and `confirmation` has "
            "others. Keep a baseline's model by a grid of its own, and give it as model:FILE"
        )
    problems += checks.split_problems(drafted.splits)
    problems += checks.mix_problems(cells, reals, space.pool)
    if not problems:
        checks.warn_of_large_batches(cells, reals, space.pool)
    indices = []
    for source in drafted.fake_sources:
        index, wrong = fake_needs.index_of(source)
        indices.append(index)
        problems += wrong
    run = RunPaths(out or Path("runs") / space.name)
    problems += checks.place_problems(run)
    sources, leaks = sources_of(space, dataset, every, drafted.fake_sources, drafted.splits)
    if problems or leaks:
        raise GridError([*problems, *leaks], space.name)
    if space.scheduler.type == "asha":
        _log.warning(history.ASHA_CAUTION)
    statuses = results.statuses_of(run, [cell.cell_id for cell in cells])
    cells = tuple(at_its_round(run, cell, statuses.get(cell.cell_id)) for cell in cells)
    if unkept := _unkept(run, scoring, statuses):
        raise GridError(unkept, space.name)
    stopped = stopped_cells(space, run, cells, statuses)
    todo = [cell for cell in cells if not is_over(cell, statuses, stopped)]
    needs = tuple(
        fake_needs.needs_of(source, index, cells, todo, reals, space.pool)
        for source, index in zip(drafted.fake_sources, indices, strict=True)
    )
    if short := [rate.problem for each in needs for rate in each.keep_rates if rate.problem]:
        raise GridError(short, space.name)
    plan = Plan(
        space=space,
        dataset=dataset,
        run=run,
        cells=cells,
        grid_cells=every,
        statuses=statuses,
        stopped=stopped,
        needs=needs,
        sources=sources,
        reals=reals,
        scoring=scoring,
    )
    checks.check_disk(space.name, _bytes_to_write(plan))
    return plan


def _shard_problems(space: Space, scoring: Mapping[Split, str]) -> list[str]:
    """Return why the cells of a grid cannot be divided among shards."""
    problems = []
    if space.scheduler.type != "none":
        problems.append(
            f"`scheduler: {space.scheduler.type}` compares a cell with those of the whole grid, "
            "which no shard sees. Leave --shard out, or the scheduler"
        )
    if scoring or (space.rounds and not space.rounds.keep_shards):
        key = "scorers.classifier: baseline" if scoring else "rounds.keep_shards: false"
        problems.append(
            f"`{key}` has the cells of a grid wait for each other, which shards do not. Leave "
            "--shard out, or the key"
        )
    return problems


def _unkept(run: RunPaths, scoring: Mapping[Split, str], statuses: Mapping[str, str]) -> list[str]:
    """Return which baselines score fakes but were trained before their models were kept."""
    return [
        f"`scorers.classifier: baseline` wants the model of cell {cell_id}, which was trained "
        f"without keeping it. Remove {run.trial(cell_id).root}; it is trained again"
        for cell_id in dict.fromkeys(scoring.values())
        if statuses.get(cell_id) == "ok" and not run.trial(cell_id).model.is_file()
    ]


def stopped_cells(
    space: Space, run: RunPaths, cells: tuple[Cell, ...], statuses: Mapping[str, str]
) -> frozenset[str]:
    """Return the cells that the grid's scheduler stops, given what is on disk.

    Raises:
        GridError: its arms have too few seeds for it.
    """
    try:
        return history.stopped_cells(run, cells, statuses, space.scheduler)
    except ValueError as error:
        raise GridError([f"`scheduler`: {error}"], space.name) from None


def _bytes_to_write(plan: Plan) -> dict[Path, int]:
    """Return the bytes a search adds below each folder."""
    found = {plan.run.root: len(plan.todo) * TRIAL_BYTES}
    sizes = [plan.bank_bytes(needs) for needs in plan.needs]
    for needs, size in zip(plan.needs, sizes, strict=True):
        if needs.source.store.folder is not None:
            found[needs.source.store.folder] = size
    if plan.needs:
        found[paths.cache_root()] = sum(sizes)  # decoded
    return found


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


def scoring_baselines(space: Space, points: Iterable[Point], context: Context) -> dict[Split, str]:
    """Return the baselines, by split, that `scorers.classifier: baseline` scores fakes by.

    Args:
        context: of cells without fakes.
    """
    asked = space.scorers is not None and space.scorers.classifier == OWN
    read = (parse(text).scorers for axes in space.lists for text in axes.filter)
    if not asked or not any("classifier" in names for names in read):
        return {}
    return first_baselines(space, points, context)


def contexts_of(
    space: Space, context: Context, fake_sources: tuple[FakeSource, ...]
) -> tuple[dict[str | None, Context], list[str]]:
    """Return what cell ids depend on beside the grid, by snapshot, and what is wrong with it.

    Args:
        context: of cells without fakes.
    """
    imported = {each.snapshot: imported_digests(space, each) for each in fake_sources}
    contexts: dict[str | None, Context] = {None: context}
    for source in fake_sources:
        contexts[source.snapshot] = replace(
            context,
            generator=source.identity,
            imported=imported[source.snapshot],
            scorers=source.scorer_digests,
        )
    return contexts, alike(fake_sources, imported)


def sources_of(
    space: Space,
    dataset: Dataset,
    cells: tuple[Cell, ...],
    fake_sources: tuple[FakeSource, ...],
    splits: Mapping[Split, Dataset],
) -> tuple[dict[str | None, TrialSources], list[str]]:
    """Return where trials find their images, by the snapshot of their cell, and the leaks."""
    problems: list[str] = []
    no_fakes = TrialSources(
        dataset=str(dataset.root.resolve()),
        bank=None,
        pool=space.pool,
        leakage="none",
        dataset_digest=dataset.spec.digest,
        snapshots="",
    )
    found: dict[str | None, TrialSources] = {None: no_fakes}
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
