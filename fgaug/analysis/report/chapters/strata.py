"""Chapter on strata: baseline, control and best arm on each machine or site, and the worst one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fgaug import stats
from fgaug.analysis.format import NAMES, count, effects, intervals, is_loss, many, number, titled
from fgaug.analysis.report.material import Material, names_of, picks
from fgaug.analysis.report.parts import Table, Text
from fgaug.runs.results import splits_of

MOST_VALUES = 30  # of one stratum on the page; the CSV file lists all
_ROLES = ("baseline", "control", "best arm")


def strata_parts(material: Material) -> list[Table | Text]:
    """Return a table per stratum of the dataset, naming the worst value, or why there is none."""
    strata, evidence = material.strata, material.evidence
    if strata is None or evidence is None:
        reason = material.no_strata if strata is None else "there are no predictions to score"
        return [Text(text=f"No results by stratum: {reason}.")]
    columns = [str(name) for name in strata.columns if name != "image_id"]
    if not columns:
        return [Text(text="The dataset defines no strata (machine, site, operator).")]
    runs = _Runs.of(material)
    if runs is None:
        return [Text(text="No results by stratum: none of the selected arms has predictions.")]
    names = names_of(material)
    picked = [(role, arm) for role, arm in picks(material).named() if role != "baseline"]
    who = "; ".join(f"{role}: {names[arm]}" for role, arm in picked)
    parts: list[Table | Text] = [
        Text(
            text=f"Scores on the {material.images}. {who[:1].upper()}{who[1:]}. The gain is that "
            "of the best arm over the baseline, with an unadjusted 95% confidence interval "
            "(level E2). No test across strata was planned: treat these results as "
            "descriptive, above all for small strata."
        )
    ]
    if runs.left_out:
        parts.append(Text(text=f"{runs.left_out} The table shows the first.", kind="note"))
    for column in columns:
        value_of = dict(zip(strata["image_id"], strata[column], strict=True))
        frame = pd.DataFrame(_rows(runs, runs.images["image_id"].map(value_of), material.metric))
        parts.append(_worst(column, frame, material.metric))
        parts.append(_table(column, frame, material.metric))
    return parts


class _Runs:
    """Predictions of the selected arms on one split."""

    def __init__(self, images: pd.DataFrame, p: Mapping[str, np.ndarray], left_out: str) -> None:
        self.images, self.probability, self.left_out = images, p, left_out

    @classmethod
    def of(cls, material: Material) -> _Runs | None:
        evidence = material.evidence
        assert evidence is not None
        rows = evidence.rows[evidence.rows["status"].eq("ok")].drop_duplicates("cell_id")
        rows = rows[rows["cell_id"].isin(evidence.probability.keys())]
        rows = rows.assign(_split=splits_of(rows))
        found, first, left_out = {}, None, ""
        for role, arm in picks(material).named():
            own = rows[rows["arm_id"].eq(arm)]
            if own.empty:
                continue
            first = first if first is not None else str(own["_split"].iloc[0])
            if own["_split"].nunique() > 1:
                left_out = f"The arms have {own['_split'].nunique()} splits."
            cells = own.loc[own["_split"].eq(first), "cell_id"]
            if len(cells):
                found[role] = np.stack([evidence.probability[cell] for cell in cells])
        return None if first is None or not found else cls(evidence.images[first], found, left_out)


def _rows(runs: _Runs, values: pd.Series[Any], metric: str) -> Iterator[dict[str, Any]]:
    known = values.map(lambda value: "unknown" if value != value or value is None else str(value))
    for name in ["all", *sorted(known.unique())]:
        inside = np.ones(len(known), bool) if name == "all" else known.eq(name).to_numpy()
        yield {"stratum": name, **_scores(runs, inside, metric)}


def _scores(runs: _Runs, inside: np.ndarray, metric: str) -> dict[str, Any]:
    images = runs.images[inside]
    row: dict[str, Any] = {"images": len(images), "patients": int(images["group"].nunique())}
    roles = [role for role in _ROLES if role in runs.probability]
    p = np.concatenate([runs.probability[role][:, inside] for role in roles])
    index = np.repeat(np.arange(len(roles)), [len(runs.probability[role]) for role in roles])
    y, group = images["y"].to_numpy(), images["group"].to_numpy()
    for score in dict.fromkeys((metric, "accuracy")):
        found = stats.arms_of(stats.influence_of(score, y, p, group=group), index)
        for role in _ROLES:
            at = roles.index(role) if role in roles else None
            row[f"{score}, {role}"] = math.nan if at is None else float(found.mean[at])
        if score != metric:
            continue
        row |= {"gain": math.nan, "ci_low": math.nan, "ci_high": math.nan, "reason": ""}
        if {"baseline", "best arm"} <= set(roles):
            weights = [{"best arm": 1.0, "baseline": -1.0}.get(role, 0.0) for role in roles]
            test = stats.contrast(found, weights)
            row |= {"gain": test.difference, "ci_low": test.ci_low, "ci_high": test.ci_high}
            row["reason"] = test.reason or ""
    return row


def _worst(column: str, frame: pd.DataFrame, metric: str) -> Text:
    role = next(
        (role for role in reversed(_ROLES) if frame[f"{metric}, {role}"].notna().any()), None
    )
    if role is None:
        return Text(text=f"{column}: {NAMES[metric]} is undefined for every value.")
    score = f"{metric}, {role}"
    apart = frame[frame["stratum"].ne("all") & frame[score].notna()]
    whole = frame.loc[frame["stratum"].eq("all"), score].iloc[0]
    if len(apart) < 2:
        return Text(text=f"{column}: fewer than two values can be scored.")
    worst = apart.sort_values(score, ascending=not is_loss(metric)).iloc[0]
    return Text(
        text=f"Worst {column}: {worst['stratum']}, where the {role} has {NAMES[metric]} "
        f"{number(worst[score])} ({many(int(worst['images']), 'image')}, "
        f"{many(int(worst['patients']), 'patient')}), compared with {number(whole)} overall."
    )


def _table(column: str, frame: pd.DataFrame, metric: str) -> Table:
    text = pd.DataFrame(
        {
            column: frame["stratum"],
            "images": frame["images"].map(count),
            "patients": frame["patients"].map(count),
            **{
                f"{NAMES[score]}, {role}": frame[f"{score}, {role}"].map(number)
                for score in dict.fromkeys((metric, "accuracy"))
                for role in _ROLES
                if frame[f"{score}, {role}"].notna().any()
            },
            titled("gain", metric): effects(metric, frame["gain"]),
            "95% interval": intervals(metric, frame["ci_low"], frame["ci_high"]),
            "note": frame["reason"],
        }
    )
    if not frame["reason"].any():
        text = text.drop(columns="note")
    kinds = tuple("baseline" if name == "all" else "" for name in frame["stratum"])
    note = ""
    if len(text) > MOST_VALUES:
        note = f"Showing the first {MOST_VALUES} of {len(text)} values; the CSV file lists all."
    return Table(
        name=f"stratum_{column}", title=f"By {column}", frame=frame, text=text.head(MOST_VALUES),
        words=(column, "note"), kinds=kinds[:MOST_VALUES], note=note,
    )  # fmt: skip
