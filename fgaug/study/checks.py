"""Checks of a search's dataset, models, mixes and disks; each returns a list of problems."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgaug.core import paths
from fgaug.core.paths import BankNames, DatasetPaths, RunPaths
from fgaug.core.split_names import PREPARED, fold_of
from fgaug.data import Dataset, DatasetSpec, open_dataset
from fgaug.data.audit import audit
from fgaug.errors import DataError, GridError, UserError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.grid.checks import problems_of
from fgaug.grid.recipe import Recipe, Transform
from fgaug.grid.space import Space
from fgaug.runs import mix, reals
from fgaug.study.fake_source import listed

OPTIONAL_LOGGERS = ("mlflow", "wandb")  # optional packages, also the names of the extras
DISK_MARGIN = 256 << 20  # bytes to leave free on every disk a search writes to
SAMPLE = 3  # training images to test pipelines on
_log = logging.getLogger("fgaug")
_FROM_SCRATCH = (
    "no pretrained weights of {} on this machine; training from scratch because `allow_scratch` "
    "is set"
)


def dataset_of(space: Space) -> tuple[Dataset | None, list[str]]:
    """Return the dataset of a grid and its problems: leaks and mismatched labels.

    The dataset is None if it cannot be opened.
    """
    try:
        dataset = open_dataset(space.dataset)
        if dataset.remote is None:
            dataset.everything()  # damaged pixels are reported before anything starts
    except DataError as error:
        return None, [f"`dataset`: {error}"]
    problems = [f"`dataset`: {problem}" for problem in audit(dataset)]
    problems += label_problems(space, dataset.spec.labels)
    if space.counts is not None and (other := space.counts.differences(dataset.manifest)):
        _log.warning(
            f"{dataset.place} does not match the grid's `counts`: {'; '.join(other)}. "
            "The search uses the dataset; correct the grid, or find the cause"
        )
    return dataset, problems


def label_problems(space: Space, known: Iterable[str]) -> list[str]:
    """Return the problems of values by label that do not name the dataset's labels."""
    labels = set(known)
    named = [("axes.fakes", set(counts)) for counts in space.axes.fakes]
    named += [("axes.psi", set(psi)) for psi in space.axes.psi if isinstance(psi, Mapping)]
    named += [("remove", set(removal)) for removal in space.removals]
    for place, entry in enumerate(space.include):
        named += [(f"include.{place}.fakes", set(counts)) for counts in entry.fakes]
        by_label = [psi for psi in entry.psi if isinstance(psi, Mapping)]
        named += [(f"include.{place}.psi", set(psi)) for psi in by_label]
        named += [(f"include.{place}.remove", set(removal)) for removal in entry.remove]
    return [
        f"`{key}` must name the labels {listed(labels)}, got {listed(names)}"
        for key, names in named
        if names != labels
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The initial weights of a grid's recipes, and their problems."""

    identities: Mapping[str, str]  # "scratch", or name and digest, by recipe as JSON
    scratch: tuple[str, ...]  # models whose pretrained weights are not on this machine
    problems: tuple[str, ...]


def weights_of(recipes: Iterable[Recipe], dataset: Dataset) -> Weights:
    """Return the initial weights of each recipe, after trying each recipe out.

    Runs each network once at the dataset's size, and each augmentation step on a few images.

    Args:
        recipes: of the grid, each once.
        dataset: of the grid; its pixels are read if a recipe has an augmentation pipeline.
    """
    from fgaug.training.keras.process import shut_down

    spec = dataset.spec
    identities: dict[str, str] = {}
    scratch: list[str] = []
    problems: list[str] = []
    networks: set[tuple[str, str]] = set()  # (model, weights) already tested; recipes share some
    pipelines: list[tuple[Transform, ...]] = []
    for recipe in recipes:
        steps = recipe.augmentation
        if isinstance(steps, tuple) and steps not in pipelines:
            pipelines.append(steps)
            problems += _pipeline_problems(steps, dataset)
        opened = _keras_weights_of if recipe.backend == "keras" else _torch_weights_of
        try:
            identity = opened(recipe, spec, networks)
        except GridError as error:
            problems += error.problems
            continue
        except UserError as error:
            problems.append(f"`recipe.weights`: {error}")
            continue
        identities[recipe.model_dump_json()] = identity
        if recipe.pretrained and identity == "scratch":
            scratch.append(recipe.model)
    shut_down()  # the process that tested Keras recipes is not needed any more
    return Weights(
        identities=identities,
        scratch=tuple(scratch),
        problems=tuple(dict.fromkeys(problems)),
    )


def _pipeline_problems(steps: tuple[Transform, ...], dataset: Dataset) -> list[str]:
    """Return the problems of a pipeline, after applying each step to a few training images."""
    from fgaug.training.pytorch import pipeline_check

    rows = np.flatnonzero(dataset.manifest["split"].to_numpy() == "train")
    chosen = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)]
    try:
        for remark in pipeline_check.check(steps, dataset.pixels()[chosen]):
            _log.warning(remark)
    except GridError as error:
        return list(error.problems)
    except UserError as error:  # raised by reading pixels
        return [f"`dataset`: {error}"]
    return []


def warn_of_scratch(models: Iterable[str]) -> None:
    """Warn of models that train from scratch for lack of pretrained weights."""
    for model in models:
        _log.warning(_FROM_SCRATCH.format(model))


def _torch_weights_of(recipe: Recipe, spec: DatasetSpec, networks: set[tuple[str, str]]) -> str:
    """Return the identity of a PyTorch recipe's weights, after running the network once.

    Args:
        recipe: the recipe to test.
        spec: of the dataset.
        networks: (model, weights) already tested; this one is added.

    Raises:
        GridError: unknown model or weights, or an image size the network cannot take.
        UserError: the weights cannot be read.
    """
    from fgaug.training import weights
    from fgaug.training.pytorch import models, size_check

    if (problem := models.check_name(recipe.model)) is not None:
        raise GridError([problem])
    start = weights.find(recipe)
    if (recipe.model, start.identity) not in networks:
        networks.add((recipe.model, start.identity))
        size_check.check(recipe, start, spec.size, spec.channels, len(spec.labels))
    return start.identity


def _keras_weights_of(recipe: Recipe, spec: DatasetSpec, networks: set[tuple[str, str]]) -> str:
    """Return the identity of a Keras recipe's weights, tested in a separate TensorFlow process."""
    from fgaug.training.keras.learner import KerasLearner

    del networks  # a Keras recipe may change the network, so each is tested
    learner = KerasLearner(recipe, spec.labels, 0, "cpu")
    learner.open_for(spec.size, spec.channels)
    learner.close()
    return learner.identity


def with_folds(space: Space, dataset: Dataset) -> tuple[Space, list[str]]:
    """Return a grid with `axes.fold: all` resolved, and its problems with the dataset's folds."""
    if space.axes.fold is None:
        return space, []
    known = dataset.spec.folds
    if not known:
        return space, [
            f"`axes.fold`: {dataset.place} has no folds. Prepare the dataset with --fold-col"
        ]
    found = space.with_folds(known)
    problems = [
        f"`axes.fold`: {dataset.place} has no fold {fold}; its folds are "
        f"{', '.join(map(str, known))}"
        for fold in found.folds
        if fold not in known
    ]
    if not problems and space.axes.fold == "all":
        problems = problems_of(found)  # the number of cells is known only now
    return found, problems


def split_problems(splits: Mapping[Split, Dataset]) -> list[str]:
    """Return the problems of resplits and folds, that is of splits other than as prepared."""
    problems = []
    for split, divided in splits.items():
        fold = fold_of(split)
        for problem in audit(divided) if split != PREPARED else ():
            if fold is None:
                problems.append(f"`axes.split` {split}: {problem}. Try another number")
            else:
                problems.append(
                    f"`axes.fold` {fold}: {problem}. Prepare the dataset with other folds"
                )
    return problems


def mix_problems(
    cells: tuple[Cell, ...], reals: Mapping[Split, reals.Reals], pool: int
) -> list[str]:
    """Return the problems of mixes, each reported for the first affected seed of an arm.

    Counts depend on the seed only if a fraction of the patients is drawn; other arms are checked
    at one seed.
    """
    found: dict[str, list[str]] = {}  # by arm
    fine: set[Hashable] = set()
    for cell in cells:
        if cell.arm_id not in found or (cell.real_fraction < 1 and not found[cell.arm_id]):
            key = mix.same_sizes(cell)
            problems = [] if key in fine else mix.check(cell, reals[cell.view], pool)
            found[cell.arm_id] = problems
            if not problems:
                fine.add(key)
    return list(dict.fromkeys(problem for problems in found.values() for problem in problems))


def warn_of_large_batches(
    cells: tuple[Cell, ...], reals: Mapping[Split, reals.Reals], pool: int
) -> None:
    """Warn of arms with fewer training images than one batch."""
    small: dict[str, tuple[int, str]] = {}  # images and a cell, by arm
    known: dict[Hashable, int] = {}
    for cell in cells:
        if cell.arm_id not in small:
            key = mix.same_sizes(cell)
            if key not in known:
                mixed = mix.sizes(cell, reals[cell.view], pool)
                known[key] = mixed.n_real + mixed.n_fake
            small[cell.arm_id] = known[key], cell.described
            if small[cell.arm_id][0] >= cell.recipe.batch_size:
                small[cell.arm_id] = cell.recipe.batch_size, ""
    found = sorted(pair for pair in small.values() if pair[1])
    if found:
        count, which = found[0]
        _log.warning(
            f"{len(found)} of {len(small)} arms have fewer training images than "
            f"`recipe.batch_size`; the smallest has {count} ({which}). With `unit: epochs` they "
            "train on smaller batches, with `unit: steps` batches repeat images"
        )


def place_problems(run: RunPaths) -> list[str]:
    """Return the problems of the run's folder and of the pixel cache."""
    root, problems = run.root, []
    if root.exists() and not root.is_dir():
        problems.append(f"{root} is a file, but a run needs a folder. Give another --out")
    elif not os.access(_existing(root), os.W_OK | os.X_OK):
        problems.append(
            f"{root} cannot be written: no permission for {_existing(root)}. Give another --out"
        )
    for other, file in (("dataset", DatasetPaths(root).spec), ("bank", root / BankNames.spec)):
        if file.exists():
            problems.append(f"{root} is a {other}. Give the run its own folder by --out")
    try:
        paths.usable_cache()
    except UserError as error:
        problems.append(str(error))
    return problems


def logger_problems(space: Space) -> list[str]:
    """Return the packages missing for the grid's `loggers`, with the cure."""
    return [
        f"`loggers: {name}` needs a package that is not installed: pip install 'fgaug[{name}]', "
        "or drop it"
        for name in space.loggers
        if name in OPTIONAL_LOGGERS and not _installed(name)
    ]


def _installed(package: str) -> bool:
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None  # not just a folder of that name


def check_disk(name: str, needs: Mapping[Path, int]) -> None:
    """Check that the disks have space for a search; `needs` gives the bytes per folder.

    Raises:
        GridError: a disk is too small; the message gives needed and free space.
    """
    by_device: dict[int, int] = {}
    for folder, wanted in needs.items():
        device = _existing(folder).stat().st_dev
        by_device[device] = by_device.get(device, 0) + wanted
    for folder in needs:
        there = _existing(folder)
        wanted, free = by_device[there.stat().st_dev], shutil.disk_usage(there).free
        if wanted and wanted + DISK_MARGIN > free:
            raise GridError(
                [
                    f"the search needs about {wanted / 1e9:.1f} GB below {there} plus a margin of "
                    f"{DISK_MARGIN / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free. Free "
                    "some space, or lower the ratios"
                ],
                name,
            )


def _existing(path: Path) -> Path:
    path = path.resolve()
    return next(parent for parent in (path, *path.parents) if parent.exists())
