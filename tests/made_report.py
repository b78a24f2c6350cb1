"""A made run for the report's tests: rows, predictions and an analysis by hand, in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.findings.analysis import Analysis
from fgaug.analysis.findings.evidence import Evidence
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.material import Material
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.runs.environment import Environment

NAN = math.nan
LABELS = ("dbp", "trv")
ARMS = (  # mode, psi, ratio, gain in points
    ("baseline", None, None, 0.0),
    ("oversample", None, 1.0, 0.2),
    ("oversample", None, 2.0, 0.4),
    ("augmentation", 0.5, 1.0, 1.0),
    ("augmentation", 0.5, 2.0, 2.0),
    ("augmentation", 1.0, 1.0, -1.0),
    ("augmentation", 1.0, 2.0, NAN),  # pruned
)


def arm_id(mode: str, psi: float | None, ratio: float | None) -> str:
    return f"{mode}-{psi}-{ratio}"


BASELINE = arm_id("baseline", None, None)
BEST = arm_id("augmentation", 0.5, 2.0)
TWIN = arm_id("oversample", None, 2.0)


def made_rows(seeds: int = 3) -> pd.DataFrame:
    rows = []
    for mode, psi, ratio, gain in ARMS:
        for seed in range(seeds):
            lost = math.isnan(gain)
            score = NAN if lost else 0.8 + gain / 100 + 0.001 * seed
            rows.append(
                {
                    "cell_id": f"{arm_id(mode, psi, ratio)}-{seed}",
                    "seed": seed,
                    "arm_id": arm_id(mode, psi, ratio),
                    "mode": mode,
                    "psi": psi,
                    "ratio": ratio,
                    "filter": None,
                    "status": "pruned" if lost else "ok",
                    "stopped_by": "scheduler" if lost else "budget",
                    "error": None,
                    "n_real": 100,
                    "n_fake": int(100 * (ratio or 0)),
                    "round": None,
                    "n_fake_dbp": int(50 * (ratio or 0)),
                    "n_fake_trv": int(50 * (ratio or 0)),
                    "valid_acc": score - 0.1,
                    "valid_auc": score,
                    "valid_loss": 1 - score,
                    "precision_dbp": 0.8,
                    "recall_dbp": 0.6,
                    "precision_trv": 0.0,
                    "recall_trv": 0.0,
                    "leakage": "none",
                    "budget_unit": "steps",
                }
            )
    return pd.DataFrame(rows)


def made_evidence(rows: pd.DataFrame, images: int = 60) -> Evidence:
    rng = np.random.default_rng(19)
    y = np.arange(images) % 2
    frame = pd.DataFrame(
        {
            "image_id": [f"i{n:03d}" for n in range(images)],
            "group": np.arange(images) // 3,
            "label": [LABELS[label] for label in y],
            "y": y,
        }
    )
    probability = {}
    for cell_id in rows.loc[rows["status"].eq("ok"), "cell_id"]:
        second = np.clip(0.5 + 0.2 * (2 * y - 1) + rng.normal(0, 0.25, images), 0.01, 0.99)
        probability[cell_id] = np.stack([1 - second, second], axis=1).astype(np.float32)
    return Evidence(
        rows=rows,
        labels=LABELS,
        images={"dataset": frame},
        probability=probability,
        missing=pd.DataFrame(columns=["cell_id", "status"]),
    )


def made_analysis(rows: pd.DataFrame) -> Analysis:
    """Return an analysis with numbers that a test can look for on the page."""
    tried = [(arm_id(m, p, r), gain) for m, p, r, gain in ARMS if m == "augmentation"]
    comparisons = pd.DataFrame(
        _comparison(arm, against, metric, gain)
        for arm, gain in tried
        for against in ("baseline", "twin")
        for metric in ("auc", "accuracy")
    )
    verdicts = [
        {
            "arm_id": arm,
            "verdict": "better" if gain > 1.5 else "not shown",
            "sentence": "The whole interval is above 0.",
            "would_change_it": "Twice as many patients.",
        }
        for arm, gain in tried
    ]
    best = {
        "metric": "auc",
        "arm_id": BEST,
        "naive_gain": 0.02,
        "corrected_gain": 0.013,
        "ci_low": 0.001,
        "ci_high": 0.039,
        "resamples": 2000,
        "reason": None,
    }
    arms = pd.DataFrame(
        {
            "arm_id": arm_id(m, p, r),
            "mode": m,
            "psi": p,
            "ratio": r,
            "family": "a",
            "name": m,
            "filter": None,
            "n_fake": 100 * (r or 0),
            "baseline_id": BASELINE,
            "twin_id": arm_id("oversample", None, r) if m == "augmentation" else None,
            "drop_id": None,
        }
        for m, p, r, _ in ARMS
    )
    surface = {
        "family": "a",
        "mode": "augmentation",
        "term": "psi",
        "statistic": 0.4,
        "df": 1,
        "df_error": 47.0,
        "p": 0.53,
        "level": "E2",
        "reason": None,
        "sentence": "psi does not matter here.",
    }
    lost = rows[rows["status"].ne("ok")]
    return Analysis(
        plan=AnalysisPlan(),
        deviations=(),
        arms=arms,
        comparisons=comparisons,
        verdicts=pd.DataFrame(verdicts),
        best=pd.DataFrame([best]),
        replacement=pd.DataFrame([made_replacement()]),
        exchange=pd.DataFrame(),
        surface=pd.DataFrame([surface, {**surface, "level": "E1", "p": 0.31, "sentence": ""}]),
        absent=lost[["cell_id", "arm_id", "seed", "status"]].assign(why="stopped at rung 1"),
        notes=("Seeds are few.",),
    )


def made_replacement() -> dict[str, Any]:
    return {
        "arm_id": BEST,
        "assay_gain": 0.02,
        "assay_p": 0.004,
        "sensitive": True,
        "retention_p": 0.2,
        "retained_share": 0.8,
        "fieller_low": 0.3,
        "fieller_high": NAN,
        "margin": 0.01,
        "margin_source": "half of what the reals bring",
        "p_non_inferior": 0.03,
        "p_non_inferior_holm": 0.06,
        "p_tost": 0.07,
        "ci90_low": -0.012,
        "ci90_high": 0.004,
        "verdict": "not shown",
        "reason": None,
    }


def _comparison(arm: str, against: str, metric: str, gain: float) -> dict[str, Any]:
    effect = gain / 100 - (0.004 if against == "twin" else 0)
    known = not math.isnan(gain)
    return {
        "arm_id": arm,
        "against": against,
        "metric": metric,
        "primary": metric == "auc",
        "against_id": BASELINE if against == "baseline" else TWIN,
        "n_seeds": 3 * known,
        "n_seeds_against": 3,
        "n_images": 60,
        "n_patients": 20,
        "mean": 0.8 + effect,
        "mean_against": 0.8,
        "effect": effect,
        "relative": effect / 0.8,
        "se": 0.01,
        "df": 20.0,
        "ci_low": effect - 0.019,
        "ci_high": effect + 0.019,
        "ci_low_single": effect - 0.015,
        "ci_high_single": effect + 0.015,
        "p_raw": 0.0123,
        "p_value": 0.0456 if known else NAN,
        "p_patients": 0.0004,
        "p_greater": 1.0,
        "run_pairs": "9 of 9 pairs" if known else None,
        "seed_share": 0.3,
        "patient_share": 0.7,
        "cohen_d": 2.0,
        "reason": None if known else "no finished seed of it",
    }


def made_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a curve of each trial; the pruned ones end half-way."""
    return pd.DataFrame(
        {
            "cell_id": cell,
            "epoch": step,
            "step": 10 * step,
            "train_loss": 1 / step,
            "valid_loss": 0.5 + 1 / step,
            "valid_auc": 0.6 + 0.02 * step,
        }
        for cell, status in zip(rows["cell_id"], rows["status"], strict=True)
        for step in range(1, 5 if status == "ok" else 3)
    )


def made_material(**changes: Any) -> Material:
    """Return a whole run's material; `changes` replace fields."""
    rows = changes.pop("rows", made_rows())
    curves = made_curves(rows)
    evidence = made_evidence(rows)
    images = evidence.images["dataset"]["image_id"]
    whole: dict[str, Any] = {
        "name": "made",
        "rows": rows,
        "arms": by_arm(rows),
        "space": {"name": "made", "budget": {"unit": "steps", "max": 40}},
        "environment": Environment(versions={"fgaug": "0.1.0", "torch": "2.9.0"}),
        "curves": lambda cells: curves[curves["cell_id"].isin(cells)],
        "evidence": evidence,
        "analysis": made_analysis(rows),
        "strata": pd.DataFrame(
            {"image_id": images, "machine": ["A" if n < 40 else "B" for n in range(len(images))]}
        ),
    }
    return Material(**{**whole, **changes})
