"""Contents: the sections of a run's report."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fgaug.analysis.format import many
from fgaug.analysis.report.chapters import per_label
from fgaug.analysis.report.chapters.arm_scores import score_table
from fgaug.analysis.report.chapters.datasets import dataset_parts
from fgaug.analysis.report.chapters.filters import filter_parts
from fgaug.analysis.report.chapters.folds import fold_parts
from fgaug.analysis.report.chapters.forest import forest
from fgaug.analysis.report.chapters.heat_map import heat_maps
from fgaug.analysis.report.chapters.learning_curves import loss_figure, stops_figure
from fgaug.analysis.report.chapters.plan_and_absent import absent_parts, plan_parts
from fgaug.analysis.report.chapters.predictions import prediction_parts
from fgaug.analysis.report.chapters.provenance import checklist_parts, provenance_parts
from fgaug.analysis.report.chapters.ratio import ratio_figures
from fgaug.analysis.report.chapters.strata import strata_parts
from fgaug.analysis.report.chapters.tables import (
    WORDS,
    for_paper,
    formatted,
    kinds_of,
    thesis_tables,
)
from fgaug.analysis.report.chapters.verdict import verdict_parts
from fgaug.analysis.report.chapters.whole_grid import answers
from fgaug.analysis.report.fakes.chapters import fake_chapters
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.panels import panels
from fgaug.analysis.report.parts import Part, Section, Table, Text

MOST_TABLE_ROWS = 600  # of the thesis's tables on the page; the CSV file lists all
_SD = "sd (std): population standard deviation over the seeds (divided by n)."
MOST_FIGURES = 6  # of a kind


def sections(material: Material) -> tuple[Section, ...]:
    """Return all sections; an empty one says why.

    A run without fakes has fewer; folds and several datasets add a chapter each.
    """
    chapters: tuple[tuple[str, str, list[Part]], ...] = (
        ("verdict", "Verdict", verdict_parts(material)),
        *_data_chapters(material),
        ("tables", "Tables", table_parts(material)),
        ("ratio", "Metrics against ratio", _ratio(material)),
        ("forest", "All arms, with intervals", _forest(material)),
        ("heat", "Gain by ψ and ratio", _heat(material)),
        ("curves", "Learning curves", _curves(material)),
        ("predictions", "Confusion matrices and ROC", _predictions(material)),
        ("strata", "Strata", [*strata_parts(material)]),
        ("answers", "Best arm, replacement, exchange rate, surface", answers(material)),
        ("filters", "Filters", filter_parts(material)),
        ("sheets", "Fakes", _sheets(material)),
        *fake_chapters(material),
        ("absent", "Failed, pruned and missing cells", absent_parts(material)),
        ("plan", "Plan and looks at the test set", plan_parts(material)),
        ("provenance", "Provenance", provenance_parts(material)),
        ("checklist", "Reporting checklists", checklist_parts(material)),
    )
    return tuple(Section(key=key, title=title, parts=tuple(p)) for key, title, p in chapters)


def _data_chapters(material: Material) -> Iterator[tuple[str, str, list[Part]]]:
    """Yield the chapters of grids whose cells choose their view of the data."""
    if "dataset" in material.rows:
        yield "datasets", "Datasets", dataset_parts(material)
    if material.pooled:
        yield "folds", "Folds", fold_parts(material)


def table_parts(material: Material) -> list[Part]:
    """Return the thesis's table and the per-label table of each panel, up to a page's limit."""
    comparisons = None if material.analysis is None else material.analysis.comparisons
    found = thesis_tables(material.arms, comparisons)
    if not found:
        return [Text(text="There are no results yet.")]
    shared = [_whole_table(found)]
    parts: list[Part] = [Text(text=_explained(material))]
    scores, rows = per_label.per_label(material), 0
    averages = score_table(material, scores)
    if averages is not None:
        shared.insert(0, averages)
    for number, ((title, table), panel) in enumerate(
        zip(found, panels(material.arms), strict=True), start=1
    ):
        labels, told = per_label.of_panel(panel, scores)
        rows += len(table) + len(labels)
        if rows > MOST_TABLE_ROWS and number > 1:
            left = len(found) - number + 1
            parts.append(Text(text=f"See tables/arms.csv for {many(left, 'more table')}."))
            break
        name = f"table_{number}_{panel.mode}" + (
            "" if panel.psi is None else f"_psi_{panel.psi:g}"
        )
        text = formatted(table).head(MOST_TABLE_ROWS)
        parts.append(
            Table(
                name=name, title=title, frame=table, text=text, words=WORDS,
                kinds=kinds_of(table), paper=for_paper(table), note=_SD,
            )
        )  # fmt: skip
        if len(labels):
            parts.append(
                Table(
                    name=f"{name}_labels", title=f"{title}: by label", frame=labels,
                    text=told.head(MOST_TABLE_ROWS), words=per_label.WORDS, folded=True,
                    note="Mean and population sd over the seeds. Each label is the positive in "
                         "its own row. Macro avg: mean over labels; weighted avg: by support, "
                         "the number of images with the label.",
                )
            )  # fmt: skip
    return [*parts, *shared]


def _whole_table(found: list[tuple[str, pd.DataFrame]]) -> Table:
    frame = pd.concat([table.assign(table=title) for title, table in found], ignore_index=True)
    return Table(
        name="arms", title="All tables in one", frame=frame, text=frame.iloc[:0, :0], folded=True
    )


def _explained(material: Material) -> str:
    text = (
        f"Scores on the {material.images} over the finished seeds: mean ± population standard "
        "deviation (divided by n, as in the thesis), the sample standard deviation (divided by "
        "n \N{MINUS SIGN} 1) in brackets, and the lowest and highest seed. Ratio is the number "
        "of fakes per real training image; bl is the baseline. An en dash marks an undefined "
        "value."
    )
    if material.analysis is not None:
        text += (
            " Gains over the baseline are in points (0.01), with simultaneous confidence "
            "intervals over all arms for new patients (level E2)."
        )
    return text


def _ratio(material: Material) -> list[Part]:
    plots = ratio_figures(material.arms, images=material.images)
    parts: list[Part] = [*plots[:MOST_FIGURES]]
    if len(plots) > MOST_FIGURES:
        parts.append(Text(text=f"{many(len(plots) - MOST_FIGURES, 'more figure')} not drawn."))
    return parts or [Text(text="No arm has finished, so there is nothing to draw.")]


def _forest(material: Material) -> list[Part]:
    if material.analysis is None:
        return [Text(text=f"Not drawn: {material.no_analysis}.")]
    plot = forest(material)
    return [plot] if plot else [Text(text="No arm can be compared with a baseline or a control.")]


def _heat(material: Material) -> list[Part]:
    plots = heat_maps(material)
    if plots:
        return [*plots[:MOST_FIGURES]]
    why = (
        material.no_analysis
        if material.analysis is None
        else "no mode has at least two psis and two sizes"
    )
    return [Text(text=f"Not drawn: {why}.")]


def _curves(material: Material) -> list[Part]:
    plots = [plot for plot in (loss_figure(material), stops_figure(material)) if plot]
    return [*plots] if plots else [Text(text="No learning curves have been recorded.")]


def _predictions(material: Material) -> list[Part]:
    parts = prediction_parts(material)
    return [*parts] if parts else [Text(text="No finished trial has predictions.")]


def _sheets(material: Material) -> list[Part]:
    if material.sheets:
        return [*material.sheets]
    return [Text(text=f"No contact sheet of fakes: {material.no_sheets}.")]
