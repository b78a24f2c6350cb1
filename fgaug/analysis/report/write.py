"""Writing the report of a run: material, parts, then page, tables and figures."""

from __future__ import annotations

from pathlib import Path

from fgaug.core import files
from fgaug.core.paths import RunPaths


def report(run: str | Path, *, open_test: bool = False) -> Path:
    """Write a run's report, its tables and figures beside it, and return the page's path.

    Args:
        run: the folder of a search.
        open_test: report on the sealed test set, below `report/test`; a look that is counted.

    Raises:
        RunError: no such run, nothing has finished in it, or it has no test set to open.
    """
    from fgaug.analysis.report.collect import material
    from fgaug.analysis.report.contents import sections
    from fgaug.analysis.report.files import draw_all, write_files
    from fgaug.analysis.report.page import render

    place = RunPaths(Path(run)).report
    if open_test:
        place = place.parent / "test" / place.name
    found = material(run, open_test=open_test)
    chapters = sections(found)
    drawn = draw_all(chapters)
    write_files(place.parent, chapters, drawn)
    files.write_text(place, render(name=found.name, sections=chapters, drawn=drawn))
    return place
