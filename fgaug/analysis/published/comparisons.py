"""Comparisons of each published cell with the baseline, from summaries (level E1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from fgaug.analysis.published.source import DDOF, HALF, METRICS, SEEDS, Thesis, spread_of
from fgaug.stats import adjust, can_ever_be_significant, compare_summaries, compare_table
from fgaug.stats.arrays import Floats
from fgaug.stats.inference import two_sided
from fgaug.stats.summaries import SummaryTable

ALPHA = 0.05
DRAWS = 2000  # of the digits lost to rounding; the standard error of a share of 0.9 is 0.007
SEED = 20  # of those draws, so that shares are reproducible
LEVEL = "E1, from published summaries"
BETTER, WORSE, OPEN = "better on these patients only", "worse", "not shown"


def against_baseline(thesis: Thesis, metric: str, *, ddof: int = DDOF) -> SummaryTable:
    """Return all cells against the baseline: Welch with Holm and BH, exact Dunnett.

    Args:
        thesis: as read.
        metric: `acc` or `auc`.
        ddof: divisor n - ddof of the printed stds; 1 shows the effect of misreading them.
    """
    arms = [spread_of(row, metric, ddof=ddof) for _, row in thesis.cells.iterrows()]
    return compare_table(spread_of(thesis.baseline, metric, ddof=ddof), arms)


def compare_cells(thesis: Thesis, metric: str) -> pd.DataFrame:
    """Return one row per augmentation cell, in the order of the tables.

    Columns: psi, ratio, metric, mean, sd_population, sd_sample, n_seeds, difference (from the
    baseline), relative_pct, se, t, df, ci_low_single and ci_high_single (Welch, 95 %), p_welch,
    p_holm, p_bh, p_dunnett, p_dunnett_greater, ci_low and ci_high (Dunnett's, simultaneous 95 %),
    p_greater (P(A > B) of single runs, both normal), separated (all runs above all of the
    baseline), verdict (by Dunnett's test), level.
    """
    table = against_baseline(thesis, metric)
    baseline = spread_of(thesis.baseline, metric)
    highest = thesis.baseline[f"{metric}_max"]
    rows = []
    for place, cell in thesis.cells.iterrows():
        k, arm = int(str(place)), spread_of(cell, metric)
        welch, low, high = table.welch[k], table.dunnett.ci_low[k], table.dunnett.ci_high[k]
        rows.append(
            {
                "psi": cell["psi"],
                "ratio": cell["ratio"],
                "metric": metric,
                "mean": arm.mean,
                "sd_population": arm.sd_population,
                "sd_sample": arm.sd_sample,
                "n_seeds": arm.n,
                "difference": welch.difference,
                "relative_pct": 100 * welch.difference / baseline.mean,
                "se": welch.se,
                "t": welch.statistic,
                "df": welch.df,
                "ci_low_single": welch.ci_low,
                "ci_high_single": welch.ci_high,
                "p_welch": welch.p_value,
                "p_holm": table.p_holm[k],
                "p_bh": table.p_bh[k],
                "p_dunnett": table.dunnett.p_value[k],
                "p_dunnett_greater": table.dunnett.p_greater[k],
                "ci_low": low,
                "ci_high": high,
                "p_greater": compare_summaries(arm, baseline).p_greater,
                "separated": bool(cell[f"{metric}_min"] > highest),
                "verdict": BETTER if low > 0 else WORSE if high < 0 else OPEN,
                "level": LEVEL,
            }
        )
    return pd.DataFrame(rows)


def counts(thesis: Thesis, cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the number of cells that pass each test: quantity, accuracy, auc.

    Args:
        thesis: as read.
        cells: of `compare_cells`, by metric.
    """
    ranks = can_ever_be_significant("rank_holm", seeds=SEEDS, arms=len(thesis.cells))
    found: dict[str, list[int]] = {}
    for metric in METRICS:
        frame = cells[metric]
        better = frame["difference"] > 0
        holm, dunnett = frame["p_holm"] < ALPHA, frame["p_dunnett"] < ALPHA
        misread = pd.Series(against_baseline(thesis, metric, ddof=1).p_holm) < ALPHA
        # only complete separation gives the smallest p; a rank test sees nothing beyond it
        by_rank = frame["separated"] & (ranks.smallest_p < ALPHA)
        tests: dict[str, pd.Series[bool]] = {
            "raw Welch p below .05, better": (frame["p_welch"] < ALPHA) & better,
            "Holm on Welch, better": holm & better,
            "Benjamini-Hochberg on Welch, either way": frame["p_bh"] < ALPHA,
            "Dunnett, better": dunnett & better,
            "Dunnett, worse": dunnett & ~better,
            "both Holm and Dunnett, better": holm & dunnett & better,
            "all 5 runs above all 5 of the baseline": frame["separated"],
            f"exact rank test with Holm (smallest possible p {ranks.smallest_p:.2f})": by_rank,
            "Holm, had the stds been sample stds": misread & better,
        }
        for name, passed in tests.items():
            found.setdefault(name, []).append(int(passed.sum()))
    return pd.DataFrame(
        [{"quantity": name, "accuracy": a, "auc": b} for name, (a, b) in found.items()]
    )


def rounding(thesis: Thesis, metric: str, *, draws: int = DRAWS, seed: int = SEED) -> pd.DataFrame:
    """Return how often each cell still passes over all numbers that round to the printed ones.

    Means and stds of all cells and the baseline are drawn uniformly within half a unit of the last
    digit. Columns: psi, ratio, metric, survives_holm, survives_dunnett, survives_both: shares of
    draws with an adjusted p below .05 and a difference of the observed sign.

    Args:
        thesis: as read.
        metric: `acc` or `auc`.
        draws: number of draws; seed: their random seed.
    """
    rng = np.random.default_rng(seed)
    names = [f"{metric}_mean", f"{metric}_std"]
    printed = np.vstack([thesis.baseline[names].to_numpy(float), thesis.cells[names].to_numpy()])
    spread = rng.uniform(-HALF, HALF, (draws, *printed.shape))
    mean, sd = np.moveaxis(printed + spread, 2, 0)
    variance = np.maximum(sd, 0) ** 2 * SEEDS / (SEEDS - 1)
    difference = mean[:, 1:] - mean[:, :1]
    holm = np.stack([adjust(p) for p in _welch(difference, variance)]) < ALPHA
    # equal numbers of seeds: one critical value serves all draws
    pooled = np.sqrt(variance.mean(axis=1, keepdims=True) * 2 / SEEDS)
    dunnett = np.abs(difference) / pooled > against_baseline(thesis, metric).dunnett.critical
    same = np.sign(difference) == np.sign(printed[1:, 0] - printed[0, 0])
    holm, dunnett = holm & same, dunnett & same
    shares = pd.DataFrame({"psi": thesis.cells["psi"], "ratio": thesis.cells["ratio"]})
    shares["metric"] = metric
    shares["survives_holm"] = holm.mean(axis=0)
    shares["survives_dunnett"] = dunnett.mean(axis=0)
    shares["survives_both"] = (holm & dunnett).mean(axis=0)
    return shares


def impossible(thesis: Thesis, ddof: int) -> tuple[int, int]:
    """Return the number of impossible printed (mean, std, max, min) for five values, and of all.

    For n = 5 values with range R and a midrange at distance d from their mean, the sum of squared
    deviations is smallest if the three other values are equal: R^2 / 2 + 10 d^2 / 3. Allows for
    rounding in full, so what is counted is impossible.

    Args:
        thesis: as read.
        ddof: assumed divisor 5 - ddof of the stds.
    """
    rows = pd.concat(
        [
            thesis.baseline.to_frame().T,
            thesis.cells,
            thesis.replacement_baseline.to_frame().T,
            thesis.replacement,
        ]
    )
    found, total = 0, 0
    for metric in METRICS:
        mean, std, top, low = (
            rows[f"{metric}_{name}"].to_numpy(float) for name in ("mean", "std", "max", "min")
        )
        reach = np.maximum(top - low - 2 * HALF, 0)
        apart = np.maximum(np.abs((top + low) / 2 - mean) - HALF, 0)
        # one end may be rounded the other way: it widens the range and brings its middle closer
        shift = np.clip((20 / 3 * apart - 2 * reach) / (4 + 20 / 3), 0, np.minimum(HALF, apart))
        squares = (reach + 2 * shift) ** 2 / 2 + 10 / 3 * (apart - shift) ** 2
        least = np.sqrt(squares / (SEEDS - ddof))
        found += int((least > std + HALF + 1e-12).sum())
        total += len(rows)
    return found, total


def equal_variances(thesis: Thesis, metric: str) -> float:
    """Return Bartlett's p for equal seed variances in all cells and the baseline.

    Bartlett 1937 (Proc. R. Soc. A 160:268), from the printed stds, equal numbers of seeds.
    """
    rows = [thesis.baseline, *(cell for _, cell in thesis.cells.iterrows())]
    variances = np.array([spread_of(row, metric).sd_sample ** 2 for row in rows])
    groups, spare = len(rows), SEEDS - 1
    excess = groups * spare * np.log(variances.mean()) - spare * np.log(variances).sum()
    factor = 1 + (groups / spare - 1 / (groups * spare)) / (3 * (groups - 1))
    return float(scipy_stats.chi2.sf(excess / factor, groups - 1))


def false_claim(thesis: Thesis, both_right: float, *, design: float = 1.0) -> tuple[float, float]:
    """Return the probability of a false claim by one pair of runs, and the error over images.

    The posterior probability that the observed better model is not the better one, with a flat
    Dirichlet prior on (both right, only A, only B, both wrong): A is better with probability
    P(Beta(a + 1, b + 1) > 1/2), with a and b the discordant counts (Christodoulou et al. 2025).
    The standard error is that of the difference of two accuracies on the same images.

    Args:
        thesis: as read.
        both_right: assumed share of the images that both have right (not published).
        design: design effect of several images per patient, which divides the sample size.
    """
    images = thesis.validation / design
    only_a = thesis.cells["acc_mean"].max() - both_right
    only_b = thesis.baseline["acc_mean"] - both_right
    chance = scipy_stats.beta.cdf(0.5, only_a * images + 1, only_b * images + 1)
    error = ((only_a + only_b - (only_a - only_b) ** 2) / images) ** 0.5
    return float(chance), float(error)


def _welch(difference: Floats, variance: Floats) -> Floats:
    """Return Welch's p, [D, K], from differences [D, K] and variances [D, 1 + K], draws first."""
    parts = variance / SEEDS
    whole = parts[:, 1:] + parts[:, :1]
    df = whole**2 * (SEEDS - 1) / (parts[:, 1:] ** 2 + parts[:, :1] ** 2)
    return two_sided(difference / np.sqrt(whole), df)
