"""Page: one self-contained HTML file about a run."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from fgaug.analysis.report.files import Drawn
from fgaug.analysis.report.parts import Code, Facts, Part, Picture, Plot, Section, Table, Text

LONG = 34  # letters in a cell beyond which its column is wrapped


def render(
    *, name: str, sections: Iterable[Section], drawn: Mapping[str, Drawn], kind: str = ""
) -> str:
    """Return a report as one self-contained HTML page.

    Args:
        name: the run's name, the heading of the page.
        sections: the sections of the page.
        drawn: the result of `draw_all`: every plot of the sections, by name.
        kind: the line below the heading.
    """
    page = _environment().get_template("page.html.j2")
    return page.render(
        name=name,
        kind=kind or "fgaug report: do generated images help this classifier?",
        style=(Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        sections=[
            {
                "key": section.key,
                "title": section.title,
                "parts": [view for part in section.parts if (view := _view(part, drawn))],
            }
            for section in sections
        ],
    )


def _environment() -> jinja2.Environment:
    # Labels, errors and host names come from outside: everything is escaped but our style sheet
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _view(part: Part, drawn: Mapping[str, Drawn]) -> dict[str, Any] | None:
    """Return a part in the form that the template expects; None for one that is only a file."""
    match part:
        case Text():
            pieces = part.text.split("`")  # text between two backticks is code
            told = pieces if len(pieces) % 2 else [part.text]
            return {"is": "text", "kind": part.kind, "pieces": told}
        case Facts():
            return {"is": "facts", "pairs": part.pairs}
        case Code():
            return {"is": "code", "title": part.title, "text": part.text}
        case Table():
            return _table(part) if len(part.text.columns) else None
        case Plot():
            return _plot(part, drawn[part.name])
        case Picture():
            return {
                "is": "picture",
                "title": part.title,
                "caption": part.caption,
                "source": _address("image/png", part.png),
                "file": f"figures/{part.name}.png",
            }


def _table(part: Table) -> dict[str, Any]:
    names = [str(name) for name in part.text.columns]
    wordy = [_kind(part, name) for name in names]
    kinds = part.kinds or ("",) * len(part.text)
    rows = [
        (kind, [str(cell) for cell in row])
        for kind, row in zip(kinds, part.text.itertuples(index=False, name=None), strict=False)
    ]
    return {
        "is": "table",
        "title": part.title,
        "note": part.note,
        "folded": part.folded,
        "columns": list(zip(names, wordy, strict=True)),
        "rows": rows,
        "file": f"tables/{part.name}.csv, .tex",
    }


def _kind(part: Table, name: str) -> str:
    """Return the CSS class of a column's cells: long text wraps, short text does not."""
    if name not in part.words:
        return "number"
    longest = max((len(str(cell)) for cell in part.text[name]), default=0)
    return "words" if longest > LONG else "short"


def _plot(part: Plot, drawn: Drawn) -> dict[str, Any]:
    return {
        "is": "plot",
        "title": part.title,
        "caption": part.caption,
        "light": _address("image/svg+xml", drawn.light),
        "dark": _address("image/svg+xml", drawn.dark),
        "file": f"figures/{part.name}.svg, .png",
    }


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
