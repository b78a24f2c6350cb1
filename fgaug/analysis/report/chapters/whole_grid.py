"""Results beyond single arms: best arm, replacement, exchange rate, response surface."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fgaug.analysis.format import (
    DASH,
    LEVELS,
    NAMES,
    POINTS,
    count,
    effect,
    interval,
    many,
    number,
    p_value,
    said,
    share,
    undefined,
    unit,
)
from fgaug.analysis.report.material import Material, names_of
from fgaug.analysis.report.parts import Part, Table, Text

MOST_ROWS = 60


def best_parts(material: Material) -> list[Part]:
    """Return the best arm by each metric: naive gain, corrected gain, simultaneous interval."""
    assert material.analysis is not None
    frame, names = material.analysis.best, names_of(material)
    if frame.empty:
        return [Text(text="No arm can be selected as the best.")]
    first = frame.drop_duplicates("metric")  # with several families, the one with the larger gain
    text = pd.DataFrame(
        [
            {
                "metric": NAMES.get(row["metric"], row["metric"]),
                "best arm": names.get(row["arm_id"], DASH),
                "naive gain": effect(row["metric"], row["naive_gain"]),
                "corrected gain": effect(row["metric"], row["corrected_gain"]),
                "simultaneous interval": interval(row["metric"], row["ci_low"], row["ci_high"]),
                "unit": unit(row["metric"]),
                "resamples": count(row["resamples"]),
                "note": _reason(row),
            }
            for row in first.to_dict("records")
        ]
    )
    note = (
        "A gain is an improvement over the baseline; for a loss, the reduction. The naive gain "
        "is the selected arm's own estimate: with many arms it is too large even if no arm "
        "helps. The corrected gain repeats the selection many times and scores each selected "
        "arm on patients and seeds not used to select it (bootstrap bias correction). The "
        f"confidence interval is valid whichever arm is selected (level E2: {LEVELS['E2']})."
    )
    words = ("metric", "best arm", "unit")
    return [_table("best", "Best arm: three estimates", frame, text, note, words)]


def replacement_parts(material: Material) -> list[Part]:
    """Return whether fakes can replace the removed reals: sensitivity, retention, margins."""
    assert material.analysis is not None
    frame, names, metric = material.analysis.replacement, names_of(material), material.metric
    if frame.empty:
        return [
            Text(text="The grid has no replacement arm with a `drop` control to compare it with.")
        ]
    known = frame[frame[["assay_gain", "p_non_inferior"]].notna().any(axis=1)]
    rows = known.to_dict("records")
    text = pd.DataFrame(
        [
            {
                "arm": names.get(row["arm_id"], str(row["arm_id"])),
                "gain from the reals": effect(metric, row["assay_gain"]),
                "p gain (E2)": p_value(row["assay_p"]),
                # a share of no gain is meaningless
                "fakes retain": share(row["retained_share"]) if row["sensitive"] else DASH,
                "Fieller interval": _shares(row["fieller_low"], row["fieller_high"]),
                "p retention (E2)": p_value(row["retention_p"]),
                "margin": effect(metric, row["margin"]).lstrip("+"),
                "p not inferior (E2)": p_value(row["p_non_inferior"]),
                "p by Holm (E2)": p_value(row["p_non_inferior_holm"]),
                "p equivalent (E2)": p_value(row["p_tost"]),
                "90% interval": interval(metric, row["ci90_low"], row["ci90_high"]),
                "verdict": str(row["verdict"]),
                "note": _reason(row),
            }
            for row in rows
        ]
    )
    left = len(frame) - len(known)
    apart = (
        f" Only the CSV file lists {many(left, 'arm')} without a finished seed." if left else ""
    )
    sources = dict.fromkeys(said(frame["margin_source"]))
    note = (
        f"Effects on {NAMES[metric]}{', in points' if unit(metric) == 'points' else ''}. The "
        "first test asks whether the removed real images contribute measurably (all reals "
        "against the same set without them, one-sided), the second whether fakes retain at "
        f"least {share(material.analysis.plan.retention)} of that gain. Fixed margin: "
        f"{'; '.join(filter(None, sources)) or 'none'}. A large p value means that the claim was "
        f"not shown, not that two arms are equivalent. Level E2: {LEVELS['E2']}.{apart}"
    )
    return [_table("replacement", "Replacement", frame, text, note, ("arm", "verdict"))]


def exchange_parts(material: Material) -> list[Part]:
    """Return how many real images (and patients) 1,000 fakes are worth."""
    assert material.analysis is not None
    frame = material.analysis.exchange
    if frame.empty:
        return [
            Text(
                text="No exchange rate: it requires arms with fewer real images (`drop`, "
                "`real_fraction`) as well as arms with fakes."
            )
        ]
    reasons = list(dict.fromkeys(filter(None, said(frame["reason"]))))
    if frame["estimate"].isna().all():
        whole = Table(name="exchange", title="", frame=frame, text=pd.DataFrame(), folded=True)
        return [Text(text=f"No exchange rate: {'; '.join(reasons[:3])}."), whole]
    rows = frame.to_dict("records")
    text = pd.DataFrame(
        [
            {
                "fakes of": str(row["from"]),
                "reals": count(row["n_real"]),
                "fakes": count(row["n_fake"]),
                "equivalent reals": count(_round(row["estimate"])),
                "interval": _counts(row["ci_low"], row["ci_high"]),
                "equivalent patients": count(_round(row["patients"])),
                "interval, patients": _counts(row["patients_low"], row["patients_high"]),
                "note": "; ".join(filter(None, said([row["note"], row["reason"]]))),
            }
            for row in rows
        ]
    )
    note = (
        "Number of additional real training images (patients) that would bring the same gain as "
        "1,000 of these fakes, with an unadjusted confidence interval for each row (level E2: "
        f"{LEVELS['E2']})."
    )
    return [
        _table(
            "exchange", "Real images equivalent to 1,000 fakes", frame, text, note, ("fakes of",)
        )
    ]


def surface_parts(material: Material) -> list[Part]:
    """Return the tests over the whole grid: global, psi, ratio, interaction, trend."""
    assert material.analysis is not None
    frame = material.analysis.surface
    if frame.empty:
        return [
            Text(text="No test over the whole grid: it requires two values of psi or of ratio.")
        ]
    keys = ["family", "mode", "term"]
    fixed = frame[frame["level"].eq("E1")].set_index(keys)["p"]
    main = frame[frame["level"].ne("E1")]
    text = pd.DataFrame(
        {
            "arms": said(main["mode"], "all"),
            "question": said(main["term"]),
            "statistic": [number(value, 2) for value in main["statistic"]],
            "df": [_plain(value) for value in main["df"]],
            "error df": [_plain(value) for value in main["df_error"]],
            "p (E2)": main["p"].map(p_value),
            "p (E1)": [p_value(fixed.get(tuple(key))) for key in main[keys].to_numpy()],
            "in words": said(main["sentence"]),
            "note": said(main["reason"]),
        }
    )
    if main["family"].nunique() > 1:
        text.insert(0, "family", said(main["family"]))
    note = (
        "F tests; for any effect, the largest |t|. A test over the whole grid has far more "
        f"power than a test of one arm. E2: {LEVELS['E2']}; E1: {LEVELS['E1']}."
    )
    words = ("family", "arms", "question", "in words")
    return [_table("surface", "Tests over the whole grid", frame, text, note, words)]


def answers(material: Material) -> list[Part]:
    """Return all results of this chapter, or why there are none."""
    if material.analysis is None:
        return [Text(text=f"None: {material.no_analysis}.")]
    parts = [Text(text=POINTS, kind="note"), *best_parts(material), *replacement_parts(material)]
    return [*parts, *exchange_parts(material), *surface_parts(material)]


def _table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    text: pd.DataFrame,
    note: str,
    words: tuple[str, ...],
) -> Table:
    if "note" in text and not text["note"].any():
        text = text.drop(columns="note")
    if len(text) > MOST_ROWS:
        note = f"Showing the first {MOST_ROWS} of {len(text)} rows; the CSV file lists all. {note}"
    return Table(
        name=name,
        title=title,
        frame=frame,
        text=text.head(MOST_ROWS),
        note=note,
        words=(*words, "note"),
    )


def _reason(row: dict[Any, Any]) -> str:
    reason = row.get("reason")
    return reason if isinstance(reason, str) else ""


def _shares(low: Any, high: Any) -> str:
    if undefined(low) and undefined(high):
        return DASH
    below = "unbounded" if undefined(low) else share(low)
    return f"{below} to {'unbounded' if undefined(high) else share(high)}"


def _counts(low: Any, high: Any) -> str:
    if undefined(low) and undefined(high):
        return DASH
    below = "unbounded" if undefined(low) else count(_round(low))
    return f"{below} to {'unbounded' if undefined(high) else count(_round(high))}"


def _round(value: Any) -> Any:
    """Return a count rounded to about two digits: more would feign precision."""
    return value if undefined(value) else round(value, -1 if abs(value) >= 1000 else 0)


def _plain(value: Any) -> str:
    if undefined(value):
        return DASH
    return count(value) if abs(value) >= 10 else f"{value:.3g}"
