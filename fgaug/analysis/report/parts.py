"""Parts: what a report is made of, before it is a page.

A section is built of values; nothing is drawn or written before all of them are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from fgaug.analysis.report.drawing import Theme


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; `lead` is for who reads nothing else, `note` is small print."""

    text: str
    kind: Literal["plain", "lead", "note", "warning", "heading"] = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Terms, each with a sentence."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as numbers (its CSV) and as the text that is printed."""

    name: str  # of its files, without an ending
    title: str
    frame: pd.DataFrame  # as computed, all rows
    text: pd.DataFrame  # as printed; of a long table the first rows
    words: tuple[str, ...] = ()  # columns of `text` that hold words: the others stand to the right
    kinds: tuple[str, ...] = ()  # a class for each row of `text`: baseline, control, picked, ...
    note: str = ""
    folded: bool = False  # closed on the page, until asked for
    paper: pd.DataFrame | None = None  # as LaTeX prints it, where not as the page does


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A figure that can be drawn in any theme, and what it shows in words."""

    name: str  # of its files, without an ending
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished PNG, such as a sheet of images."""

    name: str
    title: str
    caption: str
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text in a fixed pitch behind a title that opens it."""

    title: str
    text: str


Part = Text | Facts | Table | Plot | Picture | Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter of the report."""

    key: str  # its address on the page
    title: str
    parts: tuple[Part, ...]
