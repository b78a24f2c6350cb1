"""Arms: rows of results summed up over the seeds.  results frame -> by_arm -> panels"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from fgaug.cells import MODES

FAKES_OF = "n_fake_"  # prefix of the columns that count the fakes of one label

# The columns of a result row that describe no arm; what is left over is a further axis.
_ROW = frozenset(
    (
        *("cell_id", "arm_id", "mode", "psi", "ratio", "filter", "seed", "round"),
        *("status", "stopped_by", "error", "budget_unit", "budget_used", "images_seen"),
        *("wall_s", "leakage", "gan_saw_removed", "dataset_digest", "recipe_digest"),
        *("snapshots", "version", "host", "device", "started_at"),
        *("rung", "micro_batch", "oom_events"),
    )
)
_ROW_PREFIXES = (
    *("n_", "best_", "peak_", "valid_", "test_", "train_"),
    *("precision_", "recall_", "specificity_"),
)


def frozen(value: Any) -> Hashable:
    """Return `value` as something that compares: mappings and lists as JSON, NaN as None."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True, default=str)
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value  # type: ignore[no-any-return]  # numpy


def further_axes(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that are axes of the grid beside mode, psi, ratio, filter and seed.

    These are the columns the result row does not define. One that differs between the seeds of an
    arm is a measurement somebody added, not an axis.
    """
    unknown = [
        name for name in map(str, frame.columns)
        if name not in _ROW and not name.startswith(_ROW_PREFIXES)
    ]  # fmt: skip
    arm_ids = frame["arm_id"]
    return tuple(
        name for name in unknown
        if frame[name].map(frozen).groupby(arm_ids).nunique(dropna=False).le(1).all()
    )  # fmt: skip


def labels_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the labels that the columns name, in their order there."""
    found: dict[str, None] = {}
    for prefix in (FAKES_OF, "recall_"):
        for name in map(str, frame.columns):
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = None
    return tuple(found)


def by_arm(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm (and round): its axes, sizes, and scores over the seeds that are ok.

    `seeds` counts the rows averaged; failed and pruned rows are counted, never averaged. `_sd` is
    the population standard deviation, the thesis's, and NaN for one seed, which shows no spread.
    Undefined scores are left out of a mean; `note` says how many, and why a mean is missing.
    """
    axes = further_axes(frame)
    counts = [name for name in map(str, frame.columns) if name.startswith(FAKES_OF)]
    keys = [frame["arm_id"]]
    if "round" in frame:
        keys.append(frame["round"])
    rows = [
        _sum_up(rows, axes, counts)
        for _, rows in frame.groupby(keys, dropna=False, sort=False)  # rounds: NaN where none are
    ]
    columns = _columns(axes, counts)
    arms = pd.DataFrame(rows, columns=columns)
    order = pd.DataFrame(
        {
            "mode": arms["mode"].map(_mode_rank),
            **{name: arms[name].astype(str) for name in ("filter", *axes)},
            **{name: arms[name] for name in ("psi", "ratio", "n_fake", "round")},
        }
    )
    sorted_index = order.sort_values(list(order.columns), na_position="first", kind="stable").index
    return arms.loc[sorted_index].reset_index(drop=True)


def axes_in(arms: pd.DataFrame) -> list[str]:
    """Return the further axes among the columns of `by_arm`."""
    names = [str(name) for name in arms.columns]
    return names[names.index("round") + 1 : names.index("seeds")]  # as `_columns` lays them out


def axis_text(name: str, value: Any) -> str:
    """Return an axis and its value in words: `remove dbp 500, trv 500`."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return f"{name} {value}"
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {item}" for key, item in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"{name} {value}"


def arm_name(arm: Mapping[str, Any], axes: Iterable[str]) -> str:
    """Return the words that name an arm: `augmentation, ψ 0.7, ratio 2, recipe.model resnet50`."""
    parts = [str(arm["mode"])]
    for name, word in (("psi", "ψ"), ("ratio", "ratio"), ("round", "round")):
        value = frozen(arm.get(name))
        if value is not None:
            parts.append(f"{word} {value:g}")
    values = {name: frozen(arm.get(name)) for name in axes}
    parts += [axis_text(name, value) for name, value in values.items() if value is not None]
    return ", ".join(parts)


def _columns(axes: Iterable[str], counts: Iterable[str]) -> list[str]:
    scores = [f"valid_{s}_{what}" for s in ("acc", "auc") for what in ("mean", "sd", "max", "min")]
    return [
        *("arm_id", "mode", "psi", "ratio", "filter", "round", *axes),
        *("seeds", "failed", "pruned", "n_real", "n_fake", *counts),
        *(*scores, "valid_loss_mean", "note"),
    ]


def _sum_up(rows: pd.DataFrame, axes: Iterable[str], counts: Iterable[str]) -> dict[str, Any]:
    ok = rows[rows["status"].eq("ok")]
    arm: dict[str, Any] = {}
    for name in ("arm_id", "mode", "psi", "ratio", "filter", "round", *axes):
        given = rows[name].dropna() if name in rows else rows.iloc[:0, 0]
        arm[name] = frozen(given.iloc[0]) if len(given) else None
    for name in ("psi", "ratio", "round"):
        arm[name] = math.nan if arm[name] is None else float(arm[name])
    arm["seeds"] = len(ok)
    for status in ("failed", "pruned"):
        arm[status] = int(rows["status"].eq(status).sum())
    # Sizes are known of rows that failed, too; they differ between seeds where patients are drawn
    for name in ("n_real", "n_fake", *counts):
        arm[name] = _numbers(rows, name).mean()
    notes = []
    if not len(ok):
        why = [f"{arm[status]} {status}" for status in ("failed", "pruned") if arm[status]]
        notes.append(f"no seed finished: {', '.join(why)}")
    elif len(ok) == 1:
        notes.append("one seed: no spread")
    for score, word in (("valid_acc", "accuracy"), ("valid_auc", "AUC"), ("valid_loss", "loss")):
        values = _numbers(ok, score).dropna()
        if len(values) < len(ok):
            notes.append(f"{word} undefined in {len(ok) - len(values)} of {len(ok)}")
        arm[f"{score}_mean"] = values.mean()
        if score != "valid_loss":
            arm[f"{score}_sd"] = values.std(ddof=0) if len(values) > 1 else math.nan
            arm[f"{score}_max"], arm[f"{score}_min"] = values.max(), values.min()
    return {**arm, "note": "; ".join(notes)}


def _numbers(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    if name not in rows:
        return pd.Series(math.nan, index=rows.index, dtype=float)
    numbers: pd.Series[float] = pd.to_numeric(rows[name], errors="coerce").astype(float)
    return numbers.where(numbers.abs() != math.inf)


def _mode_rank(mode: str) -> int:
    return MODES.index(mode) if mode in MODES else len(MODES)
