"""Files: the tables and figures of a report as separate files.

Tables as CSV (numbers as computed) and LaTeX (as printed), figures as SVG and PNG at the width of
a printed page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fgaug.analysis.report import latex
from fgaug.analysis.report.drawing import DARK, LIGHT, encoded
from fgaug.analysis.report.parts import Picture, Plot, Section, Table
from fgaug.core import files

T = TypeVar("T")
ALL_TABLES = "all.tex"  # includes the others
_OURS = {"tables": (".csv", ".tex"), "figures": (".svg", ".png")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure as bytes: SVG with light and dark background, and a PNG for print."""

    light: bytes
    dark: bytes
    png: bytes


def draw_all(sections: Iterable[Section], *, png: bool = True) -> dict[str, Drawn]:
    """Return every plot of the sections as bytes, by name; the page alone needs no `png`."""
    drawn = {}
    for plot in _parts(sections, Plot):
        figure = plot.draw(LIGHT)
        light = encoded(figure, "svg")
        # The layout is final: the PNG is the same in half the time
        figure.set_layout_engine("none")
        drawn[plot.name] = Drawn(
            light=light,
            dark=encoded(plot.draw(DARK), "svg"),
            png=encoded(figure, "png") if png else b"",
        )
    return drawn


def write_files(folder: Path, sections: Iterable[Section], drawn: Mapping[str, Drawn]) -> None:
    """Write the tables and figures of a report below `folder`, replacing those of an earlier one.

    Args:
        folder: the folder of the report.
        sections: the sections with the tables, plots and pictures.
        drawn: the result of `draw_all`.
    """
    sections = list(sections)
    _clear(folder)
    tables = folder / "tables"
    printed = []
    for table in _parts(sections, Table):
        files.write_text(tables / f"{table.name}.csv", table.frame.to_csv(index=False))
        if table.paper is not None:
            table = replace(table, text=table.paper)
        if len(table.text.columns) and len(table.text):
            printed.append(f"{table.name}.tex")
            files.write_text(tables / printed[-1], latex.table(table))
    files.write_text(tables / ALL_TABLES, latex.document(printed))
    for name, figure in drawn.items():
        _write(folder / "figures" / f"{name}.svg", figure.light)
        if figure.png:
            _write(folder / "figures" / f"{name}.png", figure.png)
    for picture in _parts(sections, Picture):
        _write(folder / "figures" / f"{picture.name}.png", picture.png)


def _parts(sections: Iterable[Section], kind: type[T]) -> Iterator[T]:
    return (part for section in sections for part in section.parts if isinstance(part, kind))


def _clear(folder: Path) -> None:
    """Remove the files of an earlier report: one of an arm that no longer exists would mislead."""
    for name, endings in _OURS.items():
        if (folder / name).is_dir():
            for path in (folder / name).iterdir():
                if path.suffix in endings:
                    path.unlink()


def _write(path: Path, data: bytes) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(data)
