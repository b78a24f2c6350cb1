"""Filters: words over the scores of fakes -> which of them pass.

    filter = "none" | any            any  = all {"or" all}         all   = one {"and" one}
    one    = "not" one | "(" any ")" | column [sign value]         value = number | true | false

A fake whose score is missing (NaN) makes a test neither true nor false, whichever way it is put,
and what is not true does not pass: Kleene's logic of three values. Negations are moved to the
tests while reading (De Morgan's laws hold in that logic), so that no `not` is left and a test that
is not true may count as false.
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
MAX_DEPTH = 20  # parentheses in parentheses
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
        """Return for which rows of `frame` it is known to be true: bool [N]."""
        truth = isinstance(self.value, bool)
        scores = frame[self.column].astype(pd.BooleanDtype() if truth else pd.Float64Dtype())
        known = scores.notna().to_numpy()
        holds = _SIGNS[self.sign](scores.to_numpy(float, na_value=np.nan), float(self.value))
        found: np.ndarray = known & holds
        return found


@dataclass(frozen=True, slots=True)
class Group:
    """Tests of which all, or any, must be true."""

    word: str  # and | or
    parts: tuple[Term | Group, ...]  # distinct, in the order of their texts; none of this word

    @property
    def text(self) -> str:
        texts = (f"({p.text})" if isinstance(p, Group) else p.text for p in self.parts)
        return f" {self.word} ".join(texts)

    @property
    def tests(self) -> Iterator[Term]:
        for part in self.parts:
            yield from part.tests

    def true(self, frame: pd.DataFrame) -> np.ndarray:
        """Return for which rows of `frame` it is known to be true: bool [N]."""
        both = np.logical_and if self.word == "and" else np.logical_or
        found: np.ndarray = both.reduce([part.true(frame) for part in self.parts])
        return found


@dataclass(frozen=True)
class Filter:
    """Which fakes are used, by their scores; two that mean the same have one text."""

    root: Term | Group | None  # None: all of them

    @cached_property
    def text(self) -> str:
        """Canonical: `realism >= 1.0` and `not realism<1` are `realism>=1`."""
        return NONE if self.root is None else self.root.text

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, in the order of COLUMNS."""
        used = set() if self.root is None else {test.column for test in self.root.tests}
        return tuple(column for column in COLUMNS if column in used)

    @cached_property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scorers that give those columns."""
        return tuple(dict.fromkeys(COLUMNS[column][0] for column in self.columns))

    def passes(self, frame: pd.DataFrame) -> np.ndarray:
        """Return which rows of `frame`, that has `columns`, are used: bool [N]."""
        return np.ones(len(frame), bool) if self.root is None else self.root.true(frame)


@lru_cache(maxsize=1024)
def parse(text: str) -> Filter:
    """Return the filter that `text` names.

    Raises:
        UserError: it is none, with the place, what was expected and what there is.
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"a filter has at most {MAX_LENGTH} characters, got {len(text)}.")
    if text.strip() == NONE:
        return Filter(None)
    return Filter(_Reader(text).read())


class _Reader:
    """Reads a filter by recursive descent; each method reads one rule of the grammar."""

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
            self._refuse("expected `and`, `or` or the end")
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
            self._refuse(f"more than {MAX_DEPTH} parentheses in each other")
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
            self._refuse(f"`{column}` is a name, which no filter compares")
        self.place += 1
        sign = self.token if self.token in _SIGNS else None
        if kind == BOOLEAN:
            wanted = True
            if sign in ("==", "!="):
                self.place += 1
                wanted = self._truth(column) == (sign == "==")
            elif sign is not None:
                self._refuse(f"`{column}` is true or false: write `{column}` or `{column}==false`")
            return Term(column, "==", wanted != negated)
        if sign is None:
            self._refuse(f"`{column}` is a number: compare it, as in `{column}>=1`")
        self.place += 1
        return Term(column, _OPPOSITE[sign] if negated else sign, self._number(column))

    def _truth(self, column: str) -> bool:
        if self.token not in ("true", "false"):
            self._refuse(f"`{column}` is true or false: expected one of the two")
        self.place += 1
        return self.tokens[self.place - 1][0] == "true"

    def _number(self, column: str) -> float:
        try:
            value = float(self.token)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._refuse(f"`{column}` is compared with a finite number")
        self.place += 1
        return value + 0.0  # -0.0 is 0

    def _took(self, token: str) -> bool:
        taken = self.token == token
        self.place += taken
        return taken

    def _refuse_name(self, name: str) -> NoReturn:
        if name == NONE:
            self._refuse(f"`{NONE}` stands alone")
        if not re.match(r"[A-Za-z_]", name) or name in _WORDS:
            self._refuse("expected a score, `not` or `(`")
        guess = near(name, COLUMNS) or "."
        self._refuse(f"unknown score{guess} They are {', '.join(COLUMNS)}")

    def _refuse(self, rule: str) -> NoReturn:
        token, start = self.tokens[self.place]
        got = f"`{token}`" if token else "the end"
        raise UserError(f"`{self.text}`, column {start + 1}: {rule}; got {got}.")


def _group(word: str, parts: list[Term | Group]) -> Term | Group:
    """Return parts joined by a word, those of the same word taken in, each once and in order."""
    flat: dict[str, Term | Group] = {}
    for part in parts:
        own = isinstance(part, Group) and part.word == word
        for each in part.parts if isinstance(part, Group) and own else (part,):
            flat[each.text] = each
    if len(flat) == 1:
        return next(iter(flat.values()))
    return Group(word, tuple(flat[text] for text in sorted(flat)))
