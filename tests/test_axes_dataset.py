"""The axis `dataset`: several preparations of one set of patients in one grid."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_grid import grid as small_grid
from small_grid import phantom_dataset

from fgaug.analysis.findings.analysis import Analysis, analyse
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.analysis.report.collect import material
from fgaug.analysis.report.contents import sections
from fgaug.analysis.report.parts import Table
from fgaug.core.paths import RunPaths
from fgaug.data import Dataset, open_dataset
from fgaug.data.dataset import write_dataset
from fgaug.errors import GridError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.cells import Cell
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.runs import folder, results
from fgaug.runs.results import TrialResult
from fgaug.runs.row import identity_columns, metrics
from fgaug.runs.trial import run_trial
from fgaug.stats import arms_of, contrast, influence_of
from fgaug.study import generators, planner
from fgaug.study.replay import replay
from fgaug.training.metrics import evaluate
from gan_worker.filling.fill import fill

AXES = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2]}


def other_pixels(dataset: Dataset, root: Path, **changes: Any) -> Dataset:
    """Write a dataset that differs from another in its pixels alone, and in `changes`."""
    pixels = 255 - np.asarray(dataset.pixels())
    digests = [f"{row:064x}" for row in range(len(dataset))]
    table = dataset.manifest.assign(sha256=digests, **changes)
    return write_dataset(root, dataclasses.replace(dataset.spec), table, [pixels])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the datasets `dataset` and `crop`."""
    folder = tmp_path_factory.mktemp("preparations")
    phantom_dataset(folder)
    other_pixels(open_dataset(folder / "dataset"), folder / "crop")
    return folder


def raw(root: Path, **changes: Any) -> dict[str, Any]:
    named = {
        "whole": {"path": str(root / "dataset"), "bank": str(root / "bank-whole")},
        "crop": {"path": str(root / "crop"), "bank": str(root / "bank-crop")},
    }
    value = small_grid(root, axes={**AXES, "dataset": named})
    del value["bank"], value["dataset"]
    return {**value, **changes}


def space(root: Path, **changes: Any) -> Space:
    return parse_space(raw(root, **changes))


def alone(root: Path, name: str, bank: str) -> tuple[Cell, ...]:
    """Return the cells of a grid with one dataset."""
    one = small_grid(root, axes=AXES, dataset=str(root / name), bank=str(root / bank))
    return planner.plan(parse_space(one), root / "alone").cells


class TestGrid:
    def test_cells_are_those_of_two_grids(self, root: Path) -> None:
        planned = planner.plan(space(root, cells=8), root / "run")
        ids = {
            name: {c.cell_id for c in planned.cells if c.dataset == name}
            for name in ("whole", "crop")
        }
        assert ids["whole"] == {cell.cell_id for cell in alone(root, "dataset", "bank-whole")}
        assert ids["crop"] == {cell.cell_id for cell in alone(root, "crop", "bank-crop")}
        assert [cell.seed for cell in planned.cells] == [1] * 4 + [2] * 4
        assert planned.cells[0].described == "baseline dataset whole seed 1"
        assert {needs.source.store.uri for needs in planned.needs} == {
            str(root / "bank-whole"), str(root / "bank-crop")
        }  # fmt: skip
        for cell in planned.cells:
            assert identity_columns(cell)["dataset"] == cell.dataset
            sources = planned.sources[cell.source]
            name = "dataset" if cell.dataset == "whole" else "crop"
            assert sources.dataset == str((root / name).resolve())
            assert str(sources.bank).endswith(f"bank-{cell.dataset}")
            assert planned.reals[cell.view].count("dbp") > 0

    def test_a_baseline_and_a_twin_per_dataset(self, root: Path) -> None:
        planned = planner.plan(space(root, controls=["oversample"]), root / "run")
        counts = Counter((cell.mode, cell.dataset) for cell in planned.cells)
        assert set(counts.values()) == {2}
        assert len(counts) == 6

    def test_baselines_alone_need_no_bank(self, root: Path) -> None:
        named = {"whole": str(root / "dataset"), "crop": str(root / "crop")}
        axes = {"mode": ["baseline"], "seed": [1], "dataset": named}
        value = raw(root, axes=axes)
        del value["generator"]
        planned = planner.plan(parse_space(value), root / "run")
        assert [cell.dataset for cell in planned.cells] == ["whole", "crop"]
        assert planned.needs == ()

    def test_resolved_and_read_again(self, root: Path) -> None:
        resolved = space(root).to_yaml()
        assert parse_space(yaml.safe_load(resolved)) == space(root)
        plain = parse_space(small_grid(root, axes=AXES))
        assert "dataset" not in yaml.safe_load(plain.to_yaml())["axes"]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"dataset": "elsewhere"}, "`dataset` is elsewhere, but `axes.dataset` does not name"),
            ({"bank": "b"}, "`bank` is given at the top level"),
            ({"confirmation": {}}, "`confirmation` needs one dataset"),
            ({"cells": 4}, "`cells` is 4, but the grid has 8"),
            ({"axes.filter": ["agrees"]}, "`filter` needs one dataset"),
            ({"axes.dataset": {"whole": "a"}}, "two names or more"),
            ({"axes.dataset": {"a": "same", "b": "same"}}, "share the dataset same"),
            ({"axes.dataset": {"a": "1", "b/c": "2"}}, "letters, digits, dots"),
            (
                {"axes.dataset": {"a": "1", "b": {"bank": "2"}}},
                r"`axes\.dataset\.b\.path` is missing",
            ),
            ({"axes.dataset": {"a": "1", "b": "2"}}, r"`axes.dataset.a.bank`, .* is missing"),
        ],
    )
    def test_conflicts(self, root: Path, change: dict[str, Any], told: str) -> None:
        value = raw(root)
        for key, given in change.items():
            of = value["axes"] if key.startswith("axes.") else value
            of[key.removeprefix("axes.")] = given
        with pytest.raises(GridError, match=told):
            parse_space(value)


class TestSameImages:
    @pytest.mark.parametrize(
        ("column", "told"),
        [
            ("label", r"`label` of 1 image differs, such as \S+ \("),
            ("group", "`group` of 1 image differs"),
            ("split", "`split` of 1 image differs"),
        ],
    )
    def test_what_differs_is_named(
        self, root: Path, tmp_path: Path, column: str, told: str
    ) -> None:
        data = open_dataset(root / "dataset")
        values = data.manifest[column].tolist()
        alone = data.manifest["group"].map(data.manifest["group"].value_counts()).to_numpy()
        place = int(np.argmin(alone))
        values[place] = {"label": {"dbp": "trv", "trv": "dbp"}.get(str(values[place])),
                         "group": 10**6,
                         "split": {"train": "valid", "valid": "train"}.get(str(values[place]))}[
            column
        ]  # fmt: skip
        other_pixels(data, tmp_path / "crop", **{column: values})
        value = raw(root)
        value["axes"]["dataset"]["crop"]["path"] = str(tmp_path / "crop")
        with pytest.raises(GridError, match=told):
            planner.plan(parse_space(value), tmp_path / "run")

    def test_another_set(self, root: Path, tmp_path: Path) -> None:
        phantom_dataset(tmp_path, images=40)
        value = raw(root)
        value["axes"]["dataset"]["crop"]["path"] = str(tmp_path / "dataset")
        with pytest.raises(GridError, match="20 images are not in the second, such as"):
            planner.plan(parse_space(value), tmp_path / "run")
        value["axes"]["dataset"]["crop"]["path"] = str(tmp_path / "nothing")
        with pytest.raises(GridError, match=r"`axes\.dataset\.crop`: .* does not exist"):
            planner.plan(parse_space(value), tmp_path / "run")


@pytest.fixture(scope="module")
def run(root: Path) -> RunPaths:
    """Return a finished run, made without Ray: seed 1 is trained, seed 2 drawn at random."""
    planned = planner.plan(space(root), root / "run")
    for needs in planned.needs:
        source = needs.source
        fill(source.store, source.spec, generators.label_sources(source), needs.missing)
    folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    rng = np.random.default_rng(0)
    trained: dict[str | None, TrialResult] = {}
    for cell in sorted(planned.cells, key=lambda cell: (cell.mode != "baseline", cell.seed)):
        if cell.mode == "baseline" and cell.seed == 1:
            trained[cell.dataset] = run_trial(cell, planned.sources[cell.source])
            result = trained[cell.dataset]
        else:
            like = trained[cell.dataset]
            y = like.predictions["label"].eq("trv").to_numpy(np.int64)
            p = 1 / (1 + np.exp(-rng.normal((y - 0.5) * (1 + (cell.dataset == "crop")), 1)))
            scores = metrics(evaluate(y, np.column_stack([1 - p, p]), ("dbp", "trv")))
            result = TrialResult(
                row={**like.row, **identity_columns(cell), **scores},
                curve=like.curve,
                predictions=like.predictions.assign(p_dbp=1 - p, p_trv=p),
                sealed=None,
            )
        results.write_trial(planned.run.trial(cell.cell_id), result)
    return planned.run


@pytest.fixture(scope="module")
def found(run: RunPaths) -> Analysis:
    return analyse(load_evidence(run.root), AnalysisPlan(), resamples=20)


class TestRun:
    def test_each_cell_trains_on_its_dataset(self, root: Path, run: RunPaths) -> None:
        rows = results.load_results(run.root)
        digests = {
            name: open_dataset(root / at).spec.digest
            for name, at in (("whole", "dataset"), ("crop", "crop"))
        }
        trained = rows[rows["mode"].eq("baseline") & rows["seed"].eq(1)]
        assert len(trained) == 2
        for row in trained.itertuples():
            assert row.dataset_digest == digests[str(row.dataset)]
        assert trained["valid_loss"].nunique() == 2

    def test_arms_have_the_baseline_of_their_dataset(self, run: RunPaths, found: Analysis) -> None:
        arms = found.arms.set_index("arm_id")
        for arm in found.arms.itertuples():
            if isinstance(arm.baseline_id, str):
                assert arms.loc[arm.baseline_id, "family"] == arm.family
        assert found.arms["baseline_id"].nunique() == 2
        assert found.comparisons.query("metric == 'auc'").shape[0] >= 2

    def test_datasets_are_compared_by_patient(self, run: RunPaths, found: Analysis) -> None:
        """A pair alone has the numbers of `stats.contrast` on the paired predictions."""
        table = found.datasets
        assert table["dataset"].tolist() == ["whole", "whole"]
        assert table["against"].tolist() == ["crop", "crop"]
        assert set(table["arm"]) == {"baseline", "augmentation psi 1 ratio 1"}
        evidence = load_evidence(run.root)
        rows, images = evidence.rows, evidence.images["dataset"]
        arms = [*dict.fromkeys([*table["arm_id"], *table["against_id"]])]
        cells = [(place, c) for place, arm in enumerate(arms)
                 for c in rows.loc[rows["arm_id"].eq(arm), "cell_id"]]  # fmt: skip
        p = np.stack([evidence.probability[c] for _, c in cells]).astype(float)
        groups = pd.factorize(images["group"])[0]
        measured = influence_of("auc", images["y"].to_numpy(), p, group=groups)
        each = arms_of(measured, np.array([place for place, _ in cells]))
        for row in table.itertuples():
            weights = np.zeros(len(arms))
            weights[arms.index(str(row.arm_id))] += 1
            weights[arms.index(str(row.against_id))] -= 1
            one = contrast(each, weights)
            assert row.effect == pytest.approx(one.difference, abs=1e-9)
            assert row.ci_low <= one.ci_low + 1e-9, "simultaneous over both pairs"
            assert row.n_patients == images["group"].nunique()

    def test_report(self, run: RunPaths) -> None:
        chapters = {section.key: section for section in sections(material(run.root))}
        (table,) = chapters["datasets"].parts
        assert isinstance(table, Table)
        assert table.text["arm"].tolist() == table.frame["arm"].tolist()
        assert len(table.text) == 2

    def test_replayed(self, run: RunPaths) -> None:
        rows = results.load_results(run.root)
        mine = rows[rows["dataset"].eq("crop") & rows["mode"].eq("baseline") & rows["seed"].eq(1)]
        assert replay(run.root, str(mine["cell_id"].iloc[0]), device="cpu").same

    def test_confirmation_and_dry_run(self, root: Path, run: RunPaths, fgaug: Any) -> None:
        code, _, err = fgaug("confirm", run.root, "--arm", "augmentation")
        assert code == 2
        assert "has several datasets" in " ".join(err.split())
        (root / "grid.yaml").write_text(yaml.safe_dump(raw(root)), encoding="utf-8")
        code, out, _ = fgaug("search", root / "grid.yaml", "--dry-run", "--out", run.root)
        assert code == 0
        assert "finished: 8, to train: 0" in out
        printed = "".join(out.split())  # lines may break within a path
        assert "(whole)" in printed
        assert "(crop)" in printed
