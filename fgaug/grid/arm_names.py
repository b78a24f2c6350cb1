"""Names of arms in text, built from the axis columns of result rows."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from fgaug.core.split_names import FOLDS
from fgaug.grid.arm_words import arm_in_words, axis_value
from fgaug.grid.filters import NONE

# Columns of a result row that are not further axes; any other column may be one.
_ROW = frozenset(
    (
        *("cell_id", "arm_id", "mode", "psi", "ratio", "filter", "seed", "round", "stage"),
        *("status", "stopped_by", "error", "budget_unit", "budget_used", "images_seen"),
        *("wall_s", "leakage", "gan_saw_removed", "dataset_digest", "recipe_digest"),
        *("weights", "computed_in", "snapshots", "version", "host", "device", "started_at"),
        *("rung", "micro_batch", "oom_events"),
    )
)
_ROW_PREFIXES = (
    *("n_", "best_", "peak_", "valid_", "test_", "train_"),
    *("precision_", "recall_", "specificity_"),
)


def frozen(value: Any) -> Hashable:
    """Return a hashable form of `value`: mappings and lists as JSON, NaN as None."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True, default=str)
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value  # type: ignore[no-any-return]  # numpy


def further_axes(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that are axes of the grid besides mode, psi, ratio, filter and seed.

    These are columns that a result row does not define itself and that are constant over the seeds
    of every arm; a column that varies is a measurement a user added.
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


def arm_name(arm: Mapping[str, Any], axes: Iterable[str]) -> str:
    """Format the name of an arm, as `augmentation psi 0.7 ratio 2 filter agrees ...`."""
    named: list[tuple[str, str]] = []
    for name in ("psi", "ratio", "round"):
        value = frozen(arm.get(name))
        if value is not None:
            named.append((name, f"{value:g}"))
    if frozen(arm.get("filter")) not in (None, NONE):
        named.append(("filter", axis_value("filter", arm["filter"])))
    values = {name: frozen(arm.get(name)) for name in axes if name != "filter"}
    if values.get("split") == FOLDS:
        del values["split"]  # true of every arm of its run
    named += [
        (name, axis_value(name, value)) for name, value in values.items() if value is not None
    ]
    return arm_in_words(str(arm["mode"]), named)
