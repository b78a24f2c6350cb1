"""One trial: a cell and its sources -> a trained classifier, its row, curve and predictions.

mix -> [trial] -> results.  Knows nothing of Ray: the runner, tests and replays call the same code.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fgaug import mix, paths, rows, saved
from fgaug.bank import Bank, open_bank, open_store
from fgaug.cells import Cell, recipe_identity
from fgaug.data import Dataset, open_dataset
from fgaug.paths import BankNames, DatasetPaths
from fgaug.results import TrialResult
from fgaug.rows import Sources
from fgaug.saved import SavedModel
from fgaug.screening import Screen
from fgaug.training.backend import Point, derived, open_learner
from fgaug.training.images import Images

_log = logging.getLogger("fgaug")


def run_trial(cell: Cell, sources: Sources, device: str = "cpu") -> TrialResult:
    """Return the result of training one cell to its end; see `Trial` for what can go wrong."""
    trial = Trial(cell, sources, device)
    for _ in trial:
        pass
    return trial.result()


class Trial:
    """One cell being trained: iterate over it for its evaluations, then take its result.

    Between two evaluations it can be saved; the same cell goes on from the file with the same
    numbers as if it had never stopped.

    Raises:
        UserError: the dataset, the bank or the weights cannot be read.
    """

    def __init__(self, cell: Cell, sources: Sources, device: str, gpu_share: float = 1.0) -> None:
        self.cell, self.sources, self.device = cell, sources, device
        self.started, self.clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
        self.dataset = _dataset(sources.dataset).with_split(cell.split)
        bank = _bank(sources.bank) if cell.uses_fakes and sources.bank is not None else None
        labels = self.dataset.spec.labels
        self.reals = mix.Reals(self.dataset.manifest, labels)
        screen = None
        if cell.filtered and bank is not None:
            screen = Screen(bank.store, sources.scorers[cell.split], sources.pool)
        self.plan = mix.plan(cell, self.reals, sources.pool, screen)
        self.learner = open_learner(cell.recipe, labels, cell.seed, device, gpu_share)
        self.training = self.learner.train(
            training_images(self.plan, self.dataset, bank, cell.psi),
            split_images(self.dataset, "valid"),
            cell.budget,
            derived(cell.seed, "order"),
        )
        self.curve: list[dict[str, Any]] = []
        self.earlier_s = 0.0  # wall seconds of the same cell before it was interrupted

    def __iter__(self) -> Iterator[Point]:
        """Train on, yielding each evaluation.

        Raises:
            TrialError: the loss is not a number.
        """
        for point in self.training:
            self.curve.append(_curve_row(point))
            yield point

    @property
    def share(self) -> float:
        """How much of the budget is used."""
        return self.training.share

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.training.stopped_by is not None

    def result(self, keep_model: bool = False) -> TrialResult:
        """Return row, curve and predictions with the best weights found so far."""
        fitted = self.training.finish()
        cell, dataset = self.cell, self.dataset
        sealed = None
        if fitted.stopped_by != "scheduler" and (dataset.manifest["split"] == "test").any():
            probability = self.learner.predict(split_images(dataset, "test"))
            sealed = _predictions(dataset, "test", probability)
        labels = self.reals.labels
        row = {
            **rows.identity_columns(cell),
            **rows.outcome(cell, self.plan, fitted),
            **rows.metrics(fitted.valid),
            **{
                f"n_fake_{label}": rows.added(self.plan, cell, label, self.reals)
                for label in labels
            },
            **rows.provenance(cell, self.sources, self.learner.identity),
            **rows.costs(fitted, self.learner.peaks()),
            "wall_s": round(self.wall_s, 3),
            "gan_saw_removed": bool(
                cell.uses_fakes and self.plan.n_dropped_seen and not self.sources.gan_known
            ),
            "device": self.learner.device_name,
            "started_at": self.started.isoformat(timespec="seconds"),
        }
        return TrialResult(
            row=row,
            curve=pd.DataFrame(self.curve),
            predictions=_predictions(dataset, "valid", fitted.valid_probability),
            sealed=sealed,
            model=self._saved(row) if keep_model else None,
        )

    def _saved(self, row: dict[str, Any]) -> SavedModel:
        recipe = self.cell.recipe
        named = recipe_identity(recipe, {recipe.model_dump_json(): self.learner.identity})
        state, spec = self.learner.tensors(), self.dataset.spec
        return saved.taken(state, spec, named, row, self.cell.described, self.cell.split)

    @property
    def wall_s(self) -> float:
        return self.earlier_s + time.perf_counter() - self.clock

    @property
    def _device_type(self) -> str:
        return self.device.partition(":")[0]

    def save(self, path: Path) -> None:
        """Write all that the rest of the training depends on, whole or not at all."""
        state = {
            "cell_id": self.cell.cell_id,
            "device": self._device_type,
            "training": self.training.state(),
            **self.learner.state(),
            "curve": self.curve,
            "wall_s": self.wall_s,
        }
        with paths.whole(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> bool:
        """Go on from a file that `save` wrote; False where it cannot be used."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            fits = (state["cell_id"], state["device"]) == (self.cell.cell_id, self._device_type)
        except FileNotFoundError:
            return False
        except Exception as error:  # torch names no set of errors for a torn file
            _log.warning(f"{path} cannot be read ({type(error).__name__}); the cell starts again")
            return False
        if not fits:
            return False
        self.training.restore(state["training"])
        self.learner.restore(state)
        self.curve, self.earlier_s = list(state["curve"]), state["wall_s"]
        return True


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


def _curve_row(point: Point) -> dict[str, Any]:
    return {
        "epoch": point.epoch,
        "step": point.step,
        "frozen": point.frozen,
        "train_loss": point.train_loss,
        **{f"valid_{name}": point.valid[name] for name in ("loss", "acc", "auc")},
        "images_seen": point.images_seen,
        "train_s": round(point.train_s, 4),
    }


def _predictions(dataset: Dataset, split: str, probability: np.ndarray) -> pd.DataFrame:
    rows = dataset.manifest[dataset.manifest["split"] == split]
    frame = rows[["image_id", "group", "label"]].reset_index(drop=True)
    for index, label in enumerate(dataset.spec.labels):
        frame[f"p_{label}"] = probability[:, index]
    return frame.assign(round=pd.array([pd.NA] * len(frame), dtype="Int64"))
