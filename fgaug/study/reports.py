"""A run's report, and the demo that ends with one.  run -> material -> [reports] -> page, files"""

from __future__ import annotations

from pathlib import Path

from fgaug import paths
from fgaug.errors import UserError
from fgaug.grid_load import load_space
from fgaug.paths import RunPaths
from fgaug.space import Space


def report(run: str | Path, *, open_test: bool = False) -> Path:
    """Write a run's report, its tables and figures beside it, and return the page's path.

    Args:
        run: the folder of a search.
        open_test: report on the sealed test set, below `report/test`; a look that is counted.

    Raises:
        RunError: no such run, nothing has finished in it, or it has no test set to open.
    """
    from fgaug.report.files import draw_all, write_files
    from fgaug.report.page import render
    from fgaug.report.sections import sections
    from fgaug.study.report_material import material

    place = RunPaths(Path(run)).report
    if open_test:
        place = place.parent / "test" / place.name
    found = material(run, open_test=open_test)
    chapters = sections(found)
    drawn = draw_all(chapters)
    write_files(place.parent, chapters, drawn)
    paths.write_text(place, render(name=found.name, sections=chapters, drawn=drawn))
    return place


def published(which: str, out: str | Path | None = None) -> Path:
    """Write a source study's published tables, analysed anew, and return the page's path.

    Args:
        which: `thesis` or `breast`.
        out: the folder; `published-thesis` or `published-breast` if left out.

    Raises:
        UserError: for another study.
        DataError: for tables that are missing or damaged.
    """
    from fgaug.report.published import write_breast, write_thesis

    writers = {"thesis": write_thesis, "breast": write_breast}
    if which not in writers:
        raise UserError(f"--published is {' or '.join(writers)}, got {which}.")
    return writers[which](Path(out or f"published-{which}"))


def demo_space(folder: Path) -> Space:
    """Return the shipped demo grid, its dataset and banks placed below `folder`."""
    space = load_space(paths.shipped("search_spaces") / "demo.yaml")
    entries = [
        entry.model_copy(update={"bank": str(folder / Path(entry.bank).name)})
        for entry in space.axes.snapshot
    ]
    axes = space.axes.model_copy(update={"snapshot": entries})
    return space.model_copy(update={"dataset": str(folder / "dataset"), "axes": axes})


def demo_dataset(folder: Path) -> None:
    """Prepare the demo's phantom images below `folder`, unless they are there."""
    from fgaug.data.prepare import prepare

    if not (folder / "dataset" / "manifest.parquet").is_file():
        prepare(out=folder / "dataset", size=32, preset="phantom", phantom={"images": 600})
