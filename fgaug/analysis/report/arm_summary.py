"""Arm summaries: result rows aggregated over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from fgaug.grid.arm_names import frozen, further_axes
from fgaug.grid.cells import MODES

if TYPE_CHECKING:
    from pandas.core.groupby import SeriesGroupBy

FAKES_OF = "n_fake_"  # prefix of the columns that count the fakes of one label
MACRO = ("precision", "recall", "specificity")  # scores by label that are averaged over labels
_SPREAD = ("mean", "sd", "sd_sample", "max", "min")


def labels_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the labels that the column names contain, in column order."""
    found: dict[str, None] = {}
    for prefix in (FAKES_OF, "recall_"):
        for name in map(str, frame.columns):
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = None
    return tuple(found)


def by_arm(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per arm (and round): axes, sizes, and scores over the finished seeds.

    `seeds` is the number of rows averaged; failed and pruned rows are counted but never averaged.
    `_sd` is the population standard deviation, as in the thesis; `_sd_sample` is the sample
    standard deviation (divided by n - 1). Both are NaN for a single seed. `_macro` scores are
    means over labels, each label against the rest; one is undefined where a label's score is.
    Means leave out undefined scores; `note` says how many, and why a mean is missing.
    """
    axes = further_axes(frame)
    counts = [name for name in map(str, frame.columns) if name.startswith(FAKES_OF)]
    keys = [frame["arm_id"]]
    if "round" in frame:
        keys.append(frame["round"])
    group = frame.groupby(keys, dropna=False, sort=False).ngroup()  # rounds: NaN where none are
    arms = _sum_up(frame, group, axes, counts)[_columns(axes, counts)]
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
    """Return the columns of `by_arm` that are further axes of the grid."""
    names = [str(name) for name in arms.columns]
    return names[names.index("round") + 1 : names.index("seeds")]  # as `_columns` lays them out


def _columns(axes: Iterable[str], counts: Iterable[str]) -> list[str]:
    names = ("valid_acc", "valid_auc", "valid_f1_macro", *(f"valid_{n}_macro" for n in MACRO))
    scores = [f"{score}_{name}" for score in names for name in _SPREAD]
    return [
        *("arm_id", "mode", "psi", "ratio", "filter", "round", *axes),
        *("seeds", "failed", "pruned", "n_real", "n_fake", *counts),
        *(*scores, "valid_loss_mean", "note"),
    ]


def _sum_up(
    frame: pd.DataFrame, group: pd.Series[int], axes: Iterable[str], counts: Iterable[str]
) -> pd.DataFrame:
    """Return one row per group, computed by column: thousands of arms take a second."""
    ok = frame["status"].eq("ok")
    arms = pd.DataFrame({"seeds": ok.groupby(group).sum().astype(int)})
    for name in ("arm_id", "mode", "psi", "ratio", "filter", "round", *axes):
        given = frame[name].map(frozen) if name in frame else pd.Series(None, index=frame.index)
        known = given[given.notna()].astype(object)
        arms[name] = known.groupby(group).first()
        if name in ("psi", "ratio", "round"):
            arms[name] = arms[name].astype(float)
        else:
            arms[name] = arms[name].astype(object).where(arms[name].notna(), None)
    for status in ("failed", "pruned"):
        arms[status] = frame["status"].eq(status).groupby(group).sum().astype(int)
    # Failed rows have sizes too; sizes differ between seeds where patients are drawn
    for name in ("n_real", "n_fake", *counts):
        arms[name] = _numbers(frame, name).groupby(group).mean()
    undefined = {}
    for score, word in (("valid_acc", "accuracy"), ("valid_auc", "AUC"), ("valid_loss", "loss")):
        at = _numbers(frame, score).where(ok).groupby(group)
        undefined[word] = arms["seeds"] - at.count()
        if score == "valid_loss":
            arms["valid_loss_mean"] = at.mean()
        else:
            _add_spread(arms, score, at)
    macro = {"macro F1": ("valid_f1_macro", _numbers(frame, "valid_f1_macro"))}
    for name in MACRO:
        macro[f"macro {name}"] = (f"valid_{name}_macro", mean_over_labels(frame, name))
    for word, (score, values) in macro.items():
        at = values.where(ok).groupby(group)
        if values.notna().any():  # else rows of an older version, which lack the score
            undefined[word] = arms["seeds"] - at.count()
        _add_spread(arms, score, at)
    arms["note"] = [
        _note(arms.loc[i], {w: n[i] for w, n in undefined.items()}) for i in arms.index
    ]
    return arms


def _add_spread(arms: pd.DataFrame, score: str, at: SeriesGroupBy[Any, Any]) -> None:
    """Add a score's mean and spread over the seeds of each arm."""
    arms[f"{score}_mean"] = at.mean()
    arms[f"{score}_sd"] = at.std(ddof=0).where(at.count() > 1)
    arms[f"{score}_sd_sample"] = at.std()
    arms[f"{score}_max"], arms[f"{score}_min"] = at.max(), at.min()


def mean_over_labels(rows: pd.DataFrame, score: str) -> pd.Series[float]:
    """Return the mean over labels of a score of each row; NaN if a label's is undefined.

    Args:
        rows: result rows.
        score: one of MACRO.
    """
    names = [str(name) for name in rows.columns if str(name).startswith(f"{score}_")]
    columns = [_numbers(rows, name) for name in names]
    if not columns:
        return pd.Series(math.nan, index=rows.index, dtype=float)
    return pd.concat(columns, axis=1).mean(axis=1, skipna=False)


def _note(arm: pd.Series[Any], undefined: Mapping[str, int]) -> str:
    """Return why a mean is missing or incomplete; empty for a complete arm."""
    seeds = arm["seeds"]
    if not seeds:
        why = [f"{arm[status]} {status}" for status in ("failed", "pruned") if arm[status]]
        return f"no seed finished: {', '.join(why)}"
    notes = ["one seed: no spread"] if seeds == 1 else []
    notes += [f"{word} undefined in {n} of {seeds}" for word, n in undefined.items() if n]
    return "; ".join(notes)


def _numbers(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    if name not in rows:
        return pd.Series(math.nan, index=rows.index, dtype=float)
    numbers: pd.Series[float] = pd.to_numeric(rows[name], errors="coerce").astype(float)
    return numbers.where(numbers.abs() != math.inf)


def _mode_rank(mode: str) -> int:
    return MODES.index(mode) if mode in MODES else len(MODES)
