"""F1, averages, specificity and confusion matrices of every arm, against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import made_report
import numpy as np
import pandas as pd
import pytest
from made_report import ARMS, BEST, arm_id, made_evidence, made_material, made_rows
from sklearn import metrics as reference

from fgaug.analysis.findings.evidence import Evidence
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.chapters.arm_scores import score_table
from fgaug.analysis.report.chapters.confusion import MOST_SMALL, every_arm, matrices_of
from fgaug.analysis.report.chapters.per_label import per_label
from fgaug.analysis.report.chapters.predictions import scored
from fgaug.analysis.report.contents import sections
from fgaug.analysis.report.drawing import LIGHT, encoded
from fgaug.analysis.report.files import draw_all, write_files
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.parts import Plot, Table
from fgaug.training.metrics import evaluate

SEEDS = 3


def run_of(labels: tuple[str, ...], *, never: bool = False) -> Material:
    """Return a run whose rows are the metrics of its predictions.

    Args:
        labels: of the images; the last one is rare.
        never: the last label is never predicted.
    """
    random = np.random.default_rng(len(labels))
    images, size = 80, len(labels)
    y = np.minimum(random.integers(0, 2 * size - 1, images), size - 1)
    y[:size] = np.arange(size)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(images)],
            "group": np.arange(images) // 2,
            "label": np.take(labels, y),
            "y": y,
        }
    )
    rows, probability = made_rows(SEEDS), {}
    rows = rows[[name for name in rows if not name.startswith(("precision_", "recall_"))]]
    found = []
    for cell, status in zip(rows["cell_id"], rows["status"], strict=True):
        p = random.dirichlet(np.ones(size), images) + 0.8 * np.eye(size)[y]
        p[:, -1] *= 0 if never else 1
        p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
        if status == "ok":
            probability[cell] = p
        scores = evaluate(y, p.astype(np.float64), labels)
        whole = ("precision_", "recall_", "specificity_")
        found.append({k if k.startswith(whole) else f"valid_{k}": v for k, v in scores.items()})
    rows = rows.assign(**pd.DataFrame(found).to_dict("series"))
    evidence = Evidence(
        rows=rows,
        labels=labels,
        images={"dataset": frame},
        probability=probability,
        missing=pd.DataFrame(columns=["cell_id", "status"]),
    )
    return made_material(rows=rows, arms=by_arm(rows), evidence=evidence, analysis=None)


def calls(material: Material, arm: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the true labels, and the predicted ones of each seed of an arm."""
    evidence = material.evidence
    assert evidence is not None
    cells = [f"{arm}-{seed}" for seed in range(SEEDS)]
    y = evidence.images["dataset"]["y"].to_numpy()
    return y, [evidence.probability[cell].argmax(axis=1) for cell in cells]


def specificity(y: np.ndarray, called: np.ndarray, label: int) -> float:
    """Return scikit-learn's recall of the images without the label."""
    return float(reference.recall_score(y != label, called != label))


RUNS = pytest.mark.parametrize(
    ("labels", "never"),
    [(("benign", "malignant"), False), (("a", "b", "c", "d"), False), (("a", "b", "c"), True)],
)


@RUNS
def test_averages_of_every_arm_are_those_of_scikit_learn(
    labels: tuple[str, ...], never: bool
) -> None:
    material = run_of(labels, never=never)
    arms = material.arms.set_index("arm_id")
    scores = per_label(material).set_index(["arm_id", "label"])
    for mode, psi, ratio, gain in ARMS:
        arm = arm_id(mode, psi, ratio)
        if np.isnan(gain):  # pruned
            assert arms.loc[arm, "valid_f1_macro_mean":"valid_specificity_macro_min"].isna().all()
            continue
        y, called = calls(material, arm)
        macro = np.array(
            [
                reference.precision_recall_fscore_support(
                    y, each, average="macro", zero_division=0
                )[:3]
                for each in called
            ]
        )
        weighted = np.array(
            [
                reference.precision_recall_fscore_support(
                    y, each, average="weighted", zero_division=0
                )[:3]
                for each in called
            ]
        )
        negative = [[specificity(y, each, k) for k in range(len(labels))] for each in called]
        whole = np.mean(negative, axis=1)
        own = arms.loc[arm]
        expected = {"f1": macro[:, 2], "recall": macro[:, 1], "specificity": whole}
        for name, values in expected.items():
            assert own[f"valid_{name}_macro_mean"] == pytest.approx(values.mean()), name
            assert own[f"valid_{name}_macro_sd"] == pytest.approx(values.std()), name
            assert own[f"valid_{name}_macro_max"] == pytest.approx(values.max()), name
        rows = {kind: scores.loc[(arm, f"{kind} avg")] for kind in ("macro", "weighted")}
        for kind, values in (("macro", macro), ("weighted", weighted)):
            assert rows[kind]["f1-score_mean"] == pytest.approx(values[:, 2].mean())
            assert rows[kind]["recall_std"] == pytest.approx(values[:, 1].std())
            assert rows[kind]["support_mean"] == len(y)
        assert rows["macro"]["specificity_mean"] == pytest.approx(whole.mean())
        if never:  # scikit-learn says 0 where fgaug says undefined
            assert np.isnan(own["valid_precision_macro_mean"])
            assert np.isnan(rows["macro"]["precision_mean"])
        else:
            assert own["valid_precision_macro_mean"] == pytest.approx(macro[:, 0].mean())
            assert rows["weighted"]["precision_mean"] == pytest.approx(weighted[:, 0].mean())


def test_of_two_labels_the_second_is_the_positive() -> None:
    material = run_of(("benign", "malignant"))
    table = score_table(material, per_label(material))
    assert table is not None
    row = table.frame.set_index("arm_id").loc[BEST]
    y, called = calls(material, BEST)
    recalls = np.array([reference.recall_score(y, each, average=None) for each in called])
    assert row["sensitivity_mean"] == pytest.approx(recalls[:, 1].mean())
    assert row["specificity_mean"] == pytest.approx(recalls[:, 0].mean())
    assert row["specificity_std"] == pytest.approx(recalls[:, 0].std())
    assert row["specificity_macro_mean"] == pytest.approx(row["recall_macro_mean"])
    assert {"F1 macro", "specificity macro", "specificity, malignant"} <= set(table.text)
    assert "the positive one is malignant" in table.note
    finished = [arm for arm in ARMS if not np.isnan(arm[3])]
    assert len(table.text) == len(table.frame) == len(finished)


def test_more_labels_have_no_positive_one() -> None:
    material = run_of(("a", "b", "c"))
    table = score_table(material, per_label(material))
    assert table is not None
    assert not {"sensitivity_mean", "specificity_mean"} & set(table.frame)
    assert "specificity_macro_mean" in table.frame


@RUNS
def test_matrices_of_every_trial_and_arm(labels: tuple[str, ...], never: bool) -> None:
    material = run_of(labels, never=never)
    figure, arms, runs = every_arm(material)
    assert isinstance(figure, Plot)
    assert isinstance(arms, Table)
    assert isinstance(runs, Table)
    assert encoded(figure.draw(LIGHT), "png")
    finished = [arm_id(*arm[:3]) for arm in ARMS if not np.isnan(arm[3])]
    assert list(arms.frame["arm_id"].unique()) == [
        arm for arm in material.arms["arm_id"] if arm in finished
    ]
    for arm in finished:
        y, called = calls(material, arm)
        expected = [
            reference.confusion_matrix(y, each, labels=range(len(labels))) for each in called
        ]
        for seed, table in enumerate(expected):
            own = runs.frame[runs.frame["cell_id"].eq(f"{arm}-{seed}")]
            assert own["images"].to_numpy().reshape(table.shape).tolist() == table.tolist()
            assert own["seed"].eq(seed).all()
        own = arms.frame[arms.frame["arm_id"].eq(arm)]
        assert own["images_mean"].to_numpy() == pytest.approx(np.mean(expected, axis=0).ravel())
        assert own["images_sd"].to_numpy() == pytest.approx(np.std(expected, axis=0).ravel())
        assert own["seeds"].eq(SEEDS).all()
    size = len(labels)
    assert len(arms.text) == len(finished) * size
    assert [f"predicted {label}" for label in labels] == list(arms.text)[2 : 2 + size]


def test_trials_of_a_second_stage_stay_out_of_the_matrices() -> None:
    rows = made_rows(SEEDS)
    later = rows["cell_id"].eq(f"{BEST}-2")
    evidence = made_evidence(rows.assign(stage=np.where(later, "confirm", "screen")))
    assert f"{BEST}-2" not in matrices_of(evidence)
    assert f"{BEST}-1" in matrices_of(evidence)
    found = scored(evidence, BEST)
    assert found is not None
    assert len(found.confusion) == SEEDS - 1


def test_a_thesis_of_36_arms_fits_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    arms = [("augmentation", psi, ratio, psi) for psi in (0.3, 0.5, 0.7, 1.0) for ratio in sizes]
    monkeypatch.setattr(made_report, "ARMS", (("baseline", None, None, 0.0), *arms))
    material = made_material(rows=made_rows(5), analysis=None)
    figure, _, runs = every_arm(material)
    assert isinstance(figure, Plot)
    assert "more arm" not in figure.caption
    assert len(encoded(figure.draw(LIGHT), "svg")) < 250_000
    assert isinstance(runs, Table)
    assert len(runs.frame) == 37 * 5 * 4
    assert runs.text.empty, "trials are in the CSV file alone"
    more = [("augmentation", psi, 1.0, 0.1) for psi in np.linspace(0.1, 1, MOST_SMALL)]
    monkeypatch.setattr(made_report, "ARMS", (("baseline", None, None, 0.0), *more))
    figure, table, _ = every_arm(made_material(rows=made_rows(1), analysis=None))
    assert isinstance(figure, Plot)
    assert figure.caption.endswith("1 more arm in the table.")
    assert isinstance(table, Table)
    assert table.frame["arm_id"].nunique() == MOST_SMALL + 1


def test_the_report_writes_them(tmp_path: Path) -> None:
    found = [
        each for each in sections(run_of(("a", "b", "c"))) if each.key in ("tables", "predictions")
    ]
    write_files(tmp_path, found, draw_all(found, png=False))
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"scores.csv", "scores.tex", "confusion_counts.csv", "confusion_counts.tex"} <= names
    assert "confusion_runs.csv" in names
    assert (tmp_path / "figures" / "confusion_arms.svg").is_file()
    labels = pd.read_csv(tmp_path / "tables" / "table_1_augmentation_psi_0.5_labels.csv")
    assert list(labels["label"][:5]) == ["a", "b", "c", "macro avg", "weighted avg"]
    assert {"specificity_mean", "specificity_std"} <= set(labels)
