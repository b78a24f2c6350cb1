"""The plan of a search: every check before anything runs, then cells and the fakes they lack.

space, dataset, bank -> [planning] -> what `search` does and what `--dry-run` shows
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from fgaug import mix, paths, results
from fgaug.bank import BankSpec, Demand, Source, local_root, open_bank, read_spec
from fgaug.cells import Cell, Context, expand, recipes
from fgaug.data import Dataset, open_dataset
from fgaug.data.audit import audit
from fgaug.errors import BankError, DataError, GridError, SnapshotError
from fgaug.paths import BankPaths, RunPaths
from fgaug.space import Generator, Space
from fgaug.trial import Sources

_log = logging.getLogger("fgaug")
TRIAL_BYTES = 100_000  # row, curve and predictions of a trial of a thousand images
DISK_MARGIN = 256 << 20  # left free on a disk that a search writes to

Describe = Callable[[str, Generator], Source]  # label, generator -> its source by content


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is settled before a search starts."""

    space: Space
    dataset: Dataset
    run: RunPaths
    cells: tuple[Cell, ...]
    statuses: Mapping[str, str]  # of cells that have a row: ok or failed
    bank: Path | None
    bank_spec: BankSpec | None
    demand: Demand  # every fake of every cell
    present: int  # how many of those the bank holds
    missing: Demand  # those of `todo` that it lacks
    sources: Sources

    @property
    def todo(self) -> tuple[Cell, ...]:
        """Cells that are missing or failed, seeds outermost."""
        return tuple(cell for cell in self.cells if self.statuses.get(cell.cell_id) != "ok")

    @property
    def missing_bytes(self) -> int:
        """Disk that the missing fakes take: in the bank and decoded in this machine's cache."""
        if self.bank_spec is None:
            return 0
        return 2 * self.missing.count * self.bank_spec.size**2 * self.bank_spec.channels


def make_plan(space: Space, out: Path | None, describe: Describe) -> Plan:
    """Return the plan of a grid.

    Raises:
        GridError: with everything that is wrong, each line a rule, a value and a cure.
    """
    problems: list[str] = []
    dataset = _dataset(space, problems)
    generated = _sources_by_label(space, dataset, describe, problems)
    weights = _weights(space, problems)
    if problems or dataset is None:
        raise GridError(problems, space.name)
    context = Context(
        dataset_digest=dataset.spec.digest,
        generator=_generator_identity(space, dataset, generated),
        pool=space.pool,
        weights=weights,
    )
    cells = expand(space, context)
    reals = mix.Reals(dataset.manifest, dataset.spec.labels)
    problems += _mix_problems(cells, reals, space.pool)
    spec, index, bank = _bank(space, dataset, generated, problems)
    leakage = _leakage(space, dataset, generated, bank, problems)
    if problems:
        raise GridError(problems, space.name)
    run = RunPaths(out or Path("runs") / space.name)
    statuses = results.finished(run, [cell.cell_id for cell in cells])
    todo = [cell for cell in cells if statuses.get(cell.cell_id) != "ok"]
    demand = mix.demand(cells, reals, space.pool)
    plan = Plan(
        space=space,
        dataset=dataset,
        run=run,
        cells=cells,
        statuses=statuses,
        bank=bank,
        bank_spec=spec,
        demand=demand,
        present=demand.count - demand.minus(index).count,
        missing=mix.demand(todo, reals, space.pool).minus(index),
        sources=Sources(
            dataset=str(dataset.root.resolve()),
            bank=str(bank.resolve()) if bank else None,
            pool=space.pool,
            leakage=leakage,
            snapshots=" ".join(f"{label}:{s.sha256[:12]}" for label, s in generated.items()),
            gan_known=all(source.kind != "stylegan2" for source in generated.values()),
        ),
    )
    _check_disk(plan)
    return plan


def _dataset(space: Space, problems: list[str]) -> Dataset | None:
    try:
        dataset = open_dataset(space.dataset)
    except DataError as error:
        problems.append(f"`dataset`: {error}")
        return None
    problems += [f"`dataset`: {problem}" for problem in audit(dataset)]
    labels = set(dataset.spec.labels)
    named = [("axes.fakes", set(counts)) for counts in space.axes.fakes]
    named += [("remove", set(removal)) for removal in space.removals]
    for key, names in named:
        if names != labels:
            problems.append(
                f"`{key}` must name the labels {_listed(labels)}, it names {_listed(names)}"
            )
    return dataset


def _sources_by_label(
    space: Space, dataset: Dataset | None, describe: Describe, problems: list[str]
) -> dict[str, Source]:
    generator = space.generator
    if generator is None or dataset is None:
        return {}
    if generator.kind == "stylegan2":
        for label in dataset.spec.labels:
            if label not in generator.snapshots:
                problems.append(f"`generator.snapshots` has no network for the label `{label}`")
        for label in generator.snapshots:
            if label not in dataset.spec.labels:
                problems.append(
                    f"`generator.snapshots.{label}`: the dataset has no such label, "
                    f"it has {_listed(dataset.spec.labels)}"
                )
    found = {}
    for label in dataset.spec.labels:
        if generator.kind != "stylegan2" or label in generator.snapshots:
            try:
                found[label] = describe(label, generator)
            except SnapshotError as error:
                problems.append(f"`generator`: {error}")
    return found


def _weights(space: Space, problems: list[str]) -> dict[str, str]:
    """Check models, weights and augmentations; return the identity of each recipe's weights."""
    from fgaug.training import augment, models, weights

    found = {}
    for recipe, _ in recipes(space):
        problem = models.check_name(recipe.model)
        if problem is not None:
            problems.append(problem)
            continue
        try:
            start = weights.find(recipe)
            found[recipe.model_dump_json()] = start.identity
            if recipe.pretrained and start.scratch:
                _log.warning(
                    f"no pretrained weights of {recipe.model} on this machine: it trains from "
                    "scratch, as `allow_scratch` allows"
                )
            if isinstance(recipe.augmentation, tuple):
                augment.pipeline(recipe.augmentation, 0)
        except GridError as error:
            problems += error.problems
    problems[:] = dict.fromkeys(problems)
    return found


def _generator_identity(
    space: Space, dataset: Dataset, generated: Mapping[str, Source]
) -> dict[str, object]:
    if space.generator is None:
        return {}
    return {
        "sources": {label: [s.kind, s.sha256, s.class_index] for label, s in generated.items()},
        "noise": space.generator.noise,
        "size": dataset.spec.size,
        "channels": dataset.spec.channels,
        "resize_filter": "lanczos",
    }


def _mix_problems(cells: tuple[Cell, ...], reals: mix.Reals, pool: int) -> list[str]:
    """Return what cannot be mixed, checked once an arm: counts do not depend on the seed."""
    first = {cell.arm_id: cell for cell in reversed(cells)}
    return list(dict.fromkeys(p for cell in first.values() for p in mix.check(cell, reals, pool)))


def _bank(
    space: Space, dataset: Dataset, generated: Mapping[str, Source], problems: list[str]
) -> tuple[BankSpec | None, pd.DataFrame, Path | None]:
    """Return what the grid's bank must be, its index (empty where it has none), its folder."""
    nothing = pd.DataFrame({"label": [], "psi": [], "z_seed": []})
    if space.bank is None or space.generator is None:
        return None, nothing, None
    spec = BankSpec(
        size=dataset.spec.size,
        channels=dataset.spec.channels,
        noise=space.generator.noise,
        sources=generated,
    )
    root = local_root(space.bank)
    bank_paths = BankPaths(root)
    if not bank_paths.spec.is_file():
        return spec, nothing, root
    try:
        found = read_spec(bank_paths).differences(spec)
        if found:
            problems.append(
                f"`bank`: {root} holds other fakes: {'; '.join(found)}. Give this grid a bank of "
                "its own"
            )
        elif bank_paths.manifest.is_file():
            return spec, open_bank(root).index(), root
    except BankError as error:
        problems.append(f"`bank`: {error}")
    return spec, nothing, root


def _leakage(
    space: Space,
    dataset: Dataset,
    generated: Mapping[str, Source],
    bank: Path | None,
    problems: list[str],
) -> str:
    """Refuse snapshots that saw a validation or test image, or another image of its patient."""
    if all(source.kind != "stylegan2" for source in generated.values()):
        return "none"
    held_out = dataset.manifest[dataset.manifest["split"] != "train"]
    known = 0
    for label, source in generated.items():
        assert space.generator is not None
        file = Path(space.generator.snapshots[label].file)
        beside = [file.with_suffix(".trained_on.parquet")]
        if bank is not None:
            beside.append(BankPaths(bank).trained_on(source.sha256))
        record = next((path for path in beside if path.is_file()), None)
        if record is None:
            continue
        known += 1
        seen = paths.read_table(record, SnapshotError).to_pandas()
        images = int(held_out["sha256"].isin(seen["sha256"]).sum())
        groups = held_out.loc[
            held_out["group"].astype(str).isin(seen["group"].astype(str)), "group"
        ]
        if images or len(groups):
            problems.append(
                f"`generator.snapshots.{label}` was trained on {images} validation or test images "
                f"and on images of {groups.nunique()} of their patients ({record}). Use a network "
                "trained on this dataset's training images, or another split"
            )
    return "none" if known == len(generated) else "unknown"


def _check_disk(plan: Plan) -> None:
    needs: dict[Path, int] = {}
    if plan.bank is not None:
        needs[_existing(plan.bank)] = plan.missing_bytes // 2
    cache, run = _existing(paths.cache_root()), _existing(plan.run.root)
    needs[cache] = needs.get(cache, 0) + plan.missing_bytes // 2
    needs[run] = needs.get(run, 0) + len(plan.todo) * TRIAL_BYTES
    by_device: dict[int, int] = {}
    for folder, wanted in needs.items():
        device = folder.stat().st_dev
        by_device[device] = by_device.get(device, 0) + wanted
    for folder in needs:
        wanted, free = by_device[folder.stat().st_dev], shutil.disk_usage(folder).free
        if wanted and wanted + DISK_MARGIN > free:
            raise GridError(
                [
                    f"the search writes about {wanted / 1e9:.1f} GB below {folder}, where "
                    f"{free / 1e9:.1f} GB are free. Free some space, or lower the ratios"
                ],
                plan.space.name,
            )


def _existing(path: Path) -> Path:
    path = path.resolve()
    return next(parent for parent in (path, *path.parents) if parent.exists())


def parallel_trials(space: Space, cpus: float, gpus: float) -> int:
    """Return how many trials run at once on so many cores and GPUs."""
    fits = cpus / space.resources.cpu
    if space.resources.gpu:
        share = space.resources.gpu
        fits = min(fits, gpus / share if share >= 1 else gpus * int(1 / share + 1e-9))
    return max(1, int(fits))


def cores() -> int:
    """Return the cores of this machine."""
    return psutil.cpu_count() or 1


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in sorted(labels))
