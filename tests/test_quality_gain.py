"""Which measure predicts the gain: points, ranks, and what too few arms say."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from simulated_run import World, evidence_of, grid_of

from fgaug.analysis.findings.analysis import analyse
from fgaug.analysis.findings.quality_gain import points_of, predictors_of, spearman
from fgaug.grid.analysis_plan import AnalysisPlan

PSIS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
RATIOS = (1.0, 2.0)


def arms_and_comparisons(
    gains: dict[tuple[float, float], float], metric: str = "auc"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return an arm for each (psi, ratio) with its gain."""
    rows = [
        {
            "arm_id": f"{psi}-{ratio}",
            "mode": "augmentation",
            "psi": psi,
            "ratio": ratio,
            "filter": None,
            "n_fake": 100 * ratio,
            "against": "baseline",
            "metric": metric,
            "effect": gain,
        }
        for (psi, ratio), gain in gains.items()
    ]
    frame = pd.DataFrame(rows)
    arms = frame[["arm_id", "mode", "psi", "ratio", "filter", "n_fake"]]
    return frame[["arm_id", "against", "metric", "effect"]], arms


def measured(values: dict[float, float], **further: dict[float, float]) -> pd.DataFrame:
    """Return measures of two labels whose means are the values."""
    return pd.DataFrame(
        {
            "label": label,
            "psi": psi,
            "filter": "none",
            "snapshot": None,
            "coverage": value + side,
            **{name: each[psi] for name, each in further.items()},
        }
        for psi, value in values.items()
        for label, side in (("a", -0.1), ("b", 0.1))
    )


def test_a_measure_that_orders_the_gains_is_found() -> None:
    gains = {(p, r): 0.01 * p + 0.05 * r for p, r in itertools.product(PSIS, RATIOS)}
    comparisons, arms = arms_and_comparisons(gains)
    points = points_of(comparisons, arms, "baseline")
    assert len(points) == 6, "arms of other ratios share their fakes"
    assert points["arms"].eq(2).all()
    assert points["gain"].sum() == pytest.approx(0)
    fid = {psi: 100 - psi for psi in PSIS}
    found = predictors_of(
        points, measured({p: p for p in PSIS}, fid=fid, flat=dict.fromkeys(PSIS, 1.0)), ("fid",)
    ).set_index("measure")
    for name in ("coverage", "fid"):  # less of the second is better, so both are +1
        assert found.loc[name, "rho"] == pytest.approx(1)
        assert found.loc[name, "p_value"] == pytest.approx(2 / 720)
        assert found.loc[name, "p_holm"] == pytest.approx(4 / 720)
        assert found.loc[name, "points"] == 6
    assert found.loc["flat", "reason"] == "the measure or the gain does not vary"


def test_a_point_without_some_ratio_is_compared_with_arms_of_its_own_size() -> None:
    gains = {(p, r): 0.5 * r for p, r in itertools.product(PSIS, RATIOS)}
    del gains[1.2, 2.0]
    points = points_of(*arms_and_comparisons(gains), "baseline")
    assert np.allclose(points["gain"], 0), "its one arm is small, not bad"


def test_a_loss_that_falls_is_a_gain_and_other_contrasts_do_not_count() -> None:
    gains = {(p, 1.0): -p for p in PSIS}
    comparisons, arms = arms_and_comparisons(gains, "log_loss")
    points = points_of(comparisons, arms, "baseline")
    assert points["gain"].is_monotonic_increasing
    assert points_of(comparisons, arms, "twin").empty


def test_too_few_arms_are_said_to_be() -> None:
    gains = {(p, 1.0): p for p in PSIS[:4]}
    points = points_of(*arms_and_comparisons(gains), "baseline")
    (row,) = predictors_of(points, measured({p: p for p in PSIS})).to_dict("records")
    assert row["reason"] == "too few arms: 4 sets of fakes, 5 required"
    assert np.isnan(row["rho"])
    assert np.isnan(row["p_holm"])


def test_filters_and_snapshots_are_points_of_their_own() -> None:
    comparisons, arms = arms_and_comparisons({(p, 1.0): p for p in PSIS})
    arms = arms.assign(psi=0.5, filter=[None, "none", "agrees", "agrees", "none", "agrees"])
    arms["snapshot"] = ["x", "y", "x", "y", "z", "z"]
    measures = pd.DataFrame(
        {
            "label": "a",
            "psi": 0.5,
            "filter": filter_,
            "snapshot": snapshot,
            "coverage": number,
        }
        for number, (filter_, snapshot) in enumerate(
            [("none", "x"), ("none", "y"), ("agrees", "x"), ("agrees", "y"), ("none", "z")]
        )
    )
    points = points_of(comparisons, arms, "baseline")
    (row,) = predictors_of(points, measures).to_dict("records")
    assert (row["points"], row["rho"]) == (5, pytest.approx(1)), "the sixth was not measured"


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.integers(3, 5), st.booleans())
def test_rho_is_scipys_and_p_is_that_of_every_order(seed: int, count: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, count))
    if ties:
        x = np.round(x)
    if np.ptp(x) == 0:
        return
    rho, p = spearman(x, y)
    assert rho == pytest.approx(spearmanr(x, y).statistic)
    orders = [abs(spearmanr(x, order).statistic) for order in itertools.permutations(y)]
    assert p == pytest.approx(np.mean(np.array(orders) >= abs(rho) - 1e-9))


def test_of_many_points_random_orders_give_p() -> None:
    rng = np.random.default_rng(0)
    small = [spearman(*rng.normal(size=(2, 12)))[1] <= 0.1 for _ in range(60)]
    assert 1 <= sum(small) <= 14  # of 60 at 10 %
    assert spearman(np.arange(12.0), np.arange(12.0) ** 3)[1] < 1e-3


def test_a_simulated_search_is_read_as_it_stands() -> None:
    worth = {(psi, 1): 1.0 + 0.8 * psi for psi in PSIS}
    evidence = evidence_of(grid_of(PSIS, (1,), worth=worth), World(patients=150, seeds=4))
    analysis = analyse(evidence, AnalysisPlan(), resamples=50)
    points = points_of(analysis.comparisons.query("metric == 'auc'"), analysis.arms, "baseline")
    found = predictors_of(points, measured({psi: psi**2 for psi in PSIS}))
    assert found["rho"].iloc[0] > 0.8
    assert 0 < found["ci_low"].iloc[0] < found["rho"].iloc[0] <= found["ci_high"].iloc[0] <= 1
