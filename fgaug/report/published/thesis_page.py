"""The thesis's page: its tables as printed and what they support.

source -> comparisons, best_cell, two_way, replaced -> [thesis_page] -> folder
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgaug.report.parts import Section
from fgaug.report.published import folder
from fgaug.report.published.best_cell import BestCell, best_cell
from fgaug.report.published.comparisons import compare_cells
from fgaug.report.published.source import METRICS, Thesis, read_thesis
from fgaug.report.published.thesis_gain import gain_section, verdict_section
from fgaug.report.published.thesis_grid import cells_section, grid_section, tests_section
from fgaug.report.published.thesis_printed import printed_section
from fgaug.report.published.thesis_replacement import replacement_section

FILES = ("thesis_tables.csv", "thesis_table_3_1.csv", "thesis_table_4_6.csv")
KIND = (
    "fgaug report of published tables: do generated images help this classifier? Level E1 (this "
    "recipe, on these patients), from published summaries"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """What the sections tell of, by metric."""

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
        folder.origin("thesis", FILES),
    )


def write_thesis(out: Path) -> Path:
    """Write the re-analysis of the thesis below `out` and return the page's path."""
    name = "StyleGAN2-ADA images for fetal-brain planes: the published tables, analysed anew"
    return folder.write(out, name, KIND, thesis_sections(analyse_thesis()))
