"""Drawing: colours, sizes and output formats of all figures.

Matplotlib's object API on the Agg canvas: no pyplot, no window, no state between calls.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

Format = Literal["svg", "png"]
WIDTH_IN = 7.1  # 180 mm: two columns of most journals
PNG_DPI = 300
TEXT_PT, TICK_PT = 8, 7  # font sizes: axis labels and titles; ticks, legends and notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours of a figure; the hues are the colour-blind safe ones of Okabe and Ito."""

    ink: str
    paper: str
    grid: str
    baseline: str
    arm: str
    oversample: str
    drop: str


LIGHT = Theme(
    ink="#1f2328",
    paper="#ffffff",
    grid="#dfe3e8",
    baseline="#6b7280",
    arm="#0072b2",
    oversample="#d55e00",
    drop="#a3487f",
)
DARK = Theme(
    ink="#e6e8eb",
    paper="#171a1f",
    grid="#343a42",
    baseline="#9aa3ae",
    arm="#56b4e9",
    oversample="#e69f00",
    drop="#e394c1",
)


def blank(theme: Theme, height_in: float, *, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure with the theme's background."""
    figure = Figure(figsize=(width_in, height_in), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, theme: Theme) -> None:
    """Apply the theme to axes: its ink, a light grid and no box."""
    axes.set_facecolor(theme.paper)
    axes.grid(True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.baseline)
    axes.tick_params(colors=theme.ink, labelsize=TICK_PT, length=3, width=0.6)
    for item in (axes.title, axes.xaxis.label, axes.yaxis.label):
        item.set_color(theme.ink)
        item.set_fontsize(TEXT_PT)


def ink_on(colour: tuple[float, ...], theme: Theme) -> str:
    """Return the theme's ink or paper, whichever is more legible on an RGB colour (0 to 1)."""
    red, green, blue = colour[:3]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    inks = sorted((theme.ink, theme.paper), key=lambda each: sum(to_rgb(each)))
    return inks[1] if dark else inks[0]


def plain(text: str) -> str:
    """Return text that matplotlib prints verbatim on one line; `$` starts no formula."""
    return text.replace("$", r"\$").replace("\n", " ")


def wrapped(text: str, width: int) -> str:
    """Return text wrapped to at most two lines of `width` letters; an ellipsis marks a cut."""
    lines = [""]
    for word in text.split(" "):
        line = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], line] if len(line) <= width else [*lines, word]
    shown = [line[:width] for line in lines[:2]]
    return "\n".join(shown) + ("…" if len(lines) > 2 else "")


def legend(figure: Figure, panels: Iterable[Axes], theme: Theme, *, columns: int = 5) -> None:
    """Draw one legend above the panels, with each name once."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside upper left",
            ncols=columns,
            fontsize=TICK_PT,
            frameon=False,
            labelcolor=theme.ink,
        )


def encoded(figure: Figure, fmt: Format) -> bytes:
    """Return a figure as SVG or PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if fmt == "svg" else {"Software": None}
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "fgaug"}):
        # Labels in a script that the built-in font lacks show boxes; a report must not fail
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            buffer, format=fmt, dpi=PNG_DPI, facecolor=figure.get_facecolor(), metadata=metadata
        )
    return buffer.getvalue()
