"""Exchange rate: the number of real images that fakes are worth.

The arms without fakes give the metric as a function of the number of reals; arms with fakes are
placed on that line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.findings.arms import compared
from fgaug.analysis.findings.metric_values import Measured
from fgaug.analysis.format import p_sentence, sign_of
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.stats import Arms, contrast
from fgaug.stats.arrays import NAN, Floats
from fgaug.stats.inference import quantile
from fgaug.stats.non_inferiority import fieller

FAKES = 1000  # the exchange rate is given per this many fakes
COLUMNS = (
    "arm_id",
    "from",
    "group",
    "arms",
    "n_real",
    "n_fake",
    "estimate",
    "ci_low",
    "ci_high",
    "patients",
    "patients_low",
    "patients_high",
    "sizes",
    "slope",
    "p_slope",
    "note",
    "reason",
)


def exchange_of(
    measured: Mapping[str, Measured], arms: pd.DataFrame, plan: AnalysisPlan
) -> pd.DataFrame:
    """Return the number of real images that 1,000 fakes are worth, by mode and then by arm.

    The metric of the arms without fakes (baselines at several real_fractions, drop arms) is
    fitted by b log2(reals), weighted by seeds. An arm's lift over that line at its own number of
    reals, divided by b, is the log2 of the factor by which its fakes multiply the reals. Its
    interval is Fieller's, from the covariance over seeds and patients (level E2, unadjusted). A
    mode's row is the mean lift of its arms. Images convert to patients by the mean number of
    images per patient in the evaluation set.

    Args:
        measured: the primary metric by split.
        arms: of `arm_table`.
        plan: alpha.
    """
    rows: list[dict[str, Any]] = []
    for group, listed in arms.groupby("group", sort=False):
        metric = measured.get(str(listed["split"].iloc[0]))
        if metric is not None and len(compared(listed)):
            rows += ({"group": group, **row} for row in _of_group(metric, listed, plan))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_group(
    metric: Measured, listed: pd.DataFrame, plan: AnalysisPlan
) -> Iterator[dict[str, Any]]:
    """Yield the rows of arms on the same images with the same recipe."""
    known = listed[[metric.has(arm_id) for arm_id in listed["arm_id"]]]
    reals = known[known["mode"].isin(("baseline", "drop")) & known["n_real"].gt(0)]
    fakes = compared(known)
    fakes = fakes[fakes["n_fake"].gt(0)]
    if fakes.empty:
        return
    names = [*reals["arm_id"], *fakes["arm_id"]]
    others = [name for name in known["arm_id"] if name not in names]
    arms = metric.of([*names, *others])  # all arms contribute to the variance of seeds
    line = _Line(arms, np.log2(reals["n_real"].to_numpy(float)), sign_of(metric.metric), plan)
    per_patient = metric.runs.n_images / metric.runs.n_patients
    places = {name: place for place, name in enumerate(names)}
    for mode, members in fakes.groupby("mode", sort=False):
        if len(members) > 1:
            text = f"mean of {len(members)} {mode} arms"
            yield _row(line, members, places, per_patient, text)
    for place in range(len(fakes)):
        one = fakes.iloc[[place]]
        yield _row(line, one, places, per_patient, str(one["name"].iloc[0]))


class _Line:
    """The metric as a linear function of log2 of the number of reals."""

    def __init__(self, arms: Arms, x: Floats, sign: float, plan: AnalysisPlan) -> None:
        self.arms, self.x, self.sign = arms, x, sign
        self.level = 1 - plan.alpha
        sizes = np.unique(np.round(2**x))
        self.sizes = (
            f"{sizes.size} numbers of reals, {sizes.min():.0f} to {sizes.max():.0f}"
            if x.size
            else "none"
        )
        self.largest = float(sizes.max()) if x.size else NAN
        self.slope, self.p_slope, self.reason = NAN, NAN, None
        if sizes.size < 2:
            self.reason = (
                "all arms without fakes have the same number of reals: add `controls: [drop]` "
                "to replacement arms, or an axis `real_fraction`"
            )
            return
        weight = arms.n_seeds[: x.size].astype(float)
        weight /= weight.sum()
        self.centre = float(weight @ x)
        apart = x - self.centre
        self.mean_weights = self._padded(weight)
        self.slope_weights = self._padded(weight * apart / (weight @ apart**2))
        test = contrast(arms, self.slope_weights, level=self.level)
        self.slope, self.p_slope = sign * test.difference, test.p_value
        if not (test.p_value <= plan.alpha and self.slope > 0):
            self.reason = (
                f"more reals were not shown to help here ({p_sentence(test.p_value, 'E2')}), so "
                "fakes have no equivalent in reals"
            )

    def _padded(self, weights: Floats) -> Floats:
        whole = np.zeros(self.arms.mean.size)
        whole[: weights.size] = weights
        return whole

    def factor(self, places: Sequence[int], x: float) -> tuple[float, float, float]:
        """Return log2 of the factor by which fakes multiply the reals, with its interval.

        Args:
            places: indices of the arms, which are averaged.
            x: log2 of the number of reals in these arms.
        """
        lift = -self.mean_weights - (x - self.centre) * self.slope_weights
        lift[list(places)] += 1 / len(places)
        tests = [contrast(self.arms, w, level=self.level) for w in (lift, self.slope_weights)]
        both = contrast(self.arms, lift + self.slope_weights, level=self.level)
        above, below = tests
        covariance = (both.se**2 - above.se**2 - below.se**2) / 2
        critical = quantile(0.5 + self.level / 2, min(above.df, below.df))
        low, high = fieller(
            self.sign * above.difference,
            self.sign * below.difference,
            (above.se**2, below.se**2, covariance),
            critical,
        )
        return above.difference / below.difference, low, high


def _row(
    line: _Line,
    members: pd.DataFrame,
    places: Mapping[str, int],
    per_patient: float,
    text: str,
) -> dict[str, Any]:
    n_real, n_fake = float(members["n_real"].mean()), float(members["n_fake"].mean())
    row: dict[str, Any] = {
        "arm_id": members["arm_id"].iloc[0] if len(members) == 1 else None,
        "from": text,
        "arms": len(members),
        "n_real": n_real,
        "n_fake": n_fake,
        "sizes": line.sizes,
        "slope": line.slope,
        "p_slope": line.p_slope,
        "note": "",
        "reason": line.reason,
        **dict.fromkeys(("estimate", "ci_low", "ci_high"), NAN),
        **dict.fromkeys(("patients", "patients_low", "patients_high"), NAN),
    }
    if line.reason:
        return row
    # arms without reals start from nothing: they are placed from the centre of the line
    own = members["n_real"].to_numpy(float)
    x = float(np.log2(own).mean()) if (own > 0).all() else line.centre
    factors = line.factor([places[name] for name in members["arm_id"]], x)
    with np.errstate(over="ignore"):
        reals = np.exp2(x + np.array(factors))
    worth = (reals - (2**x if (own > 0).all() else 0.0)) * FAKES / n_fake
    row |= dict(zip(("estimate", "ci_low", "ci_high"), map(float, worth), strict=True))
    named = ("patients", "patients_low", "patients_high")
    row |= dict(zip(named, map(float, worth / per_patient), strict=True))
    if reals[0] > line.largest:
        row["note"] = f"extrapolated beyond the {line.largest:.0f} reals that were tried"
    return row
