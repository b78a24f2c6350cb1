"""One trial: a cell and its sources -> a trained classifier, its row, curve and predictions.

mix -> [trial] -> results.  Knows nothing of Ray: the runner, tests and replays call the same code.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fgaug import mix, rows
from fgaug.bank import Bank, open_bank, open_store
from fgaug.cells import Cell
from fgaug.data import Dataset, open_dataset
from fgaug.paths import BankNames, DatasetPaths
from fgaug.results import TrialResult
from fgaug.rows import Sources
from fgaug.training import augment, fit, models
from fgaug.training import weights as weight_files
from fgaug.training.fit import Fitted, Point
from fgaug.training.images import Images


def run_trial(cell: Cell, sources: Sources, device: str = "cpu") -> TrialResult:
    """Return the result of training one cell to its end; see `steps` for what can go wrong."""
    running = steps(cell, sources, device)
    while True:
        try:
            next(running)
        except StopIteration as end:
            result: TrialResult = end.value
            return result


def steps(cell: Cell, sources: Sources, device: str) -> Generator[Point, None, TrialResult]:
    """Train one cell, yielding each evaluation; its result is the generator's return value.

    Raises:
        TrialError: the loss is not a number.
        UserError: the dataset, the bank or the weights cannot be read.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    rows.reset_peaks(device)
    dataset = _dataset(sources.dataset)
    bank = _bank(sources.bank) if cell.uses_fakes and sources.bank is not None else None
    reals = mix.Reals(dataset.manifest, dataset.spec.labels)
    plan = mix.plan(cell, reals, sources.pool)
    train = training_images(plan, dataset, bank, cell.psi)
    valid = split_images(dataset, "valid")
    where = torch.device(device)
    torch.manual_seed(_derived(cell.seed, "weights"))
    weights = weight_files.find(cell.recipe)
    model = models.build(cell.recipe, weights, len(dataset.spec.labels)).to(where)
    transform = augment.build(cell.recipe, _derived(cell.seed, "augmentation"), where)
    curve: list[dict[str, Any]] = []
    training = fit.fine_tune(
        model,
        train,
        valid,
        dataset.spec.labels,
        recipe=cell.recipe,
        budget=cell.budget,
        augment=transform,
        seed=_derived(cell.seed, "order"),
        device=where,
    )
    fitted = yield from _recorded(training, curve)
    sealed = None
    if (dataset.manifest["split"] == "test").any():
        probability = fit.predict(
            model, split_images(dataset, "test"), 2 * cell.recipe.batch_size, where
        )
        sealed = _predictions(dataset, "test", probability)
    row = {
        **rows.identity_columns(cell),
        **rows.outcome(cell, plan, fitted),
        **rows.metrics(fitted.best.valid),
        **{f"n_fake_{label}": rows.added(plan, cell, label, reals) for label in reals.labels},
        **rows.provenance(cell, sources, weights.identity),
        **rows.costs(fitted, device),
        "wall_s": round(time.perf_counter() - clock, 3),
        "gan_saw_removed": bool(
            cell.uses_fakes and plan.n_dropped and not reals.any_flag and not sources.gan_known
        ),
        "device": rows.device_name(device),
        "started_at": started.isoformat(timespec="seconds"),
    }
    return TrialResult(
        row=row,
        curve=pd.DataFrame(curve),
        predictions=_predictions(dataset, "valid", fitted.valid_probability),
        sealed=sealed,
    )


def training_images(
    plan: mix.MixPlan, dataset: Dataset, bank: Bank | None, psi: float | None
) -> Images:
    """Return the images that a plan names, as references into memory-mapped pixels."""
    classes = {label: index for index, label in enumerate(dataset.spec.labels)}
    real_labels = dataset.manifest["label"].map(classes).to_numpy(np.int64)
    sources: list[np.ndarray] = [dataset.pixels()]
    source, row = [np.zeros(plan.n_real, np.int64)], [plan.real]
    label_of = [real_labels[plan.real]]
    for label, z_seeds in plan.fakes.items():
        assert bank is not None
        assert psi is not None
        which, rows, names = bank.locate(label, psi, z_seeds)
        source.append(which + len(sources))
        row.append(rows)
        label_of.append(np.full(len(rows), classes[label], np.int64))
        sources += [bank.pixels(name) for name in names]
    return Images(
        sources=sources,
        source=np.concatenate(source),
        row=np.concatenate(row),
        label=np.concatenate(label_of),
    )


def split_images(dataset: Dataset, split: str) -> Images:
    """Return the real images of one side of the split."""
    classes = {label: index for index, label in enumerate(dataset.spec.labels)}
    rows = np.flatnonzero((dataset.manifest["split"] == split).to_numpy())
    labels = dataset.manifest["label"].map(classes).to_numpy(np.int64)[rows]
    return Images(
        sources=[dataset.pixels()], source=np.zeros(len(rows), np.int64), row=rows, label=labels
    )


def _dataset(root: str) -> Dataset:
    return _dataset_once(root, _written_at(DatasetPaths(Path(root)).manifest))


def _bank(root: str) -> Bank:
    folder = open_store(root).folder  # a bank on object storage is complete before trials start
    return _bank_once(root, _written_at(folder / BankNames.manifest) if folder else 0)


@lru_cache(maxsize=4)
def _dataset_once(root: str, written_at: int) -> Dataset:
    del written_at  # part of the key: a dataset prepared anew is opened again
    return open_dataset(root)


@lru_cache(maxsize=4)
def _bank_once(root: str, written_at: int) -> Bank:
    del written_at  # part of the key: a bank that grew is opened again
    return open_bank(root)


def _written_at(path: Path) -> int:
    """Return when a file was last written, in ns; 0 if it is missing, as opening it says."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _recorded(
    training: Generator[Point, None, Fitted], curve: list[dict[str, Any]]
) -> Generator[Point, None, Fitted]:
    """Pass evaluations on, noting each in the curve."""
    while True:
        try:
            point = next(training)
        except StopIteration as end:
            fitted: Fitted = end.value
            return fitted
        curve.append(
            {
                "epoch": point.epoch,
                "step": point.step,
                "frozen": point.frozen,
                "train_loss": point.train_loss,
                **{f"valid_{name}": point.valid[name] for name in ("loss", "acc", "auc")},
                "images_seen": point.images_seen,
                "train_s": round(point.train_s, 4),
            }
        )
        yield point


def _predictions(dataset: Dataset, split: str, probability: np.ndarray) -> pd.DataFrame:
    rows = dataset.manifest[dataset.manifest["split"] == split]
    frame = rows[["image_id", "group", "label"]].reset_index(drop=True)
    for index, label in enumerate(dataset.spec.labels):
        frame[f"p_{label}"] = probability[:, index]
    return frame.assign(round=pd.array([pd.NA] * len(frame), dtype="Int64"))


def _derived(seed: int, purpose: str) -> int:
    """Return a 32-bit seed of one stream of a trial's randomness."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\n{seed}".encode()).digest()[:4], "big")
