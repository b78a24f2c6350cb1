"""Page: one self-contained HTML file about a run.  tables + figures + summary -> page"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from fgaug.paths import write_text
from fgaug.report.arms import frozen, further_axes
from fgaug.report.curves import curve_figure
from fgaug.report.drawing import Format, Plot
from fgaug.report.figures import ratio_figures
from fgaug.report.summary import best_arm, budget_unit, facts, warnings_of
from fgaug.report.tables import formatted, thesis_tables

MOST_FAILURES = 200  # an error is a traceback at worst; a page of thousands opens in no browser
_ALWAYS = ("cell_id", "arm_id", "mode", "psi", "ratio", "filter", "seed", "status", "error")
_WORDS = ("arm", "note")  # columns of text: the others are numbers and stand to the right


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    title: str
    columns: tuple[tuple[str, bool], ...]  # name, whether it holds numbers
    rows: tuple[tuple[str, tuple[str, ...]], ...]  # a class for the row (its mode), its cells


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    title: str
    caption: str
    light: str  # data: addresses
    dark: str


def render(
    *,
    name: str,
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    space: dict[str, Any],
    environment: dict[str, Any],
    missing: int,
    fmt: Format = "svg",
) -> str:
    """Return the report of a run as one HTML page that refers to nothing outside itself.

    `frame` has the rows of `load_results`, `curves` an evaluation a row, `space` is the resolved
    grid, `environment` what `environment.json` holds, `missing` the cells without a row.
    """
    if frame.empty:  # of a run that has just begun; it may lack the columns, too
        frame = pd.DataFrame(columns=list(_ALWAYS))
    pictures = [_picture(item) for item in ratio_figures(frame, fmt=fmt)]
    learning = curve_figure(frame, curves, unit=budget_unit(frame, space), fmt=fmt)
    failed = frame[frame["status"].eq("failed")]
    page = _environment().get_template("page.html.j2")
    return page.render(
        name=name,
        facts=facts(frame, space, environment, missing),
        warnings=warnings_of(frame, space, missing),
        best=best_arm(frame),
        tables=[_table(title, table) for title, table in thesis_tables(frame)],
        pictures=pictures,
        learning=_picture(learning) if learning else None,
        failures=_failures(failed.head(MOST_FAILURES)),
        n_failures=len(failed),
        provenance=_provenance(frame, environment),
        space=json.dumps(space, indent=2, default=str, ensure_ascii=False) if space else "",
    )


def write_report(path: Path, html: str) -> None:
    """Write a rendered page to `path`, whole or not at all."""
    write_text(path, html)


def _environment() -> jinja2.Environment:
    # Labels, errors and host names come from outside: everything is escaped, nothing marked safe
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _table(title: str, table: pd.DataFrame) -> _Table:
    text = formatted(table)
    columns = tuple((str(column), column not in _WORDS) for column in text.columns)
    cells = (tuple(map(str, row)) for row in text.itertuples(index=False, name=None))
    kinds = ("control" if row[0].endswith("(control)") else row[0] for row in text.to_numpy())
    return _Table(title=title, columns=columns, rows=tuple(zip(kinds, cells, strict=True)))


def _picture(plot: Plot) -> _Picture:
    kind = "image/svg+xml" if plot.fmt == "svg" else "image/png"
    light, dark = (
        f"data:{kind};base64,{base64.b64encode(data).decode()}" for data in (plot.light, plot.dark)
    )
    return _Picture(title=plot.title, caption=plot.caption, light=light, dark=dark)


def _failures(failed: pd.DataFrame) -> list[dict[str, str]]:
    axes = further_axes(failed)
    wanted = ("cell_id", "mode", "psi", "ratio", "filter", *axes, "seed", "round", "error")
    shown = [name for name in wanted if name in failed and failed[name].notna().any()]
    return [
        {name: "" if frozen(row[name]) is None else _text(row[name]) for name in shown}
        for _, row in failed.iterrows()
    ]


def _provenance(frame: pd.DataFrame, environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(str(key), _text(value)) for key, value in environment.items()]
    for name in ("dataset_digest", "recipe_digest", "snapshots", "version", "host", "device"):
        if name in frame:
            values = list(dict.fromkeys(_text(value) for value in frame[name].dropna()))
            if values:
                found.append((f"{name} (of the rows)", "\n".join(values)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    return str(value)
