"""The arms of a run, and their comparators."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from fgaug.grid.arm_names import arm_name, frozen, further_axes
from fgaug.grid.cells import CONTROLS, FAKE_MODES, MODES
from fgaug.grid.filters import NONE
from fgaug.grid.twins import COMPARATORS, Comparator
from fgaug.runs.results import USUAL_SPLIT

COLUMNS = (
    "arm_id",
    "name",
    "mode",
    "psi",
    "ratio",
    "filter",
    "split",
    "real_fraction",
    "family",
    "group",
    "sheet",
    "baseline_id",
    "twin_id",
    "drop_id",
    "subset_id",
    "n_real",
    "n_fake",
    "ok",
    "failed",
    "pruned",
    "missing",
)


def arm_table(rows: pd.DataFrame, missing: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per arm, with baselines and controls, ordered by mode, psi and ratio.

    Columns: arm_id; name (words); mode, psi, ratio, filter, split (text), real_fraction; family
    (text: arms with the same split, recipe and real_fraction, so one baseline); group (text: the
    same without real_fraction: arms on the same images with the same recipe); sheet (text: all
    axes but mode, psi and ratio: arms of one mode and sheet cross these two); baseline_id, twin_id
    (oversample), drop_id and subset_id (the arm with the same number of unfiltered fakes), None if
    there is none; n_real and n_fake (means over the rows); the numbers of ok, failed, pruned and
    missing cells.

    Args:
        rows: rows of a run, one per cell, without those of a second stage.
        missing: cells without a row, as `Evidence.missing`; those of unknown arms are ignored.
    """
    lost = pd.DataFrame(columns=["arm_id"]) if missing is None else missing
    lost = lost[lost["arm_id"].notna()]
    known = _together(rows, lost)
    if known.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    axes = further_axes(known)
    recipe = tuple(name for name in axes if name.startswith("recipe."))
    firsts = known.groupby("arm_id", sort=False).first()
    sizes = _sizes(rows)
    arms: list[dict[str, Any]] = []
    keys: dict[Hashable, str] = {}
    for arm_id, row in zip(firsts.index, records(firsts), strict=True):
        arm = _described(str(arm_id), row, axes, recipe)
        if arm["mode"] not in FAKE_MODES:
            kind = COMPARATORS[arm["mode"]]
            keys.setdefault((arm["family"], *_shared(row, kind)), arm["arm_id"])
        elif arm["filter"] in (None, NONE):
            keys.setdefault(_fakes(row, axes), arm["arm_id"])
        arms.append(arm | {"row": row})
    for arm in arms:
        row = arm.pop("row")
        arm |= _others(arm, row, keys)
        filtered = arm["mode"] in FAKE_MODES and arm["filter"] not in (None, NONE)
        arm["subset_id"] = keys.get(_fakes(row, axes)) if filtered else None
        for name in ("n_real", "n_fake"):
            arm[name] = float(sizes[name].get(arm["arm_id"], math.nan))
    table = pd.DataFrame(arms)
    for status in ("ok", "failed", "pruned"):
        counts = rows.loc[rows["status"].eq(status), "arm_id"].value_counts()
        table[status] = table["arm_id"].map(counts).fillna(0).astype(int)
    table["missing"] = table["arm_id"].map(lost["arm_id"].value_counts()).fillna(0).astype(int)
    for name in ("filter", "baseline_id", "twin_id", "drop_id", "subset_id"):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return _sorted(table)[list(COLUMNS)]


def compared(arms: pd.DataFrame) -> pd.DataFrame:
    """Return the arms with fakes, which are compared with baselines and twins."""
    return arms[~arms["mode"].isin(("baseline", *CONTROLS))]


def _together(rows: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    if lost.empty:
        return rows
    return pd.concat([rows, lost.astype(object)], ignore_index=True)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as mappings from column to value."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _described(
    arm_id: str, row: Mapping[str, Any], axes: tuple[str, ...], recipe: tuple[str, ...]
) -> dict[str, Any]:
    split = str(frozen(row.get("split")) or USUAL_SPLIT)
    share = frozen(row.get("real_fraction"))
    share = 1.0 if share is None else float(share)  # type: ignore[arg-type]  # a number
    named = [f"{name} {frozen(row.get(name))}" for name in recipe]
    prepared = frozen(row.get("dataset"))
    named = [*([] if prepared is None else [f"dataset {prepared}"]), *named]
    group = ", ".join([f"split {split}", *named])
    others = [f"{name} {frozen(row.get(name))}" for name in ("filter", *axes)]
    return {
        "arm_id": arm_id,
        "name": arm_name(row, axes),
        "mode": str(row["mode"]),
        "psi": _number(row.get("psi")),
        "ratio": _number(row.get("ratio")),
        "filter": frozen(row.get("filter")),
        "split": split,
        "real_fraction": share,
        "group": group,
        "sheet": ", ".join(others),
        "family": group if share == 1 else f"{group}, real_fraction {share:g}",
    }


def _shared(row: Mapping[str, Any], kind: Comparator) -> tuple[Hashable, ...]:
    """Return the values that an arm and its comparator of a kind have in common."""
    return kind.key(lambda axis: frozen(row.get(axis)))


def _fakes(row: Mapping[str, Any], axes: tuple[str, ...]) -> tuple[Hashable, ...]:
    """Return what an arm with a filter shares with one without: mode, psi, amount, axes."""
    return ("fakes", *(frozen(row.get(name)) for name in ("mode", "psi", "ratio", *axes)))


def _others(
    arm: Mapping[str, Any], row: Mapping[str, Any], keys: Mapping[Hashable, str]
) -> dict[str, str | None]:
    """Return the ids of an arm's comparators."""
    ids = {
        kind.name: keys.get((arm["family"], *_shared(row, kind)))
        for kind in COMPARATORS.values()
        if arm["mode"] in kind.of_modes
    }
    return {
        "baseline_id": ids.get("baseline"),
        "twin_id": ids.get("oversample"),
        "drop_id": ids.get("drop"),
    }


def _sizes(rows: pd.DataFrame) -> pd.DataFrame:
    numbers = {
        name: pd.to_numeric(rows[name], errors="coerce") if name in rows else math.nan
        for name in ("n_real", "n_fake")
    }
    return pd.DataFrame(numbers, index=rows.index).groupby(rows["arm_id"].to_numpy()).mean()


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    ranks = {mode: rank for rank, mode in enumerate(MODES)}
    order = table.assign(mode=table["mode"].map(ranks).fillna(len(MODES)))
    by = ["family", "mode", "psi", "ratio", "name"]
    order = order.sort_values(by, na_position="first", kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def _number(value: Any) -> float:
    found = frozen(value)
    return math.nan if found is None else float(found)  # type: ignore[arg-type]  # a number
