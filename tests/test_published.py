"""The published studies, analysed anew: against the numbers of an independent re-analysis.

The oracle, made in R and with scipy, ships in `reports/published` (`reanalysis_*.csv`,
`thesis_claim.csv`, `winners_curse.json`); nothing in the package reads it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from fgaug.analysis.published import breast, source, two_way
from fgaug.analysis.published.best_cell import (
    BestCell,
    best_cell,
    given_the_pick,
    null_best,
    optimism_of,
    shrunk_to_mean,
    shrunk_to_sum,
)
from fgaug.analysis.published.comparisons import (
    OPEN,
    compare_cells,
    counts,
    equal_variances,
    false_claim,
    impossible,
    rounding,
)
from fgaug.analysis.published.replacement import NO_THIRD_ARM, removable, replaced, worth
from fgaug.analysis.published.source import METRICS, Thesis, read_breast, read_thesis
from fgaug.analysis.published.thesis_gain import claim_table
from fgaug.analysis.published.thesis_page import analyse_thesis, thesis_sections
from fgaug.analysis.report.parts import Table
from fgaug.core import files
from fgaug.errors import DataError

ORACLE = Path(__file__).parent.parent / "reports" / "published"
SHORT = {"acc": "accuracy", "auc": "auc"}


@pytest.fixture(scope="module")
def thesis() -> Thesis:
    return read_thesis()


@pytest.fixture(scope="module")
def cells(thesis: Thesis) -> dict[str, pd.DataFrame]:
    return {metric: compare_cells(thesis, metric) for metric in METRICS}


@pytest.fixture(scope="module")
def best(thesis: Thesis) -> dict[str, BestCell]:
    return {metric: best_cell(thesis, metric) for metric in METRICS}


def oracle(name: str) -> pd.DataFrame:
    return pd.read_csv(ORACLE / name)


@pytest.mark.parametrize("metric", METRICS)
def test_every_cell_has_the_numbers_of_the_re_analysis(
    cells: dict[str, pd.DataFrame], metric: str
) -> None:
    wanted = oracle("reanalysis_augmentation.csv")
    wanted = wanted[wanted["metric"].eq(metric)].reset_index(drop=True)
    found = cells[metric]
    assert len(found) == len(wanted) == 36
    for ours, theirs in {
        "psi": "psi",
        "ratio": "ratio",
        "mean": "mean",
        "sd_sample": "sd_sample",
        "difference": "diff",
        "relative_pct": "rel_pct",
        "se": "se_welch",
        "t": "t_welch",
        "df": "df_welch",
        "ci_low_single": "ci95_lo",
        "ci_high_single": "ci95_hi",
        "p_welch": "p_welch",
        "p_holm": "p_holm",
        "p_bh": "p_BH",
        "p_dunnett": "p_dunnett",
        "p_dunnett_greater": "p_dunnett_greater",
        "ci_low": "dun_lo",
        "ci_high": "dun_hi",
        "p_greater": "p_gt_normal",
    }.items():
        np.testing.assert_allclose(found[ours], wanted[theirs], rtol=2e-5, atol=1e-8, err_msg=ours)
    assert found["separated"].tolist() == wanted["separated"].eq("all5>baseline").tolist()


def test_as_many_cells_pass_as_in_the_re_analysis(
    thesis: Thesis, cells: dict[str, pd.DataFrame]
) -> None:
    found = counts(thesis, cells)
    assert found[["accuracy", "auc"]].to_numpy().tolist() == [
        [14, 22],  # raw
        [3, 6],  # Holm
        [7, 16],  # BH
        [3, 11],  # Dunnett, better
        [0, 1],  # Dunnett, worse
        [2, 5],  # both
        [5, 10],  # separated
        [0, 0],  # ranks
        [5, 8],  # stds misread
    ]
    assert "smallest possible p 0.29" in found["quantity"].iloc[7]
    auc = cells["auc"].set_index(["psi", "ratio"])
    assert auc.loc[(0.7, 0.5), "verdict"] == "worse"
    assert auc.loc[(1.0, 6.0), "verdict"] == "better on these patients only"
    assert auc.loc[(0.3, 1.0), "verdict"] == OPEN
    assert set(auc["level"]) == {"E1, from published summaries"}


@pytest.mark.parametrize("metric", METRICS)
def test_rounding_takes_away_what_it_took_in_the_re_analysis(thesis: Thesis, metric: str) -> None:
    found = rounding(thesis, metric)
    wanted = oracle("reanalysis_rounding.csv")
    wanted = wanted[wanted["metric"].eq(metric)].reset_index(drop=True)
    better = wanted["diff"].ge(0).to_numpy()  # there a cell that is worse counts as lost
    for name in ("survives_holm", "survives_dunnett", "survives_both"):
        apart = np.abs(found[name] - wanted[f"share_{name}"]).to_numpy()
        # two samples of shares: four standard errors of the smaller one, 1,000 draws
        assert apart[better].max() < 4 * 0.5 / 1000**0.5, name
    assert found.set_index(["psi", "ratio"]).loc[(1.0, 6.0), "survives_both"] == 1.0
    assert rounding(thesis, metric, draws=20).equals(rounding(thesis, metric, draws=20))


def printed_claim() -> list[tuple[str, str, str]]:
    """Return key, metric and printed text of every entry of the claim's table."""
    table = pd.read_csv(ORACLE / "thesis_claim.csv", dtype=str)
    return [
        (str(row["key"]), metric, str(row[name]))
        for _, row in table.iterrows()
        for metric, name in (("acc", "accuracy"), ("auc", "auc"))
    ]


# A Monte Carlo run there, an integral here. 0.0064467 and 0.0120505 lie within 5e-6 of the digits'
# border; a percentile of 1e5 draws is known to 2e-5.
DRAWN = {("null_best_of_36_gain_mean", "acc"), ("null_best_of_36_gain_p95", "acc")}


@pytest.mark.parametrize(("key", "metric", "printed"), printed_claim())
def test_the_claim_comes_out_to_the_printed_digits(
    best: dict[str, BestCell], key: str, metric: str, printed: str
) -> None:
    frame = claim_table(best).frame.set_index("key")
    short = SHORT[metric]
    of_interval = {
        "eb_additive_gain_ci95": "eb_additive_gain",
        "conditional_ci95_gain_given_baseline": "conditional_median_unbiased_gain",
        "dunnett_ci95_best": "dunnett_ci95_best",
    }
    if key in of_interval:
        row = frame.loc[of_interval[key]]
        found = [row[f"{short}_low"], row[f"{short}_high"]]
    else:
        found = [frame.loc[key, short]]
    wanted = printed.split(" to ")
    assert len(found) == len(wanted)
    for value, text in zip(found, wanted, strict=True):
        digits = len(text.partition(".")[2])
        if (key, metric) in DRAWN:
            assert abs(value - float(text)) < 0.5 * 10**-digits + 5e-6
        else:
            assert float(f"{value:.{digits}f}") == float(text)


@pytest.mark.parametrize("metric", METRICS)
def test_the_winners_curse_comes_out_to_the_printed_digits(
    thesis: Thesis, best: dict[str, BestCell], metric: str
) -> None:
    wanted = json.loads((ORACLE / "winners_curse.json").read_text())[metric]
    found = best[metric]
    assert wanted["best_cell"] == f"psi {found.psi:g} ratio {found.ratio:g}"
    psi, ratio, gain = found.best_after
    after = f"psi {psi:g} ratio {ratio:g} gain {gain:.4f}"
    assert wanted["eb_additive_best_cell_after_shrink"] == after
    others = [[f"{row.psi:g}", row.ratio, round(row.gain, 4)] for row in found.others.itertuples()]
    assert others == wanted["leave_one_psi_out"]
    own = source.spread_of(thesis.baseline, metric).sd_sample / 5**0.5
    for value, name, digits in (
        (found.pooled_sd / 5**0.5, "se_cell_mean", 5),
        (found.tau, "eb_grand_tau", 5),
        (found.weight, "eb_additive_B", 3),
        (own, "se_of_baseline_mean_own", 4),
        *((value, f"bootstrap_bias_{key}", 4) for key, value in found.optimism.items()),
    ):
        assert round(value, digits) == wanted[name], name


def test_one_run_pair_claims_falsely_as_often_as_in_the_re_analysis(thesis: Thesis) -> None:
    whole = json.loads((ORACLE / "winners_curse.json").read_text())
    for case in whole["claims_reloaded_acc_one_run_pair"]:
        design = 1.5 if "1.5" in case["assumption"] else 1.0
        chance, error = false_claim(thesis, case["both_correct"], design=design)
        assert round(error, 4) == case["se_image_sampling"]
        assert chance == pytest.approx(case["p_false_claim"], abs=4e-4)  # drawn there


def test_image_sampling_takes_the_gain_back_to_0(best: dict[str, BestCell]) -> None:
    whole = json.loads((ORACLE / "winners_curse.json").read_text())
    for case in whole["gain_with_patient_sampling"]:
        found = best["acc"].with_images(case["case_se"])
        # there the seed error was taken as .00424, here as .00430
        assert found == pytest.approx(case["ci95"], abs=3e-4)
    assert best["acc"].with_images(0.003)[0] < 0 < best["acc"].with_images(0)[0]


def test_the_two_way_view_is_that_of_the_re_analysis(thesis: Thesis) -> None:
    acc, auc = (two_way.two_way(thesis, metric).set_index("term") for metric in METRICS)
    assert [round(x.loc["ratio", "f"], 1) for x in (acc, auc)] == [14.6, 25.8]
    assert (acc.loc["ratio", "df"], acc.loc["ratio", "df_error"]) == (8, 144)
    assert max(x.loc["ratio", "p_value"] for x in (acc, auc)) < 1e-14
    assert acc.loc["psi", "p_value"] == pytest.approx(0.0001, abs=5e-5)
    assert auc.loc["psi", "p_value"] == pytest.approx(0.36, abs=0.006)  # 0.3546
    assert [round(x.loc["psi x ratio", "p_value"], 2) for x in (acc, auc)] == [0.25, 0.19]


def test_the_two_way_view_of_whole_samples_is_the_usual_analysis_of_variance() -> None:
    """One factor's worth of cells: F must be that of scipy's one-way analysis."""
    rng = np.random.default_rng(3)
    samples = rng.normal(0.8, 0.01, (2, 4, 5)) + np.arange(4)[:, None] * 0.01
    rows = [
        {
            "psi": float(i),
            "ratio": float(j),
            "acc_mean": samples[i, j].mean(),
            "acc_std": samples[i, j].std(),
        }
        for i in range(2)
        for j in range(4)
    ]
    ours = dataclasses.replace(read_thesis(), cells=pd.DataFrame(rows))
    found = two_way.two_way(ours, "acc").set_index("term")
    groups = samples.reshape(8, 5)
    error = groups.var(axis=1, ddof=1).mean()
    columns = samples.mean(axis=(0, 2))
    assert found.loc["ratio", "f"] == pytest.approx(10 * columns.var(ddof=1) / error)
    one_way = scipy_stats.f_oneway(*groups).statistic
    parts = [found.loc[term, "f"] * found.loc[term, "df"] for term in found.index]
    assert sum(parts) / 7 == pytest.approx(one_way)


def test_many_cells_against_the_baseline(thesis: Thesis) -> None:
    acc, auc = (two_way.contrasts(thesis, metric).set_index("contrast") for metric in METRICS)

    names, many = ["difference", "ci_low", "ci_high"], "ratio 5 and above - baseline"
    assert acc.loc[many, names].astype(float).round(4).tolist() == [0.0105, 0.0043, 0.0167]
    assert auc.loc[many, names].astype(float).round(4).tolist() == [0.0116, 0.0065, 0.0167]
    assert acc.loc[many, "n_cells"] == 16
    assert [x.loc["ratio 1 and below - baseline", "difference"] for x in (acc, auc)] == [
        pytest.approx(-0.003),
        pytest.approx(-0.0035),
    ]
    assert [x.loc["all cells - baseline", "p_value"] < 0.05 for x in (acc, auc)] == [False, True]


def test_replacement_is_that_of_the_re_analysis(thesis: Thesis) -> None:
    keys = ["metric", "psi", "ratio", "margin"]
    found = replaced(thesis).assign(margin=lambda x: x["margin"].round(6))
    wanted = oracle("reanalysis_replacement.csv")
    both = found.merge(wanted, on=keys, suffixes=("_ours", ""))
    assert len(both) == len(wanted) == 32
    for ours, theirs in {
        "difference": "diff",
        "se_ours": "se",
        "df_ours": "df",
        "p_difference": "p_diff",
        "ci90_low": "ci90_lo",
        "ci90_high": "ci90_hi",
        "p_noninferior": "p_noninf",
        "p_noninferior_holm": "p_noninf_holm4",
        "p_tost_ours": "p_tost",
    }.items():
        np.testing.assert_allclose(both[ours], both[theirs], rtol=2e-5, atol=1e-8, err_msg=ours)
    half = found[found["margin_is"].ne("fixed")]
    assert len(half) == 8
    assert not half["passes"].any()
    assert (removable(thesis), worth(thesis, "acc").difference) == (2222, pytest.approx(0.009))
    assert worth(thesis, "auc").difference == pytest.approx(0.011)


def test_the_printed_stds_are_population_stds(thesis: Thesis) -> None:
    assert impossible(thesis, 1) == (9, 84)
    assert impossible(thesis, 0) == (0, 84)
    assert [round(equal_variances(thesis, metric), 2) for metric in METRICS] == [0.86, 0.59]


def test_bartletts_p_is_that_of_scipy_on_samples(thesis: Thesis) -> None:
    rng = np.random.default_rng(4)
    samples = []
    for row in (thesis.baseline, *(cell for _, cell in thesis.cells.iterrows())):
        x = rng.normal(size=5)
        samples.append((x - x.mean()) / x.std() * row["acc_std"])
    expected = scipy_stats.bartlett(*samples).pvalue
    assert equal_variances(thesis, "acc") == pytest.approx(expected)


def test_the_integrals_agree_with_draws() -> None:
    truth, se = np.array([0.0, 0.5, 0.7, 0.2]), 0.6
    draws = truth + se * np.random.default_rng(5).normal(size=(400_000, 4))
    best = draws.argmax(axis=1)
    looks = draws[np.arange(len(draws)), best] - truth[best]
    assert optimism_of(truth, se) == pytest.approx(looks.mean(), abs=0.004)
    errors = np.random.default_rng(6).normal(size=(400_000, 5)) * se
    gains = errors[:, :4].max(axis=1) - errors[:, 4]
    mean, p95 = null_best(4, se)
    assert mean == pytest.approx(gains.mean(), abs=0.006)
    assert p95 == pytest.approx(np.quantile(gains, 0.95), abs=0.012)


def test_the_conditional_gain_is_median_unbiased() -> None:
    """Whichever of two is picked, its estimate lies below its truth half the time."""
    truth, se, rng = np.array([0.00, 0.01]), 0.01, np.random.default_rng(7)
    below = []
    for _ in range(2000):
        seen = truth + se * rng.normal(size=2)
        middle, low, high = given_the_pick(seen, se)
        assert low < middle < high
        below.append(middle < truth[seen.argmax()])
    assert np.mean(below) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    assert all(map(math.isnan, given_the_pick(np.array([0.8, 0.8]), se)))


def test_equal_means_shrink_to_one() -> None:
    found = shrunk_to_mean(np.full(4, 0.8), 0.01)
    assert (found.weight, found.truth.tolist()) == (0.0, [0.8] * 4)
    grid = np.add.outer([0.0, 0.1], [0.0, 0.2, 0.3])  # additive: nothing departs
    np.testing.assert_allclose(shrunk_to_sum(grid, 0.01).truth, grid)


def test_the_breast_study_allows_these_p_values_and_no_others() -> None:
    table = read_breast()
    found = breast.bounds(table)
    first = found.iloc[0]
    assert (first["a"], first["b"], first["net"]) == ("reals", "28,000 fakes", 24)
    assert f"{first['p_exact_low']:.1e}" == "1.2e-07"
    assert f"{first['p_exact_high']:.4f}" == "0.0116"
    assert first["significant"] == first["tables"] == 31  # c is 0 to 30
    guess = breast.independent(table)
    assert (guess.only_a, guess.only_b) == (48, 24)
    assert round(guess.p_mid, 3) == 0.005
    assert guess.p_exact == pytest.approx(scipy_stats.binomtest(24, 72).pvalue)
    last = found.iloc[-1]
    assert (last["a"], last["b"]) == ("28,000 fakes", "140,000 fakes")
    assert last["p_exact_low"] < 0.05 < last["p_exact_high"]  # open


def test_the_scores_of_single_runs_have_intervals() -> None:
    found = breast.runs(read_breast()).set_index("n_train")
    reals = found.iloc[0]
    assert (reals["accuracy"], reals["sensitivity"], reals["specificity"]) == (0.9, 0.92, 0.88)
    wilson = scipy_stats.binomtest(246, 300).proportion_ci(method="wilson")
    assert found.loc[28000, "accuracy_low"] == pytest.approx(wilson.low)
    for name in ("accuracy", "sensitivity", "specificity", "auc"):
        assert (found[f"{name}_low"] < found[name]).all()
        assert (found[name] < found[f"{name}_high"]).all()
        assert (found[f"{name}_high"] < 1).all()


def test_hanley_and_mcneils_error_is_right_where_its_model_is() -> None:
    """Scores that are exponential: the spread of the AUC over samples is the interval's."""
    rng, positives, negatives, auc = np.random.default_rng(8), 30, 40, 0.85
    x = rng.exponential(auc / (1 - auc), (4000, positives, 1))
    y = rng.exponential(1.0, (4000, 1, negatives))
    logits = scipy_stats.logistic.ppf((x > y).mean(axis=(1, 2)))
    low, high = scipy_stats.logistic.ppf(breast.area_interval(auc, positives, negatives))
    spread = np.std(logits[np.isfinite(logits)])
    assert (high - low) / 2 / 1.959964 == pytest.approx(spread, rel=0.08)  # the logit bends


def test_the_cascade_does_not_climb() -> None:
    table = read_breast()
    found = breast.trend(table)
    fakes = table[table["training_set"].eq("fakes")]
    line = scipy_stats.linregress(range(5), fakes["right"] / 300)
    assert found.rounds.difference == pytest.approx(line.slope)
    assert found.rounds.se == pytest.approx(line.stderr)
    assert found.rounds.p_value == pytest.approx(line.pvalue)
    assert found.images.difference == pytest.approx(-0.00667, abs=1e-5)
    assert found.images.ci_low < 0 < found.images.ci_high
    share = np.array([246, 244, 250, 244, 236]) / 300
    by_hand = math.sqrt((np.array([0.04, 0.01, 0, 0.01, 0.04]) * share * (1 - share)).sum() / 300)
    assert found.images.se == pytest.approx(by_hand, rel=1e-3)


def texts(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<main>")[1]))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from fgaug.analysis.published import write

    root = tmp_path_factory.mktemp("published")
    return {which: write.published(which, root / which).parent for which in ("thesis", "breast")}


def test_the_thesis_page_tells_what_is_supported(written: dict[str, Path]) -> None:
    page = (written["thesis"] / "index.html").read_text(encoding="utf-8")
    told = texts(page)
    for words in (
        "accuracy 0.799 to 0.815, +2.0%, the best of 36 cells",
        "+1.2 points of accuracy (methods from +1.0 to +1.4)",
        "+1.4 points of AUC (methods from +1.3 to +1.7)",
        "+0.3 to +2.9 and +0.6 to +2.8 points",
        "better on these patients only (E1, from published summaries)",
        NO_THIRD_ARM,
        "2,222 real images",
        "none of 8 tests pass",
        "population standard deviation",
    ):
        assert words in told, words
    assert not re.search(r"\bsame proportion|\bequal(ly)? (good|well)|no difference", told)
    assert not re.search(r"""(src|href)=["'](?!data:|\#)""", page)  # nothing fetched


def test_the_breast_page_tells_what_is_supported(written: dict[str, Path]) -> None:
    told = texts((written["breast"] / "index.html").read_text(encoding="utf-8"))
    for words in (
        "lies between 1.2e-7 and 0.0116",
        "two single runs, which say nothing about the recipe",
        "It is not shown that more rounds of fakes help",
        "mid-p = 0.0046",
    ):
        assert words in told, words
    assert "Same proportions" not in told


@pytest.mark.parametrize("which", ["thesis", "breast"])
def test_every_piece_is_a_file(written: dict[str, Path], which: str) -> None:
    root = written[which]
    named = {path.name for path in (root / "tables").iterdir()}
    assert {path.stem for path in (root / "figures").glob("*.svg")} == {
        path.stem for path in (root / "figures").glob("*.png")
    }
    assert {f"{Path(name).stem}.csv" for name in named if name != "all.tex"} <= named
    shown = re.findall(r"\\input\{(.*)\}", (root / "tables" / "all.tex").read_text())
    assert sorted([*shown, "all.tex"]) == sorted(n for n in named if n.endswith(".tex"))
    for path in (root / "tables").glob("*.csv"):
        assert len(pd.read_csv(path))


def test_every_p_value_has_its_level_in_its_table() -> None:
    for section in thesis_sections(analyse_thesis()):
        for part in section.parts:
            if isinstance(part, Table) and any(str(c).startswith("p_") for c in part.frame):
                said = f"{part.note} {' '.join(map(str, part.text.columns))}"
                assert "E1" in said or "E0" in said or part.name.startswith("table_"), part.name


def printed_cells(tex: str) -> list[list[str]]:
    """Return the cells of a LaTeX table's body as they are written."""
    body = tex.split(r"\midrule", 1)[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    rows = [row.strip() for row in body.split(r"\\")]
    return [[cell.strip() for cell in row.split("&")] for row in rows if row]


@pytest.mark.parametrize("name", ["4.1", "4.2", "4.3", "4.4", "4.5", "4.7", "4.8"])
def test_the_latex_tables_give_the_published_digits_back(
    written: dict[str, Path], name: str
) -> None:
    table = pd.read_csv(ORACLE / "thesis_tables.csv", dtype=str, keep_default_na=False)
    wanted = table[table["table"].eq(name)].drop(columns=["table", "mode", "psi"])
    tex = (written["thesis"] / "tables" / f"table_{name.replace('.', '_')}.tex").read_text()
    assert printed_cells(tex) == wanted.to_numpy().tolist()
    assert "population standard deviation" in tex
    head = tex.split(r"\toprule")[1].split(r"\midrule")[0]
    order = [head.index(word) for word in ("fakes", "accuracy", "AUC", "trv", "dbp", "mean")]
    assert order == sorted(order)
    assert re.findall("mean|std|max|min", head) == ["mean", "std", "max", "min"] * 2


@pytest.mark.parametrize("name", ["3.1", "4.6"])
def test_the_latex_tables_of_the_split_give_the_published_digits_back(
    written: dict[str, Path], name: str
) -> None:
    stem = f"table_{name.replace('.', '_')}"
    wanted = pd.read_csv(ORACLE / f"thesis_{stem}.csv", dtype=str, keep_default_na=False)
    tex = (written["thesis"] / "tables" / f"{stem}.tex").read_text()
    assert printed_cells(tex) == wanted.to_numpy().tolist()


def test_the_command_prints_the_page_last(fgaug: Any, odd_root: Path) -> None:
    code, out, _ = fgaug("report", "--published", "breast", "--out", odd_root / "b")
    assert code == 0
    assert Path(out.splitlines()[-1]) == (odd_root / "b" / "index.html").resolve()
    assert Path(out.splitlines()[-1]).is_file()


def test_without_a_folder_it_is_made_here(
    fgaug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = fgaug("report", "--published", "breast")
    assert (code, Path(out.strip())) == (0, tmp_path / "published-breast" / "index.html")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--published", "thesiss"], "--published must be thesis or breast, got thesiss"),
        (["runs/x", "--published", "thesis"], "cannot be combined with a run"),
        (["--published", "thesis", "--open-test"], "cannot be combined with a run or --open-test"),
        ([], "Give either a run or --published"),
        (["runs/x", "--out", "y"], "writes into the run's folder"),
    ],
)
def test_mistakes_are_told(fgaug: Any, arguments: list[str], words: str) -> None:
    code, _, err = fgaug("report", *arguments)
    assert code == 2
    assert words in " ".join(err.split())


def test_damaged_tables_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "shipped", lambda kind: tmp_path / kind)
    with pytest.raises(DataError, match=r"thesis_tables\.csv is missing"):
        read_thesis()
    (tmp_path / "published").mkdir()
    files.write_text(
        tmp_path / "published" / "breast_results.csv", "training_set,right\nreals,3\n"
    )
    with pytest.raises(DataError, match="lacks n_train, tn_benign"):
        read_breast()
