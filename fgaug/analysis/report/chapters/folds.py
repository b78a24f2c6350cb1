"""Chapter on folds: the pooled AUC of each arm and seed, and the AUC of each fold."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.findings.folds import HIGH, LOW, OF_FOLD
from fgaug.analysis.format import DASH, many, number, undefined
from fgaug.analysis.report.material import Material, names_of
from fgaug.analysis.report.parts import Part, Table, Text

MOST_ROWS = 60


def fold_parts(material: Material) -> list[Part]:
    """Return the table of pooled runs, or the reason why there is none."""
    rows = material.rows[material.rows["status"].eq("ok")]
    if LOW not in rows or rows.empty:
        return [Text(text="No arm has a seed whose folds have all finished.")]
    folds = sorted((str(c) for c in rows if str(c).startswith(OF_FOLD)), key=_fold)
    frame = rows[["arm_id", "mode", "seed", "valid_auc", LOW, HIGH, *folds]]
    names = names_of(material)
    text = pd.DataFrame(
        {
            "arm": frame["arm_id"].map(names),
            "seed": frame["seed"].map(str),
            "AUC, pooled": frame["valid_auc"].map(number),
            "95% interval": [
                DASH if undefined(low) else f"{number(low)} to {number(high)}"
                for low, high in zip(frame[LOW], frame[HIGH], strict=True)
            ],
            **{f"fold {_fold(name)}": frame[name].map(number) for name in folds},
        }
    )
    note = (
        "The pooled AUC ranks the predictions of all folds together, each image predicted by the "
        "network of its seed that did not train on its fold. The interval covers new patients for "
        "these networks of that seed (level E0). Folds differ in their patients, "
        "so compare arms within a fold; the mean over folds is not the pooled AUC."
    )
    if len(text) > MOST_ROWS:
        note = f"Showing {MOST_ROWS} of {many(len(text), 'run')}; the CSV file lists all. {note}"
    return [
        Table(
            name="folds", title="Out-of-fold AUC by arm and seed", frame=frame,
            text=text.head(MOST_ROWS), words=("arm",), note=note,
        )
    ]  # fmt: skip


def _fold(column: str) -> int:
    return int(column.removeprefix(OF_FOLD))
