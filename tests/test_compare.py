"""`fgaug compare`: two models, two recipes, counts and margins; whatever files it may meet."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from simulated_run import Arm, World, grid_of, write_run

from fgaug import stats
from fgaug.analysis.compare.compare import compare
from fgaug.analysis.compare.paired_predictions import PredictionSet, paired_predictions
from fgaug.analysis.compare.prediction_files import read_lines, read_predictions
from fgaug.analysis.compare.published_margins import margin_bounds
from fgaug.analysis.compare.two_arms import compare_arms
from fgaug.analysis.compare.two_models import compare_models
from fgaug.core.paths import RunPaths
from fgaug.errors import UserError
from fgaug.runs.looks import looks_of
from fgaug.runs.results import load_results

LABELS = ("benign", "malignant")
SENTENCE = "two single runs says nothing about the recipe: repeat it with several seeds"
BASELINE = Arm()
BETTER = Arm(mode="augmentation", psi=0.7, ratio=2, worth=2.9, n_fake=800)
OTHER = Arm(mode="augmentation", psi=1.0, ratio=2, worth=1.6, n_fake=800, failed=1, missing=1)


def table(
    seed: int, count: int = 90, labels: tuple[str, ...] = LABELS, per_patient: int = 1
) -> pd.DataFrame:
    """Return made predictions; every seed meets the same images."""
    patient = np.arange(count) // per_patient
    y = patient % len(labels)
    rng = np.random.default_rng([3, seed])
    hard = np.random.default_rng(1).normal(size=(count, len(labels)))
    logits = np.eye(len(labels))[y] + hard + 0.7 * rng.normal(size=hard.shape)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(
        {
            "image_id": [f"image {n:03d}" for n in range(count)],
            "group": patient,
            "label": [labels[index] for index in y],
        }
    )
    return frame.assign(**{f"p_{label}": p[:, n] for n, label in enumerate(labels)})


def write(root: Path, name: str, frame: pd.DataFrame) -> Path:
    path = root / name
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "one: it's a [run]"
    return write_run(root, [BASELINE, BETTER, OTHER], World(patients=40, images=2))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path, "a.csv", table(1)), write(tmp_path, "b.parquet", table(2))


def value(found: Any, quantity: str, column: str, label: str = "") -> Any:
    rows = found.scores
    (row,) = rows[rows["quantity"].eq(quantity) & rows["label"].eq(label)].to_dict("records")
    return row[column]


def p_of(found: Any, quantity: str, test: str) -> float:
    rows = found.tests
    chosen = rows[rows["quantity"].eq(quantity) & rows["test"].eq(test)]
    return float(chosen["p_value"].iloc[0])


def test_counts_of_each_label_by_hand(tmp_path: Path) -> None:
    """Six images: of three benign one is called malignant; of three malignant two are missed."""
    p = [0.1, 0.2, 0.7, 0.8, 0.3, 0.4]
    truth = ["benign"] * 3 + ["malignant"] * 3
    frame = pd.DataFrame({"image_id": list("abcdef"), "label": truth})
    a = write(tmp_path, "a.csv", frame.assign(p_benign=1 - np.array(p), p_malignant=p))
    perfect = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    b = write(tmp_path, "b.csv", frame.assign(p_malignant=perfect))  # one column for two labels
    found = compare(str(a), str(b))
    rows = found.confusion.set_index(["model", "label"])
    assert rows.loc[("A", "malignant")].tolist() == [2, 1, 2, 1]
    assert rows.loc[("A", "benign")].tolist() == [1, 2, 1, 2]
    assert rows.loc[("B", "malignant")].tolist() == [3, 0, 0, 3]
    assert value(found, "precision", "a_count", "malignant") == "1/2"
    assert value(found, "recall", "a", "malignant") == pytest.approx(1 / 3)
    assert value(found, "recall", "a_count", "benign") == "2/3"
    assert value(found, "specificity", "a", "malignant") == pytest.approx(2 / 3)
    assert value(found, "f1", "a_count", "malignant") == "2/5"
    assert value(found, "accuracy", "a_count") == "3/6"
    assert value(found, "macro f1", "a") == pytest.approx((4 / 7 + 2 / 5) / 2)
    assert value(found, "auc", "a") == pytest.approx(7 / 9)
    assert value(found, "auc", "b") == 1.0
    assert math.isnan(value(found, "auc", "b_low"))  # a perfect AUC has no logit interval
    assert found.agreement.tolist() == [[3, 0], [3, 0]]


def test_two_models_are_the_tests_of_stats(pair: tuple[Path, Path]) -> None:
    found = compare(*map(str, pair))
    a, b = table(1), table(2)
    y = a["label"].eq("malignant").to_numpy().astype(int)
    own = stats.delong(y, a["p_malignant"], b["p_malignant"])
    right = [(f["p_malignant"] >= 0.5).to_numpy() == (y == 1) for f in (a, b)]
    paired = stats.mcnemar(stats.agreement(*right))
    assert found.level == "E0"
    assert found.claim.endswith(SENTENCE)
    assert (found.n_images, found.n_patients) == (90, 90)
    assert p_of(found, "auc", "DeLong") == pytest.approx(own.p_value, rel=1e-9)
    assert p_of(found, "accuracy", "McNemar, mid-p") == paired.p_mid
    assert p_of(found, "accuracy", "McNemar, exact") == paired.p_exact
    assert found.tests["test"].iloc[0] == "McNemar, mid-p"
    exact = found.tests.iloc[1]
    assert (exact["ci_low"], exact["ci_high"]) == paired.fay_lumbard
    assert set(found.tests["level"]) == {"E0"}
    wilson = scipy_stats.binomtest(int(right[0].sum()), 90).proportion_ci(method="wilson")
    assert value(found, "accuracy", "a_low") == pytest.approx(wilson.low)


def test_swapped_sides_negate_and_keep_p(pair: tuple[Path, Path], run: Path) -> None:
    arms = (f"{run}:{BETTER.arm_id}", f"{run}:baseline")
    for a, b in (map(str, pair), arms):
        one, other = compare(a, b), compare(b, a)
        for column, sign in (("difference", -1), ("p_value", 1), ("se", 1)):
            left, right = one.tests[column].to_numpy(), sign * other.tests[column].to_numpy()
            np.testing.assert_allclose(left.astype(float), right.astype(float), rtol=1e-9)
        assert one.tests["difference"].abs().max() > 0


def test_the_order_of_images_labels_and_formats_does_not_matter(tmp_path: Path) -> None:
    a, b = table(1), table(2)
    mixed = b.sample(frac=1, random_state=4)[["p_malignant", "p_benign", "label", "image_id"]]
    usual = compare(str(write(tmp_path, "a.csv", a)), str(write(tmp_path, "b.csv", b)))
    other = compare(str(tmp_path / "a.csv"), str(write(tmp_path, "c.parquet", mixed)))
    pd.testing.assert_frame_equal(usual.tests, other.tests)


def test_a_model_against_itself_shows_nothing_and_says_no_same(
    pair: tuple[Path, Path], fgaug: Any
) -> None:
    found = compare(str(pair[0]), str(pair[0]))
    assert (found.tests["p_value"] == 1).all()
    assert (found.tests["difference"] == 0).all()
    code, out, _ = fgaug("compare", pair[0], pair[0])
    assert code == 0
    assert "no difference shown" in out
    assert "does not show that there is none" in out
    assert not {"same", "equal", "equivalent"} & {
        word.strip(".,;:").lower() for word in out.split()
    }


def test_patients_with_several_images_are_clusters(tmp_path: Path) -> None:
    a, b = table(1, per_patient=3), table(2, per_patient=3)
    found = compare(str(write(tmp_path, "a.csv", a)), str(write(tmp_path, "b.csv", b)))
    y = a["label"].eq("malignant").to_numpy().astype(int)
    own = stats.delong(y, a["p_malignant"], b["p_malignant"], group=a["group"])
    assert p_of(found, "auc", "DeLong over patients") == pytest.approx(own.p_value, rel=1e-9)
    assert found.n_patients == 30
    tests = found.tests[found.tests["quantity"].eq("accuracy")]
    # below 50 patients the exact test comes first; McNemar's is named and has no p
    assert tests["test"].tolist()[0] == "sign flips of patients"
    mcnemar = tests[tests["test"].eq("McNemar")].iloc[0]
    assert math.isnan(mcnemar["p_value"])
    assert "invalid" in mcnemar["reason"]
    right = [(f["p_malignant"] >= 0.5).to_numpy() == (y == 1) for f in (a, b)]
    net = stats.net_right(*right, a["group"])
    assert p_of(found, "accuracy", "clustered score") == stats.clustered_mcnemar(net).p_value
    assert p_of(found, "accuracy", "sign flips of patients") == stats.sign_flip(net)
    assert value(found, "accuracy", "interval") == "t over patients"


def test_copies_of_images_shrink_no_interval(tmp_path: Path) -> None:
    def copies(frame: pd.DataFrame) -> pd.DataFrame:
        parts = [frame.assign(image_id=frame["image_id"] + f" {n}") for n in range(4)]
        return pd.concat(parts, ignore_index=True)

    once = compare(
        str(write(tmp_path, "a.csv", table(1))), str(write(tmp_path, "b.csv", table(2)))
    )
    often = compare(
        str(write(tmp_path, "c.csv", copies(table(1)))),
        str(write(tmp_path, "d.csv", copies(table(2)))),
    )
    assert p_of(often, "auc", "DeLong over patients") == pytest.approx(
        p_of(once, "auc", "DeLong"), rel=1e-6
    )
    without = copies(table(1)).drop(columns="group"), copies(table(2)).drop(columns="group")
    naive = compare(
        str(write(tmp_path, "e.csv", without[0])), str(write(tmp_path, "f.csv", without[1]))
    )
    # without patients four copies pass for four times the images
    se = [f.tests.loc[f.tests["quantity"].eq("auc"), "se"].iloc[0] for f in (naive, once)]
    assert se[0] == pytest.approx(se[1] / 2, rel=0.02)
    assert any("its own patient" in note for note in naive.notes)


def test_three_labels(tmp_path: Path) -> None:
    labels = ("a", "b [x]", "c")
    sides = [write(tmp_path, f"{n}.csv", table(n, labels=labels)) for n in (1, 2)]
    found = compare(*map(str, sides))
    one = table(1, labels=labels)
    y = one["label"].map({label: n for n, label in enumerate(labels)}).to_numpy()
    areas = [
        stats.auc((y == n).astype(int), one[f"p_{label}"])[0] for n, label in enumerate(labels)
    ]
    assert value(found, "auc", "a") == pytest.approx(np.mean(areas))
    assert value(found, "auc", "a", "b [x]") == pytest.approx(areas[1])
    called = one[[f"p_{label}" for label in labels]].to_numpy().argmax(axis=1)
    assert value(found, "accuracy", "a") == pytest.approx(np.mean(called == y))
    assert 0 <= p_of(found, "auc", "DeLong (one-vs-rest macro)") <= 1
    assert p_of(found, "accuracy", "McNemar, mid-p") <= 1


def test_a_label_that_is_never_called_or_never_there(tmp_path: Path) -> None:
    frame = table(1, labels=("a", "b", "c"))
    frame["p_c"] = 0.0
    frame[["p_a", "p_b"]] = [[0.9, 0.1]] * len(frame)
    side = read_predictions(write(tmp_path, "a.csv", frame))
    found = compare_models(paired_predictions(side, side))
    assert math.isnan(value(found, "precision", "a", "c"))
    assert value(found, "precision", "a_count", "c") == "0/0"
    assert math.isnan(value(found, "macro precision", "a"))
    lone = frame[frame["label"].eq("a")]
    side = read_predictions(write(tmp_path, "b.csv", lone))
    found = compare_models(paired_predictions(side, side))
    auc = found.tests[found.tests["quantity"].eq("auc")].iloc[0]
    assert math.isnan(auc["p_value"])
    assert auc["reason"]
    assert any(line.startswith("auc: no test") for line in found.verdict)


def test_arms_are_compared_over_seeds_and_patients(run: Path) -> None:
    found = compare(f"{run}:{BETTER.arm_id[:7]}", f"{run}:baseline")
    assert (found.level, found.n_runs) == ("E2", (4, 4))
    assert (found.n_images, found.n_patients) == (80, 40)
    rows = load_results(run)
    means = {
        arm.arm_id: rows.loc[rows["arm_id"].eq(arm.arm_id), "valid_auc"]
        for arm in (BASELINE, BETTER)
    }
    first = found.summary.iloc[0]
    assert first["metric"] == "auc"
    gain = means[BETTER.arm_id].mean() - means[BASELINE.arm_id].mean()
    assert first["difference"] == pytest.approx(gain)
    welch = stats.welch(means[BETTER.arm_id], means[BASELINE.arm_id])
    assert p_of(found, "auc", "Welch") == pytest.approx(welch.p_value)
    e2 = found.tests[found.tests["level"].eq("E2")]
    # the patients' part comes on top: no E2 error is below that of its seeds alone
    e1 = found.tests[found.tests["level"].eq("E1")]
    assert (e2["se"].to_numpy() >= e1["se"].to_numpy() * (1 - 1e-9)).all()
    assert first["seed_share"] + first["patient_share"] == pytest.approx(1)
    assert first["p_greater"] == stats.prob_greater(means[BETTER.arm_id], means[BASELINE.arm_id])
    assert first["run_pairs"] == "16 of 16 pairs"
    assert found.verdict[0].startswith("auc: A is better than B on new patients (E2")
    lower = compare(f"{run}:baseline", f"{run}:{BETTER.arm_id}", "brier")
    assert lower.summary["metric"].iloc[0] == "brier"
    assert lower.verdict[0].startswith("brier: A is worse than B")  # a larger Brier score


def test_best_failed_and_missing_seeds_are_told(run: Path) -> None:
    found = compare(f"{run}:best", f"{run}:{OTHER.arm_id}")
    assert BETTER.arm_id in found.names[0]
    assert found.n_runs == (4, 2)
    notes = "\n".join(found.notes)
    assert found.verdict[0].startswith("no verdict: the best of 2 arms was selected on these")
    assert "B: left out because not finished: seed 13 failed" in notes
    assert "B: not trained yet: seeds 14" in notes


def test_one_seed_that_is_no_number_is_left_out_and_told(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", [BASELINE, BETTER], World(patients=20))
    cell = load_results(root).query("mode == 'baseline'")["cell_id"].iloc[0]
    path = RunPaths(root).trial(cell).predictions
    frame = pd.read_parquet(path)
    frame.loc[3, "p_benign"] = np.nan
    frame.to_parquet(path, index=False)
    found = compare(f"{root}:{BETTER.arm_id}", f"{root}:baseline")
    assert found.n_runs == (4, 3)
    assert any("probabilities must be numbers; 1 of 40" in note for note in found.notes)
    assert found.tests["p_value"].notna().all()


def test_an_arm_against_one_run_and_two_cells(run: Path) -> None:
    rows = load_results(run)
    cells = {mode: group["cell_id"].iloc[0] for mode, group in rows.groupby("mode")}
    mixed = compare(f"{run}:{BETTER.arm_id}", f"{run}:{cells['baseline']}")
    assert (mixed.level, mixed.n_runs) == ("E2", (4, 1))
    assert any("B is a single run" in note for note in mixed.notes)
    assert mixed.tests["p_value"].notna().all()
    single = compare(f"{run}:{cells['baseline'][:8]}", f"{run}:{cells['augmentation']}")
    assert single.level == "E0"
    assert single.claim.endswith(SENTENCE)


def test_a_run_with_one_trial_and_a_file(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", [Arm(seeds=1)], World(patients=20))
    (cell,) = load_results(root)["cell_id"]
    found = compare(str(root), str(RunPaths(root).trial(cell).predictions))
    assert found.level == "E0"
    assert (found.tests["difference"] == 0).all()


def test_the_sealed_test_set_stays_sealed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in run.glob("trials/*/sealed.parquet"):
        path.write_bytes(b"not to be read")
    assert compare(f"{run}:best", f"{run}:baseline").level == "E2"


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("", "name one"),
        (":nothing", "none matches"),
        (":oversample", "0 have that mode"),
        (":augmentation", "2 have that mode"),
        (":", "no such run or file"),
    ],
)
def test_what_no_arm_is_lists_the_arms(run: Path, selector: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        compare(f"{run}{selector}", f"{run}:baseline")
    if selector != ":":
        assert BETTER.arm_id in str(error.value)


def test_hostile_paths_and_labels(odd_root: Path, fgaug: Any) -> None:
    labels = ("b[red]", 'quote"d, label')
    sides = [write(odd_root, f"{n}: a.csv", table(n, labels=labels)) for n in (1, 2)]
    code, out, err = fgaug("compare", *sides)
    assert (code, err) == (0, "")
    assert "b[red]" in out
    assert str(sides[0]) in out
    root = write_run(odd_root / "run:best", [BASELINE, BETTER], World(patients=20))
    assert fgaug("compare", f"{root}:best", f"{root}:baseline")[0] == 0


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_formats_of_every_kind(
    run: Path, pair: tuple[Path, Path], fgaug: Any, format: str
) -> None:
    for arguments in (
        pair,
        (f"{run}:best", f"{run}:baseline"),
        ("--counts", "231,39,15,15"),
        ("--margins", "270/300,246/300"),
    ):
        code, out, err = fgaug("compare", *arguments, "--format", format)
        assert (code, err) == (0, "")
        assert "repeat it with several seeds" in out or "these recipes on new patients" in out
        if format == "json":
            found = json.loads(out)
            assert "NaN" not in out
            assert "level" in found or "fewest" in found
        elif format == "csv":
            frame = pd.read_csv(io.StringIO(out))
            assert frame.columns[0] == "part"
            assert len(frame) > 2


def test_counts(fgaug: Any) -> None:
    code, out, _ = fgaug("compare", "--counts", "231, 39,15,15", "--format", "json")
    found = json.loads(out)
    expected = stats.mcnemar([[231, 39], [15, 15]])
    assert code == 0
    assert found["agreement"] == [[231, 39], [15, 15]]
    assert [row["p_value"] for row in found["tests"]] == [expected.p_mid, expected.p_exact]
    assert found["scores"][0]["a_count"] == "270/300"
    assert found["tests"][0]["difference"] == pytest.approx(0.08)


def test_margins_bound_the_exact_p() -> None:
    """Published: 270 and 246 right of 300. From 1.2e-7 to 0.0116, worse in any case."""
    found = margin_bounds(270, 246, 300)
    assert found.fewest.p_exact == pytest.approx(1.19e-7, rel=0.01)
    assert found.most.p_exact == pytest.approx(0.0116, abs=5e-5)
    assert found.tables[0].tolist() == [[246, 24], [0, 30]]
    assert found.tables[1].tolist() == [[216, 54], [30, 0]]
    assert (found.possible, found.significant) == (31, 31)
    swapped = margin_bounds(246, 270, 300)
    assert swapped.most.p_exact == found.most.p_exact
    assert swapped.most.difference == -found.most.difference


@pytest.mark.parametrize(
    ("a", "b", "n"), [(9, 5, 12), (5, 9, 12), (7, 7, 12), (12, 0, 12), (3, 3, 3)]
)
def test_margins_against_every_table(a: int, b: int, n: int) -> None:
    p = []
    for only_a in range(n + 1):
        only_b = only_a - a + b
        both = a - only_a
        neither = n - both - only_a - only_b
        if min(only_b, both, neither) >= 0:
            p.append(stats.mcnemar([[both, only_a], [only_b, neither]]).p_exact)
    found = margin_bounds(a, b, n)
    assert (found.fewest.p_exact, found.most.p_exact) == (min(p), max(p))
    assert found.possible == len(p)
    assert found.significant == sum(value <= 0.05 for value in p)


def test_margins_in_words(fgaug: Any) -> None:
    _, sure, _ = fgaug("compare", "--margins", "270/300,246/300")
    assert "A is above B for every possible pairing of the predictions" in sure
    _, open_, _ = fgaug("compare", "--margins", "150/300,140/300")
    assert "only the paired predictions can decide" in open_
    _, none, _ = fgaug("compare", "--margins", "150/300,148/300")
    assert "does not prove that A equals B" in none


def test_files_of_one_number_a_line(tmp_path: Path, fgaug: Any) -> None:
    truth = [0, 0, 0, 1, 1, 1, 1, 0]
    said = [[0, 1, 0, 1, 1, 0, 1, 0], [0, 1, 1, 1, 0, 0, 1, 0]]
    names = []
    for name, values in (("correct.csv", truth), ("a.csv", said[0]), ("b.csv", said[1])):
        path = tmp_path / name
        path.write_text("".join(f"{value:.18e}\n" for value in values))
        names.append(path)
    options = [x for pair in zip(("--truth", "--a", "--b"), names, strict=True) for x in pair]
    code, out, err = fgaug("compare", *options, "--format", "json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["agreement"] == [[4, 2], [0, 2]]
    assert {row["quantity"] for row in found["tests"]} == {
        "accuracy",
        "balanced_accuracy",
        "f1_macro",
    }
    assert any("no AUC" in note for note in found["notes"])
    names[1].write_text("".join(f"{value * 0.6 + 0.1}\n" for value in said[0]))
    names[2].write_text("".join(f"{value * 0.6 + 0.2}\n" for value in said[1]))
    scored = compare_models(
        paired_predictions(*(read_lines(names[0], path) for path in names[1:]))
    )
    assert scored.agreement.tolist() == [[4, 2], [0, 2]]
    assert value(scored, "auc", "a") == pytest.approx(0.75)


def test_called_labels_without_probabilities(tmp_path: Path) -> None:
    frame = table(1)[["image_id", "label"]].rename(columns={"image_id": "image"})
    a = write(tmp_path, "a.csv", frame.assign(predicted=frame["label"]))
    b = write(tmp_path, "b.csv", frame.assign(predicted="benign"))
    found = compare(str(a), str(b))
    assert found.agreement.tolist() == [[45, 45], [0, 0]]
    assert "auc" not in set(found.tests["quantity"])


def test_one_column_of_probabilities_with_labels_0_and_1(tmp_path: Path) -> None:
    frame = table(1)
    plain = pd.DataFrame(
        {"label": frame["label"].eq("malignant").astype(int), "score": frame["p_malignant"]}
    )
    both = compare(
        str(write(tmp_path, "a.csv", plain)),
        str(write(tmp_path, "b.parquet", plain.assign(label=plain["label"].astype(float)))),
    )
    assert (both.tests["difference"] == 0).all()
    assert any("rows were matched in order" in note for note in both.notes)


def broken(frame: pd.DataFrame, how: str) -> pd.DataFrame:
    changed = frame.copy()
    if how == "nan":
        changed.loc[[2, 5], "p_benign"] = np.nan
    elif how == "words":
        changed["p_benign"] = "much"
    elif how == "logits":
        changed[["p_benign", "p_malignant"]] *= 3
    elif how == "disjoint":
        changed["image_id"] = changed["image_id"] + "x"
    elif how == "fewer":
        changed = changed.iloc[:80]
    elif how == "twice":
        changed.loc[1, "image_id"] = changed.loc[0, "image_id"]
    elif how == "truth":
        changed.loc[[0, 1, 2], "label"] = "malignant"
    elif how == "labels":
        changed = changed.rename(columns={"p_benign": "p_normal"})
        changed["label"] = changed["label"].replace("benign", "normal")
    elif how == "unknown label":
        changed.loc[4, "label"] = "cyst"
    elif how == "patients":
        changed.loc[7, "group"] = 1000
    elif how == "no patient":
        changed["group"] = changed["group"].astype(object).where(changed.index != 3, None)
    elif how == "no label":
        changed = changed.drop(columns="label")
    elif how == "no columns":
        changed = changed[["image_id", "label"]]
    elif how == "no row":
        changed = changed.iloc[:0]
    elif how == "no ids":
        changed = changed.drop(columns="image_id")
    return changed


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("nan", "2 of 90 images have other values (the first is image 002)"),
        ("words", "90 of 90 images"),
        ("logits", "sum to 1"),
        ("disjoint", "0 are in both, 90 only in"),
        ("fewer", "80 are in both, 10 only in"),
        ("twice", "1 images occur more than once"),
        ("truth", "2 of 90 differ"),
        ("labels", "Both sides need the same labels"),
        ("unknown label", "1 labels have none (known: benign, malignant) (the first is cyst)"),
        ("patients", "same patient (group) for an image: 1 of 90 differ"),
        ("no patient", "1 of 90 images have no group"),
        ("no label", "it has image_id, group, p_benign, p_malignant"),
        ("no columns", "needs columns image_id, label and p_<label>"),
        ("no row", "has no rows"),
        ("no ids", "has no column image_id, but the other side has"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_mistakes_in_files_are_counted(
    tmp_path: Path, fgaug: Any, how: str, words: str, suffix: str
) -> None:
    a = write(tmp_path, "a.csv", table(1))
    b = write(tmp_path, f"b.{suffix}", broken(table(2), how))
    code, out, err = fgaug("compare", a, b)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("fgaug: ")


def test_files_that_are_none(tmp_path: Path, fgaug: Any) -> None:
    good = write(tmp_path, "a.csv", table(1))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "folder").mkdir()
    for name in ("gone.csv", "empty.csv", "binary.csv", "torn.parquet", "folder", "a.csv:best"):
        code, out, err = fgaug("compare", good, tmp_path / name)
        assert (code, out) == (2, ""), name
        assert name.split(":")[0] in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "got none"),
        (("x.csv",), "no such run or file"),
        (("--counts", "1,2,3"), "--counts takes four whole numbers"),
        (("--counts", "1,2,3,-4"), "--counts takes four whole numbers"),
        (("--counts", "0,0,0,0"), "and one at least 1"),
        (("--margins", "270/300"), "--margins must be correct/images twice"),
        (("--margins", "270/300,246/301"), "got 300 and 301"),
        (("--margins", "370/300,246/300"), "between 0 and the number of images"),
        (("--counts", "1,2,3,4", "--margins", "1/2,1/2"), "got several"),
        (("--truth", "t.csv"), "--truth needs --a"),
        (("--counts", "1,2,3,4", "--format", "xml"), "--format must be table, csv or json"),
        (("a", "b", "--metric", "f2"), "--metric must be one of"),
    ],
)
def test_mistakes_in_options(fgaug: Any, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = fgaug("compare", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_side_of_several_runs_has_one_shape() -> None:
    p = np.full((2, 3, 2), 0.5)
    side = PredictionSet(
        name="x", labels=LABELS, image_id=("a", "b", "c"), label=("benign",) * 3, group=None,
        probability=p, runs=("1", "2"),
    )  # fmt: skip
    found = compare_arms(paired_predictions(side, side))
    assert (found.tests.loc[found.tests["quantity"].eq("accuracy"), "p_value"] == 1).all()
    auc = found.tests[found.tests["quantity"].eq("auc")]
    assert auc["p_value"].isna().all()  # one label alone
    assert auc["reason"].notna().all()
    assert found.verdict[0].startswith("auc: no test")


@pytest.mark.parametrize("ids", ["image_id", "image"])
@pytest.mark.parametrize("groups", ["own", "none", "patients", "constant"])
def test_each_image_taken_for_a_patient_is_said(
    ids: str, groups: str, tmp_path: Path, fgaug: Any
) -> None:
    """A group that is the image's own name, as of a dataset without patients, names nobody."""
    names = [f"i{number}" for number in range(12)]
    frame = pd.DataFrame({ids: names, "label": ["benign", "malignant"] * 6})
    frame["p_malignant"] = np.linspace(0.1, 0.9, 12)
    if groups != "none":
        whose = {"own": names, "patients": [f"p{n // 2}" for n in range(12)]}
        frame["group"] = whose.get(groups, "x")
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.assign(p_malignant=frame["p_malignant"] ** 2).to_parquet(tmp_path / "b.parquet")
    sides = ([tmp_path / "a.csv"], [tmp_path / "a.csv", tmp_path / "b.parquet"])
    for side in sides if groups != "constant" else sides[:1]:
        out = fgaug("compare", *side)[1]
        taken = groups in ("own", "none")
        assert ("12 images, each counted as its own patient" in out) == taken
        assert ("every image counts as its own patient" in out) == taken
        assert ("12 images of 6 patients" in out) == (groups == "patients")


def test_one_trial_of_a_run_has_its_table_and_several_are_refused(
    tmp_path: Path, fgaug: Any
) -> None:
    run = write_run(tmp_path / "run", grid_of([1.0], [1]), World(patients=20, seeds=2))
    code, out, err = fgaug("compare", f"{run}:baseline")
    assert (code, out) == (2, "")
    assert "has 2 trials: seed 11 (cell" in err
    assert "Name one, such as RUN:ARM#SEED" in err
    code, out, _ = fgaug("compare", f"{run}:baseline#11")
    assert code == 0
    assert "40 images of 20 patients, labels benign, malignant" in out
    assert "validation images" in out
    assert "McNemar" not in out
    assert looks_of(RunPaths(run)) == ()
    code, out, _ = fgaug("compare", f"{run}:baseline#12", "--open-test", "--format", "json")
    assert code == 0
    assert json.loads(out)["n_images"] == 40
    assert len(looks_of(RunPaths(run))) == 1
