"""Results: the row, curve and predictions of each trial, written atomically.

`result.json` is written last, so a cell that has one is finished. It is JSON because loading
10,000 small Parquet files takes half a minute, and as many JSON files one second; for larger runs
`.rows.cache` holds the rows of all trials in one file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fgaug.core import files
from fgaug.core.paths import RunPaths, TrialPaths
from fgaug.core.split_names import fold_split
from fgaug.errors import RunError
from fgaug.runs import all_rows, confirmation_records, row_cache
from fgaug.runs.place import run_at
from fgaug.training import saved_model
from fgaug.training.metrics import METRICS
from fgaug.training.saved_model import SavedModel

SCHEMA = 1
IDENTITY = ("cell_id", "arm_id", "mode", "psi", "ratio", "filter", "seed", "round")
OUTCOME = (
    *("status", "stopped_by", "error", "n_real", "n_fake", "n_dropped"),
    *("budget_unit", "budget_used", "best_epoch", "best_step"),
)
COSTS = (
    *("images_seen", "wall_s", "train_images_per_s", "peak_rss_mb", "peak_gpu_mb"),
    *("leakage", "gan_saw_removed", "dataset_digest", "recipe_digest", "snapshots"),
    *("version", "host", "device", "started_at"),
)
# for pruned cells; for cells that ran out of memory (two); initial weights; precision
FURTHER = ("rung", "micro_batch", "oom_events", "weights", "computed_in")
PER_LABEL = ("precision", "recall", "specificity")
_TEXT = (
    *("cell_id", "arm_id", "mode", "filter", "status", "stopped_by", "error", "budget_unit"),
    *("leakage", "dataset_digest", "recipe_digest", "snapshots", "version", "host", "device"),
    *("started_at", "stage", "split", "dataset", "snapshot", "fakes", "remove", "remove_by"),
    "psi_by_label",
    "weights",
    "computed_in",
)
_FLAGS = ("gan_saw_removed", "frozen")
_WHOLE = (
    *(
        "seed",
        "round",
        "fold",
        "n_real",
        "n_fake",
        "n_dropped",
        "budget_used",
        "best_epoch",
        "best_step",
    ),
    *("images_seen", "rung", "micro_batch", "oom_events", "epoch", "step"),
    *("seeds", "failed", "pruned"),
)
_REAL = ("psi", "ratio", "real_fraction", "wall_s", "train_images_per_s", "train_loss", "train_s")
_REAL_PREFIXES = ("valid_", "test_", "precision_", "recall_", "specificity_", "peak_", "p_")
FEW = 10  # cells; the statuses of more come from the cache of all rows
USUAL_SPLIT = "dataset"  # for grids without the axis `split`


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """Everything that a finished trial writes to disk."""

    row: Mapping[str, Any]  # of the last round
    earlier: Sequence[Mapping[str, Any]] = ()  # of earlier reported rounds
    curve: pd.DataFrame  # one row per evaluation
    # of the validation images, or the held-out fold: image_id, group, label, round, p_<label>...
    predictions: pd.DataFrame
    sealed: pd.DataFrame | None  # the same for the test set, if there is one
    model: SavedModel | None = None  # the classifier, if it is to be kept


def columns(labels: Sequence[str]) -> list[str]:
    """Return the columns of a result row in the documented order, without further axes."""
    metrics = [f"valid_{name}" for name in METRICS]
    per_label = [f"{name}_{label}" for name in PER_LABEL for label in labels]
    return [*IDENTITY, *OUTCOME, *metrics, *per_label, *COSTS, *FURTHER]


def write_trial(trial: TrialPaths, result: TrialResult) -> None:
    """Write a trial's files, the row last, so that a partly written trial never looks finished."""
    _write_frame(trial.curve, result.curve)
    _write_frame(trial.predictions, result.predictions)
    if result.sealed is not None:
        _write_frame(trial.sealed, result.sealed)
    if result.model is not None:
        saved_model.write(trial, result.model)
    write_rows(trial, [*result.earlier, result.row])
    files.remove(trial.checkpoint)
    files.remove(trial.paused)


def write_paused(trial: TrialPaths, result: TrialResult, share: float) -> None:
    """Write the curve, predictions and preliminary row of a paused cell.

    A cell pauses at a rung, between two rounds or on an interruption, after `share` of its budget.
    """
    _write_frame(trial.curve, result.curve)
    _write_frame(trial.predictions, result.predictions)
    row = {key: as_plain(value) for key, value in result.row.items()}
    files.write_json(trial.paused, {"schema": SCHEMA, "share": share, "rows": [row]})


def paused_share(trial: TrialPaths) -> float:
    """Return the fraction of the budget at which a cell is paused; 0 if it cannot be resumed."""
    if not (trial.paused.is_file() and trial.checkpoint.is_file()):
        return 0.0
    try:
        return float(files.read_json(trial.paused, RunError).get("share", 0.0))
    except (RunError, AttributeError, TypeError, ValueError):
        return 0.0  # a damaged file: the cell restarts


def write_pruned(trial: TrialPaths, rung: int, row: Mapping[str, Any]) -> None:
    """Write the row of a pruned cell: its results at the rung, or `row` if it has none."""
    if trial.paused.is_file():
        row = _rows_in(trial.paused)[-1]
    status = {"status": "pruned", "stopped_by": "scheduler", "rung": rung}
    write_row(trial, {**row, **status})


def write_row(trial: TrialPaths, row: Mapping[str, Any]) -> None:
    """Write only a trial's row, as for failed trials."""
    write_rows(trial, [row])


def write_rows(trial: TrialPaths, found: Sequence[Mapping[str, Any]]) -> None:
    """Write a trial's rows: one, or one per reported round."""
    clean = [{key: as_plain(value) for key, value in row.items()} for row in found]
    files.write_json(trial.result, {"schema": SCHEMA, "rows": clean})


def read_rows(trial: TrialPaths) -> list[dict[str, Any]]:
    """Return the rows of one trial.

    Raises:
        RunError: the file is damaged or of another schema.
    """
    return _rows_in(trial.result)


def _rows_in(path: Path) -> list[dict[str, Any]]:
    raw = files.read_json(path, RunError)
    if (
        not isinstance(raw, dict)
        or raw.get("schema") != SCHEMA
        or not isinstance(raw.get("rows"), list)
        or not all(isinstance(row, dict) for row in raw["rows"])
    ):
        raise RunError(
            f"{path} is damaged or from another version of fgaug. Restore it, or remove it and "
            "search again."
        )
    return list(raw["rows"])


def statuses_of(run: RunPaths, cell_ids: Iterable[str]) -> dict[str, str]:
    """Return the status (ok, pruned, failed) of every cell with a row.

    Only reads: a cell with a damaged row counts as not trained, see `set_aside_damaged`.
    """
    asked = list(cell_ids)
    if len(asked) > FEW:
        return all_rows.statuses(run, asked, _status)
    found = ((cell_id, _status(run.trial(cell_id))) for cell_id in asked)
    return {cell_id: status for cell_id, status in found if status is not None}


def damaged(run: RunPaths, cell_ids: Iterable[str]) -> list[str]:
    """Return the cells whose row cannot be read."""
    asked = list(cell_ids)
    readable, present = statuses_of(run, asked), row_cache.result_states(run)
    return [cell_id for cell_id in asked if cell_id in present and cell_id not in readable]


def set_aside_damaged(run: RunPaths, cell_ids: Iterable[str]) -> list[str]:
    """Rename damaged rows to `result.json.corrupt` and return their cells.

    A search that holds the run's lock calls this right before it retrains these cells.
    """
    found = damaged(run, cell_ids)
    for cell_id in found:
        result = run.trial(cell_id).result
        files.move(result, result.with_suffix(".json.corrupt"))
    return found


def _status(trial: TrialPaths) -> str | None:
    """Return the status in a trial's last row; None if there is no readable row."""
    if not trial.result.is_file():
        return None
    try:
        return str(read_rows(trial)[-1]["status"])
    except (RunError, IndexError, KeyError, TypeError):
        return None


def load_results(run: str | PathLike[str]) -> pd.DataFrame:
    """Return all rows of a run as a DataFrame, one per trial (per reported round).

    If the run has a second stage, the column `stage` is `confirm` for its rows and `screen` for
    the others.

    Raises:
        RunError: the run does not exist, or a row is damaged.
    """
    run_paths = _opened(run)
    rows = all_rows.read(run_paths, read_rows)
    if rows is None:
        return pd.DataFrame(columns=columns(()))
    frame = _ordered(rows.frame())
    if second := confirmation_records.cells_of(run_paths):
        confirmed = frame["cell_id"].isin(second)
        before_status = list(frame.columns).index("status")
        frame.insert(before_status, "stage", np.where(confirmed, "confirm", "screen"))
    return frame


def load_curves(run: str | PathLike[str]) -> pd.DataFrame:
    """Return the learning curves of a run, one row per evaluation, with `cell_id`."""
    return _gathered(run, lambda trial: trial.curve)


def load_predictions(run: str | PathLike[str]) -> pd.DataFrame:
    """Return the predictions of a run, one row per image and trial, with `cell_id`.

    They are of the validation images; in a grid with folds, of the trial's held-out fold.
    """
    return _gathered(run, lambda trial: trial.predictions)


def compact(run: RunPaths) -> None:
    """Write all rows to results.parquet, a copy for other tools; bring the cache up to date."""
    compact_rows(run)
    files.write_table(run.results, typed(load_results(run.root)))


def compact_rows(run: RunPaths) -> int:
    """Bring the cache of all rows up to date and return how many trials it holds."""
    return all_rows.write_cache(run, read_rows)


def typed(frame: pd.DataFrame) -> pa.Table:
    """Return rows, curves or predictions as a table with declared column types.

    Inferred types would differ between runs: an empty column would be `null`, a count with gaps
    `double`, and no program could read two runs as one table. Axes, which have no declared type,
    become numbers (`double`), booleans or text.
    """
    fields = [pa.field(str(name), _type(str(name), frame[name])) for name in frame]
    texts = {
        field.name: frame[field.name].astype(object).map(str, na_action="ignore")
        for field in fields
        if field.type == pa.string()
    }
    return pa.Table.from_pandas(
        frame.assign(**texts), schema=pa.schema(fields), preserve_index=False
    )


def _type(name: str, column: pd.Series[Any]) -> pa.DataType:
    if name == "group":  # keeps the dataset's type, which determines the order of patients
        found = pa.array(column, from_pandas=True).type
        return found if pa.types.is_primitive(found) else pa.string()
    if name in _TEXT:
        return pa.string()
    if name in _FLAGS:
        return pa.bool_()
    if name in _WHOLE or name.startswith("n_"):
        whole = pd.to_numeric(column).dropna().mod(1).eq(0).all()  # means of counts are not
        return pa.int64() if whole else pa.float64()
    if name in _REAL or name.startswith(_REAL_PREFIXES):
        return pa.float64()
    values = column.dropna()
    if len(values) and values.map(lambda value: isinstance(value, (bool, np.bool_))).all():
        return pa.bool_()
    numbers = len(values) and values.map(lambda value: isinstance(value, (int, float))).all()
    return pa.float64() if numbers else pa.string()


def _opened(run: str | PathLike[str]) -> RunPaths:
    run_paths = run_at(run)
    if not run_paths.trials.is_dir():
        raise RunError(
            f"{run_paths.place} is not a run (no folder `trials`). Give the folder of a search."
        )
    return run_paths


def _trial_folders(run: RunPaths) -> list[TrialPaths]:
    found = (TrialPaths(folder) for folder in sorted(run.trials.iterdir()) if folder.is_dir())
    return [trial for trial in found if trial.result.is_file()]


def _gathered(run: str | PathLike[str], of: Callable[[TrialPaths], Path]) -> pd.DataFrame:
    parts = []
    for trial in _trial_folders(_opened(run)):
        if of(trial).is_file():
            part = files.read_table(of(trial), RunError).to_pandas()
            part.insert(0, "cell_id", trial.root.name)
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"cell_id": []})


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with columns in the documented order and numeric columns as numbers."""
    for axis, usual in (("split", "dataset"), ("real_fraction", 1.0)):
        if axis in frame:  # rows from before the grid had the axis lack a value
            frame = frame.assign(**{axis: frame[axis].fillna(usual)})
    names = [str(name) for name in frame.columns]
    labels = [name.removeprefix("recall_") for name in names if name.startswith("recall_")]
    known = columns(labels)
    for name in known:
        if name not in frame:
            frame[name] = None
    further = [name for name in names if name not in known]
    at = known.index("round") + 1
    axes = [name for name in further if not name.startswith(("n_fake_", "valid_"))]
    rest = [name for name in further if name not in axes]
    frame = frame[[*known[:at], *axes, *known[at:], *rest]]
    numeric = [name for name in known if name in (*_WHOLE, *_REAL) or _is_number(name)]
    frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in numeric})
    order = ["mode", "psi", "ratio", "arm_id", "seed"]
    return frame.sort_values(order, kind="stable", na_position="first").reset_index(drop=True)


def _is_number(name: str) -> bool:
    """Return whether a column's name marks it as numeric: metrics, counts and peaks."""
    return name.startswith(("n_", *_REAL_PREFIXES))


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    files.write_table(path, typed(frame))


def as_plain(value: Any) -> Any:
    """Convert a value for strict JSON; NaN and infinity become null, containers text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (tuple, list, dict)):
        return json.dumps(value, sort_keys=True)
    return value


def last_rounds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, for trials with several rounds the last."""
    if rows["cell_id"].is_unique:
        return rows
    order = rows.sort_values("round", kind="stable", na_position="first")
    return rows.loc[order.groupby("cell_id", sort=False).tail(1).index.sort_values()]


def splits_of(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the split of each row, as text: `dataset`, a seed or a fold such as `fold-3`."""
    found = pd.Series(USUAL_SPLIT, index=rows.index, dtype=object)
    if "split" in rows:
        found = rows["split"].fillna(USUAL_SPLIT).astype(str)
    if "fold" in rows:
        names = rows["fold"].dropna().map(lambda fold: fold_split(int(fold)))
        found = names.reindex(rows.index).fillna(found)
    return found


def screened(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows belong to the grid itself rather than to a second stage."""
    if "stage" not in rows:
        return pd.Series(True, index=rows.index)
    return rows["stage"].ne("confirm")
