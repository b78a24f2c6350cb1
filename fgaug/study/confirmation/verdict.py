"""The verdict of a second stage: its arms compared on the sealed test set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fgaug import stats
from fgaug.analysis.format import many
from fgaug.core.analysis_metrics import LOWER_IS_BETTER
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.runs.confirmation_records import NUMBERS, SealedVerdict, SecondStage, ShortlistedArm

# the name of each control in comparisons
_AGAINST = {"oversample": "twin", "drop": "drop", "random_subset": "subset"}


def judge(
    stage: SecondStage, sealed: pd.DataFrame, rows: pd.DataFrame, plan: AnalysisPlan
) -> pd.DataFrame:
    """Compare a stage's arms on the sealed test set, for claims about new patients (level E2).

    Each arm is compared with its baseline by max-T over the shortlist with the Obuchowski-Rockette
    model and pooled seed variance (`stats.or_max_t`; several baselines share the error rate by
    Bonferroni), and with each of its twins by a contrast, with Bonferroni over the shortlist. With
    L planned looks, all tests are at alpha / L.

    Args:
        stage: the arms; only the stage's own cells are used.
        sealed: test predictions of the stage's cells that are ok, with `cell_id`.
        rows: of the stage's cells.
        plan: metric, contrast, alpha, looks.

    Returns:
        One row per comparison: arm_id, arm, against (baseline, twin, drop, subset), against_id,
        metric, primary, n_seeds, n_seeds_against, n_failed, n_failed_against, n_images,
        n_patients, mean, mean_against, effect (arm minus the other; for a loss, negative is
        better), se, df, ci_low and ci_high (simultaneous at 1 - alpha), p_raw, p_value (adjusted),
        compared, level, alpha, verdict, reason. Undefined values are NaN, with a reason.
    """
    runs = _Runs(stage, sealed, rows, plan.metric)
    alpha = plan.at_a_look().alpha
    families: dict[str, list[ShortlistedArm]] = {}
    for arm in stage.shortlist:
        families.setdefault(arm.baseline, []).append(arm)
    found: list[dict[str, Any]] = []
    for baseline, arms in families.items():
        found += runs.against_baseline(baseline, arms, alpha, len(families))
    for control in _AGAINST:
        pairs = [(arm, arm.twins[control]) for arm in stage.shortlist if control in arm.twins]
        found += [runs.against_twin(*pair, _AGAINST[control], alpha, len(pairs)) for pair in pairs]
    for row in found:
        primary = row["against"] == plan.contrast
        verdict = _verdict(row["effect"], row["p_value"], alpha, plan.metric)
        row |= {"primary": primary, "compared": len(stage.shortlist), "alpha": alpha}
        row |= {"level": "E2", "verdict": verdict}
    order = [arm.arm_id for arm in stage.shortlist]
    found.sort(key=lambda row: order.index(row["arm_id"]))
    return pd.DataFrame(found)


class _Runs:
    """The test predictions of a stage by arm, with all images in the same order."""

    def __init__(
        self, stage: SecondStage, sealed: pd.DataFrame, rows: pd.DataFrame, metric: str
    ) -> None:
        self.metric = metric
        self.failed = rows.loc[rows["status"].ne("ok"), "arm_id"].value_counts()
        ok = rows[rows["status"].eq("ok") & rows["arm_id"].isin(list(stage.seeds))]
        self.cells: dict[str, list[str]] = {}
        for arm, cell in zip(ok["arm_id"], ok["cell_id"], strict=True):
            self.cells.setdefault(str(arm), []).append(str(cell))
        by_cell = {str(cell): part for cell, part in sealed.groupby("cell_id", sort=False)}
        self.probabilities: dict[str, np.ndarray] = {}
        labels = [str(name) for name in sealed if str(name).startswith("p_")]
        first: pd.DataFrame | None = None
        for arm, cells in self.cells.items():
            parts = []
            for cell in cells:
                images = by_cell[cell].set_index("image_id")
                first = images if first is None else first
                if not images.index.sort_values().equals(first.index.sort_values()):
                    raise RunError(
                        f"Cell {cell} was tested on different images than {cells[0]}. Restore "
                        "the dataset the run started with."
                    )
                parts.append(images.loc[first.index, labels].to_numpy())
            self.probabilities[arm] = np.stack(parts)
        if first is None:
            raise RunError(
                "No cell of the second stage is ok, so there is nothing to test. See `fgaug "
                "status` for the errors and run the command again."
            )
        self.truth = np.array([labels.index(f"p_{label}") for label in first["label"]])
        self.group = first["group"].to_numpy()

    def arms(self, names: Sequence[str]) -> stats.Arms:
        """Return the influence values of arms, all with finished runs, over seeds and patients."""
        parts = [self.probabilities[name] for name in names]
        influence = stats.influence_of(
            self.metric, self.truth, np.concatenate(parts), group=self.group
        )
        return stats.arms_of(influence, np.repeat(range(len(parts)), [len(p) for p in parts]))

    def against_baseline(
        self, baseline: str, listed: Sequence[ShortlistedArm], alpha: float, families: int
    ) -> list[dict[str, Any]]:
        """Return one row per arm of a family; arms without finished runs get a reason."""
        arms = [arm for arm in listed if arm.arm_id in self.cells]
        if baseline not in self.cells or not arms:
            return [self._row(arm, "baseline", baseline) for arm in listed]
        both = self.arms([baseline, *(arm.arm_id for arm in arms)])
        test = stats.or_max_t(both, level=1 - alpha / families)
        rows = []
        for place, arm in enumerate(arms):
            numbers = {
                "mean": both.mean[place + 1],
                "mean_against": both.mean[0],
                "effect": test.difference[place],
                "se": test.se[place],
                "df": test.df[place],
                "ci_low": test.ci_low[place],
                "ci_high": test.ci_high[place],
                "p_raw": test.p_raw[place],
                "p_value": min(1.0, families * test.p_value[place]),
            }
            rows.append(self._row(arm, "baseline", baseline, numbers, both, test.reason))
        gone = [arm for arm in listed if arm.arm_id not in self.cells]
        return rows + [self._row(arm, "baseline", baseline) for arm in gone]

    def against_twin(
        self, arm: ShortlistedArm, twin: str, against: str, alpha: float, tests: int
    ) -> dict[str, Any]:
        """Return the row that compares an arm with one of its twins."""
        if arm.arm_id not in self.cells or twin not in self.cells:
            return self._row(arm, against, twin)
        # all arms of the stage contribute to the seed variance
        names = [
            arm.arm_id,
            twin,
            *(each for each in self.cells if each not in (arm.arm_id, twin)),
        ]
        arms = self.arms(names)
        weights = np.zeros(len(names))
        weights[:2] = 1, -1
        test = stats.contrast(arms, weights, level=1 - alpha / tests)
        numbers = {
            "mean": arms.mean[0],
            "mean_against": arms.mean[1],
            "effect": test.difference,
            "se": test.se,
            "df": test.df,
            "ci_low": test.ci_low,
            "ci_high": test.ci_high,
            "p_raw": test.p_value,
            "p_value": np.minimum(1.0, tests * test.p_value),
        }
        return self._row(arm, against, twin, numbers, arms, test.reason)

    def _row(
        self,
        arm: ShortlistedArm,
        against: str,
        other: str,
        numbers: Mapping[str, float] | None = None,
        arms: stats.Arms | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        if numbers is None:
            numbers = dict.fromkeys(NUMBERS, math.nan)
            lacking = arm.arm_id if arm.arm_id not in self.cells else other
            reason = f"no seed of {lacking} finished"
        return {
            "arm_id": arm.arm_id,
            "arm": arm.arm,
            "against": against,
            "against_id": other,
            "metric": self.metric,
            "n_seeds": len(self.cells.get(arm.arm_id, ())),
            "n_seeds_against": len(self.cells.get(other, ())),
            "n_failed": int(self.failed.get(arm.arm_id, 0)),
            "n_failed_against": int(self.failed.get(other, 0)),
            "n_images": self.truth.size,
            "n_patients": arms.n_patients if arms else len(set(self.group.tolist())),
            **{name: float(value) for name, value in numbers.items()},
            "reason": reason,
        }


def _verdict(effect: float, p_value: float, alpha: float, metric: str) -> str:
    if not p_value < alpha:
        return "not shown"
    return "better" if (effect < 0) == (metric in LOWER_IS_BETTER) else "worse"


def in_words(stage: SecondStage, judged: SealedVerdict) -> Iterator[str]:
    """Yield the verdict as text, one comparison per line, with the level beside every p value."""
    rows = judged.comparisons
    first = rows[0]
    yield (
        f"results on the sealed test set ({judged.counted}): "
        f"{many(first['n_images'], 'image')} of {many(first['n_patients'], 'patient')}, fresh "
        f"seeds, level {first['level']} (new patients)"
    )
    for row in rows:
        other = {
            "baseline": "the baseline",
            "twin": "its oversample twin",
            "drop": "its drop twin",
            "subset": "its random subset",
        }
        seeds = f"{many(row['n_seeds'], 'seed')} against {row['n_seeds_against']}"
        failed = row["n_failed"] + row["n_failed_against"]
        head = f"  {row['arm']} against {other[row['against']]} ({seeds}"
        head += f", {failed} failed): " if failed else "): "
        if row["p_value"] is None or math.isnan(row["p_value"]):
            yield f"{head}undefined: {row['reason']}"
            continue
        level = f"{100 * (1 - row['alpha']):g}%"
        yield (
            f"{head}{row['verdict']}; {row['metric']} {row['effect']:+.4f} ({level} CI "
            f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}), p {_p(row['p_value'])} adjusted for "
            f"{many(row['compared'], 'arm')}, {row['level']}"
        )
    if stage.left_out:
        yield f"  not eligible: {'; '.join(stage.left_out)}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}"
