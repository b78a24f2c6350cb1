"""Writing the report of a run: collect material, build parts, write page, tables and figures."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.core import files
from fgaug.runs.place import run_at

if TYPE_CHECKING:
    from fgaug.analysis.report.material import Material


def report(run: str | PathLike[str], *, open_test: bool = False) -> Path:
    """Write a run's report with its tables and figures, and return the path of the page.

    Args:
        run: the run folder of a search.
        open_test: report on the sealed test set, below `report/test`; counts as a look.

    Raises:
        RunError: there is no such run, no trial has finished, or there is no test set to open.
    """
    from fgaug.analysis.report.collect import material

    run_paths = run_at(run)
    place = run_paths.report
    if open_test:
        place = place.parent / "test" / place.name
    return write_report(material(run_paths.root, open_test=open_test), place)


def write_report(material: Material, place: Path) -> Path:
    """Write the report of collected material, and return the path of its page.

    Args:
        material: the inputs of the report.
        place: the page's file; tables and figures go to folders beside it.
    """
    from fgaug.analysis.report.contents import sections
    from fgaug.analysis.report.files import draw_all, write_files
    from fgaug.analysis.report.page import render

    chapters = sections(material)
    drawn = draw_all(chapters)
    write_files(place.parent, chapters, drawn)
    files.write_text(place, render(name=material.name, sections=chapters, drawn=drawn))
    return place
