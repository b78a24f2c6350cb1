"""Format: the numbers of a comparison as a reader sees them.

Effects on AUC and accuracies are in points: one point is 0.01, for an accuracy one image in a
hundred. Every p value comes with the claim that it supports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fgaug.grid.analysis_plan import LOWER_IS_BETTER

DASH = "\N{EN DASH}"  # an undefined number, never 0
MINUS = "\N{MINUS SIGN}"
NAMES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "log_loss": "log loss",
}
LEVELS = {
    "E0": "these two networks, on new patients",
    "E1": "this recipe, on these patients",
    "E2": "this recipe, on new patients",
}
POINTS = (
    "Effects are in points: 1 point is 0.01, so a change in AUC from 0.850 to 0.862 is +1.2 "
    "points, and a point of accuracy is one more image in a hundred classified correctly."
)


def undefined(value: Any) -> bool:
    """Return whether a number is missing: None, NaN or pandas' NA."""
    return value is None or value != value or not math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """Return a score as text, an en dash if it is undefined."""
    return DASH if undefined(value) else signed_zero(f"{value:.{digits}f}")


def count(value: Any) -> str:
    """Return a count as text; a fractional one (a mean over seeds) with one decimal."""
    if undefined(value):
        return DASH
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def is_loss(metric: str) -> bool:
    """Return whether lower values of a metric are better."""
    return metric in LOWER_IS_BETTER


def scale(metric: str) -> float:
    """Return the factor from an effect to its printed number: 100 for points."""
    return 1.0 if is_loss(metric) else 100.0


def unit(metric: str) -> str:
    """Return the unit of printed effects: points, nats, or none for the Brier score."""
    return {"log_loss": "nats", "brier": ""}.get(metric, "points")


def effect(metric: str, value: Any, *, with_unit: bool = False) -> str:
    """Return an effect with its sign: `+1.2` points, `+0.013` nats."""
    if undefined(value):
        return DASH
    text = signed(value * scale(metric), 3 if is_loss(metric) else 1)
    return f"{text} {unit(metric)}".strip() if with_unit else text


def interval(metric: str, low: Any, high: Any) -> str:
    """Return an interval of effects: `+0.3 to +2.7`."""
    if undefined(low) or undefined(high):
        return DASH
    return f"{effect(metric, low)} to {effect(metric, high)}"


def effects(metric: str, values: Iterable[Any]) -> list[str]:
    """Return a column of effects."""
    return [effect(metric, value) for value in values]


def intervals(metric: str, lows: Iterable[Any], highs: Iterable[Any]) -> list[str]:
    """Return a column of intervals of effects."""
    return [interval(metric, low, high) for low, high in zip(lows, highs, strict=True)]


def titled(words: str, metric: str) -> str:
    """Return a column heading with the unit of the effects, if they have one."""
    return f"{words}, {unit(metric)}" if unit(metric) else words


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, `0.0` without one."""
    text = signed_zero(f"{value:+.{digits}f}")
    return text.replace("-", MINUS)


def signed_zero(text: str) -> str:
    """Return `0.0` for `-0.0` and `+0.0`, and any other text unchanged."""
    return text.lstrip("+-") if not any(digit in text for digit in "123456789") else text


def p_text(value: Any) -> str:
    """Return a p value with two or three digits, `<0.001` below that; never 0."""
    if undefined(value):
        return DASH
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_with(value: Any, level: str, what: str = "") -> str:
    """Return a p value with its claim: `p = 0.012 (E2: this recipe, on new patients)`."""
    text = p_text(value)
    sign = "" if text.startswith("<") else "= "
    inside = f"{what}; " if what else ""
    shown = f"p {sign}{text}" if text != DASH else "p undefined"
    return f"{shown} ({inside}{level}: {LEVELS[level]})"


def share(value: Any) -> str:
    """Return a share as a percentage without decimals."""
    return DASH if undefined(value) else f"{100 * value:.0f}%"


def said(values: Iterable[Any], instead: str = "") -> list[str]:
    """Return the texts of a column, with `instead` for empty ones."""
    return [value if isinstance(value, str) and value else instead for value in values]


def listed(words: Iterable[str]) -> str:
    """Return `a, b and c`."""
    items = list(words)
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
