"""Chapter on datasets: the same arm on several preparations of one set of patients."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.format import (
    LEVELS,
    NAMES,
    effects,
    intervals,
    many,
    number,
    p_value,
    said,
    titled,
)
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.parts import Part, Table, Text

MOST_ROWS = 60


def dataset_parts(material: Material) -> list[Part]:
    """Return the comparisons across datasets, or the reason why there are none."""
    if material.analysis is None:
        return [Text(text=f"Not compared: {material.no_analysis}.")]
    rows = material.analysis.datasets
    if rows.empty:
        return [Text(text="No arm has a result on two datasets.")]
    metric = material.metric
    text = pd.DataFrame(
        {
            "arm": rows["arm"],
            "dataset": rows["dataset"],
            "against": rows["against"],
            "means": [
                f"{number(a)} / {number(b)}"
                for a, b in zip(rows["mean"], rows["mean_against"], strict=True)
            ],
            titled("difference", metric): effects(metric, rows["effect"]),
            "interval": intervals(metric, rows["ci_low"], rows["ci_high"]),
            "p (E2)": rows["p_value"].map(p_value),
            "note": said(rows["reason"]),
        }
    )
    note = (
        f"{NAMES[metric]} of the same arm on two datasets, evaluated on the same images of the "
        "same patients, who are paired. Confidence intervals are simultaneous over the rows, and "
        f"p values are adjusted for them. E2: {LEVELS['E2']}."
    )
    if len(text) > MOST_ROWS:
        note = f"Showing {MOST_ROWS} of {many(len(text), 'pair')}; the CSV file lists all. {note}"
    return [
        Table(
            name="datasets", title="The same arm on two datasets", frame=rows,
            text=text.head(MOST_ROWS), words=("arm", "dataset", "against", "note"), note=note,
        )
    ]  # fmt: skip
