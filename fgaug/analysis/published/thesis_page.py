"""Page on the thesis: its tables with the printed digits, and what they support."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgaug.analysis.published import folder
from fgaug.analysis.published.best_cell import BestCell, best_cell
from fgaug.analysis.published.comparisons import compare_cells
from fgaug.analysis.published.replacement import replacement_section
from fgaug.analysis.published.source import (
    BASELINES,
    METRICS,
    THESIS_FILES,
    Thesis,
    read_thesis,
)
from fgaug.analysis.published.thesis_gain import gain_section, verdict_section
from fgaug.analysis.published.thesis_grid import cells_section, grid_section, tests_section
from fgaug.analysis.published.thesis_networks import network_tables
from fgaug.analysis.report.parts import Part, Section, Table, Text

KIND = (
    "fgaug report of published tables: do generated images help this classifier? Level E1 (this "
    "recipe, on these patients), from published summaries"
)
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
    "replacement_split": ("table_4_6", "Table 4.6: images by plane, GAN and no GAN separately"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """The results for all sections, by metric."""

    thesis: Thesis
    cells: dict[str, pd.DataFrame]
    best: dict[str, BestCell]


def analyse_thesis() -> Analysed:
    """Return the comparisons of all cells and the best cell of each metric."""
    thesis = read_thesis()
    return Analysed(
        thesis=thesis,
        cells={metric: compare_cells(thesis, metric) for metric in METRICS},
        best={metric: best_cell(thesis, metric) for metric in METRICS},
    )


def thesis_sections(found: Analysed) -> tuple[Section, ...]:
    """Return every section of the page."""
    return (
        verdict_section(found.thesis, found.best),
        tests_section(found.thesis, found.cells),
        gain_section(found.thesis, found.best),
        grid_section(found.thesis),
        cells_section(found.thesis, found.cells),
        replacement_section(found.thesis),
        printed_section(found.thesis),
        folder.origin("thesis", THESIS_FILES),
    )


def write_thesis(out: Path) -> Path:
    """Write the re-analysis of the thesis below `out` and return the page's path."""
    name = "StyleGAN2-ADA images for fetal-brain planes: a re-analysis of the published tables"
    return folder.write(out, name, KIND, thesis_sections(analyse_thesis()))


def printed_section(thesis: Thesis) -> Section:
    """Return tables 3.1, 3.3, 3.4 and 4.1 to 4.8 with the printed digits."""
    parts: list[Part] = [
        Text(
            text="Digits as printed. The baseline of table 4.1 recurs in 4.2 to 4.5, that of "
            "4.7 in 4.8. Ratio is the number of fakes per real image; bl is the baseline. "
            f"{SD}"
        )
    ]
    for name, rows in thesis.printed.groupby("table", sort=False):
        parts.append(printed_table(str(name), rows))
    for field, (name, title) in _SPLITS.items():
        frame = getattr(thesis, field)
        text = frame.rename(columns=lambda column: str(column).replace("_", " "))
        parts.append(
            Table(
                name=name,
                title=title,
                frame=frame,
                text=text,
                words=(str(text.columns[0]),),
                kinds=tuple("total" if row == "total" else "" for row in text.iloc[:, 0]),
            )
        )
    parts += network_tables(thesis.networks)
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
