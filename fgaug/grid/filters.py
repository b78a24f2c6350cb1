"""Filters: expressions over the scores of fakes that select which fakes to use.

    filter = "none" | any            any  = all {"or" all}         all   = one {"and" one}
    one    = "not" one | "(" any ")" | column [sign value]         value = number | true | false

A test of a missing score (NaN) is neither true nor false, negated or not, and a fake passes only
if the filter is true: Kleene's three-valued logic. The parser pushes negations into the tests (De
Morgan's laws hold in this logic), so that no `not` remains and "unknown" can count as false.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from fgaug.bank.score_columns import BOOLEAN, COLUMNS, NUMBER
from fgaug.errors import UserError
from fgaug.grid.messages import near

NONE = "none"  # every fake passes
MAX_LENGTH = 500  # characters
MAX_DEPTH = 20  # nested parentheses
_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_OPPOSITE = {"==": "!=", "!=": "==", ">=": "<", "<": ">=", "<=": ">", ">": "<="}
_TOKEN = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z_]\w*|[=!<>]=|[<>()]|\S", re.ASCII
)
_WORDS = ("and", "or", "not", "true", "false", NONE)


@dataclass(frozen=True, slots=True)
class Term:
    """A column compared with a value."""

    column: str
    sign: str
    value: float | bool

    @property
    def text(self) -> str:
        if isinstance(self.value, bool):
            return self.column if self.value else f"{self.column}==false"
        return f"{self.column}{self.sign}{repr(self.value).removesuffix('.0')}"

    @property
    def tests(self) -> Iterator[Term]:
        yield self

    def true(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the rows of `frame` where this is known to be true: bool [N]."""
        truth = isinstance(self.value, bool)
        scores = frame[self.column].astype(pd.BooleanDtype() if truth else pd.Float64Dtype())
        known = scores.notna().to_numpy()
        holds = _SIGNS[self.sign](scores.to_numpy(float, na_value=np.nan), float(self.value))
        found: np.ndarray = known & holds
        return found


@dataclass(frozen=True, slots=True)
class Group:
    """Tests joined by `and` or `or`."""

    word: str  # and | or
    parts: tuple[Term | Group, ...]  # distinct, sorted by text; no nested group of the same word

    @property
    def text(self) -> str:
        texts = (f"({p.text})" if isinstance(p, Group) else p.text for p in self.parts)
        return f" {self.word} ".join(texts)

    @property
    def tests(self) -> Iterator[Term]:
        for part in self.parts:
            yield from part.tests

    def true(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the rows of `frame` where this is known to be true: bool [N]."""
        both = np.logical_and if self.word == "and" else np.logical_or
        found: np.ndarray = both.reduce([part.true(frame) for part in self.parts])
        return found


@dataclass(frozen=True)
class Filter:
    """A parsed filter; equivalent filters have the same canonical text."""

    root: Term | Group | None  # None: all fakes pass

    @cached_property
    def text(self) -> str:
        """The canonical text: `realism >= 1.0` and `not realism<1` become `realism>=1`."""
        return NONE if self.root is None else self.root.text

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The score columns it reads, in the order of COLUMNS."""
        used = set() if self.root is None else {test.column for test in self.root.tests}
        return tuple(column for column in COLUMNS if column in used)

    @cached_property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scorers that compute those columns."""
        return tuple(dict.fromkeys(COLUMNS[column][0] for column in self.columns))

    def passes(self, frame: pd.DataFrame) -> np.ndarray:
        """Return which rows of `frame`, which must have `columns`, pass: bool [N]."""
        return np.ones(len(frame), bool) if self.root is None else self.root.true(frame)


@lru_cache(maxsize=1024)
def parse(text: str) -> Filter:
    """Parse a filter.

    Raises:
        UserError: a syntax error or unknown score, with the column, what was expected and found.
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"a filter must have at most {MAX_LENGTH} characters, got {len(text)}.")
    if text.strip() == NONE:
        return Filter(None)
    return Filter(_Reader(text).read())


class _Reader:
    """A recursive descent parser with one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(found[0], found.start()) for found in _TOKEN.finditer(text)]
        self.tokens.append(("", len(text)))
        self.place = self.depth = 0

    @property
    def token(self) -> str:
        return self.tokens[self.place][0]

    def read(self) -> Term | Group:
        found = self._any(negated=False)
        if self.token:
            self._refuse("expected `and`, `or` or the end of the filter")
        return found

    def _any(self, negated: bool) -> Term | Group:
        parts = [self._all(negated)]
        while self._took("or"):
            parts.append(self._all(negated))
        return _group("and" if negated else "or", parts)

    def _all(self, negated: bool) -> Term | Group:
        parts = [self._one(negated)]
        while self._took("and"):
            parts.append(self._one(negated))
        return _group("or" if negated else "and", parts)

    def _one(self, negated: bool) -> Term | Group:
        while self._took("not"):
            negated = not negated
        if not self._took("("):
            return self._test(negated)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.place -= 1
            self._refuse(f"more than {MAX_DEPTH} nested parentheses")
        found = self._any(negated)
        if not self._took(")"):
            self._refuse("expected `)`")
        self.depth -= 1
        return found

    def _test(self, negated: bool) -> Term:
        column = self.token
        if column not in COLUMNS:
            self._refuse_name(column)
        kind = COLUMNS[column][1]
        if kind not in (BOOLEAN, NUMBER):
            self._refuse(f"`{column}` is text, which filters cannot compare")
        self.place += 1
        sign = self.token if self.token in _SIGNS else None
        if kind == BOOLEAN:
            expected = True
            if sign in ("==", "!="):
                self.place += 1
                expected = self._truth(column) == (sign == "==")
            elif sign is not None:
                self._refuse(f"`{column}` is true or false: write `{column}` or `{column}==false`")
            return Term(column, "==", expected != negated)
        if sign is None:
            self._refuse(f"`{column}` is a number: compare it, as in `{column}>=1`")
        self.place += 1
        return Term(column, _OPPOSITE[sign] if negated else sign, self._number(column))

    def _truth(self, column: str) -> bool:
        if self.token not in ("true", "false"):
            self._refuse(f"`{column}` must be compared with true or false")
        self.place += 1
        return self.tokens[self.place - 1][0] == "true"

    def _number(self, column: str) -> float:
        try:
            value = float(self.token)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._refuse(f"`{column}` must be compared with a finite number")
        self.place += 1
        return value + 0.0  # turns -0.0 into 0.0

    def _took(self, token: str) -> bool:
        taken = self.token == token
        self.place += taken
        return taken

    def _refuse_name(self, name: str) -> NoReturn:
        if name == NONE:
            self._refuse(f"`{NONE}` cannot be combined with other tests")
        if not re.match(r"[A-Za-z_]", name) or name in _WORDS:
            self._refuse("expected a score, `not` or `(`")
        guess = near(name, COLUMNS) or "."
        self._refuse(f"unknown score{guess} The scores are {', '.join(COLUMNS)}")

    def _refuse(self, rule: str) -> NoReturn:
        token, start = self.tokens[self.place]
        got = f"`{token}`" if token else "the end of the filter"
        raise UserError(f"`{self.text}`, column {start + 1}: {rule}; got {got}.")


def _group(word: str, parts: list[Term | Group]) -> Term | Group:
    """Join parts by a word: flatten groups of the same word, drop duplicates and sort."""
    flat: dict[str, Term | Group] = {}
    for part in parts:
        own = isinstance(part, Group) and part.word == word
        for each in part.parts if isinstance(part, Group) and own else (part,):
            flat[each.text] = each
    if len(flat) == 1:
        return next(iter(flat.values()))
    return Group(word, tuple(flat[text] for text in sorted(flat)))
