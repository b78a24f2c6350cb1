"""Fingerprints: which machines the fakes show, and what tells them from reals and each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

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
from fgaug.analysis.report.format import count, listed, number, p_text
from fgaug.analysis.report.parts import Part, Table, Text
from fgaug.quality.fake_sets.record import SetRecord


def print_parts(kept: SetRecord, number_: int = 1) -> list[Part]:
    """Return which machines the fakes show, and what tells them from reals and each other."""
    return [
        *_machine_parts(kept, number_), *_frequency_parts(kept, number_),
        *_network_parts(kept, number_),
    ]  # fmt: skip


def _machine_parts(kept: SetRecord, number_: int) -> list[Part]:
    parts: list[Part] = []
    shares = kept.frame("shares")
    machines = kept.frame("machines").to_dict("records")
    if not machines:
        return [Text(text="The dataset has no stratum (machine, site, operator) to look for.")]
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
                "by chance below": own["tv_chance"].map(number),
                "p-value of the calls": own["p_value"].map(p_text),
            }
        )
        repeated = own.duplicated(["label", "psi", "filter"]).to_numpy()
        text.loc[repeated, ["total variation", "by chance below", "p-value of the calls"]] = ""
        note = (
            f"{name.capitalize()} of the fakes as a classifier of the training reals' "
            f"{name} sees it ({row['inputs']}), corrected for what it mistakes for what among "
            "reals of patients that it did not see; intervals resample patients and fakes. Total "
            "variation: half the sum of the differences, 0 alike, 1 nothing in common. p: "
            "chi-square of its calls on fakes and on reals, patients resampled whole."
        )
        parts.append(
            Table(
                name=f"fakes_{number_}_stratum_{name}", title=f"{name.capitalize()} of the fakes",
                frame=own, text=text.head(MOST_ROWS), words=(*WORDS, name),
                note=cut(text, note),
            )
        )  # fmt: skip
    return parts


def _frequency_parts(kept: SetRecord, number_: int) -> list[Part]:
    frame, reals = kept.frame("spectrum"), kept.frame("reals")
    if "auc" not in frame:
        return [Text(text=why(frame, "High frequencies could not be compared"))]
    halves = reals.assign(psi=math.nan, filter="reals against reals")
    both = pd.concat([halves, frame], ignore_index=True)
    return [
        Table(
            name=f"fakes_{number_}_frequencies", title="Told from reals by high frequencies alone",
            frame=frame, text=_told(both, ("reals", "fakes")).head(MOST_ROWS), words=WORDS,
            note="A logistic regression on the power spectrum from half the Nyquist frequency up, "
            "cross-validated by patient; 50% is chance, and two halves of the reals (rows "
            "reals against reals) show what chance looks like. A classifier can learn such "
            "marks in the place of a label.",
        )
    ]  # fmt: skip


def _network_parts(kept: SetRecord, number_: int) -> list[Part]:
    frame = kept.frame("networks")
    if "auc" not in frame:
        return []
    text = _told(frame.assign(filter="none"), ("fakes", "others")).drop(columns="filter")
    text.insert(2, "other network", frame["other_name"].to_numpy())
    return [
        Table(
            name=f"fakes_{number_}_networks", title="Two networks of one label told apart",
            frame=frame, text=text.head(MOST_ROWS), words=WORDS,
            note="A logistic regression on the features, cross-validated by z_seed: above 50%, "
            "which network made an image can be seen in it.",
        )
    ]  # fmt: skip


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
            "interval of that": [
                percents(row["accuracy_low"], row["accuracy_high"]) for row in rows
            ],
            "note": notes_of(frame),
        }
    )
    return without_empty_note(text)


def _machine_said(row: Mapping[Any, Any], own: pd.DataFrame) -> str:
    """Return in a sentence whether a stratum can be told, and which values the fakes lack."""
    name = row["stratum"]
    if isinstance(row.get("reason"), str):
        return f"{name}: not looked for. {row['reason']}"
    skill = (
        f"{name}: a classifier is right on {percent(row['accuracy'])} of reals whose patients it "
        f"did not see (balanced over {len(row['values'])} values; {percent(row['least'])} are "
        "needed)"
    )
    if row["left_out"]:
        skill += f"; of too few patients to look for: {listed(map(str, row['left_out']))}"
    if not row["tells"]:
        return f"{skill}. It cannot tell them apart, so nothing is said of the fakes' {name}."
    if own.empty:
        return f"{skill}. No reals of the fakes' labels have one of its values."
    whole = own[own["filter"].eq("none")]
    missing = whole[whole["missing"].astype(bool)]
    if missing.empty:
        return f"{skill}. None of its values is missing in the fakes."
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
