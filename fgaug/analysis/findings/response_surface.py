"""Response surface: how a gain depends on psi and ratio over a whole grid.

A test over a grid has far more power than a test of one of its arms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from fgaug.analysis.findings.arms import compared
from fgaug.analysis.findings.contrasts import Wald, degrees, positive, wald
from fgaug.analysis.findings.metric_values import Measured
from fgaug.analysis.format import NAMES, change, p_sentence, size
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.stats import Arms, contrast
from fgaug.stats.arrays import NAN, Floats

COLUMNS = (
    "family",
    "mode",
    "term",
    "statistic",
    "df",
    "df_error",
    "p",
    "level",
    "sentence",
    "reason",
)
WORDS = {"psi": "ψ", "ratio": "ratio", "psi x ratio": "interaction of ψ and ratio"}


def surface_of(
    measured: Mapping[str, Measured],
    arms: pd.DataFrame,
    comparisons: pd.DataFrame,
    plan: AnalysisPlan,
) -> pd.DataFrame:
    """Return joint tests of a family's arms: any effect, psi, ratio, interaction, trends.

    Rows: `any effect` (the smallest p of the max-T over all arms of the family); then, for arms of
    one mode (and filter, removals and further axes, which `mode` then names) at several psis or
    ratios, `psi` and `ratio` (additive fit to the arms' means), `psi x ratio` (its residual),
    `trend psi` and `trend ratio` (linear in psi and in log2(1 + ratio)). Levels are E2, and E1
    for seeds only; p values are not adjusted over these tests.

    Args:
        measured: the primary metric by split.
        arms: of `arm_table`.
        comparisons: of the primary metric.
        plan: contrast and alpha.
    """
    rows: list[dict[str, Any]] = []
    for family, listed in arms.groupby("family", sort=False):
        metric = measured.get(str(listed["split"].iloc[0]))
        if metric is None or compared(listed).empty:
            continue
        own = comparisons[comparisons["family"].eq(family)]
        rows.append({"family": family, "mode": "", **_any_effect(own, plan)})
        siblings = [name for name in listed["arm_id"] if metric.has(name)]
        for mode, members in _sheets(compared(listed)):
            usable = members[[metric.has(name) for name in members["arm_id"]]]
            for row in _of_sheet(metric, usable, siblings, plan):
                rows.append({"family": family, "mode": mode, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _any_effect(rows: pd.DataFrame, plan: AnalysisPlan) -> dict[str, Any]:
    own = rows[rows["against"].eq(plan.contrast)]
    tests = own[own["p_value"].notna()]
    row = {"term": "any effect", "df": len(own), "df_error": NAN, "level": "E2", "reason": None}
    if tests.empty:
        reason = "no arm was tested"
        return {**row, "statistic": NAN, "p": NAN, "sentence": "", "reason": reason}
    p = float(tests["p_value"].min())
    largest = float((tests["effect"].abs() / tests["se"]).max())
    shown = "An effect" if p <= plan.alpha else "No effect"
    of = f"{'at least one' if p <= plan.alpha else 'any'} of {len(own)} arms"
    of = "the only arm" if len(own) == 1 else of
    return {
        **row,
        "statistic": largest,
        "p": p,
        "df_error": float(tests["df"].min()),
        "sentence": f"{shown} of {of} is shown ({p_sentence(p, 'E2')}, max-T).",
    }


def _sheets(arms: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each set of arms of one mode that differ only in psi and ratio, with its name.

    The name is the mode, with the axes that distinguish the set if the mode has several.
    """
    crossed = arms[arms["psi"].notna() & arms["ratio"].notna()]
    for (mode, sheet), members in crossed.groupby(["mode", "sheet"], sort=False):
        if len(members) > 1:
            others = crossed.loc[crossed["mode"].eq(str(mode)), "sheet"].unique()
            alike = set.intersection(*(set(other.split(", ")) for other in others))
            telling = [axis for axis in str(sheet).split(", ") if axis not in alike]
            yield ", ".join([str(mode), *telling]), members


def _of_sheet(
    metric: Measured, members: pd.DataFrame, siblings: list[str], plan: AnalysisPlan
) -> Iterator[dict[str, Any]]:
    names = list(members["arm_id"])
    arms = metric.of([*names, *(name for name in siblings if name not in names)])
    fit = _Additive(members, len(arms.mean))
    for term, weights in fit.tests():
        for level in ("E2", "E1"):
            test = wald(arms, weights, patients=level == "E2")
            sentence = ""
            if level == "E2" and test.reason is None:
                sentence = _sentence(term, test, arms, fit, metric.metric, plan)
            yield {
                "term": term,
                "statistic": test.statistic,
                "df": test.df,
                "level": level,
                "df_error": test.df_error,
                "p": test.p,
                "reason": test.reason,
                "sentence": sentence,
            }


class _Additive:
    """The additive fit of psi and ratio to the means of arms that cross them."""

    def __init__(self, members: pd.DataFrame, width: int) -> None:
        """Fit by least squares; `width` is the number of all arms, the members first."""
        self.width = width
        self.values = {
            "psi": np.unique(members["psi"].to_numpy(float)),
            "ratio": np.unique(members["ratio"].to_numpy(float)),
        }
        parts = [np.ones((len(members), 1))]
        for name, values in self.values.items():
            parts.append((members[name].to_numpy(float)[:, None] == values[1:]).astype(float))
        self.design = np.concatenate(parts, axis=1)
        self.inverse = np.linalg.pinv(self.design)
        self.rank = int(np.linalg.matrix_rank(self.design))
        self.connected = self.rank == self.design.shape[1]

    def tests(self) -> Iterator[tuple[str, Floats]]:
        """Yield each term with its weights on all arms, [q, width]."""
        if self.connected:
            for name, values in self.values.items():
                if values.size > 1:
                    yield name, self.effects(name)[1:]
        left = np.eye(len(self.design)) - self.design @ self.inverse
        if (free := len(self.design) - self.rank) > 0 and self.connected:
            vectors = np.linalg.svd(left)[0][:, :free]
            yield "psi x ratio", self._padded(vectors.T)
        if self.connected:
            for name, x in self.scales().items():
                if x.size > 1:
                    yield f"trend {name}", self.slope(name, x)

    def scales(self) -> dict[str, Floats]:
        """Return the values of psi and ratio on the scales in which trends are linear."""
        return {"psi": self.values["psi"], "ratio": np.log2(1 + self.values["ratio"])}

    def effects(self, name: str) -> Floats:
        """Return the weights of each value's effect relative to the first, [values, width]."""
        first = 1 if name == "psi" else self.values["psi"].size
        rows = self.inverse[first : first + self.values[name].size - 1]
        return self._padded(np.concatenate([np.zeros((1, rows.shape[1])), rows]))

    def slope(self, name: str, x: Floats) -> Floats:
        """Return the weights of the slope of the effects over x, [1, width]."""
        apart = x - x.mean()
        return np.asarray((apart / (apart @ apart))[None] @ self.effects(name))

    def _padded(self, weights: Floats) -> Floats:
        return np.pad(weights, ((0, 0), (0, self.width - weights.shape[1])))


def _sentence(
    term: str, test: Wald, arms: Arms, fit: _Additive, metric: str, plan: AnalysisPlan
) -> str:
    """Return the result of a test as a sentence; without an effect, how large one may still be."""
    shown, p = test.p <= plan.alpha, p_sentence(test.p, "E2")
    name = NAMES[metric]
    if term.startswith("trend"):
        axis = term.removeprefix("trend ")
        line = contrast(arms, fit.slope(axis, fit.scales()[axis])[0], level=1 - plan.alpha)
        unit = "unit of ψ" if axis == "psi" else "doubling of 1 + ratio"
        ends = f"{change(metric, line.ci_low)} to {change(metric, line.ci_high)}"
        head = "" if shown else f"No trend over {WORDS[axis]} is shown: "
        return f"{head}{name} {change(metric, line.difference)} per {unit} ({ends}, {p})."
    if term == "psi x ratio":
        if shown:
            return f"The effect of ψ depends on the ratio ({p})."
        return f"No interaction of ψ and ratio is shown ({p})."
    apart, reach = _differences(arms, fit.effects(term), plan.alpha)
    if shown:
        most = float(np.abs(apart).max())
        return f"{name} depends on {WORDS[term]} ({p}): by up to {size(metric, most)}."
    widest = float((np.abs(apart) + reach).max())
    return (
        f"No effect of {WORDS[term]} is shown ({p}); differences of up to {size(metric, widest)} "
        f"between two values are compatible with the simultaneous {100 * (1 - plan.alpha):g}% "
        "confidence intervals."
    )


def _differences(arms: Arms, effects: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Return all pairwise differences of effects, and the half widths of simultaneous intervals.

    Bonferroni over the pairs, of which there may be thousands.
    """
    a, b = np.triu_indices(len(effects), 1)
    seed = arms.pooled_seed_variance * (effects / arms.n_seeds) @ effects.T
    case = positive(effects @ arms.case @ effects.T, float(np.abs(arms.case).max()))
    parts = [np.diag(part)[a] + np.diag(part)[b] - 2 * part[a, b] for part in (seed, case)]
    variance = np.maximum(0, parts[0] + parts[1])
    critical = special.stdtrit(degrees(parts[0], parts[1], arms), 1 - alpha / 2 / a.size)
    means = effects @ arms.mean
    return means[b] - means[a], critical * np.sqrt(variance)
