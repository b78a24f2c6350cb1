"""Checks of what a search stands on: models and weights, leakage, disks.  [checks] -> planning"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from fgaug import paths
from fgaug.bank import Source, Store
from fgaug.bank.reader import shard_columns
from fgaug.cells import recipes
from fgaug.data import Dataset, DatasetSpec
from fgaug.errors import GridError, SnapshotError, UserError
from fgaug.paths import BankNames, DatasetPaths, RunPaths
from fgaug.space import Space

DISK_MARGIN = 256 << 20  # left free on a disk that a search writes to

_log = logging.getLogger("fgaug")


def weights_of(space: Space, spec: DatasetSpec, problems: list[str]) -> dict[str, str]:
    """Return the identity of each recipe's weights; each recipe is tried out to check it."""
    from fgaug.training import models, transforms, weights

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
                transforms.try_out(recipe.augmentation, spec.size, spec.channels)
            models.build(recipe, start, labels=2)
        except GridError as error:
            problems += error.problems
        except UserError as error:
            problems.append(f"`recipe.weights`: {error}")
    problems[:] = dict.fromkeys(problems)
    return found


def leakage(
    space: Space,
    dataset: Dataset,
    generated: Mapping[str, Source],
    bank: Store | None,
    problems: list[str],
) -> str:
    """Refuse snapshots that saw a validation or test image, or another image of its patient."""
    if all(source.kind in ("phantom", "stub") for source in generated.values()):
        return "none"
    held_out = dataset.manifest[dataset.manifest["split"] != "train"]
    known = 0
    for label, source in generated.items():
        assert space.generator is not None
        named = space.generator.snapshots.get(label)
        beside = Path(named.file).with_suffix(".trained_on.parquet") if named else None
        in_bank = BankNames.trained_on(source.sha256)
        if beside is not None and beside.is_file():
            record = str(beside)
            seen = paths.read_table(beside, SnapshotError).to_pandas()
        elif bank is not None and bank.has(in_bank):
            record = bank.place(in_bank)
            seen = shard_columns(bank, in_bank, ["sha256", "group"]).to_pandas()
        else:
            continue
        known += 1
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


def places(run: RunPaths, problems: list[str]) -> None:
    """List what is wrong with the run's folder and with the folder of decoded pixels."""
    root = run.root
    if root.exists() and not root.is_dir():
        problems.append(f"{root} is a file; a run is a folder. Give another --out")
    for other, file in (("dataset", DatasetPaths(root).spec), ("bank", root / BankNames.spec)):
        if file.exists():
            problems.append(f"{root} is a {other}. Give the run a folder of its own by --out")
    try:
        paths.usable_cache()
    except UserError as error:
        problems.append(str(error))


def check_disk(name: str, needs: Mapping[Path, int]) -> None:
    """Refuse a search that would fill a disk; `needs` are bytes to be written below each folder.

    Raises:
        GridError: with what is needed, what is free and where.
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
                    f"the search writes about {wanted / 1e9:.1f} GB below {there} and leaves "
                    f"{DISK_MARGIN / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free. Free some "
                    "space, or lower the ratios"
                ],
                name,
            )


def _existing(path: Path) -> Path:
    path = path.resolve()
    return next(parent for parent in (path, *path.parents) if parent.exists())
