"""The planner: validates a search and returns its cells and the fakes they need."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.bank import Scorer
from fgaug.core import paths
from fgaug.core.node_cache import local_file
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
from fgaug.runs.place import run_of_search
from fgaug.runs.row import TrialSources
from fgaug.study import checks, fake_needs, generator_precision
from fgaug.study.draft import Draft
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.fake_source import (
    Describe,
    FakeSource,
    ScorerOf,
    contexts_of,
    fake_sources_of,
)
from fgaug.study.generators import check_critics, describe_source, label_sources
from fgaug.study.leakage import exposure, leakage
from fgaug.study.plan import TRIAL_BYTES, Plan, Shard, is_over
from fgaug.study.precision import Choices
from fgaug.study.preparations import Part, joined, joined_sources, parts_of
from fgaug.study.resources import Room
from fgaug.study.schedule import at_its_round
from fgaug.study.scorers import judge_problems, scorer_of
from fgaug.study.tune import history

if TYPE_CHECKING:
    from gan_worker.filling.label_generators import LabelSource

_log = logging.getLogger("fgaug")
NO_TEST = (
    "`confirmation` tests arms on the test set, but {} has none. Prepare the dataset with one "
    "(`fgaug data prepare --test 0.2`), or drop `confirmation`"
)
OWN = "baseline"  # value of `scorers.classifier`: a model trained by this search


def plan(
    grid: str | Path | Space,
    out: str | PathLike[str] | None = None,
    shard: Shard | None = None,
    keep: Callable[[Cell], bool] | None = None,
    room: Room | None = None,
) -> Plan:
    """Plan the search of a grid, with all checks; see `make_plan`."""
    space = grid if isinstance(grid, Space) else load_space(local_file(str(grid), UserError))
    # `load_space` has checked its grid, and `keep` comes only with grids derived from those
    if isinstance(grid, Space) and keep is None and (problems := problems_of(space)):
        raise GridError(problems, space.name)
    planned = make_plan(space, out, describe_source, scorer_of, shard, keep, room)
    for needs in planned.needs:
        check_networks(needs, label_sources(needs.source))
        check_critics(planned, needs)
    return planned


def check_networks(needs: FakeNeeds, sources: Mapping[str, LabelSource]) -> None:
    """Check that the networks can generate the fakes missing from their bank."""
    if needs.missing.count:
        from gan_worker.filling.label_generators import check_sources

        check_sources(sources, needs.source.spec, needs.source.store)


def draft(
    space: Space,
    dataset: Dataset,
    describe: Describe,
    scorer_of: ScorerOf,
    problems: Iterable[str],
    precisions: Choices,
    keep: Callable[[Cell], bool] | None = None,
) -> Draft:
    """Return the cells and fake sources of a grid on a dataset, expanding the grid once.

    Args:
        space: the grid.
        dataset: of the grid, or a stand-in with counts only.
        describe: as in `make_plan`.
        scorer_of: as in `make_plan`.
        problems: from earlier checks, to report with those of networks, banks and models.
        precisions: what `precision: auto` stands for.
        keep: selects cells; None: all.

    Raises:
        GridError: there are problems so far; all are listed.
    """
    points = precisions.resolve(expand(space), dataset.spec)
    recipes = recipes_of(points)
    settle = functools.partial(generator_precision.settled, choices=precisions)
    fake_sources, wrong = fake_sources_of(space, dataset.spec, describe, settle)
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
    found = found or judge_problems(space, dataset)
    if found:
        raise GridError(found, space.name)
    contexts, found = contexts_of(space, context, fake_sources)
    cells = cells_of(space, points, contexts)
    cells = cells if keep is None else tuple(filter(keep, cells))
    if space.confirmation is not None and not (dataset.manifest["split"] == "test").any():
        found.append(NO_TEST.format(dataset.place))
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
    out: str | PathLike[str] | None,
    describe: Describe,
    scorer_of: ScorerOf,
    shard: Shard | None = None,
    keep: Callable[[Cell], bool] | None = None,
    room: Room | None = None,
) -> Plan:
    """Return the plan of a grid, or of some of its cells.

    Args:
        space: the grid.
        out: the run's folder or URI; None: `runs/<name>`.
        describe: returns the content of the generator of a label.
        scorer_of: returns a scorer by name, grid, dataset with a split, and fake source.
        shard: plans only this shard of the cells.
        keep: selects cells of the grid; None: all.
        room: resources for trials; None if irrelevant or not yet known.

    Raises:
        GridError: there are problems; all are listed, each with rule, value and cure.
    """
    problems = checks.logger_problems(space)
    problems += room.misfits(space.resources) if room is not None else []
    dataset, wrong = checks.dataset_of(space)
    problems += wrong
    if dataset is None:
        _, wrong = fake_sources_of(space, None, describe, lambda generator, *_: generator)
        raise GridError([*problems, *wrong], space.name)
    space, wrong = checks.with_folds(space, dataset)
    if wrong:
        raise GridError([*problems, *wrong], space.name)
    parts, wrong = parts_of(space, dataset)
    if wrong:
        raise GridError([*problems, *wrong], space.name)
    run = run_of_search(out, space.name)
    precisions = precisions_of(space, run, room)
    drafts = drafts_of(parts, describe, scorer_of, problems, precisions, keep)
    drafted = joined(zip(parts, drafts, strict=True))
    checks.warn_of_scratch(drafted.scratch)
    every, scoring, reals = drafted.cells, drafted.scoring, drafted.reals
    cells = every if shard is None else shard.of(every)
    problems = [*drafted.problems]
    problems += [] if shard is None else _shard_problems(space, scoring)
    if scoring and space.confirmation is not None:
        problems.append(
            "`scorers.classifier: baseline` cannot be combined with `confirmation`, whose cells "
            "have other seeds. Train and keep a baseline's model with a grid of its own, and give "
            "it as `scorers: {classifier: model:FILE}`"
        )
    for of in drafts:
        problems += checks.split_problems(of.splits)
    problems += checks.mix_problems(cells, reals, space.pool)
    if not problems:
        checks.warn_of_large_batches(cells, reals, space.pool)
    indices = []
    for source in drafted.fake_sources:
        index, wrong = fake_needs.index_of(source)
        indices.append(index)
        problems += wrong
    problems += checks.place_problems(run)
    sources, leaks = sources_of_parts(parts, drafts)
    if problems or leaks:
        raise GridError([*problems, *leaks], space.name)
    if space.scheduler.type == "asha":
        _log.warning(history.ASHA_CAUTION)
    statuses = results.statuses_of(run, [cell.cell_id for cell in cells])
    cells = tuple(at_its_round(run, cell, statuses.get(cell.cell_id)) for cell in cells)
    if unsaved := _unsaved(run, scoring, statuses):
        raise GridError(unsaved, space.name)
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
        precisions=precisions.used,
    )
    checks.check_disk(space.name, _bytes_to_write(plan))
    return plan


def precisions_of(space: Space, run: RunPaths, room: Room | None) -> Choices:
    """Return the choices of `precision: auto` for a run, given the resources of its search."""
    held = space.resources
    cores_only = not isinstance(held, str) and not held.gpu
    cores_only = cores_only or (room is not None and room.address is None and not room.gpus)
    return Choices(run, None if room is None else room.address, cores_only=cores_only)


def drafts_of(
    parts: Sequence[Part],
    describe: Describe,
    scorer_of: ScorerOf,
    problems: Iterable[str],
    precisions: Choices,
    keep: Callable[[Cell], bool] | None,
) -> list[Draft]:
    """Return the draft of each dataset of a grid; see `draft`.

    Raises:
        GridError: there are problems so far; all are listed.
    """
    found, wrong, name = [], list(problems), parts[0].space.name
    for part in parts:
        try:
            found.append(
                draft(part.space, part.dataset, describe, scorer_of, (), precisions, keep)
            )
        except GridError as error:
            wrong += part.named(error.problems)
    if wrong:
        raise GridError(wrong, name)
    return found


def sources_of_parts(
    parts: Sequence[Part], drafts: Sequence[Draft]
) -> tuple[dict[str | None, TrialSources], list[str]]:
    """Return the image sources of trials by `Cell.source`, and the leaks of all networks."""
    found, leaks = [], []
    for part, of in zip(parts, drafts, strict=True):
        sources, wrong = sources_of(part.space, part.dataset, of.cells, of.fake_sources, of.splits)
        found.append((part, sources))
        leaks += part.named(wrong)
    return joined_sources(found), leaks


def _shard_problems(space: Space, scoring: Mapping[Split, str]) -> list[str]:
    """Return the reasons why a grid cannot be divided into shards."""
    problems = []
    if space.scheduler.type != "none":
        problems.append(
            f"`scheduler: {space.scheduler.type}` compares cells of the whole grid, which a shard "
            "does not see. Drop --shard or the scheduler"
        )
    if scoring or (space.rounds and not space.rounds.keep_shards):
        key = "scorers.classifier: baseline" if scoring else "rounds.keep_shards: false"
        problems.append(
            f"`{key}` makes cells of the grid wait for each other, which shards cannot. Drop "
            "--shard or the key"
        )
    return problems


def _unsaved(
    run: RunPaths, scoring: Mapping[Split, str], statuses: Mapping[str, str]
) -> list[str]:
    """Return the problems of scoring baselines that were trained without saving their models."""
    return [
        f"`scorers.classifier: baseline` needs the model of cell {cell_id}, which was trained "
        f"without saving it. Remove {run.trial(cell_id).root} to train the cell again"
        for cell_id in dict.fromkeys(scoring.values())
        if statuses.get(cell_id) == "ok" and not run.trial(cell_id).model.is_file()
    ]


def stopped_cells(
    space: Space, run: RunPaths, cells: tuple[Cell, ...], statuses: Mapping[str, str]
) -> frozenset[str]:
    """Return the cells that the grid's scheduler stops, given the results on disk.

    Raises:
        GridError: arms have too few seeds for the scheduler.
    """
    try:
        return history.stopped_cells(run, cells, statuses, space.scheduler)
    except ValueError as error:
        raise GridError([f"`scheduler`: {error}"], space.name) from None


def _bytes_to_write(plan: Plan) -> dict[Path, int]:
    """Return the bytes that a search adds to each folder."""
    found = {plan.run.root: len(plan.todo) * TRIAL_BYTES}
    sizes = [plan.bank_bytes(needs) for needs in plan.needs]
    for needs, size in zip(plan.needs, sizes, strict=True):
        if needs.source.store.folder is not None:
            found[needs.source.store.folder] = size
    if plan.needs:
        found[paths.cache_root()] = sum(sizes)  # the same fakes, decoded
    return found


def with_scorers(
    space: Space,
    dataset: Dataset,
    fake_sources: tuple[FakeSource, ...],
    scorer_of: ScorerOf,
    baselines: Mapping[Split, str],
) -> tuple[tuple[FakeSource, ...], list[str]]:
    """Return the fake sources with the scorers of the grid's filters, and any problems.

    Args:
        baselines: cells of this search that score fakes, see `scoring_baselines`.
    """
    names: dict[Split, dict[str, None]] = {}
    for axes in space.lists:
        used = [name for text in axes.filter for name in parse(text).scorers]
        for split in space.splits_of(axes) if used else ():
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
    """Return the baselines whose models score fakes (`scorers.classifier: baseline`), by split.

    Args:
        context: of cells without fakes.
    """
    own = space.scorers is not None and space.scorers.classifier == OWN
    read = (parse(text).scorers for axes in space.lists for text in axes.filter)
    if not own or not any("classifier" in names for names in read):
        return {}
    return first_baselines(space, points, context)


def sources_of(
    space: Space,
    dataset: Dataset,
    cells: tuple[Cell, ...],
    fake_sources: tuple[FakeSource, ...],
    splits: Mapping[Split, Dataset],
) -> tuple[dict[str | None, TrialSources], list[str]]:
    """Return the image sources of trials by snapshot, and the leaks of their networks."""
    problems: list[str] = []
    no_fakes = TrialSources(
        dataset=dataset.uri,
        bank=None,
        pool=space.pool,
        leakage="none",
        dataset_digest=dataset.spec.digest,
        snapshots="",
    )
    found: dict[str | None, TrialSources] = {None: no_fakes}
    for fake_source in fake_sources:
        used_in = {
            cell.split: splits[cell.split]
            for cell in cells
            if cell.uses_fakes and cell.snapshot == fake_source.snapshot
        }
        known, leaks = leakage(fake_source, used_in)
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
