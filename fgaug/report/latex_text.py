r"""Text as LaTeX prints it, whatever labels and messages hold.  [latex_text] -> latex

Nothing here needs a font encoding or a package of its own: it prints in any paper.
"""

from __future__ import annotations

import re
import unicodedata

_ASCII = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"},
    **{"`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}"},  # `\\ [` is a length
}
_MATH = {
    **{"\N{PLUS-MINUS SIGN}": r"\pm", "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": r"\times"},
    **{"\N{DIVISION SIGN}": r"\div", "\N{MIDDLE DOT}": r"\cdot", "\N{NOT SIGN}": r"\neg"},
    **{"\N{LESS-THAN OR EQUAL TO}": r"\le", "\N{GREATER-THAN OR EQUAL TO}": r"\ge"},
    **{"\N{NOT EQUAL TO}": r"\ne", "\N{ALMOST EQUAL TO}": r"\approx", "\N{INFINITY}": r"\infty"},
    **{"\N{RIGHTWARDS ARROW}": r"\to", "\N{DEGREE SIGN}": r"^\circ", "\N{MICRO SIGN}": r"\mu"},
    **{"\N{SUPERSCRIPT ONE}": "^1", "\N{SUPERSCRIPT TWO}": "^2", "\N{SUPERSCRIPT THREE}": "^3"},
    "\N{GREEK SMALL LETTER LAMDA}": r"\lambda",  # so spelt in Unicode
    "\N{GREEK CAPITAL LETTER LAMDA}": r"\Lambda",
}
_SMALL = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_CAPITAL = ("Gamma", "Delta", "Theta", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
_MARKS = {
    **{"\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}"},
    **{"\N{LEFT SINGLE QUOTATION MARK}": "`", "\N{RIGHT SINGLE QUOTATION MARK}": "'"},
    **{"\N{LEFT DOUBLE QUOTATION MARK}": "``", "\N{RIGHT DOUBLE QUOTATION MARK}": "''"},
    **{"\N{NO-BREAK SPACE}": "~", "\N{THIN SPACE}": r"\,", "\N{NARROW NO-BREAK SPACE}": r"\,"},
}
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
    """Return text that LaTeX prints as it stands, on one line; controls are left out.

    Letters of scripts other than Latin and Greek are kept: pdflatex refuses them, lualatex does
    not.
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
