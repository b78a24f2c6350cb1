"""LaTeX: the tables of a report for a paper, in booktabs style.

A table has the cells of the page, and any text in labels and messages is escaped. `document` is a
file that shows all tables. A paper that includes one needs
`\\usepackage{booktabs,longtable,array}` and no further package or font encoding.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

import pandas as pd

from fgaug.analysis.report.parts import Table

MOST_ROWS = 45  # of a table on one page; longer tables break over pages
LONG = 34  # letters in a cell beyond which its column is wrapped
TEXT_PT = 481.0  # text width of `document`: A4 with margins of 20 mm
SEP_PT = 4.0  # on either side of a column
SIZES = ((r"\small", 4.8), (r"\footnotesize", 4.4), (r"\scriptsize", 3.9), (r"\tiny", 3.1))
_HEAD = r"""% Tables of an fgaug report. Compile with pdflatex; with lualatex, xelatex or tectonic
% where a name is in a script other than Latin or Greek.
\documentclass[10pt]{article}
\usepackage{iftex}
\ifPDFTeX
  \IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}
\else
  \usepackage{fontspec}
\fi
\usepackage[a4paper,margin=20mm]{geometry}
\usepackage{booktabs,longtable,array}
\begin{document}
"""
_ASCII = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    # after `\\`, a bare `[` starts a length and a `*` forbids a page break
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}
_MATH = {
    "\N{PLUS-MINUS SIGN}": r"\pm",
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": r"\times",
    "\N{DIVISION SIGN}": r"\div",
    "\N{MIDDLE DOT}": r"\cdot",
    "\N{NOT SIGN}": r"\neg",
    "\N{LESS-THAN OR EQUAL TO}": r"\le",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ge",
    "\N{NOT EQUAL TO}": r"\ne",
    "\N{ALMOST EQUAL TO}": r"\approx",
    "\N{INFINITY}": r"\infty",
    "\N{RIGHTWARDS ARROW}": r"\to",
    "\N{DEGREE SIGN}": r"^\circ",
    "\N{MICRO SIGN}": r"\mu",
    "\N{SUPERSCRIPT ONE}": "^1",
    "\N{SUPERSCRIPT TWO}": "^2",
    "\N{SUPERSCRIPT THREE}": "^3",
    "\N{GREEK SMALL LETTER LAMDA}": r"\lambda",  # so spelt in Unicode
    "\N{GREEK CAPITAL LETTER LAMDA}": r"\Lambda",
}
_SMALL = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
)
_CAPITAL = ("Gamma", "Delta", "Theta", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
_MARKS = {
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{NO-BREAK SPACE}": "~",
    "\N{THIN SPACE}": r"\,",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def table(part: Table) -> str:
    """Return a table of a report as LaTeX; columns that share their first word share a heading.

    Args:
        part: a table whose `text` has at least one column. Its title is the caption, its name the
            label (`tab:name`); a rule separates rows of different kinds.
    """
    return booktabs(
        part.text,
        caption=part.title,
        label=part.name,
        words=part.words,
        kinds=part.kinds,
        note=part.note,
    )


def booktabs(
    text: pd.DataFrame,
    *,
    caption: str,
    label: str,
    words: Sequence[str] = (),
    kinds: Sequence[str] = (),
    note: str = "",
) -> str:
    """Return a frame of text as a LaTeX table with booktabs rules.

    Text columns are left-aligned, and wrapped if long; the others are right-aligned. From 46 rows
    on the table is a longtable. The font shrinks in four steps until the widest row fits.

    Args:
        text: the printed cells; they are escaped, digits are unchanged.
        caption: above the table.
        label: printed as `tab:label`.
        words: the text columns.
        kinds: the kind of each row; a rule is drawn where it changes.
        note: below the table.
    """
    names = [str(name) for name in text.columns]
    cells = [[str(cell) for cell in row] for row in text.itertuples(index=False, name=None)]
    heads = _heads(names)
    widths, longs = _widths(names, heads, cells, words)
    size, unit = _size(sum(widths), len(names))
    spare = (
        TEXT_PT
        - 2 * SEP_PT * len(names)
        - unit * sum(width for width, long in zip(widths, longs, strict=True) if not long)
    )
    wrapped = f"p{{{max(40.0, spare / max(1, sum(longs))):.0f}pt}}"
    columns = "".join(
        (r">{\raggedright\arraybackslash}" + wrapped) if long else "l" if name in words else "r"
        for name, long in zip(names, longs, strict=True)
    )
    head = "\n".join([r"\toprule", *_head_rows(heads, widths, words, names), r"\midrule"])
    body = "\n".join(_body(cells, kinds))
    key = re.sub(r"[^A-Za-z0-9.:_-]", "-", label)
    title = rf"\caption{{{escape(caption)}}}\label{{tab:{key}}}"
    below = rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape(note)}}}" if note else ""
    style = f"{size}\\setlength{{\\tabcolsep}}{{{SEP_PT:g}pt}}"
    if len(cells) <= MOST_ROWS:
        lines = [
            r"\begin{table}[htbp]",
            r"\centering",
            title,
            style,
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            head,
            body,
            r"\bottomrule",
            r"\end{tabular}",
            below,
            r"\end{table}",
        ]
    else:
        lines = [
            f"{{{style}",
            rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}",
            rf"{title}\\",
            head,
            r"\endfirsthead",
            head,
            r"\endhead",
            r"\bottomrule",
            r"\endlastfoot",
            body,
            r"\end{longtable}",
            f"{below}}}",
        ]
    return "\n".join(line for line in lines if line) + "\n"


def document(files: Iterable[str]) -> str:
    r"""Return a LaTeX file that shows tables, read by `\input` from its own folder.

    Args:
        files: file names of the tables, with suffix.
    """
    shown = "".join(f"\\input{{{name}}}\n\\clearpage\n" for name in files)
    return f"{_HEAD}{shown or 'There are no tables.'}\\end{{document}}\n"


def _heads(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return each column's shared first word (empty if not shared) and the heading below it."""
    split = [tuple(name.split(" ", 1)) if " " in name else ("", name) for name in names]
    heads: list[tuple[str, str]] = []
    for first, run in groupby(enumerate(split), key=lambda item: item[1][0]):
        members = [index for index, _ in run]
        shared = bool(first) and len(members) > 1
        heads += [(first, split[i][1]) if shared else ("", names[i]) for i in members]
    return heads


def _widths(
    names: Sequence[str],
    heads: Sequence[tuple[str, str]],
    cells: Sequence[Sequence[str]],
    words: Sequence[str],
) -> tuple[list[int], list[bool]]:
    """Return each column's width in letters, and whether it is wrapped."""
    widths, longs = [], []
    for place, name in enumerate(names):
        inside = max((len(row[place]) for row in cells), default=0)
        long = name in words and inside > LONG
        narrow = max((len(word) for word in heads[place][1].split()), default=0)
        widths.append(LONG if long else max(inside, narrow, 4))
        longs.append(long)
    return widths, longs


def _size(letters: int, columns: int) -> tuple[str, float]:
    """Return the largest font size at which a row fits, and the width of a letter in points."""
    room = TEXT_PT - 2 * SEP_PT * columns
    return next((found for found in SIZES if found[1] * letters <= room), SIZES[-1])


def _head_rows(
    heads: Sequence[tuple[str, str]],
    widths: Sequence[int],
    words: Sequence[str],
    names: Sequence[str],
) -> list[str]:
    rows = []
    if any(shared for shared, _ in heads):
        above, rules, place = [], [], 1
        for shared, run in groupby(heads, key=lambda head: head[0]):
            span = len(list(run))
            above.append(
                rf"\multicolumn{{{span}}}{{c}}{{{escape(shared)}}}"
                if shared
                else " & " * (span - 1)
            )
            if shared:
                rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
            place += span
        rows = [f"{' & '.join(above)} \\\\", "".join(rules)]
    below = []
    for (_, name), width, whole in zip(heads, widths, names, strict=True):
        lines = [escape(line) for line in textwrap.wrap(name, width, break_long_words=False)]
        side = "l" if whole in words else "r"
        stacked = r"\\".join(lines)
        below.append(rf"\shortstack[{side}]{{{stacked}}}" if len(lines) > 1 else stacked)
    return [*rows, f"{' & '.join(below)} \\\\"]


def _body(cells: Sequence[Sequence[str]], kinds: Sequence[str]) -> list[str]:
    rows = [f"{' & '.join(escape(cell) for cell in row)} \\\\" for row in cells]
    changes = [a != b for a, b in pairwise(kinds)] if len(kinds) == len(cells) else []
    changes += [False] * (len(rows) - len(changes))
    return [f"{row}\n\\midrule" if rule else row for row, rule in zip(rows, changes, strict=True)]


_GREEK = {
    **{unicodedata.lookup(f"GREEK SMALL LETTER {name}"): f"\\{name}" for name in _SMALL},
    **{unicodedata.lookup(f"GREEK CAPITAL LETTER {name}"): f"\\{name}" for name in _CAPITAL},
}
_LETTERS = {
    **_ASCII,
    **_MARKS,
    **{letter: f"${command}$" for letter, command in (_MATH | _GREEK).items()},
}


def escape(text: str) -> str:
    """Return text that LaTeX prints verbatim on one line, without control characters.

    Keeps letters of scripts other than Latin and Greek: lualatex accepts them, pdflatex does not.
    """
    found, last = [], ""
    for letter in unicodedata.normalize("NFC", re.sub(r"[ \t\n\r\f\v]+", " ", text)):
        if letter == last and letter in "-,'":  # two of them are a dash or a quotation mark
            found.append("{}")
        if letter in _LETTERS:
            found.append(_LETTERS[letter])
        elif unicodedata.category(letter)[0] != "C":
            found.append(letter)
        last = letter
    return "".join(found)
