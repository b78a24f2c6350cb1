"""Section with the thesis's tables, digit by digit.  source -> [thesis_printed] -> thesis_page"""

from __future__ import annotations

import pandas as pd

from fgaug.report.parts import Part, Section, Table, Text
from fgaug.report.published.source import BASELINES, Thesis

_HEADS = {
    "ratio": "ratio",
    "fakes_trv": "fakes trv",
    "fakes_dbp": "fakes dbp",
    **{f"acc_{name}": f"accuracy {name}" for name in ("mean", "std", "max", "min")},
    **{f"auc_{name}": f"AUC {name}" for name in ("mean", "std", "max", "min")},
    "loss_avg": "loss avg",
}
_TITLES = {
    "baseline": "baseline",
    "augmentation": "augmentation, psi = {}",
    "replacement": "replacement, psi = {}",
}
SD = "std: population standard deviation over five seeds (divided by n, as numpy's std)."
_SPLITS = {
    "split": ("table_3_1", "Table 3.1: images by plane"),
    "replacement_split": ("table_4_6", "Table 4.6: images by plane, GAN and no GAN apart"),
}


def printed_section(thesis: Thesis) -> Section:
    """Return tables 3.1 and 4.1 to 4.8 with the digits as printed."""
    parts: list[Part] = [
        Text(
            text="Digits as printed. The baseline of table 4.1 recurs in 4.2 to 4.5, that of 4.7 "
            f"in 4.8. Ratio is fakes per real image; bl is the baseline. {SD}"
        )
    ]
    for name, rows in thesis.printed.groupby("table", sort=False):
        parts.append(printed_table(str(name), rows))
    for field, (name, title) in _SPLITS.items():
        frame = getattr(thesis, field)
        text = frame.rename(columns=lambda column: str(column).replace("_", " "))
        parts.append(
            Table(
                name=name, title=title, frame=frame, text=text, words=(str(text.columns[0]),),
                kinds=tuple("total" if row == "total" else "" for row in text.iloc[:, 0]),
            )
        )  # fmt: skip
    return Section(key="printed", title="The published tables", parts=tuple(parts))


def printed_table(name: str, rows: pd.DataFrame) -> Table:
    """Return one of the thesis's tables with its columns.

    Args:
        name: such as `4.2`.
        rows: of `Thesis.printed`, text.
    """
    last = rows.iloc[-1]
    text = rows[list(_HEADS)].rename(columns=_HEADS).reset_index(drop=True)
    return Table(
        name=f"table_{name.replace('.', '_')}",
        title=f"Table {name}: {_TITLES[last['mode']].format(last['psi'])}",
        frame=rows.reset_index(drop=True),
        text=text,
        kinds=tuple("baseline" if mode in BASELINES else "arm" for mode in rows["mode"]),
        note=SD,
    )
