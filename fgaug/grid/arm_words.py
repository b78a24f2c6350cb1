"""The one way in which messages, tables, figures and reports name an arm in words.

Loads no library of numbers, because `fgaug status` names cells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

PSI_BY_LABEL = "psi_by_label"  # column and axis of arms whose labels have their own psi
# then further axes as given
_FIRST = ("psi", PSI_BY_LABEL, "ratio", "round", "fakes", "remove", "", "filter")
_BY_LABEL = (PSI_BY_LABEL, "fakes", "remove")  # result rows have `dbp=500 trv=all` in these
_PAIR = re.compile(r"(.+?)=([^=\s]+)(?:\s|$)")


def arm_in_words(mode: str, axes: Iterable[tuple[str, str]]) -> str:
    """Return an arm in words, as `augmentation psi 0.7 ratio 2 filter agrees`.

    Args:
        mode: of the arm.
        axes: name and value as text of each axis to name, in any order. An axis of the recipe
            loses its prefix; one without a name is its value alone.
    """
    ordered = sorted(axes, key=lambda axis: (*_FIRST, axis[0]).index(axis[0]))
    words = (f"{_word(name)} {text}".lstrip() for name, text in ordered)
    return " ".join([mode, *words])


def _word(axis: str) -> str:
    return "psi" if axis == PSI_BY_LABEL else axis.removeprefix("recipe.")


def axis_value(axis: str, value: Any) -> str:
    """Format the value of an axis in a result row, as `dbp 500, trv 500`."""
    if axis in _BY_LABEL and isinstance(value, str) and (pairs := _PAIR.findall(value)):
        return ", ".join(f"{label} {of_label}" for label, of_label in pairs)
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {item}" for key, item in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:g}"
    return str(value)
