"""One trial: a cell and its sources -> a trained classifier, its row, curve and predictions.

mix -> [trial] -> results.  Knows nothing of Ray: the runner, tests and replays call the same code.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

import fgaug
from fgaug import mix
from fgaug.bank import Bank, local_root, open_bank
from fgaug.cells import Cell, digest, recipe_identity
from fgaug.data import Dataset, open_dataset
from fgaug.paths import BankPaths, DatasetPaths
from fgaug.results import TrialResult
from fgaug.training import augment, fit, models
from fgaug.training import weights as weight_files
from fgaug.training.fit import Fitted, Point
from fgaug.training.images import Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a trial's images are, and what its row says of them; small enough to send around."""

    dataset: str
    bank: str | None
    pool: int
    leakage: str  # none | unknown | by_choice: what is known of the snapshots' training images
    snapshots: str  # short digests by label, for the row
    gan_known: bool  # the generator never saw a training image (phantom, stub)


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
    _reset_peaks(device)
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
        **identity_columns(cell),
        **_outcome(cell, plan, fitted),
        **_metrics(fitted.best.valid),
        **{f"n_fake_{label}": _added(plan, cell, label, reals) for label in reals.labels},
        **provenance(cell, sources, dataset, weights.identity),
        **_costs(fitted, device),
        "wall_s": round(time.perf_counter() - clock, 3),
        "gan_saw_removed": bool(
            cell.uses_fakes and plan.n_dropped and not reals.any_flag and not sources.gan_known
        ),
        "device": _device_name(device),
        "started_at": started.isoformat(timespec="seconds"),
    }
    return TrialResult(
        row=row,
        curve=pd.DataFrame(curve),
        predictions=_predictions(dataset, "valid", fitted.valid_probability),
        sealed=sealed,
    )


def failed_row(cell: Cell, sources: Sources, error: str) -> dict[str, Any]:
    """Return the row of a cell that could not be trained."""
    dataset = _dataset(sources.dataset)
    return {
        **identity_columns(cell),
        "status": "failed",
        "stopped_by": "error",
        "error": error[:2000],
        "budget_unit": cell.budget.unit,
        **provenance(cell, sources, dataset, ""),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def identity_columns(cell: Cell) -> dict[str, Any]:
    """Return the columns of a row that name the cell: the contract's, counts, removals, axes."""
    further: dict[str, Any] = dict(cell.axes)
    if cell.fakes is not None:
        further["fakes"] = _counts(cell.fakes)
    if cell.remove is not None:
        further["remove"] = _counts(cell.remove)
    return {
        "cell_id": cell.cell_id,
        "arm_id": cell.arm_id,
        "mode": cell.mode,
        "psi": cell.psi,
        "ratio": cell.ratio,
        "filter": "none" if cell.uses_fakes else None,
        "seed": cell.seed,
        "round": None,
        **further,
    }


def provenance(cell: Cell, sources: Sources, dataset: Dataset, weights: str) -> dict[str, Any]:
    """Return the columns of a row that say what it was made from."""
    named = {cell.recipe.model_dump_json(): weights}
    return {
        "leakage": sources.leakage if cell.uses_fakes else "none",
        "dataset_digest": dataset.spec.digest,
        "recipe_digest": digest(recipe_identity(cell.recipe, named))[:12],
        "snapshots": sources.snapshots if cell.uses_fakes else None,
        "version": fgaug.__version__,
        "host": platform.node(),
    }


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
    return _bank_once(root, _written_at(BankPaths(local_root(root)).manifest))


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


def _outcome(cell: Cell, plan: mix.MixPlan, fitted: Fitted) -> dict[str, Any]:
    return {
        "status": "ok",
        "stopped_by": fitted.stopped_by,
        "error": None,
        "n_real": plan.n_real,
        "n_fake": plan.n_fake,
        "n_dropped": plan.n_dropped,
        "budget_unit": cell.budget.unit,
        "budget_used": fitted.last.step if cell.budget.unit == "steps" else fitted.last.epoch,
        "best_epoch": fitted.best.epoch,
        "best_step": fitted.best.step,
    }


def _metrics(valid: Mapping[str, float]) -> dict[str, float]:
    per_label = ("precision_", "recall_", "specificity_")
    return {
        name if name.startswith(per_label) else f"valid_{name}": value
        for name, value in valid.items()
    }


def _added(plan: mix.MixPlan, cell: Cell, label: str, reals: mix.Reals) -> int:
    """Return the fakes (oversample: the repeats) of a label in a plan."""
    if cell.mode == "oversample":
        return mix.fakes_wanted(cell, reals, label)
    return len(plan.fakes.get(label, ()))


def _costs(fitted: Fitted, device: str) -> dict[str, Any]:
    gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device != "cpu" else None
    return {
        "images_seen": fitted.last.images_seen,
        "train_images_per_s": round(fitted.last.images_seen / max(fitted.last.train_s, 1e-9), 2),
        "peak_rss_mb": round(_peak_rss() / 2**20, 1),
        "peak_gpu_mb": round(gpu, 1) if gpu is not None else None,
    }


def _reset_peaks(device: str) -> None:
    """Start the peaks anew: a reused process has run other trials before."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not permitted: the peak is then that of the process


def _peak_rss() -> int:
    """Return the largest resident size of this process in bytes since the last reset."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _device_name(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    return f"cpu x{torch.get_num_threads()}"


def _counts(pairs: tuple[tuple[str, Any], ...]) -> str:
    return " ".join(
        f"{label}={value:g}" if isinstance(value, (int, float)) else f"{label}={value}"
        for label, value in pairs
    )


def _derived(seed: int, purpose: str) -> int:
    """Return a 32-bit seed of one stream of a trial's randomness."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\n{seed}".encode()).digest()[:4], "big")
