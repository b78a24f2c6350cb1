"""Results: one row, curve and predictions a trial, written whole.

`result.json` is written last, so a cell that has one is finished. JSON because 10,000 small
Parquet files take half a minute to load and as many JSON files a second.
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
from fgaug.errors import RunError
from fgaug.runs import confirmation_records
from fgaug.training import saved_model
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
# of a pruned cell; of one that ran out of memory; what its network started from
FURTHER = ("rung", "micro_batch", "oom_events", "weights")
METRICS = ("loss", "acc", "auc", "f1_macro", "brier", "ece")
PER_LABEL = ("precision", "recall", "specificity")
_TEXT = (
    *("cell_id", "arm_id", "mode", "filter", "status", "stopped_by", "error", "budget_unit"),
    *("leakage", "dataset_digest", "recipe_digest", "snapshots", "version", "host", "device"),
    *("started_at", "stage", "split", "snapshot", "fakes", "remove", "remove_by"),
    "weights",
)
_FLAGS = ("gan_saw_removed", "frozen")
_WHOLE = (
    *("seed", "round", "n_real", "n_fake", "n_dropped", "budget_used", "best_epoch", "best_step"),
    *("images_seen", "rung", "micro_batch", "oom_events", "epoch", "step"),
    *("seeds", "failed", "pruned"),
)
_REAL = ("psi", "ratio", "real_fraction", "wall_s", "train_images_per_s", "train_loss", "train_s")
_REAL_PREFIXES = ("valid_", "test_", "precision_", "recall_", "specificity_", "peak_", "p_")
USUAL_SPLIT = "dataset"  # of a grid without the axis `split`


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """All that a finished trial leaves on disk."""

    row: Mapping[str, Any]  # of the last round
    earlier: Sequence[Mapping[str, Any]] = ()  # of the rounds before that are reported
    curve: pd.DataFrame  # one row an evaluation
    predictions: pd.DataFrame  # validation: image_id, group, label, round, p_<label>...
    sealed: pd.DataFrame | None  # the same for the test set, where there is one
    model: SavedModel | None = None  # the classifier itself, where it is to be kept


def columns(labels: Sequence[str]) -> list[str]:
    """Return the columns of a result row in the contract's order, further axes left out."""
    metrics = [f"valid_{name}" for name in METRICS]
    per_label = [f"{name}_{label}" for name in PER_LABEL for label in labels]
    return [*IDENTITY, *OUTCOME, *metrics, *per_label, *COSTS, *FURTHER]


def write_trial(trial: TrialPaths, result: TrialResult) -> None:
    """Write a trial's files; the row last, so that a torn trial is never taken for finished."""
    _write_frame(trial.curve, result.curve)
    _write_frame(trial.predictions, result.predictions)
    if result.sealed is not None:
        _write_frame(trial.sealed, result.sealed)
    if result.model is not None:
        saved_model.write(trial, result.model)
    write_rows(trial, [*result.earlier, result.row])
    trial.checkpoint.unlink(missing_ok=True)
    trial.paused.unlink(missing_ok=True)


def write_paused(trial: TrialPaths, result: TrialResult, share: float) -> None:
    """Write what a cell found until it waits: curve, predictions, its row so far.

    It waits at a rung, or between two rounds, after `share` of its budget.
    """
    _write_frame(trial.curve, result.curve)
    _write_frame(trial.predictions, result.predictions)
    row = {key: as_plain(value) for key, value in result.row.items()}
    files.write_json(trial.paused, {"schema": SCHEMA, "share": share, "rows": [row]})


def paused_share(trial: TrialPaths) -> float:
    """Return the share of its budget after which a cell waits; 0 where it can not go on."""
    if not (trial.paused.is_file() and trial.checkpoint.is_file()):
        return 0.0
    try:
        return float(files.read_json(trial.paused, RunError).get("share", 0.0))
    except (RunError, AttributeError, TypeError, ValueError):
        return 0.0  # a damaged file: it begins again


def write_pruned(trial: TrialPaths, rung: int, row: Mapping[str, Any]) -> None:
    """Give a cell of a beaten arm its row: what it found at its rung, else `row`."""
    if trial.paused.is_file():
        row = _rows_in(trial.paused)[-1]
    status = {"status": "pruned", "stopped_by": "scheduler", "rung": rung}
    write_row(trial, {**row, **status})


def write_row(trial: TrialPaths, row: Mapping[str, Any]) -> None:
    """Write a trial's row alone: what a failed trial leaves."""
    write_rows(trial, [row])


def write_rows(trial: TrialPaths, found: Sequence[Mapping[str, Any]]) -> None:
    """Write a trial's rows: one, or one a reported round."""
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
    ):
        raise RunError(f"{path} is not a result of this version of fgaug.")
    return list(raw["rows"])


def statuses_of(run: RunPaths, cell_ids: Iterable[str]) -> dict[str, str]:
    """Return the status (ok, pruned, failed) of each of the cells that has a row.

    Nothing is written: a cell with a damaged row counts as not yet trained, see
    `set_aside_damaged`.
    """
    found = ((cell_id, _status(run.trial(cell_id))) for cell_id in cell_ids)
    return {cell_id: status for cell_id, status in found if status is not None}


def damaged(run: RunPaths, cell_ids: Iterable[str]) -> list[str]:
    """Return which of the cells have a row that cannot be read."""
    return [
        cell_id
        for cell_id in cell_ids
        if run.trial(cell_id).result.is_file() and _status(run.trial(cell_id)) is None
    ]


def set_aside_damaged(run: RunPaths, cell_ids: Iterable[str]) -> list[str]:
    """Rename each damaged row to `result.json.corrupt`, and return the cells that had one.

    Called by a search that holds the run's folder, right before it trains these cells again.
    """
    found = damaged(run, cell_ids)
    for cell_id in found:
        result = run.trial(cell_id).result
        result.replace(result.with_suffix(".json.corrupt"))
    return found


def _status(trial: TrialPaths) -> str | None:
    """Return what the last row of a trial says of it; None without a row that can be read."""
    if not trial.result.is_file():
        return None
    try:
        return str(read_rows(trial)[-1]["status"])
    except (RunError, IndexError, KeyError, TypeError):
        return None


def load_results(run: str | PathLike[str]) -> pd.DataFrame:
    """Return all rows of a run, one a trial (one a reported round), as a pandas frame.

    Where the run has a second stage, `stage` tells its rows, `confirm`, from the rest, `screen`.

    Raises:
        RunError: no such run, or a damaged row (named).
    """
    run_paths = _opened(run)
    rows: list[dict[str, Any]] = []
    for folder in _trial_folders(run_paths):
        rows += read_rows(folder)
    if not rows:
        return pd.DataFrame(columns=columns(()))
    frame = _ordered(pd.DataFrame(rows))
    if second := confirmation_records.cells_of(run_paths):
        confirmed = frame["cell_id"].isin(second)
        before_status = list(frame.columns).index("status")
        frame.insert(before_status, "stage", np.where(confirmed, "confirm", "screen"))
    return frame


def load_curves(run: str | PathLike[str]) -> pd.DataFrame:
    """Return the learning curves of a run, one row an evaluation, with `cell_id`."""
    return _gathered(run, lambda trial: trial.curve)


def load_predictions(run: str | PathLike[str]) -> pd.DataFrame:
    """Return the validation predictions of a run, one row an image and trial, with `cell_id`."""
    return _gathered(run, lambda trial: trial.predictions)


def compact(run: RunPaths) -> None:
    """Write all rows into results.parquet: handy for other tools, never the only copy."""
    files.write_table(run.results, typed(load_results(run.root)))


def typed(frame: pd.DataFrame) -> pa.Table:
    """Return rows, curves or predictions as a table in which every column has its declared type.

    A type that followed from the values would differ between runs: a column that is empty in one
    run would be `null` there, a count with a gap `double`, and no program could read two runs as
    one table. Axes, which are declared nowhere, are numbers (`double`), true or false, or text.
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
    if name == "group":  # of the dataset's own type, which the order of patients rests on
        found = pa.array(column, from_pandas=True).type
        return found if pa.types.is_primitive(found) else pa.string()
    if name in _TEXT:
        return pa.string()
    if name in _FLAGS:
        return pa.bool_()
    if name in _WHOLE or name.startswith("n_"):
        whole = pd.to_numeric(column).dropna().mod(1).eq(0).all()  # but a mean of counts
        return pa.int64() if whole else pa.float64()
    if name in _REAL or name.startswith(_REAL_PREFIXES):
        return pa.float64()
    values = column.dropna()
    if len(values) and values.map(lambda value: isinstance(value, (bool, np.bool_))).all():
        return pa.bool_()
    numbers = len(values) and values.map(lambda value: isinstance(value, (int, float))).all()
    return pa.float64() if numbers else pa.string()


def _opened(run: str | PathLike[str]) -> RunPaths:
    run_paths = RunPaths(Path(run))
    if not run_paths.trials.is_dir():
        raise RunError(
            f"{run_paths.root} is not a run (no folder `trials`). Give the folder of a search."
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
    """Return the frame with the contract's columns first in their order, numbers as numbers."""
    for axis, usual in (("split", "dataset"), ("real_fraction", 1.0)):
        if axis in frame:  # else a row from before its grid had the axis
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
    """Return whether columns of a name's kind hold numbers: scores, counts and peaks."""
    return name.startswith(("n_", *_REAL_PREFIXES))


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    files.write_table(path, typed(frame))


def as_plain(value: Any) -> Any:
    """Return a value as strict JSON can hold it; what is not a number becomes null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (tuple, list, dict)):
        return json.dumps(value, sort_keys=True)
    return value


def last_rounds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell: of a trial with several rounds the last."""
    if rows["cell_id"].is_unique:
        return rows
    order = rows.sort_values("round", kind="stable", na_position="first")
    return rows.loc[order.groupby("cell_id", sort=False).tail(1).index.sort_values()]


def splits_of(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the split of each row, as text."""
    if "split" not in rows:
        return pd.Series(USUAL_SPLIT, index=rows.index, dtype=object)
    return rows["split"].fillna(USUAL_SPLIT).astype(str)


def screened(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows belong to the grid itself, not to a second stage on fresh seeds."""
    if "stage" not in rows:
        return pd.Series(True, index=rows.index)
    return rows["stage"].ne("confirm")
