"""Breast ultrasound: what single published runs can show (level E0).

Two single runs say nothing about the recipe: a second run of either may differ as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fgaug.analysis.compare.model_scores import share_of
from fgaug.analysis.compare.published_margins import margin_bounds
from fgaug.stats import mcnemar
from fgaug.stats.inference import TTest, quantile, t_test

LEVEL = "E0, from published counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Independent:
    """McNemar's test if the two networks erred independently within each label."""

    only_a: int
    only_b: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The slope of accuracy per round of the cascade."""

    images: TTest  # as if each round had its own test images
    rounds: TTest  # from the scatter of the rounds about the line


def runs(table: pd.DataFrame) -> pd.DataFrame:
    """Return each run's scores with 95% intervals, treating each image as its own patient.

    Columns: training_set, n_train, right, n_test, and value, _low and _high of accuracy,
    sensitivity and specificity (malignant as the positive; Wilson 1927) and AUC (`area_interval`);
    level.

    Args:
        table: of `read_breast`.
    """
    rows = []
    for _, run in table.iterrows():
        # the printed matrix has benign as its positive
        scores = {
            "accuracy": share_of(int(run["right"]), int(run["n_test"])),
            "sensitivity": share_of(run["tn_benign"], run["tn_benign"] + run["fp_benign"]),
            "specificity": share_of(run["tp_benign"], run["tp_benign"] + run["fn_benign"]),
        }
        row = {name: run[name] for name in ("training_set", "n_train", "right", "n_test")}
        for name, found in scores.items():
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        low, high = area_interval(
            run["auc"],
            run["tn_benign"] + run["fp_benign"],
            run["tp_benign"] + run["fn_benign"],
        )
        rows.append(row | {"auc": run["auc"], "auc_low": low, "auc_high": high, "level": LEVEL})
    return pd.DataFrame(rows)


def area_interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return a 95% interval of an AUC without its scores, on the logit.

    Uses the standard error of Hanley and McNeil 1982 (Radiology 143:29), which assumes exponential
    scores: an approximation.
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    above = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    error = (above / (positives * negatives)) ** 0.5
    half = quantile(0.975, np.inf) * error / (auc * (1 - auc))
    middle = np.log(auc / (1 - auc))
    return float(1 / (1 + np.exp(half - middle))), float(1 / (1 + np.exp(-half - middle)))


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest and largest exact McNemar p that the printed accuracies allow.

    Compares the network trained on reals with each round, and the first round with the last.
    Columns: a, b, difference (A minus B), net (images that only A has right less those that only B
    has), p_exact_low, p_exact_high, p_mid_low, p_mid_high, tables (number of possible ones),
    significant (those with an exact p of at most .05), level.

    Args:
        table: of `read_breast`.
    """
    reals, fakes = _split(table)
    named = [(f"{int(row['n_train']):,} fakes", int(row["right"])) for _, row in fakes.iterrows()]
    pairs = [(("reals", int(reals["right"])), one) for one in named]
    rows = []
    for (a, right_a), (b, right_b) in (*pairs, (named[0], named[-1])):
        found = margin_bounds(right_a, right_b, int(reals["n_test"]))
        rows.append(
            {
                "a": a,
                "b": b,
                "difference": found.fewest.difference,
                "net": right_a - right_b,
                "p_exact_low": found.fewest.p_exact,
                "p_exact_high": found.most.p_exact,
                "p_mid_low": found.fewest.p_mid,
                "p_mid_high": found.most.p_mid,
                "tables": found.possible,
                "significant": found.significant,
                "level": LEVEL,
            }
        )
    return pd.DataFrame(rows)


def independent(table: pd.DataFrame) -> Independent:
    """Return reals against the first round if errors were independent within each label.

    Uses the expected discordant counts, summed over the labels and rounded. Networks err on the
    same hard images, so the true counts, and p, are likely smaller.

    Args:
        table: of `read_breast`.
    """
    reals, fakes = _split(table)
    first = fakes.iloc[0]
    only_a = only_b = 0.0
    for hit, miss in (("tn_benign", "fp_benign"), ("tp_benign", "fn_benign")):
        images = reals[hit] + reals[miss]
        only_a += reals[hit] * first[miss] / images
        only_b += reals[miss] * first[hit] / images
    a, b = round(only_a), round(only_b)
    found = mcnemar([[0, a], [b, 0]])
    return Independent(only_a=a, only_b=b, p_exact=found.p_exact, p_mid=found.p_mid)


def trend(table: pd.DataFrame) -> Trend:
    """Return the least-squares slope of accuracy over the rounds, with two standard errors.

    `images` assumes separate images for every round, binomial. The rounds share their images, so
    with correlated answers this error is too large and the test conservative (level E0). `rounds`
    uses the scatter of the few rounds about the line, from both training and images.

    Args:
        table: of `read_breast`.
    """
    _, fakes = _split(table)
    accuracy = fakes["right"].to_numpy(float) / fakes["n_test"].to_numpy(float)
    place = np.arange(accuracy.size) - (accuracy.size - 1) / 2
    weights = place / (place**2).sum()
    slope = float(weights @ accuracy)
    binomial = float(weights**2 @ (accuracy * (1 - accuracy) / fakes["n_test"].to_numpy(float)))
    rest = accuracy - accuracy.mean() - slope * place
    spare = accuracy.size - 2
    scatter = float((rest**2).sum()) / spare / float((place**2).sum())
    return Trend(
        images=t_test(slope, binomial**0.5, np.inf), rounds=t_test(slope, scatter**0.5, spare)
    )


def _split(table: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Return the run on reals, and the runs of the cascade in order."""
    fakes = table[table["training_set"].eq("fakes")].sort_values("n_train")
    return table[table["training_set"].eq("reals")].iloc[0], fakes
