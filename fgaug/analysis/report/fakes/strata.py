"""Chapter on strata and fingerprints: machines in the fakes, and traces of the networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fgaug.analysis.format import count, listed, number, p_value
from fgaug.analysis.report.fakes.format import (
    MOST_ROWS,
    WORDS,
    cut,
    ends,
    notes_of,
    percent,
    percents,
    set_columns,
    why,
    without_empty_note,
)
from fgaug.analysis.report.parts import Part, Table, Text
from fgaug.quality.fake_sets.record import SetRecord


def print_parts(kept: SetRecord, number_: int = 1) -> list[Part]:
    """Return the machines in the fakes, and how fakes differ from reals and each other."""
    return [
        *_machine_parts(kept, number_),
        *_frequency_parts(kept, number_),
        *_network_parts(kept, number_),
    ]


def _machine_parts(kept: SetRecord, number_: int) -> list[Part]:
    parts: list[Part] = []
    shares = kept.frame("shares")
    machines = kept.frame("machines").to_dict("records")
    if not machines:
        return [
            Text(
                text="The dataset defines no strata (machine, site, operator) to look for in the "
                "fakes."
            )
        ]
    for row in machines:
        name = str(row["stratum"])
        own = shares[shares["stratum"].eq(name)]
        parts.append(Text(text=_machine_said(row, own), kind=_kind(own)))
        if own.empty:
            continue
        rows = own.to_dict("records")
        text = pd.DataFrame(
            {
                **set_columns(own),
                name: own["value"],
                "reals": [percent(each["real"]) for each in rows],
                "fakes": [percent(each["fake"]) for each in rows],
                "95% interval": [percents(each["low"], each["high"]) for each in rows],
                "in the fakes": [_of_reals(each) for each in rows],
                "total variation": [_with_ends(each) for each in rows],
                "upper limit by chance": own["tv_chance"].map(number),
                "p-value": own["p_value"].map(p_value),
            }
        )
        repeated = own.duplicated(["label", "psi", "filter"]).to_numpy()
        text.loc[repeated, ["total variation", "upper limit by chance", "p-value"]] = ""
        note = (
            f"{name.capitalize()} of the fakes as predicted by a classifier trained on the "
            f"training reals' {name} ({row['inputs']}), corrected for its confusion matrix on "
            "reals of held-out patients; confidence intervals resample patients and fakes. "
            "Total variation: half the sum of the absolute differences, from 0 (alike) to 1 "
            "(nothing in common). p value: chi-square test of the predictions for fakes against "
            "those for reals, with whole patients resampled."
        )
        parts.append(
            Table(
                name=f"fakes_{number_}_stratum_{name}",
                title=f"{name.capitalize()} of the fakes",
                frame=own,
                text=text.head(MOST_ROWS),
                words=(*WORDS, name),
                note=cut(text, note),
            )
        )
    return parts


def _frequency_parts(kept: SetRecord, number_: int) -> list[Part]:
    frame, reals = kept.frame("spectrum"), kept.frame("reals")
    if "auc" not in frame:
        return [Text(text=why(frame, "High frequencies could not be compared"))]
    halves = reals.assign(psi=math.nan, filter="reals against reals")
    both = pd.concat([halves, frame], ignore_index=True)
    return [
        Table(
            name=f"fakes_{number_}_frequencies",
            title="Fakes against reals by high frequencies",
            frame=frame,
            text=_told(both, ("reals", "fakes")).head(MOST_ROWS),
            words=WORDS,
            note="Logistic regression on the power spectrum from half the Nyquist frequency up, "
            "cross-validated by patient. 50% is chance; comparing two halves of the reals "
            "(rows reals against reals) shows what chance looks like. A classifier can "
            "learn such traces instead of the label.",
        )
    ]


def _network_parts(kept: SetRecord, number_: int) -> list[Part]:
    frame = kept.frame("networks")
    if "auc" not in frame:
        return []
    text = _told(frame.assign(filter="none"), ("fakes", "others")).drop(columns="filter")
    text.insert(2, "other network", frame["other_name"].to_numpy())
    return [
        Table(
            name=f"fakes_{number_}_networks",
            title="Two networks of one label against each other",
            frame=frame,
            text=text.head(MOST_ROWS),
            words=WORDS,
            note="Logistic regression on the features, cross-validated by z_seed. Above 50%, an "
            "image reveals which network generated it.",
        )
    ]


def _told(frame: pd.DataFrame, sides: tuple[str, str]) -> pd.DataFrame:
    rows = frame.to_dict("records")
    text = pd.DataFrame(
        {
            **set_columns(frame),
            sides[0]: frame["n_first"].map(count),
            sides[1]: frame["n_second"].map(count),
            "AUC": frame["auc"].map(number),
            "95% interval": [ends(row["auc_low"], row["auc_high"]) for row in rows],
            "balanced accuracy": [percent(row["accuracy"]) for row in rows],
            "accuracy, 95% interval": [
                percents(row["accuracy_low"], row["accuracy_high"]) for row in rows
            ],
            "note": notes_of(frame),
        }
    )
    return without_empty_note(text)


def _machine_said(row: Mapping[Any, Any], own: pd.DataFrame) -> str:
    """Return whether a stratum is predictable and which values the fakes lack, as a sentence."""
    name = row["stratum"]
    if isinstance(row.get("reason"), str):
        return f"{name}: not examined. {row['reason']}"
    skill = (
        f"{name}: a classifier has a balanced accuracy of {percent(row['accuracy'])} on reals of "
        f"held-out patients ({len(row['values'])} values; at least {percent(row['least'])} is "
        "required)"
    )
    if row["left_out"]:
        skill += f"; too few patients to examine: {listed(map(str, row['left_out']))}"
    if not row["tells"]:
        return (
            f"{skill}. It cannot distinguish the values, so no {name} is reported for the fakes."
        )
    if own.empty:
        return f"{skill}. No reals of the fakes' labels have any of these values."
    whole = own[own["filter"].eq("none")]
    missing = whole[whole["missing"].astype(bool)]
    if missing.empty:
        return f"{skill}. No value is missing in the fakes."
    told = listed(
        f"{value} in {_sets_said(part)}" for value, part in missing.groupby("value", sort=False)
    )
    return f"{skill}. Missing in the fakes: {told}."


def _sets_said(part: pd.DataFrame) -> str:
    """Return labels with their psis: `trv (ψ 0.5, 1)`."""
    return listed(
        f"{label} (ψ {', '.join(f'{psi:g}' for psi in rows['psi'])})"
        for label, rows in part.groupby("label", sort=False)
    )


def _kind(own: pd.DataFrame) -> Any:
    lacking = len(own) and own["missing"].astype(bool).any()
    return "warning" if lacking else "plain"


def _of_reals(row: Mapping[Any, Any]) -> str:
    if row["missing"]:
        return "missing"
    if row["high"] < row["real"]:
        return "fewer"
    return "more" if row["low"] > row["real"] else "as in reals"


def _with_ends(row: Mapping[Any, Any]) -> str:
    low, high = row["tv_low"], row["tv_high"]
    return f"{number(row['total_variation'], 2)} ({number(low, 2)} to {number(high, 2)})"
