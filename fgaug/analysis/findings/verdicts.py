"""Verdicts: one per arm, and what more seeds or patients could still show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.findings.arms import records
from fgaug.analysis.format import (
    BETTER,
    NAMES,
    NOT_INFERIOR,
    NOT_SHOWN,
    THESE_ONLY,
    WORSE,
    change,
    interval_sentence,
    p_sentence,
    sign_of,
    size,
)
from fgaug.core.split_names import FOLDS
from fgaug.grid.analysis_plan import AnalysisPlan, seeds_of_baseline
from fgaug.stats import Plan, smallest_gain
from fgaug.stats.arrays import NAN

COLUMNS = ("arm_id", "verdict", "sentence", "would_change_it")
OTHERS = {
    "baseline": "the baseline",
    "twin": "its oversample control",
    "drop": "the same reals without fakes",
    "subset": "the same number of unfiltered fakes",
}
Row = Mapping[str, Any]
POWER = 0.8
STEPS = (3, 4, 5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160)  # candidate seeds per arm
ENDLESS = 10**6  # seeds: only the variance over patients remains


def verdicts_of(
    comparisons: pd.DataFrame, arms: pd.DataFrame, replacement: pd.DataFrame, plan: AnalysisPlan
) -> pd.DataFrame:
    """Return one row per arm with fakes: its verdict, a sentence, and what would change it.

    "better" and "worse" hold for new patients (E2), adjusted for all arms; "better on these
    patients only" is adjusted as well, at level E1. "not inferior by the plan's margin" is for
    replacement arms that are not "better". All else is "not shown", which does not claim that
    there is no effect.

    Args:
        comparisons: of `compare_metric`, with the primary metric.
        arms: the arms that are compared.
        replacement: the result of `replacement_of` for the same metric.
        plan: primary metric and contrast.
    """
    primary = comparisons[comparisons["metric"].eq(plan.metric)]
    lookup = {(row["arm_id"], row["against"]): row for row in records(primary)}
    own = primary[primary["against"].eq(plan.contrast)]
    outlooks = {
        family: outlook_of(rows, plan, own["family"].nunique())
        for family, rows in own.groupby("family", sort=False)
    }
    kept = {row["arm_id"]: row for row in records(replacement)}
    found = []
    for arm in records(arms):
        rows = {against: lookup.get((arm["arm_id"], against)) for against in OTHERS}
        main, extra = rows[plan.contrast], kept.get(arm["arm_id"])
        verdict = _verdict(main, extra, plan)
        found.append(
            {
                "arm_id": arm["arm_id"],
                "verdict": verdict,
                "sentence": _sentence(main, rows, extra, verdict, plan),
                "would_change_it": _change(main, outlooks.get(arm["family"]), verdict, plan)
                if arm["split"] != FOLDS or verdict not in (BETTER, NOT_INFERIOR)
                else _ON_NEW_PATIENTS,
            }
        )
    return pd.DataFrame(found, columns=list(COLUMNS))


def _verdict(main: Row | None, extra: Row | None, plan: AnalysisPlan) -> str:
    gain, p, p_patients = np.nan, np.nan, np.nan
    if main is not None:
        gain = sign_of(plan.metric) * main["effect"]
        p, p_patients = main["p_value"], main["p_patients"]
    if p <= plan.alpha and gain > 0:
        return BETTER
    if extra is not None and extra["verdict"] == NOT_INFERIOR:
        return NOT_INFERIOR
    if p <= plan.alpha and gain < 0:
        return WORSE
    if p_patients <= plan.alpha and gain > 0:
        return THESE_ONLY
    return NOT_SHOWN


def _sentence(
    main: Row | None,
    rows: Mapping[str, Row | None],
    extra: Row | None,
    verdict: str,
    plan: AnalysisPlan,
) -> str:
    """Return the effect with its interval, level and p, and how the alternatives compare."""
    name = NAMES[plan.metric]
    if main is None:
        return f"The arm has no {plan.contrast} to compare it with: {name} is not evaluated."
    if np.isnan(main["p_value"]):
        return f"No test of {name}: {main['reason']}."
    text = f"{name} {_effect(main, plan)} against {OTHERS[plan.contrast]}"
    if verdict == NOT_SHOWN:
        text = f"No difference is shown, which does not mean that there is none: {text}"
    if verdict == THESE_ONLY:
        text += f"; on these patients only, {p_sentence(main['p_patients'], 'E1')}"
    parts = [text, *_alternatives(main, rows, plan)]
    if extra is not None:
        parts.append(_kept(extra, plan))
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _effect(row: Row, plan: AnalysisPlan) -> str:
    ends = interval_sentence(plan.metric, row["ci_low"], row["ci_high"], 1 - plan.alpha)
    return (
        f"{change(plan.metric, row['effect'])} ({ends} over all arms, "
        f"adjusted {p_sentence(row['p_value'], 'E2')})"
    )


def _alternatives(main: Row, rows: Mapping[str, Row | None], plan: AnalysisPlan) -> Iterator[str]:
    """Yield the effect of each alternative without fakes, and the difference from it."""
    for against, row in rows.items():
        if row is None or against == plan.contrast:
            continue
        if np.isnan(row["effect"]):
            yield f"{OTHERS[against]} cannot be compared: {row['reason']}"
        elif plan.contrast == "baseline":
            without = change(plan.metric, row["mean_against"] - main["mean_against"])
            yield (
                f"{OTHERS[against]}: {without} against the baseline; this arm against it: "
                f"{_effect(row, plan)}"
            )
        else:
            yield f"against {OTHERS[against]}: {_effect(row, plan)}"


_ON_NEW_PATIENTS = "The same comparison on new patients would confirm or refute it."


def _kept(extra: Row, plan: AnalysisPlan) -> str:
    if extra["reason"]:
        return f"as a replacement: {extra['reason']}"
    share = f"{100 * extra['retained_share']:.0f}% of the gain from the removed reals is retained"
    limits = f"{100 * extra['fieller_low']:.0f}% to {100 * extra['fieller_high']:.0f}%"
    return (
        f"as a replacement: {share} ({100 * (1 - plan.alpha):g}% confidence interval {limits}); "
        f"margin {size(plan.metric, extra['margin'])} ({extra['margin_source']}), "
        f"non-inferiority: {p_sentence(extra['p_non_inferior_holm'], 'E2')}, one-sided"
    )


def _change(main: Row | None, outlook: Outlook | None, verdict: str, plan: AnalysisPlan) -> str:
    """Return what would change the verdict: seeds, patients, or a second stage."""
    if main is None:
        return f"A grid that includes its {plan.contrast}."
    if np.isnan(main["p_value"]) or outlook is None or not main["se"] > 0:
        return f"A result: {main['reason'] or 'there is no variance between seeds or patients'}."
    shares = (
        f"{100 * main['patient_share']:.0f}% of the variance comes from patients, "
        f"{100 * main['seed_share']:.0f}% from seeds"
    )
    if verdict in (BETTER, NOT_INFERIOR):
        return (
            "A second stage with fresh seeds on the sealed test set (`fgaug confirm`) would "
            f"confirm or refute it. {shares}."
        )
    if verdict == WORSE:
        return f"More runs of this arm are unlikely to change it: the arm is worse. {shares}."
    now = (
        f"{shares}; the present design detects a gain of {size(plan.metric, outlook.now)} "
        "with 80% power"
    )
    gain = sign_of(plan.metric) * main["effect"]
    floor = size(plan.metric, outlook.floor)
    if verdict == THESE_ONLY:
        return (
            f"More patients: {now}, and no number of seeds can detect less than {floor} on these "
            f"{main['n_patients']:.0f} patients."
        )
    if gain <= 0:
        return f"{now}. The arm is not better than the one it is compared with."
    seeds = outlook.seeds_for(gain)
    seen = size(plan.metric, gain)
    if seeds is None and outlook.floor <= gain:
        return (
            f"{now}. More than {STEPS[-1]} seeds per arm would detect a gain of {seen}, if "
            "it is real."
        )
    if seeds is None:
        return (
            f"{now}. No number of seeds can detect a gain of {seen} on these "
            f"{main['n_patients']:.0f} patients ({floor} at best): more patients could."
        )
    if seeds <= main["n_seeds"]:
        return f"{now}. The same result again, with fresh seeds and other patients."
    return f"{now}. {seeds} seeds per arm would detect a gain of {seen}, if it is real."


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The gains that a family can detect with 80% power, in units of the metric."""

    now: float
    by_seeds: tuple[
        tuple[int, float], ...
    ]  # seeds per arm; the baseline has sqrt(K) times as many
    floor: float  # with any number of seeds on these patients

    def seeds_for(self, gain: float) -> int | None:
        """Return the fewest seeds per arm that detect this gain, or None if no candidate does."""
        return next((seeds for seeds, least in self.by_seeds if least <= gain), None)


def outlook_of(rows: pd.DataFrame, plan: AnalysisPlan, families: int) -> Outlook:
    """Return the outlook of a family from its primary comparisons.

    Uses the median variance over patients of the arms, and the pooled variance of seeds.

    Args:
        rows: comparisons of one family; those with a result count.
        plan: the plan, whose alpha the families share.
        families: number of families.
    """
    known = rows[rows["se"].gt(0)]
    if known.empty:
        return Outlook(now=NAN, by_seeds=(), floor=NAN)
    middle = known.iloc[(known["n_seeds"] - known["n_seeds"].median()).abs().argmin()]
    runs = 1 / middle["n_seeds"] + 1 / middle["n_seeds_against"]
    design = Plan(
        arms=len(rows),
        seeds=int(middle["n_seeds"]),
        baseline_seeds=int(middle["n_seeds_against"]),
        seed_sd=_rounded(math.sqrt(max(0.0, middle["seed_part"]) / runs)),
        case_variance=_rounded(float(known["case_part"].median())),
        patients=int(middle["n_patients"]),
        alpha=plan.alpha / families,
    )
    tried = tuple((seeds, _gain(_with(design, seeds))) for seeds in STEPS)
    return Outlook(now=_gain(design), by_seeds=tried, floor=_gain(_with(design, ENDLESS)))


def _with(design: Plan, seeds: int) -> Plan:
    return replace(design, seeds=seeds, baseline_seeds=seeds_of_baseline(design.arms, seeds))


@lru_cache(maxsize=4096)
def _gain(design: Plan) -> float:
    return smallest_gain(design, power=POWER)


def _rounded(value: float) -> float:
    """Return a number rounded to four digits, so that similar families share a cached plan."""
    return float(f"{value:.4g}")
