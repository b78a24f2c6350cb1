"""Panels: arms that differ only in size, with their baseline and controls."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fgaug.analysis.report.arm_summary import axes_in
from fgaug.grid.arm_names import frozen
from fgaug.grid.arm_words import PSI_BY_LABEL, arm_in_words, axis_value
from fgaug.grid.cells import CONTROLS, FAKE_MODES


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Arms of one mode and psi that differ only in their number of fakes (or round)."""

    mode: str
    psi: float | None
    axes: Mapping[str, Any]  # further axes and the filter; None where an axis does not apply
    baseline: pd.DataFrame  # rows of `by_arm`, as are the next two
    arms: pd.DataFrame
    controls: pd.DataFrame


def panels(arms: pd.DataFrame) -> list[Panel]:
    """Return the rows of `by_arm` in panels, each with its comparators.

    Controls without a panel (their arms are absent or ambiguous) and a baseline without arms come
    last, in panels of their own.
    """
    axes = ["filter", *axes_in(arms)]
    fixed = [name for name in axes if name != "fakes"]  # `fakes` is a size, as the ratio is
    reals = arms[arms["mode"].eq("baseline")]
    twins = arms[arms["mode"].isin(CONTROLS)]
    tried = arms[~arms["mode"].isin(["baseline", *CONTROLS])]
    # Without a `remove` column, twins of replacement and of augmentation look alike: better in a
    # panel of their own than beside the wrong arm.
    twinned = set(tried["mode"]) - {"synthetic"}
    telling = "remove" in axes or len(twinned) <= 1
    found: list[Panel] = []
    used: set[Hashable] = set()
    for _, group in tried.groupby(["mode", *fixed, "psi"], dropna=False, sort=False):
        head = {name: frozen(group.iloc[0][name]) for name in fixed}
        mode = str(group.iloc[0]["mode"])
        baseline = reals[_agrees(reals, head, exact=())]
        controls = twins[_agrees(twins, head, exact=("remove",)) & _is_twin(twins, mode, group)]
        controls = controls if telling else controls.iloc[:0]
        used.update(baseline.index, controls.index)
        psi = frozen(group.iloc[0]["psi"])
        found.append(
            Panel(
                mode=mode,
                psi=None if psi is None else float(str(psi)),
                axes=head,
                baseline=baseline,
                arms=group,
                controls=controls,
            )
        )
    for _, group in twins[~twins.index.isin(used)].groupby(["mode", *fixed], dropna=False):
        head = {name: frozen(group.iloc[0][name]) for name in fixed}
        baseline = reals[_agrees(reals, head, exact=())]
        used.update(baseline.index)
        mode = str(group.iloc[0]["mode"])
        none = group.iloc[:0]
        found.append(
            Panel(mode=mode, psi=None, axes=head, baseline=baseline, arms=none, controls=group)
        )
    alone = reals[~reals.index.isin(used)]
    if len(alone):
        none = alone.iloc[:0]
        found.append(
            Panel(mode="baseline", psi=None, axes={}, baseline=alone, arms=none, controls=none)
        )
    return found


def varying(arms: pd.DataFrame) -> tuple[str, ...]:
    """Return the axes in which arms differ; filters, removals and psis of labels always, if any.

    Arms that differ in an axis may be one with a value and one without: `fakes` beside `ratio`.
    """
    with_fakes = arms["mode"].isin(FAKE_MODES)

    def tells(name: str) -> bool:
        values = arms[name].dropna()
        if name == "filter":
            return bool(values.ne("none").any())
        if name in ("remove", PSI_BY_LABEL):
            return len(values) > 0
        mixed = name == "fakes" and arms.loc[with_fakes, name].isna().any()
        return arms[name].nunique() > 1 or (len(values) > 0 and bool(mixed))

    return tuple(name for name in ("filter", *axes_in(arms)) if tells(name))


def title(panel: Panel, named: tuple[str, ...]) -> str:
    """Return the heading of a panel: mode, psi and the axes in `named`."""
    if panel.mode == "baseline":
        return "Baseline"
    axes = [] if panel.psi is None else [("psi", f"{panel.psi:g}")]
    shown = [PSI_BY_LABEL, *(name for name in named if name != PSI_BY_LABEL)]
    axes += [
        (name, axis_value(name, panel.axes[name]))
        for name in shown
        if panel.axes.get(name) is not None
    ]
    words = arm_in_words(panel.mode.capitalize(), axes)
    return f"{words} (control)" if panel.mode in CONTROLS else words


def _agrees(
    rows: pd.DataFrame, head: Mapping[str, Any], *, exact: tuple[str, ...]
) -> pd.Series[bool]:
    """Mark rows that equal `head` on every axis that applies to them, and on all `exact` axes."""
    agrees = [True] * len(rows)
    if not agrees:
        return pd.Series(agrees, index=rows.index, dtype=bool)
    for name, value in head.items():
        for i, given in enumerate(map(frozen, rows[name])):
            agrees[i] &= given == value or (given is None and name not in exact)
    return pd.Series(agrees, index=rows.index, dtype=bool)


def _is_twin(twins: pd.DataFrame, mode: str, group: pd.DataFrame) -> pd.Series[bool]:
    """Mark the controls of this mode that have the size of one of its arms."""
    if twins.empty or mode == "synthetic":  # synthetic has no controls: no real image is left
        return pd.Series(False, index=twins.index)
    same_size = pd.Series(True, index=twins.index)
    for name in ("ratio", "fakes"):
        if name in group:
            sizes = [frozen(value) for value in group[name]]
            same_size &= twins[name].map(lambda mine, s=sizes: frozen(mine) in s).astype(bool)
    drop = twins["mode"].eq("drop")
    return (drop & (mode == "replacement")) | (~drop & same_size)
