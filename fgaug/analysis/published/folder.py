"""Folder of a published study: a page with its tables and figures as files."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from fgaug.analysis.published.source import digests
from fgaug.analysis.report.files import draw_all, write_files
from fgaug.analysis.report.page import render
from fgaug.analysis.report.parts import Facts, Section, Text
from fgaug.core import files
from fgaug.core.version import __version__


def write(out: Path, name: str, kind: str, sections: Sequence[Section]) -> Path:
    """Write a report below `out`, replacing an earlier one, and return the page's path.

    Args:
        out: the folder.
        name: the page's heading; kind: the line below it.
        sections: sections of the page; tables go to `tables/`, figures to `figures/`.
    """
    drawn = draw_all(sections)
    write_files(out, sections, drawn)
    page = out / "index.html"
    files.write_text(page, render(name=name, kind=kind, sections=sections, drawn=drawn))
    return page


def origin(which: str, files: tuple[str, ...]) -> Section:
    """Return the section on where the numbers come from.

    Args:
        which: `thesis` or `breast`; files: those that were read.
    """
    told = (
        ("Command", f"fgaug report --published {which}"),
        ("fgaug", __version__),
        ("Written", datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")),
        *((f"{name} (SHA-256)", digest) for name, digest in digests(files)),
    )
    note = Text(
        text="Beside this page, `tables/` holds every table as CSV in full precision and as "
        "LaTeX (`tables/all.tex` shows all of them), and `figures/` every figure as SVG "
        "and PNG.",
        kind="note",
    )
    return Section(key="provenance", title="Provenance", parts=(Facts(pairs=told), note))
