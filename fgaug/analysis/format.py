"""Numbers and verdicts in words: effects in points, p with its level."""

from __future__ import annotations

import math

from fgaug.grid.analysis_plan import LOWER_IS_BETTER

BETTER = "better"
THESE_ONLY = "better on these patients only"
NOT_SHOWN = "not shown"
WORSE = "worse"
NOT_INFERIOR = "not inferior by the plan's margin"
NAMES = {
    **{"auc": "AUC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"},
    **{"brier": "Brier score", "log_loss": "log loss"},
}
LEVELS = {"E0": "two networks", "E1": "these patients", "E2": "new patients"}


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


def interval(metric: str, low: float, high: float, level: float = 0.95) -> str:
    """Return an interval of a difference with its level."""
    ends = f"{change(metric, low, unit=False)} to {change(metric, high, unit=False)}"
    return f"{100 * level:g}% confidence interval {ends}"


def p_text(p: float, level: str) -> str:
    """Return a p value with the claim that it supports: `p = 0.031 (E2, new patients)`."""
    if math.isnan(p):
        return f"p undefined ({level}, {LEVELS[level]})"
    shown = "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}" if p < 0.995 else "p = 1"
    return f"{shown} ({level}, {LEVELS[level]})"
