"""Folds: pools the out-of-fold predictions of each arm and seed into one run.

Every image is predicted once, by the network that held out its fold. A seed's scores are computed
from its pooled predictions, so everything after this module sees one run per arm and seed. A seed
counts only when all its folds have finished.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fgaug.core.split_names import FOLDS, fold_split
from fgaug.errors import RunError
from fgaug.runs.row import metrics
from fgaug.stats import influence_of
from fgaug.stats.arrays import NAN, Floats
from fgaug.stats.inference import t_test
from fgaug.training.metrics import evaluate

SUMMED = ("images_seen", "wall_s", "oom_events")  # columns of a run: sums over its folds
LARGEST = ("peak_rss_mb", "peak_gpu_mb")
# of a pooled run: 95% interval of its AUC over patients (level E0), and the AUC of each fold
LOW, HIGH, OF_FOLD = "valid_auc_low", "valid_auc_high", "valid_auc_fold_"


def name_of_run(arm_id: object, seed: object) -> str:
    """Return the cell_id of a pooled run, in the form of a selector: `ARM#SEED`."""
    return f"{arm_id}#{seed}"


def cells_of_runs(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return the cells of each run with folds, by the cell_id of the pooled run."""
    found: dict[str, list[str]] = {}
    held = rows[rows["fold"].notna()].sort_values("fold", kind="stable")
    for cell in held.itertuples():
        found.setdefault(name_of_run(cell.arm_id, cell.seed), []).append(str(cell.cell_id))
    return found


def pooled_images(images: Mapping[str, pd.DataFrame], folds: Sequence[int]) -> pd.DataFrame:
    """Return the images of all folds in order, each once.

    Args:
        images: by split, as `Evidence.images`; folds without a finished cell are absent.
        folds: the folds to pool.

    Raises:
        RunError: an image or a patient is in two folds.
    """
    known = [fold for fold in folds if fold_split(fold) in images]
    if not known:
        return pd.DataFrame(columns=["image_id", "group", "label", "y"])
    parts = [images[fold_split(fold)].assign(fold=fold) for fold in known]
    every = pd.concat(parts, ignore_index=True)
    for name, what in (("image_id", "image"), ("group", "patient")):
        several = every.groupby(name)["fold"].nunique()
        torn = several.index[several > 1]
        if len(torn):
            raise RunError(
                f"{len(torn)} {what}s were held out in more than one fold, such as {torn[0]}. "
                "Keep grids of datasets with different folds in separate run folders."
            )
    return every.drop(columns="fold")


def folds_of(rows: pd.DataFrame) -> list[int]:
    """Return the folds that the cells of a run hold out, sorted; empty without folds."""
    return sorted({int(fold) for fold in rows["fold"].dropna()}) if "fold" in rows else []


def pooled_rows(
    rows: pd.DataFrame,
    missing: pd.DataFrame,
    images: pd.DataFrame,
    probability: Mapping[str, Floats],
    labels: tuple[str, ...],
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Floats]]:
    """Return rows and missing cells with one row per arm and seed, and the pooled predictions.

    A pooled run has the cell_id `ARM#SEED`. Rows without folds stay as they are. A seed with a
    failed or pruned fold becomes a failed or pruned row that names the folds; one that lacks a
    fold becomes `incomplete` in `missing`.

    Args:
        rows: one per cell, with the column `fold`.
        missing: cells without a row, as `Evidence.missing`.
        images: the pooled images, in the order of the folds.
        probability: float [N, L] by cell, in the order of its fold's images.
        labels: in the dataset's order.
    """
    held = rows["fold"].notna()
    keys = list(zip(missing["arm_id"], missing["seed"], strict=True))
    waiting = pd.Series(keys, index=missing.index, dtype=object).value_counts()
    found: list[dict[str, Any]] = []
    lacking: list[dict[str, Any]] = []
    pooled: dict[str, Floats] = {}
    taken: set[Hashable] = set()
    of_run = rows[held].sort_values("fold", kind="stable").groupby(["arm_id", "seed"], sort=False)
    folds = folds_of(rows)
    for key, cells in of_run:
        name = name_of_run(*key)
        taken.add(key)
        lost = cells[cells["status"].ne("ok")]
        absent = int(waiting.get(key, 0))
        if len(lost):
            found.append(_unfinished(name, cells, lost))
        elif absent or len(cells) < len(folds):
            lacking.append(_incomplete(name, cells, folds))
        else:
            p = np.concatenate([probability[cell] for cell in cells["cell_id"]])
            pooled[name] = p
            found.append(_pooled(name, cells, images, p, labels))
    known = missing["arm_id"].notna() & np.array([key not in taken for key in keys], bool)
    others = pd.concat(
        [missing[known].drop_duplicates(["arm_id", "seed"]), missing[missing["arm_id"].isna()]]
    )
    whole = rows[~held].assign(split=_splits(rows[~held]))
    return (
        _stacked(whole, pd.DataFrame(found)).drop(columns="fold", errors="ignore"),
        _stacked(others, pd.DataFrame(lacking)).drop(columns="fold", errors="ignore"),
        pooled,
    )


def _stacked(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return both frames in one; an empty one has no types and is skipped."""
    if one.empty or other.empty:
        return other if one.empty and len(other.columns) else one
    return pd.concat([one, other.astype(object)], ignore_index=True)


def _splits(rows: pd.DataFrame) -> Any:
    return rows["split"].fillna("dataset") if "split" in rows else "dataset"


def _shared(name: str, cells: pd.DataFrame) -> dict[str, Any]:
    """Return the columns that identify a run."""
    first = {str(column): value for column, value in cells.iloc[0].items()}
    return {**first, "cell_id": name, "fold": None, "split": FOLDS}


def _unfinished(name: str, cells: pd.DataFrame, lost: pd.DataFrame) -> dict[str, Any]:
    """Return the row of a run with failed or pruned folds."""
    failed = lost[lost["status"].eq("failed")]
    one = (failed if len(failed) else lost).iloc[0]
    row = {**_shared(name, cells), **{str(key): one[key] for key in ("status", "stopped_by")}}
    scores = [column for column in cells if str(column).startswith(("valid_", "n_", "best_"))]
    row |= dict.fromkeys(map(str, scores), NAN)
    if len(failed):
        row["error"] = f"fold {_listed(failed['fold'])} failed: {one['error']}"
    return row | ({"rung": one["rung"]} if "rung" in one else {})


def _incomplete(name: str, cells: pd.DataFrame, folds: Sequence[int]) -> dict[str, Any]:
    """Return the entry of a run that lacks folds, for the table of missing cells."""
    gone = sorted({*folds} - {int(fold) for fold in cells["fold"]})
    which = f"fold {_listed(gone)} is" if len(gone) == 1 else f"folds {_listed(gone)} are"
    why = f"incomplete: {which if gone else 'some folds are'} not trained yet"
    row = {key: v for key, v in _shared(name, cells).items() if not key.startswith("valid_")}
    return {**row, "status": "incomplete", "why": why}


def _pooled(
    name: str,
    cells: pd.DataFrame,
    images: pd.DataFrame,
    probability: Floats,
    labels: tuple[str, ...],
) -> dict[str, Any]:
    """Return the row of a run with all its folds: scores of the pooled predictions."""
    y = images["y"].to_numpy(np.int64)
    row = _shared(name, cells)
    own = [column for column in map(str, cells) if column not in ("cell_id", "fold", "split")]
    row |= {column: _over_folds(column, cells[column]) for column in own}
    row |= metrics(evaluate(y, probability, labels))
    found = influence_of("auc", y, probability[None], group=pd.factorize(images["group"])[0])
    area = t_test(
        float(found.estimate[0]), float(np.linalg.norm(found.factors[0])), found.n_patients - 1
    )
    row |= {LOW: area.ci_low, HIGH: area.ci_high}
    of_folds = zip(cells["fold"], cells["valid_auc"], strict=True)
    return row | {f"{OF_FOLD}{int(fold)}": auc for fold, auc in of_folds}


def _over_folds(column: str, values: pd.Series[Any]) -> Any:
    """Return one value for all folds: a sum, the largest, the mean, or the texts that differ."""
    known = values.dropna()
    if known.nunique() < 2:
        return None if known.empty else known.iloc[0]
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
        if column in SUMMED:
            return known.sum()
        return known.max() if column in LARGEST else known.mean()
    if all(isinstance(value, (bool, np.bool_)) for value in known):
        return bool(known.any())
    return ", ".join(str(value) for value in dict.fromkeys(known) if value != "none")


def _listed(folds: Sequence[Any] | pd.Series[Any]) -> str:
    return ", ".join(str(int(fold)) for fold in folds)
