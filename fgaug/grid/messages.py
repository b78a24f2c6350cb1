"""Rewrites pydantic's validation errors for grid files, one line per problem."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_RULES = {
    "too_short": "must not be empty",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "string_type": "must be text",
    "string_pattern_mismatch": "must consist of letters, digits, dots, dashes and underscores",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


class Misfits(ValueError):
    """Keys that are valid by themselves but conflict; each problem names its keys.

    `root` is the key under which the problems refer to the checked part; `at` replaces it by the
    part's actual position in the file, such as an entry of a list.
    """

    def __init__(self, problems: list[str], root: str | None = None) -> None:
        self.problems, self.root = problems, root
        super().__init__("; ".join(problems))

    def at(self, key: str) -> list[str]:
        """Return the problems with `root` replaced by `key`."""
        if self.root is None:
            return self.problems
        return [problem.replace(f"`{self.root}", f"`{key}") for problem in self.problems]


_WHOLE = ("fold", "dataset")  # axes whose values every arm has


def one_line_each(
    error: ValidationError, models: Mapping[str, type[BaseModel]] | None = None
) -> list[str]:
    """Return one line per validation error: key, rule, value and close matches.

    Args:
        error: pydantic's error.
        models: the model at each key, to suggest close matches for unknown keys; "" is the grid.
    """
    lines: dict[str, None] = {}  # an ordered set: unions report an error several times
    for found in error.errors():
        problem = found.get("ctx", {}).get("error")
        if isinstance(problem, Misfits):
            lines |= dict.fromkeys(problem.at(".".join(_keys(found["loc"]))))
        else:
            lines[_line(found, models or {})] = None
    return list(lines)


def _line(found: ErrorDetails, models: Mapping[str, type[BaseModel]]) -> str:
    if found["type"] == "extra_forbidden":
        *above, name = found["loc"]  # verbatim, even if it looks like a union branch
        return _unknown(_keys(above), str(name), models)
    key = ".".join(_keys(found["loc"])) or "grid"
    if found["type"] == "missing":
        return f"`{key}` is missing"
    shown = _shown(found["input"]) if found["type"] != "value_error" else ""
    return f"`{key}`: {rule_of(found)}{shown}"


def _unknown(above: list[str], name: str, models: Mapping[str, type[BaseModel]]) -> str:
    part = ".".join(key for key in above if not key.isdigit())  # without positions in lists
    model = models.get(part)
    guess = near(name, model.model_fields) if model else ""
    if part in ("include", "exclude") and name in _WHOLE:
        key = ".".join([*above, name])
        return f"`{key}`: every arm is trained on all of `axes.{name}`. Change `axes.{name}`"
    kind = "axis" if part in ("axes", "include", "exclude") else "key"
    return f"`{'.'.join([*above, name])}`: unknown {kind}{guess}"


def rule_of(found: ErrorDetails) -> str:
    """Return the rule behind a pydantic error, reworded if `_RULES` has it."""
    if found["type"] in _RULES:
        return _RULES[found["type"]].format(**found.get("ctx", {}))
    message = found["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def near(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" or, if no known name is close, an empty string."""
    known = list(known)
    synonyms = {"truncation": "psi", "trunc": "psi", "seeds": "seed", "modes": "mode"}
    close = difflib.get_close_matches(name, known, n=1)
    guess = synonyms.get(name) or (close[0] if close else None)
    return f", did you mean `{guess}`?" if guess in known else ""


def _keys(loc: Iterable[int | str]) -> list[str]:
    """Return the path of keys to an error, without pydantic's names of union branches."""
    return [str(part) for part in loc if not _is_union_branch(part)]


def _is_union_branch(part: int | str) -> bool:
    return isinstance(part, str) and (
        "[" in part or part in ("SeedSample", "float", "int", "str", "constrained-float")
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return f", got {text if len(text) <= 60 else text[:57] + '...'}"
