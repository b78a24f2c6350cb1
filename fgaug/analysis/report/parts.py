"""Parts: the building blocks of a report.

Sections are plain values; drawing and writing start when all of them exist.
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
    """A paragraph; `lead` is the main message, `note` is small print."""

    text: str
    kind: Literal["plain", "lead", "note", "warning", "heading"] = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A list of terms, each with a sentence."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as numbers (for CSV) and as printed text."""

    name: str  # of its files, without suffix
    title: str
    frame: pd.DataFrame  # as computed, all rows
    text: pd.DataFrame  # as printed; the first rows of a long table
    words: tuple[str, ...] = ()  # columns of `text` that hold words; the others are right-aligned
    kinds: tuple[str, ...] = ()  # a class for each row of `text`: baseline, control, picked, ...
    note: str = ""
    folded: bool = False  # collapsed on the page
    paper: pd.DataFrame | None = None  # as LaTeX prints it, if that differs from the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A figure that can be drawn in any theme, with its caption."""

    name: str  # of its files, without an ending
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished PNG, such as a contact sheet."""

    name: str
    title: str
    caption: str
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Monospaced text, collapsed below its title."""

    title: str
    text: str


Part = Text | Facts | Table | Plot | Picture | Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter of the report."""

    key: str  # its address on the page
    title: str
    parts: tuple[Part, ...]
