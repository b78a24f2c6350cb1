"""Chapters: cells without a result, the plan and deviations from it, looks at the test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fgaug.analysis.format import LEVELS, NAMES, many, share
from fgaug.analysis.report.material import Material, names_of
from fgaug.analysis.report.parts import Facts, Part, Table, Text
from fgaug.grid.arm_names import frozen, further_axes

MOST_ROWS = 200  # an error may be a whole traceback; no browser opens a page of thousands
_AXES = ("cell_id", "mode", "psi", "ratio", "filter")


def absent_parts(material: Material) -> list[Part]:
    """Return the counts of failed, pruned and missing cells, then a table of them."""
    frame = _absent(material)
    if frame.empty and not material.missing:
        return [Text(text="None: every cell of the grid has finished.")]
    counts = frame["status"].value_counts() if len(frame) else pd.Series(dtype=int)
    listed = int(counts.get("missing", 0))
    told = [f"{counts.get(status, 0)} {status}" for status in ("failed", "pruned")]
    told.append(f"{max(material.missing, listed)} missing")
    parts: list[Part] = [
        Text(
            text=f"{', '.join(told)}. These cells are counted but never averaged. An arm pruned "
            "at a rung still counts as an arm tried in every multiplicity adjustment."
        )
    ]
    if material.missing > listed:
        parts.append(Text(text="Missing cells are not listed individually.", kind="note"))
    if frame.empty:
        return parts
    frame = frame.sort_values("status", kind="stable")  # failed, missing, pruned
    text = frame.head(MOST_ROWS)
    text = text.assign(**{str(n): [_text(value) for value in text[n]] for n in text.columns})
    note = f"Showing the first {MOST_ROWS} of {len(frame)}; the CSV file lists all." * (
        len(frame) > MOST_ROWS
    )
    words = tuple(str(name) for name in text.columns if name not in ("seed", "round"))
    table = Table(
        name="absent",
        title="Cells without a result",
        frame=frame,
        text=text,
        words=words,
        note=note,
        folded=len(frame) > 12 and not counts.get("failed", 0),
    )
    return [*parts, table]


def _absent(material: Material) -> pd.DataFrame:
    if material.analysis is not None:
        frame = material.analysis.absent
        arms = [names_of(material).get(str(arm), str(arm)) for arm in frame["arm_id"]]
        shown = frame.drop(columns=["arm_id"])
        shown.insert(0, "arm", arms)
        return shown
    rows = material.rows[material.rows["status"].ne("ok")]
    wanted = (*_AXES, *further_axes(rows), "seed", "round", "status", "stopped_by", "error")
    return rows[[name for name in wanted if name in rows and rows[name].notna().any()]]


def plan_parts(material: Material) -> list[Part]:
    """Return the frozen plan, the deviations from it, and every look at the test set."""
    parts: list[Part] = []
    analysis = material.analysis
    if material.plan:
        parts.append(Facts(pairs=tuple(_frozen(material.plan))))
    elif analysis is not None:
        parts.append(
            Text(text="No plan was recorded when this run began; the analysis follows this one.")
        )
        parts.append(Facts(pairs=tuple(_plan(analysis.plan.model_dump()))))
    else:
        parts.append(Text(text="No plan was recorded when this run began."))
    told = material.deviations or (analysis.deviations if analysis is not None else ())
    if told:
        parts.append(
            Text(
                text="Deviations from the plan (results that depend on them are exploratory): "
                f"{'; '.join(told)}.",
                kind="warning",
            )
        )
    elif material.plan:
        parts.append(Text(text="There are no deviations from the plan."))
    parts.append(Text(text="Looks at the sealed test set", kind="heading"))
    if not material.has_test:
        parts.append(Text(text="The dataset has no test set."))
        return parts
    if not material.looks:
        parts.append(Text(text="No look is on record: the test set is still sealed."))
        return parts
    frame = pd.DataFrame([dict(look) for look in material.looks])
    text = pd.DataFrame(
        {
            "look": frame["number"].map(str),
            "date": frame["date"].map(str),
            "purpose": frame["purpose"].map(str),
            "arms": [str(len(arms)) for arms in frame["arms"]],
            "planned": ["yes" if planned else "no" for planned in frame["planned"]],
        }
    )
    flat = frame.assign(**{n: frame[n].map(" ".join) for n in ("arms", "cells") if n in frame})
    words = ("date", "purpose", "planned")
    parts.append(Table(name="looks", title="Looks", frame=flat, text=text, words=words))
    return parts


def _frozen(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [
        ("Frozen", f"{plan.get('date', '')}, digest {str(plan.get('digest', ''))[:12]}"),
        *_plan(plan.get("analysis") or {}),
        (
            "Arms and seeds",
            f"{many(len(plan.get('arms', ())), 'arm')} with {many(plan.get('seeds', 0), 'seed')} "
            f"each; baseline: {many(plan.get('baseline_seeds', 0), 'seed')}",
        ),
    ]
    sizes = plan.get("sizes") or {}
    told = [
        f"{name} {many(n['images'], 'image')} of {many(n['patients'], 'patient')}"
        for name, n in sizes.items()
    ]
    if told:
        pairs.append(("Images", "; ".join(told)))
    return [*pairs, ("Second stage", _second_stage(plan))]


def _second_stage(plan: Mapping[str, Any]) -> str:
    """Return the planned second stage in words; its screening seeds are the grid's."""
    second = plan.get("confirmation")
    if not second:
        return "none planned"
    arms, top = len(plan.get("arms", ())), int(second["top"])
    best = "the best arm" if top == 1 else f"the best {top} arms"
    if arms and arms <= top:
        best = many(arms, "arm") + " (every arm in the grid)"
    screening = second.get("screen_seeds") or plan.get("seeds")
    by = f", ranked by {many(int(screening), 'screening seed')}" if screening else ""
    return f"{best}{by}, retrained with {many(int(second['confirm_seeds']), 'fresh seed')} each"


def _plan(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    metric = str(plan.get("metric", "auc"))
    margin = plan.get("margin")
    against = {"twin": "its oversample control"}.get(str(plan.get("contrast")), "the baseline")
    alpha, looks = plan.get("alpha", 0.05), plan.get("looks", 1)
    each = f"; {alpha / looks:g} at each look at the test set" if looks > 1 else ""
    return [
        ("Primary metric", NAMES.get(metric, metric)),
        (
            "A gain is",
            f"an improvement over {against} for new patients (level E2: {LEVELS['E2']})",
        ),
        ("Error rate", f"{alpha:g}, two-sided, family-wise over all arms{each}"),
        (
            "Replacement",
            f"fakes must retain {share(plan.get('retention'))} of the gain from the removed "
            "reals; " + (f"margin {margin:g}" if margin else "no fixed margin: half of that gain"),
        ),
        ("Looks planned", str(looks)),
    ]


def _text(value: Any) -> str:
    value = frozen(value)
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
