"""`fgaug compare` on files as the breast-ultrasound study has gives its published digits."""

from __future__ import annotations

import io
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    classification_report,
    confusion_matrix,
    precision_recall_fscore_support,
)

from fgaug import stats
from fgaug.analysis.compare import compare

TABLE = pd.read_csv(Path(__file__).parents[1] / "reports/published/breast_results.csv")
ROWS = range(len(TABLE))
TRUTH = np.repeat([0, 1], 150)  # benign, malignant
# as printed: accuracy with its counts, then precision, recall and F1 of benign and of malignant
PRINTED = [
    (".900", "270/300", (".917", ".880", ".898"), (".885", ".920", ".902")),
    (".820", "246/300", (".853", ".773", ".811"), (".793", ".867", ".828")),
    (".813", "244/300", (".813", ".813", ".813"), (".813", ".813", ".813")),
    (".833", "250/300", (".813", ".867", ".839"), (".857", ".800", ".828")),
    (".813", "244/300", (".773", ".887", ".826"), (".867", ".740", ".799")),
    (".787", "236/300", (".776", ".807", ".791"), (".799", ".767", ".782")),
]


def called(row: int) -> np.ndarray:
    """Return answers with the counts of a published row, the right ones of each label first."""
    counts = TABLE.iloc[row]
    right, wrong = counts["tn_benign"], counts["fp_benign"]
    benign = [0] * counts["tp_benign"] + [1] * counts["fn_benign"]
    return np.array(benign + [1] * right + [0] * wrong)


def lines(path: Path, values: np.ndarray) -> Path:
    """Write values as NumPy's `savetxt` does: floats as text."""
    np.savetxt(path, values.astype(float))
    return path


def files(root: Path, a: int, b: int) -> tuple[Path, Path, Path]:
    named = {"correct.csv": TRUTH, "predictions a.csv": called(a), "predictions b.csv": called(b)}
    truth, one, other = (lines(root / name, values) for name, values in named.items())
    return truth, one, other


def options(paths: tuple[Path, Path, Path]) -> list[object]:
    return [part for pair in zip(("--truth", "--a", "--b"), paths, strict=True) for part in pair]


def cells(out: str, title: str) -> list[list[str]]:
    """Return the cells of the printed table below a title, a list a line."""
    after = out[out.index(f"{title} ") :].splitlines()
    table = after[1 : next(n for n, line in enumerate(after) if line.startswith("└"))]
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in table if "│" in line]


def rounded(cell: str) -> str:
    """Return the three digits of a printed score, from its counts: 0.8125 (130/160) is .813."""
    hits, among = map(int, cell.split("(")[1].rstrip(")").split("/"))
    return str((Decimal(hits) / among).quantize(Decimal("0.001"), ROUND_HALF_UP))[1:]


@pytest.mark.parametrize("row", ROWS)
def test_every_published_row(tmp_path: Path, fgaug: Any, row: int) -> None:
    other = (row + 1) % len(TABLE)
    code, out, err = fgaug("compare", *options(files(tmp_path, row, other)))
    assert (code, err) == (0, "")
    accuracy, counts, *of_labels = PRINTED[row]
    lines_of = {tuple(line[:2]): line for line in cells(out, "each label as the positive class")}
    report = {line[0]: line[1:] for line in cells(out, "each label, and averages over labels")}
    for label, digits in zip("01", of_labels, strict=True):
        _, _, _, precision, recall, _, f1 = lines_of[label, "A"]
        assert [rounded(text) for text in (precision, recall, f1)] == list(digits)
        for text, in_print in zip(report[label][:3], digits, strict=True):
            # .8125 is .813 in print; scikit-learn takes the even digit
            assert text == f"0{in_print}" or (text, in_print) == ("0.812", ".813")
        assert report[label][-1] == "150"
    assert report["accuracy"][2] == f"0{accuracy}"
    (overall,) = (line for line in cells(out, "all images, 95 % confidence intervals"))
    assert overall[0] == "accuracy"
    assert f"({counts})" in overall[1]
    assert "AUC" not in out.replace("no AUC", "")  # no probabilities, no area under their curve


@pytest.mark.parametrize("row", ROWS)
def test_the_table_and_the_counts_of_each_label(tmp_path: Path, fgaug: Any, row: int) -> None:
    _, out, _ = fgaug("compare", *options(files(tmp_path, row, row)))
    printed = cells(out, "each label as the positive class")
    for label in (0, 1):
        at = next(n for n, line in enumerate(printed) if line[:2] == [str(label), "A"])
        found = confusion_matrix(label == TRUTH, called(row) == label)
        assert f"{printed[at][2]}\n {printed[at + 1][2]}" == str(found)
        (tn, fp), (fn, tp) = found.tolist()
        expected = [(tp, tp + fp), (tp, tp + fn), (tn, tn + fp), (2 * tp, 2 * tp + fp + fn)]
        for text, (hits, among) in zip(printed[at][3:], expected, strict=True):
            assert text == f"{hits / among:.4f} ({hits}/{among})"


@pytest.mark.parametrize("row", ROWS)
def test_averages_are_those_of_scikit_learn(tmp_path: Path, fgaug: Any, row: int) -> None:
    """Line by line what `classification_report(digits=3)` prints, labels of unequal size too."""
    keep = np.r_[0:140, 150 : 190 + 10 * row]
    truth, said = TRUTH[keep], called(row)[keep]
    paths = (lines(tmp_path / "t.csv", truth), *[lines(tmp_path / "a.csv", said)] * 2)
    _, out, _ = fgaug("compare", *options(paths))
    printed = [
        " ".join([line[0], *filter(None, line[1:4]), line[7]])
        for line in cells(out, "each label, and averages over labels")
    ]
    theirs = classification_report(truth, said, digits=3).splitlines()[2:]
    assert printed == [re.sub(r" {2,}", " ", line).strip() for line in theirs if line.strip()]


def test_the_frame_by_every_way(tmp_path: Path, fgaug: Any) -> None:
    paths = files(tmp_path, 0, 1)
    frame = compare.compare_lines(*paths).report
    assert frame["row"].tolist() == [*["label"] * 2, "all images", "macro avg", "weighted avg"] * 2
    for model, row in (("A", 0), ("B", 1)):
        own = frame[frame["model"].eq(model)].set_index("row")
        for how in ("macro", "weighted"):
            expected = precision_recall_fscore_support(TRUTH, called(row), average=how)[:3]
            found = own.loc[f"{how} avg", ["precision", "recall", "f1"]].astype(float)
            assert found.tolist() == pytest.approx(expected)
        assert own.loc["all images", "accuracy"] == pytest.approx(TABLE["accuracy"][row])
        assert own["auc"].isna().all()
    benign = frame.iloc[0]
    assert benign[["tn", "fp", "fn", "tp"]].tolist() == [138, 12, 18, 132]
    assert benign["specificity"] == pytest.approx(138 / 150)
    _, out, _ = fgaug("compare", *options(paths), "--format", "csv")
    table = pd.read_csv(io.StringIO(out), dtype={"label": str}, keep_default_na=False)
    table = table[table["part"].eq("report")]
    assert table["tp"].tolist() == ["132", "138", *[""] * 3, "116", "130", *[""] * 3]
    assert table["f1"].tolist()[0] == str(frame["f1"][0])
    _, out, _ = fgaug("compare", *options(paths), "--format", "json")
    rows = json.loads(out)["report"]
    assert [row["tp"] for row in rows] == [132, 138, *[None] * 3, 116, 130, *[None] * 3]
    assert list(rows[0]) == list(frame.columns)


def test_mcnemars_table_statistic_and_p(tmp_path: Path, fgaug: Any) -> None:
    paths = files(tmp_path, 0, 1)
    shuffled = called(1)
    shuffled[150:] = np.roll(shuffled[150:], 15)  # else B has no image right that A has wrong
    lines(paths[2], shuffled)
    _, out, _ = fgaug("compare", *options(paths))
    right = [answers == TRUTH for answers in (called(0), shuffled)]
    table = stats.agreement(*right)
    assert table[1, 0] > 0
    printed = cells(out, "McNemar's table (images)")
    assert printed == [
        ["A right", *map(str, table[0].tolist())],
        ["A wrong", *map(str, table[1].tolist())],
    ]
    exact = stats.mcnemar(table)
    (line,) = (line for line in cells(out, "tests") if line[1] == "McNemar, exact")
    assert line[5] == str(min(table[0, 1], table[1, 0])) == f"{exact.statistic:.0f}"
    assert float(line[7]) == pytest.approx(exact.p_value, rel=0.05)
    assert "same proportions" not in out


def test_auc_where_there_are_probabilities(tmp_path: Path, fgaug: Any) -> None:
    truth, _, b = files(tmp_path, 0, 1)
    p = np.where(called(0) == 1, 0.9, 0.1) + np.linspace(-0.05, 0.05, 300)
    a = lines(tmp_path / "p.csv", p)
    found = compare.compare_lines(truth, a, a)
    over_all = found.report[found.report["row"].eq("all images")]
    auc = over_all["auc"].iloc[0]
    assert auc == pytest.approx(stats.auc(TRUTH, p)[0])
    assert "\n│ auc " in fgaug("compare", *options((truth, a, a)))[1]
    assert compare.compare_lines(truth, a, b).report["auc"].isna().all()


@pytest.mark.parametrize("row", ROWS)
def test_one_model_alone_has_its_published_digits(row: int, tmp_path: Path, fgaug: Any) -> None:
    truth, one, _ = files(tmp_path, row, 0)
    code, out, _ = fgaug("compare", "--truth", truth, "--a", one)
    assert code == 0
    accuracy, right, *of_labels = PRINTED[row]
    lines_of = {line[0]: line for line in cells(out, "each label as the positive class")}
    for label, printed in zip("01", of_labels, strict=True):
        _, _, precision, recall, _, f1 = lines_of[label]
        assert [rounded(text) for text in (precision, recall, f1)] == list(printed)
    assert f"0{accuracy}" in out
    assert right in out
    assert "McNemar" not in out
    assert " B " not in out
    assert "300 images, each counted as its own patient (no patient column)" in out


def test_one_model_alone_is_the_same_as_beside_another(tmp_path: Path, fgaug: Any) -> None:
    truth, one, other = files(tmp_path, 1, 3)
    alone = compare.describe_lines(truth, one)
    beside = compare.compare_lines(truth, one, other)
    pd.testing.assert_frame_equal(
        alone.report,
        beside.report[beside.report["model"].eq("A")].drop(columns="model").reset_index(drop=True),
    )
    assert alone.scores["value"].tolist() == pytest.approx(
        beside.scores["a"].tolist(), nan_ok=True
    )
    given = ("compare", "--truth", truth, "--a", one, "--format")
    found = json.loads(fgaug(*given, "json")[1])
    assert found["n_images"] == 300
    assert not found["grouped"]
    frame = pd.read_csv(io.StringIO(fgaug(*given, "csv")[1]))
    counts = frame[frame["part"].eq("confusion")]
    assert (counts[["tn", "fp", "fn", "tp"]].sum(axis=1) == 300).all()
    assert set(frame["part"]) == {"text", "report", "confusion", "scores"}


@pytest.mark.parametrize("labels", [("b", "m"), ("a", "b", "c"), ("NA", "None", "x y")])
def test_one_table_of_predictions_alone(
    labels: tuple[str, ...], tmp_path: Path, fgaug: Any
) -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(len(labels)), 40)
    frame = pd.DataFrame({"image_id": [f"i{n}" for n in range(40)]})
    frame["label"] = [labels[n % len(labels)] for n in range(40)]
    frame["group"] = [f"p{n // 2}" for n in range(40)]
    frame = frame.assign(**{f"p_{label}": p[:, at] for at, label in enumerate(labels)})
    frame.to_csv(tmp_path / "one.csv", index=False)
    code, out, _ = fgaug("compare", tmp_path / "one.csv")
    assert code == 0
    assert "40 images of 20 patients" in out
    assert "each counted as its own patient" not in out
    assert all(label in out for label in labels)
    assert "auc" in out
