"""Format: numbers, effects, p values and verdicts as a reader sees them.

Effects on AUC and accuracies are in points: one point is 0.01, for an accuracy one image in a
hundred. Every p value comes with the claim that it supports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from fgaug.core.analysis_metrics import LOWER_IS_BETTER, METRICS

PStyle: TypeAlias = Literal["page", "sentence", "table"]
DASH = "\N{EN DASH}"  # an undefined number, never 0
MINUS = "\N{MINUS SIGN}"
BETTER = "better"
THESE_ONLY = "better on these patients only"
NOT_SHOWN = "not shown"
WORSE = "worse"
NOT_INFERIOR = "not inferior by the plan's margin"
NAMES = {name: metric.words for name, metric in METRICS.items()}
LEVELS = {
    "E0": "these two networks, on new patients",
    "E1": "this recipe, on these patients",
    "E2": "this recipe, on new patients",
}
POINTS = (
    "Effects are in points: 1 point is 0.01, so a change in AUC from 0.850 to 0.862 is +1.2 "
    "points, and a point of accuracy is one more image in a hundred classified correctly."
)


def sign_of(metric: str) -> float:
    """Return 1 for a metric where higher is better, -1 for a loss."""
    return -1.0 if metric in LOWER_IS_BETTER else 1.0


def many(n: int, word: str) -> str:
    """Return `1 arm`, `3 arms`."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def change(metric: str, value: float, *, unit: bool = True) -> str:
    """Return a difference: `+0.80 points` (hundredths) for a share, `-0.0120` for a loss."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "unbounded"
    if metric in LOWER_IS_BETTER:
        return f"{value:+.4f}"
    return f"{100 * value:+.2f}" + (" points" if unit else "")


def size(metric: str, value: float) -> str:
    """Return a difference without its sign."""
    return change(metric, abs(value)).removeprefix("+")


def interval_sentence(metric: str, low: float, high: float, level: float = 0.95) -> str:
    """Return an interval of a difference with its level."""
    ends = f"{change(metric, low, unit=False)} to {change(metric, high, unit=False)}"
    return f"{100 * level:g}% confidence interval {ends}"


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
    return METRICS[metric].unit


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


def p_value(value: Any, style: PStyle = "page") -> str:
    """Return a p value as text, never 0.

    Args:
        value: the p value; undefined ones are a dash.
        style: `page` with two or three decimals, `<0.001` below that; `sentence` with a sign,
            such as `p = 0.031`; `table` with two significant digits at any size.
    """
    if undefined(value):
        return {"page": DASH, "sentence": "p undefined", "table": "-"}[style]
    if style == "sentence":
        return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}" if value < 0.995 else "p = 1"
    if style == "table":
        return f"{value:.4f}" if value >= 0.01 else f"{value:.2g}" if value > 0 else "< 1e-300"
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_sentence(p: float, level: str) -> str:
    """Return a p value with the claim that it supports: `p = 0.031 (E2, new patients)`."""
    return f"{p_value(p, 'sentence')} ({level}, {LEVELS[level].rpartition(' on ')[2]})"


def p_with(value: Any, level: str, what: str = "") -> str:
    """Return a p value with its claim: `p = 0.012 (E2: this recipe, on new patients)`."""
    text = p_value(value)
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
