"""Summary of a run in plain sentences: what it is, how much is done, and its best arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fgaug.analysis.findings.folds import OF_FOLD
from fgaug.analysis.findings.notes import seen_removals
from fgaug.analysis.format import count, many, number, undefined
from fgaug.analysis.report.arm_summary import labels_of
from fgaug.analysis.report.panels import Panel, panels, varying
from fgaug.core.split_names import FOLDS
from fgaug.grid.arm_names import arm_name, frozen
from fgaug.grid.cells import CONTROLS
from fgaug.grid.filters import NONE
from fgaug.runs.environment import DatasetRecord, Environment

_LEAKAGE = {
    "unknown": (
        "unknown: the networks' training images are not recorded, so validation images may be "
        "among them"
    ),
    "by_choice": (
        "by choice: the grid names validation images that the networks were trained on, or "
        "stops trials on a fold of the training images (`validate_on: training_fold`), so "
        "scores may be too high"
    ),
    "none": "none found: no validation image or patient is in a snapshot's training set",
}


def cells_by_status(frame: pd.DataFrame) -> dict[str, int]:
    """Return the number of ok, pruned and failed cells; one failed round makes a cell failed."""
    counts = {"ok": 0, "pruned": 0, "failed": 0}
    for _, states in frame.groupby("cell_id")["status"]:
        worst = next((name for name in ("failed", "pruned") if states.eq(name).any()), "ok")
        counts[worst] += 1
    return counts


def facts(
    frame: pd.DataFrame, space: Mapping[str, Any], environment: Environment, missing: int
) -> list[tuple[str, str]]:
    """Return the head of the report as (name, sentence) pairs.

    Uses the dataset recorded in `environment`, and the rows for what the record lacks.
    """
    states = cells_by_status(frame)
    known = environment.dataset or DatasetRecord()
    found: list[tuple[str, str]] = []
    if space.get("dataset"):
        found.append(("Dataset", str(space["dataset"])))
    labels = known.labels or labels_of(frame)
    if labels:
        found.append(("Labels", ", ".join(map(str, labels))))
    sizes = _sizes(frame, known)
    if sizes:
        found.append(("Sizes", sizes))
    arms, seeds = frame["arm_id"].nunique(), frame["seed"].nunique()
    number_of_cells = frame["cell_id"].nunique() + missing
    total = many(number_of_cells, "cell")
    done = ", ".join(f"{states[name]:,} {name}" for name in states)
    if folds := _pooled_folds(frame):  # a row is a seed of an arm with all its folds
        total = f"{many(number_of_cells * folds, 'cell')}, pooled over {folds} folds"
        done = f"pooled: {done}"
    found.append(("Grid", f"{total}: {many(arms, 'arm')} started, {many(seeds, 'seed')}"))
    found.append(("Cells", f"{done}, {missing:,} missing"))
    found.append(("Budget", _budget(frame, space)))
    found.append(("Leakage", leakage(frame)))
    return found


def budget_unit(frame: pd.DataFrame, space: Mapping[str, Any]) -> str:
    """Return `epochs` or `steps`, from the grid or, failing that, from the rows."""
    budget = space.get("budget")
    if isinstance(budget, Mapping) and budget.get("unit"):
        return str(budget["unit"])
    units = _values(frame, "budget_unit")
    return units[0] if units else "epochs"


def warnings_of(frame: pd.DataFrame, space: Mapping[str, Any], missing: int) -> list[str]:
    """Return the caveats that a reader needs before relying on the tables."""
    found = []
    if missing:
        found.append(
            f"{many(missing, 'cell')} of the grid {'has' if missing == 1 else 'have'} no result "
            "yet. Run the same search again to train them; the numbers below may still change."
        )
    modes = set(frame["mode"])
    if budget_unit(frame, space) == "epochs" and modes & {"augmentation", "replacement"}:
        twin = "Compare with its oversample control"
        if "oversample" not in modes:
            twin = "Train oversample controls beside the arms (`controls`)"
        found.append(
            "The budget is counted in epochs, so more fakes mean more steps: an arm may be better "
            f"because it trained longer. {twin}, or use a budget in steps."
        )
    ok = frame[frame["status"].eq("ok")]
    if not ok["mode"].eq("baseline").any():
        found.append("No baseline has finished, so there is nothing to compare the arms with.")
    found += seen_removals(frame)
    used = frame["filter"] if "filter" in frame else pd.Series(dtype=object)  # no row yet
    filtered = used.notna() & used.ne(NONE)
    if "n_dropped" in frame and frame.loc[filtered, "n_dropped"].gt(0).any():
        found.append(
            "Some filtered arms leave out real images that were used to compute their filter's "
            "scores. The filter has seen all training images, so the fakes of these arms carry "
            "information from images that their classifier is supposed to lack."
        )
    return found


def best_arm(arms: pd.DataFrame) -> str:
    """Return what can honestly be concluded about the arm with the highest mean validation AUC.

    For a run without computed comparisons; `arms` are rows of `by_arm`.
    """
    axes = varying(arms)
    best: tuple[Panel, pd.Series[Any]] | None = None
    tried = 0
    for panel in panels(arms):
        if panel.mode == "baseline" or panel.mode in CONTROLS:
            continue
        scored = panel.arms[panel.arms["valid_auc_mean"].notna()]
        tried += len(scored)
        for _, arm in scored.iterrows():
            if best is None or arm["valid_auc_mean"] > best[1]["valid_auc_mean"]:
                best = panel, arm
    if best is None:
        return "No arm with fakes has a validation AUC yet."
    panel, arm = best
    text = (
        f"Highest mean validation AUC: {arm_name({str(k): v for k, v in arm.items()}, axes)}, "
        f"with {_score(arm)}"
    )
    baseline = panel.baseline[panel.baseline["valid_auc_mean"].notna()]
    if len(baseline) == 1:
        gain = arm["valid_auc_mean"] - baseline.iloc[0]["valid_auc_mean"]
        text += f", against {_score(baseline.iloc[0])} for the baseline ({gain:+.3f})"
    text += "."
    controls = panel.controls[panel.controls["mode"].eq("oversample")]
    size = [name for name in ("ratio", "fakes") if name in arm]
    twins = [
        twin
        for _, twin in controls[controls["valid_auc_mean"].notna()].iterrows()
        if all(frozen(twin[name]) == frozen(arm[name]) for name in size)
    ]
    if len(twins) == 1:
        text += " Its oversample control, of the same size but without new images, has "
        text += f"{_score(twins[0])}."
    if tried == 1:
        return text + (
            " This is a comparison on the validation set; no significance test has been performed."
        )
    return text + (
        f" This arm was selected out of {tried} arms on the validation set, so its score is "
        "optimistic, and no significance test has been performed."
    )


def _values(frame: pd.DataFrame, name: str) -> list[str]:
    """Return the distinct values of a column as text; none if the column does not exist."""
    return list(dict.fromkeys(frame[name].dropna().map(str))) if name in frame else []


def _score(arm: pd.Series[Any]) -> str:
    return f"{number(arm['valid_auc_mean'])} ({many(int(arm['seeds']), 'seed')})"


def _pooled_folds(frame: pd.DataFrame) -> int:
    """Return the number of folds that each row pools; 0 without folds."""
    if "split" not in frame or not frame["split"].eq(FOLDS).any():
        return 0
    return sum(str(name).startswith(OF_FOLD) for name in frame)


def _sizes(frame: pd.DataFrame, known: DatasetRecord) -> str:
    parts = []
    if known.size:
        parts.append(f"{known.size} x {known.size} pixels")
    if known.channels:
        parts.append(many(known.channels, "channel"))
    if (folds := _pooled_folds(frame)) and known.n_images:
        total = many(sum(known.n_images.values()), "image")
        return ", ".join([*parts, f"{total} in {folds} folds, each held out once"])
    for split, word in (("train", "training"), ("valid", "validation"), ("test", "test")):
        if split in known.n_images:
            parts.append(many(known.n_images[split], f"{word} image"))
    if "train" not in known.n_images:
        baseline = frame.loc[frame["mode"].eq("baseline")]
        reals = baseline["n_real"].max() if "n_real" in baseline else math.nan
        if not undefined(reals):
            parts.append(f"{count(reals)} real training images")
    return ", ".join(parts)


def _budget(frame: pd.DataFrame, space: Mapping[str, Any]) -> str:
    budget = space.get("budget")
    budget = budget if isinstance(budget, Mapping) else {}
    most = f" {budget['max']}" if budget.get("max") else ""
    rounds = space.get("rounds")
    if isinstance(rounds, Mapping):
        unit = "steps" if budget_unit(frame, space) == "steps" else "epochs at most"
        number = int(rounds.get("count") or 1)
        text = f"{most.strip()} {unit} per round, {many(number, 'round')}".strip()
        if number == 1:
            return text
        return (
            f"{text}: by the end of its last round, an arm with rounds has trained that much "
            "longer than the baseline; round 1 is as long as the baseline"
        )
    if budget_unit(frame, space) == "steps":
        stopped = " unless it was pruned" if frame["status"].eq("pruned").any() else ""
        text = f"{most.strip()} steps: every arm takes the same number of optimiser steps"
        return f"{text}{stopped}".strip()
    text = f"up to{most} epochs" if most else "epochs"
    if budget.get("patience"):
        text += f", patience {budget['patience']}"
    return f"{text}: one epoch is one pass over the arm's own training set"


def leakage(frame: pd.DataFrame) -> str:
    """Return in words whether a network may have been trained on validation images.

    Cells without fakes are left out: no network generated their training images.
    """
    if not _values(frame, "leakage"):
        return "not recorded"
    cells = frame[frame["leakage"].notna()].drop_duplicates("cell_id")
    with_fakes = ~cells["mode"].isin(("baseline", *CONTROLS))
    counted = cells.loc[with_fakes | cells["leakage"].ne("none"), "leakage"].value_counts()
    if counted.empty:
        return "none: no cell uses fakes"
    if len(counted) == 1:
        return _LEAKAGE.get(str(counted.index[0]), str(counted.index[0]))
    return "; ".join(
        f"in {many(int(counted[state]), 'cell')} {_LEAKAGE.get(str(state), str(state))}"
        for state in sorted(counted.index)
    )
