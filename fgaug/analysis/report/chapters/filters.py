"""Chapter on filters: each filtered arm against the same number of unfiltered fakes."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.format import (
    DASH,
    LEVELS,
    NAMES,
    effects,
    intervals,
    is_loss,
    many,
    p_value,
    said,
    titled,
)
from fgaug.analysis.report.material import Material, compared, names_of
from fgaug.analysis.report.parts import Part, Table, Text
from fgaug.grid.filters import NONE

MOST_ROWS = 60


def filter_parts(material: Material) -> list[Part]:
    """Return a table of each filter's effect on the gain, or the reason why there is none."""
    filtered = material.arms["filter"].dropna().ne(NONE)
    if not filtered.any():
        return [Text(text="No arm in the grid uses a filter.")]
    rows = compared(material, "subset")
    if rows.empty:
        return [
            Text(
                text="No filtered arm has a control with the same number of unfiltered fakes. "
                "Add `controls: [random_subset]` to the grid to train these controls."
            )
        ]
    metric, names = material.metric, names_of(material)
    rows = rows.sort_values("effect", ascending=is_loss(metric), na_position="last")
    text = pd.DataFrame(
        {
            "arm": [names.get(str(arm), str(arm)) for arm in rows.index],
            "seeds": [
                f"{a:g} / {b:g}"
                for a, b in zip(rows["n_seeds"], rows["n_seeds_against"], strict=True)
            ],
            titled("gain from the filter", metric): effects(metric, rows["effect"]),
            "interval": intervals(metric, rows["ci_low"], rows["ci_high"]),
            "p (E2)": rows["p_value"].map(p_value),
            "pairs better": said(rows["run_pairs"], DASH),
            "note": said(rows["reason"]),
        }
    )
    note = (
        f"Effects on {NAMES[metric]} of choosing fakes with the filter rather than at random: "
        "each filtered arm against an arm with the same psi and the same number of unfiltered "
        "fakes of each label. Confidence intervals are simultaneous over the rows, and p values "
        f"are adjusted for them. E2: {LEVELS['E2']}."
    )
    if len(text) > MOST_ROWS:
        note = (
            f"Showing the best {MOST_ROWS} of {many(len(text), 'arm')}; the CSV file lists "
            f"all. {note}"
        )
    return [
        Table(
            name="filters",
            title="Effects of the filters",
            frame=rows.reset_index(),
            text=text.head(MOST_ROWS),
            words=("arm", "note"),
            note=note,
        )
    ]
