"""What filters did: each filtered arm against as many fakes that no filter chose."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.format import many
from fgaug.analysis.report.format import (
    DASH,
    LEVELS,
    NAMES,
    effects,
    intervals,
    is_loss,
    p_text,
    said,
    titled,
)
from fgaug.analysis.report.material import Material, compared, names_of
from fgaug.analysis.report.parts import Part, Table, Text
from fgaug.grid.filters import NONE

MOST_ROWS = 60


def filter_parts(material: Material) -> list[Part]:
    """Return a table of what each filter did for the gain; in words why there is none."""
    filtered = material.arms["filter"].dropna().ne(NONE)
    if not filtered.any():
        return [Text(text="No arm of the grid has a filter.")]
    rows = compared(material, "subset")
    if rows.empty:
        return [
            Text(
                text="No filtered arm has an arm with as many unfiltered fakes beside it: "
                "`controls: [random_subset]` in the grid trains them."
            )
        ]
    metric, names = material.metric, names_of(material)
    rows = rows.sort_values("effect", ascending=is_loss(metric), na_position="last")
    text = pd.DataFrame(
        {
            "arm": [names.get(str(arm), str(arm)) for arm in rows.index],
            "seeds": [f"{a:g} / {b:g}" for a, b in zip(
                rows["n_seeds"], rows["n_seeds_against"], strict=True
            )],
            titled("gain by the filter", metric): effects(metric, rows["effect"]),
            "interval": intervals(metric, rows["ci_low"], rows["ci_high"]),
            "p (E2)": rows["p_value"].map(p_text),
            "pairs better": said(rows["run_pairs"], DASH),
            "note": said(rows["reason"]),
        }
    )  # fmt: skip
    note = (
        f"Effects on {NAMES[metric]} of choosing fakes by the filter instead of at random: "
        "against an arm with as many fakes of each label, of the same psi, that no filter chose. "
        f"Intervals hold together over the rows, p are adjusted for them. E2: {LEVELS['E2']}."
    )
    if len(text) > MOST_ROWS:
        note = f"The {MOST_ROWS} best of {many(len(text), 'arm')}; the CSV has all. {note}"
    return [
        Table(
            name="filters", title="What filters did", frame=rows.reset_index(),
            text=text.head(MOST_ROWS), words=("arm", "note"), note=note,
        )
    ]  # fmt: skip
