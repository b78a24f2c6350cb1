"""Folds: each patient is held out once, by networks that never saw them."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from folded_dataset import folded_dataset
from PIL import Image
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score
from small_grid import grid as small_grid
from small_grid import phantom_dataset

from fgaug.analysis.compare.compare import compare, describe
from fgaug.analysis.findings.analysis import analyse
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.analysis.power.pilot import pilot_of
from fgaug.analysis.report.collect import material
from fgaug.analysis.report.contents import sections
from fgaug.analysis.report.parts import Table, Text
from fgaug.core.paths import RunPaths
from fgaug.data import Dataset, open_dataset
from fgaug.data.folds import HELD_OUT, next_fold
from fgaug.data.prepare import prepare
from fgaug.errors import DataError, GridError, RunError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.cells import Cell, Context, cells_of, from_dict, to_dict
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.space import Space
from fgaug.runs import folder, results
from fgaug.runs.preregistration import plan_of
from fgaug.runs.results import TrialResult
from fgaug.runs.row import identity_columns, metrics
from fgaug.runs.status import read
from fgaug.runs.trial import run_trial
from fgaug.study import generators, planner
from fgaug.study.replay import replay
from fgaug.study.tune.policy import arms_of, check_seeds
from fgaug.training.metrics import evaluate
from gan_worker.filling.fill import fill
from gan_worker.training.images import training_images, write_trained_on


class SameWeights(dict[str, str]):
    """Weights of one content for every recipe."""

    def __missing__(self, key: str) -> str:
        return "sha-of-weights"


CONTEXT = Context(
    dataset_digest="d" * 64, generator={"kind": "stub"}, pool=100, weights=SameWeights()
)
NETWORK = Path(__file__).parent / "data" / "stylegan2" / "a.pkl"  # 32 px, 1 channel
AXES = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2]}


def space(
    root: Path, fold: Any = (1, 2, 3), axes: Mapping[str, Any] | None = None, **top: Any
) -> Space:
    fold = list(fold) if isinstance(fold, tuple) else fold
    return parse_space(small_grid(root, axes={**AXES, "fold": fold, **(axes or {})}, **top))


def cells(root: Path, fold: Any = (1, 2, 3), **top: Any) -> tuple[Cell, ...]:
    found = space(root, fold, **top)
    return cells_of(found, expand(found), {None: CONTEXT})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return folded_dataset(root)


class TestViews:
    def test_every_patient_is_held_out_once(self, data: Dataset) -> None:
        seen: Counter[str] = Counter()
        for fold in data.spec.folds:
            table = data.with_split(f"fold-{fold}").manifest
            sides = {name: set(rows["group"]) for name, rows in table.groupby("split")}
            assert set(sides) == {"train", "valid", HELD_OUT}
            assert sum(map(len, sides.values())) == table["group"].nunique(), "no patient twice"
            assert set(table.loc[table["split"] == HELD_OUT, "fold"]) == {fold}
            assert set(table.loc[table["split"] == "valid", "fold"]) == {fold % 3 + 1}
            seen.update(table.loc[table["split"] == HELD_OUT, "image_id"])
        assert seen == Counter(data.manifest["image_id"])

    def test_the_next_fold_in_order_stops(self) -> None:
        assert [next_fold(fold, (7, 0, 3)) for fold in (0, 3, 7)] == [3, 7, 0]

    def test_reopened_with_its_folds(self, data: Dataset) -> None:
        again = open_dataset(data.root)
        assert again.spec == data.spec
        assert again.spec.folds == (1, 2, 3)
        assert again.manifest["fold"].tolist() == data.manifest["fold"].tolist()

    def test_folds_are_part_of_the_digest(self, data: Dataset, tmp_path: Path) -> None:
        other = folded_dataset(tmp_path, folds=4)
        plain = open_dataset(tmp_path / "without" / "dataset")
        assert len({data.spec.digest, other.spec.digest, plain.spec.digest}) == 3
        assert "folds" not in json.loads((plain.root / "dataset.json").read_text())

    def test_unknown_fold_and_no_folds(self, data: Dataset, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no fold 4; its folds are 1, 2, 3"):
            data.with_split("fold-4")
        plain = open_dataset(phantom_dataset(tmp_path))
        with pytest.raises(DataError, match="--fold-col"):
            plain.with_split("fold-1")


class TestPrepare:
    @pytest.fixture
    def table(self, tmp_path: Path) -> pd.DataFrame:
        """Write 24 small images of 12 patients, and return their table."""
        rng = np.random.default_rng(0)
        (tmp_path / "images").mkdir()
        rows = []
        for number in range(24):
            name = f"{number:02}.png"
            pixels = rng.integers(0, 255, (4, 4), np.uint8)  # blocks: no two images look alike
            image = Image.fromarray(np.kron(pixels, np.ones((8, 8), np.uint8)))
            image.save(tmp_path / "images" / name)
            patient = number // 2
            rows.append((name, "ab"[number % 2], f"p{patient}", patient % 3 + 1))
        return pd.DataFrame(rows, columns=["image", "label", "patient", "kFold"])

    def prepared(self, root: Path, table: pd.DataFrame, **changes: Any) -> Dataset:
        table.to_csv(root / "table.csv", index=False)
        asked = {"group_col": "patient", "fold_col": "kFold", **changes}
        return prepare(
            out=root / "out", size=32, csv=root / "table.csv", images=root / "images", **asked
        )

    def test_folds_of_a_table(self, tmp_path: Path, table: pd.DataFrame) -> None:
        found = self.prepared(tmp_path, table)
        assert found.spec.folds == (1, 2, 3)
        assert found.manifest["fold"].tolist() == table["kFold"].tolist()
        assert found.spec.source["columns"]["fold"] == "kFold"

    def test_whole_numbers_of_a_spreadsheet(self, tmp_path: Path, table: pd.DataFrame) -> None:
        found = self.prepared(tmp_path, table.assign(kFold=table["kFold"].astype(float) - 1))
        assert found.spec.folds == (0, 1, 2)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({5: "2"}, r"1 patient in more than one fold: p2 \(folds 2, 3\).*--group-col"),
            ({5: "two"}, "not whole numbers from 0 to 9999: two.*Number the folds"),
            ({5: "-1"}, "not whole numbers"),
            ({5: ""}, 'without "kFold": 05.png'),
        ],
    )
    def test_unusable_folds(
        self, tmp_path: Path, table: pd.DataFrame, change: dict[int, str], told: str
    ) -> None:
        folds = [change.get(row, str(fold)) for row, fold in enumerate(table["kFold"])]
        with pytest.raises(DataError, match=told):
            self.prepared(tmp_path, table.assign(kFold=folds))
        assert not (tmp_path / "out").exists()

    def test_too_few_folds_and_a_fold_without_a_label(
        self, tmp_path: Path, table: pd.DataFrame
    ) -> None:
        with pytest.raises(DataError, match=r"at least 3 folds are needed.*there are 2"):
            self.prepared(tmp_path, table.assign(kFold=table["kFold"].clip(upper=2)))
        without = table[(table["kFold"] != 3) | (table["label"] == "a")]
        with pytest.raises(DataError, match="fold 3 has no image of label b"):
            self.prepared(tmp_path, without)

    def test_no_sealed_test_set_beside_folds(self, tmp_path: Path, table: pd.DataFrame) -> None:
        with pytest.raises(DataError, match="no test set can stay sealed"):
            self.prepared(tmp_path, table, test=0.2)
        split = table.assign(split=np.where(table["kFold"] == 1, "test", "train"))
        with pytest.raises(DataError, match="8 test images"):
            self.prepared(tmp_path, split, split_col="split")

    def test_a_copy_in_another_fold(self, tmp_path: Path, table: pd.DataFrame) -> None:
        twin = (tmp_path / "images" / "00.png").read_bytes()
        (tmp_path / "images" / "02.png").write_bytes(twin)  # of the next patient, in fold 2
        with pytest.raises(DataError, match="exact duplicate"):
            self.prepared(tmp_path, table)

    def test_only_where_a_table_has_them(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="--csv and --preset bus-bra"):
            prepare(out=tmp_path / "out", size=32, preset="phantom", fold_col="kFold")
        with pytest.raises(DataError, match="only bus-bra has them"):
            prepare(out=tmp_path / "o", size=32, preset="busi", source=tmp_path, fold_col="fold")

    def test_published_folds_of_bus_bra(self, tmp_path: Path, table: pd.DataFrame) -> None:
        for name in table["image"]:
            (tmp_path / "images" / name).rename(tmp_path / "images" / f"bus_{name}")
        named = table.assign(
            ID="bus_" + table["image"].str.removesuffix(".png"),
            Case=table["patient"].str.removeprefix("p").astype(int),
            Pathology=table["label"].map({"a": "benign", "b": "malignant"}),
            Device="one",
        )
        named[["ID", "Case", "Pathology", "Device"]].to_csv(tmp_path / "bus_data.csv", index=False)
        asked: dict[str, Any] = {"preset": "bus-bra", "source": tmp_path, "images": "images"}
        asked |= {"out": tmp_path / "out", "size": 32, "fold_col": "kFold"}
        with pytest.raises(DataError, match=r"5-fold-cv\.csv"):
            prepare(**asked)
        folds = tmp_path / "5-fold-cv.csv"
        named[["ID", "Pathology", "kFold"]].to_csv(folds, index=False)
        with pytest.raises(DataError, match='"fold" is missing'):
            prepare(**{**asked, "fold_col": "fold"})
        assert prepare(**asked).spec.folds == (1, 2, 3)
        named.loc[1:, ["ID", "Pathology", "kFold"]].to_csv(folds, index=False)
        with pytest.raises(DataError, match="no fold for bus_00"):
            prepare(**{**asked, "out": tmp_path / "other"})


class TestCells:
    def test_an_arm_spans_its_folds(self, tmp_path: Path) -> None:
        found = cells(tmp_path)
        assert len(found) == len({cell.cell_id for cell in found}) == 2 * 2 * 3
        assert len({cell.arm_id for cell in found}) == 2
        assert Counter(cell.fold for cell in found) == {1: 4, 2: 4, 3: 4}
        assert all(from_dict(to_dict(cell)) == cell for cell in found)
        assert found[0].described == "baseline fold 1 seed 1"

    def test_more_folds_keep_arms_and_cells(self, tmp_path: Path) -> None:
        few, many = cells(tmp_path, (1, 2)), cells(tmp_path)
        assert {cell.cell_id for cell in few} < {cell.cell_id for cell in many}
        assert {cell.arm_id for cell in few} == {cell.arm_id for cell in many}

    def test_other_grids_keep_their_cells(self, tmp_path: Path) -> None:
        plain = parse_space(small_grid(tmp_path, axes=AXES))
        assert "fold" not in yaml.safe_load(plain.to_yaml())["axes"]
        ids = {cell.cell_id for cell in cells_of(plain, expand(plain), {None: CONTEXT})}
        assert not ids & {cell.cell_id for cell in cells(tmp_path)}

    def test_controls_and_include_follow_the_folds(self, tmp_path: Path) -> None:
        further = {"mode": "synthetic", "psi": 0.5, "ratio": 2}
        found = cells(tmp_path, controls=["oversample"], include=[further])
        assert Counter(cell.mode for cell in found) == dict.fromkeys(
            ("baseline", "oversample", "augmentation", "synthetic"), 6
        )

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"axes": {"split": [1]}}, "both choose the patients"),
            ({"include": [{"mode": "baseline", "split": 3}]}, "`include.0.split` and"),
            ({"scheduler": {"type": "race"}}, "Use `arm_asha`"),
            ({"scheduler": {"type": "asha"}}, "a hard fold would lose"),
            ({"confirmation": {"screen_seeds": 2, "confirm_seeds": 5}}, "holds out every"),
            ({"cells": 5}, "the grid has 12"),
        ],
    )
    def test_conflicts(self, tmp_path: Path, change: dict[str, Any], told: str) -> None:
        with pytest.raises(GridError, match=told):
            space(tmp_path, **change)

    @pytest.mark.parametrize("fold", ["every", [], [1, "2"], [True], [-1], [1, 1]])
    def test_values(self, tmp_path: Path, fold: Any) -> None:
        with pytest.raises(GridError, match=r"axes\.fold"):
            space(tmp_path, fold)

    def test_seeds_are_counted_not_cells(self, tmp_path: Path, data: Dataset) -> None:
        found = cells(tmp_path)
        planned = plan_of(space(tmp_path), found, data)
        assert (planned.seeds, planned.baseline_seeds) == (2, 2)
        size = planned.sizes["valid, fold 2"]
        assert size["images"] == int((data.manifest["fold"] == 2).sum())
        check_seeds(arms_of(found), 2)
        with pytest.raises(ValueError, match="an arm has 2 seeds"):
            check_seeds(arms_of(found), 3)


class TestPlan:
    def test_all_means_the_folds_of_the_dataset(self, root: Path, data: Dataset) -> None:
        every = planner.plan(space(root, "all", cells=12), root / "run-all")
        named = planner.plan(space(root), root / "run-all")
        assert [c.cell_id for c in every.cells] == [c.cell_id for c in named.cells]
        assert yaml.safe_load(every.space.to_yaml())["axes"]["fold"] == [1, 2, 3]
        with pytest.raises(GridError, match="`cells` is 11, but the grid has 12"):
            planner.plan(space(root, "all", cells=11), root / "run-all")

    def test_folds_that_the_dataset_lacks(self, root: Path, data: Dataset, tmp_path: Path) -> None:
        with pytest.raises(GridError, match="has no fold 7; its folds are 1, 2, 3"):
            planner.plan(space(root, [1, 7]), tmp_path / "run")
        phantom_dataset(tmp_path)
        with pytest.raises(GridError, match=r"has no folds\. Prepare the dataset with --fold-col"):
            planner.plan(space(tmp_path), tmp_path / "run")

    def test_dry_run_by_counts_cannot_know_folds(self, fgaug: Any, tmp_path: Path) -> None:
        label = {"train_no_gan": 9, "valid": 9}
        counts = {"source": "nobody", "size": 32, "labels": {"dbp": label, "trv": {**label}}}
        raw = small_grid(tmp_path, axes={**AXES, "fold": [1, 2, 3]}, counts=counts)
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        code, _, err = fgaug("search", tmp_path / "grid.yaml", "--dry-run")
        assert code == 2
        assert "`axes.fold` needs the dataset's folds" in err

    def test_networks_that_saw_the_held_out_fold(
        self, root: Path, data: Dataset, tmp_path: Path
    ) -> None:
        """A network trained while fold 2 was held out may serve fold 2 alone."""
        files = {}
        for label in ("dbp", "trv"):
            file = tmp_path / f"{label}.pkl"
            file.write_bytes(NETWORK.read_bytes())
            write_trained_on(file, training_images(data.with_split("fold-2"), [label]))
            files[label] = str(file)
        generator = {"snapshots": files, "noise": "const"}
        bank = str(tmp_path / "bank")
        good = space(root, [2], bank=bank, generator=generator)
        assert planner.plan(good, tmp_path / "run").sources[None].leakage == "none"
        with pytest.raises(GridError) as refused:
            planner.plan(space(root, bank=bank, generator=generator), tmp_path / "run")
        told = str(refused.value)
        assert "`axes.fold` 1 and on images of" in told
        assert "while fold 3 is held out (`fgaug gan train --split fold-3`)" in told
        assert "`axes.fold` 2" not in told

    def test_networks_without_a_record(self, root: Path, data: Dataset, tmp_path: Path) -> None:
        file = tmp_path / "n.pkl"
        file.write_bytes(NETWORK.read_bytes())
        generator = {"snapshots": dict.fromkeys(("dbp", "trv"), str(file)), "noise": "const"}
        with pytest.raises(
            GridError, match=r"`axes\.fold` 1, 2, 3: the training images of the net"
        ):
            planner.plan(
                space(root, bank=str(tmp_path / "bank"), generator=generator), tmp_path / "run"
            )


@pytest.fixture(scope="module")
def run(root: Path, data: Dataset) -> RunPaths:
    """Return a finished run of two arms, three folds and two seeds, made without Ray.

    The baselines of seed 1 are trained. The other cells take their rows and curves, with
    probabilities drawn at random: what follows must not depend on how good they are.
    """
    planned = planner.plan(space(root), root / "run")
    (needs,) = planned.needs
    source = needs.source
    fill(source.store, source.spec, generators.label_sources(source), needs.missing)
    folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    rng = np.random.default_rng(3)
    trained: dict[int | None, TrialResult] = {}
    for cell in sorted(planned.cells, key=lambda cell: (cell.mode != "baseline", cell.seed)):
        if cell.mode == "baseline" and cell.seed == 1:
            trained[cell.fold] = run_trial(cell, planned.sources[cell.snapshot])
            result = trained[cell.fold]
        else:
            result = with_other_predictions(trained[cell.fold], cell, rng)
        results.write_trial(planned.run.trial(cell.cell_id), result)
    return planned.run


def with_other_predictions(like: TrialResult, cell: Cell, rng: np.random.Generator) -> TrialResult:
    table = like.predictions
    y = table["label"].eq("trv").to_numpy(np.int64)
    p = 1 / (1 + np.exp(-rng.normal(y - 0.5, 1)))
    scores = metrics(evaluate(y, np.column_stack([1 - p, p]), ("dbp", "trv")))
    return TrialResult(
        row={**like.row, **identity_columns(cell), **scores},
        curve=like.curve,
        predictions=table.assign(p_dbp=1 - p, p_trv=p),
        sealed=None,
    )


@pytest.fixture
def copied(run: RunPaths, tmp_path: Path) -> RunPaths:
    """Return a copy of the run that a test may damage."""
    return RunPaths(Path(shutil.copytree(run.root, tmp_path / "run")))


def lose(run: RunPaths, seed: int, fold: int) -> str:
    """Remove the baseline's cell of a seed and fold from a run, and return its arm."""
    rows = results.load_results(run.root)
    mine = rows[rows["mode"].eq("baseline") & rows["seed"].eq(seed) & rows["fold"].eq(fold)]
    shutil.rmtree(run.trial(str(mine["cell_id"].iloc[0])).root)
    return str(mine["arm_id"].iloc[0])


class TestRun:
    def test_a_cell_predicts_its_own_fold(self, run: RunPaths, data: Dataset) -> None:
        rows = results.load_results(run.root)
        assert len(rows) == 12
        assert rows["status"].eq("ok").all()
        folds = data.manifest.set_index("image_id")["fold"]
        for row in rows.itertuples():
            found = pd.read_parquet(run.trial(str(row.cell_id)).predictions)
            assert set(found["image_id"]) == set(folds.index[folds == row.fold])
            area = roc_auc_score(found["label"] == "trv", found["p_trv"])
            assert row.valid_auc == pytest.approx(area, abs=1e-12)
            assert not run.trial(str(row.cell_id)).sealed.exists()

    def test_the_next_fold_selects_the_checkpoint(self, run: RunPaths, data: Dataset) -> None:
        """The lowest loss of the curve is that of the validation fold, not of the row."""
        rows = results.load_results(run.root)
        trained = rows[rows["mode"].eq("baseline") & rows["seed"].eq(1)]
        for row in trained.itertuples():
            curve = pd.read_parquet(run.trial(str(row.cell_id)).curve)
            best = curve.loc[curve["valid_loss"].idxmin()]
            assert best["step"] == row.best_step
            assert best["valid_loss"] != row.valid_loss

    def test_pooled_auc_and_interval(self, run: RunPaths, data: Dataset) -> None:
        """The pooled AUC is scikit-learn's; the interval is that of sums of images by patient."""
        evidence = load_evidence(run.root)
        predictions = results.load_predictions(run.root)
        rows = results.load_results(run.root)
        assert len(evidence.rows) == 4
        assert set(evidence.images) == {"folds"}
        assert sorted(evidence.images["folds"]["image_id"]) == sorted(data.manifest["image_id"])
        for pooled in evidence.rows.itertuples():
            cells = rows[rows["arm_id"].eq(pooled.arm_id) & rows["seed"].eq(pooled.seed)]
            mine = predictions[predictions["cell_id"].isin(cells["cell_id"])]
            assert len(mine) == len(data)
            y, p = mine["label"].eq("trv").to_numpy(), mine["p_trv"].to_numpy()
            assert abs(pooled.valid_auc - roc_auc_score(y, p)) < 1e-9
            low, high = delong_by_patient(y, p, mine["group"].to_numpy())
            assert abs(pooled.valid_auc_low - low) < 1e-9
            assert abs(pooled.valid_auc_high - high) < 1e-9
            for cell in cells.itertuples():
                assert getattr(pooled, f"valid_auc_fold_{cell.fold}") == cell.valid_auc

    def test_the_verdict_is_over_all_patients(self, run: RunPaths, data: Dataset) -> None:
        found = analyse(load_evidence(run.root), AnalysisPlan(), resamples=20)
        (row,) = found.comparisons.query("metric == 'auc' and against == 'baseline'").to_dict(
            "records"
        )
        assert (row["n_seeds"], row["n_seeds_against"]) == (2, 2)
        assert row["n_patients"] == data.manifest["group"].nunique()
        assert row["n_images"] == len(data)
        assert found.absent.empty
        assert found.arms["name"].tolist() == ["baseline", "augmentation psi 1 ratio 1"]
        assert pilot_of(run.root).n_patients == row["n_patients"]

    def test_a_seed_without_a_fold_does_not_count(self, copied: RunPaths, fgaug: Any) -> None:
        arm = lose(copied, seed=2, fold=3)
        code, _, err = fgaug("results", copied.root, "--by", "arm")
        assert code == 0
        assert err.startswith("Left out: 1 of 4 seeds (over all arms), because not all of their")
        evidence = load_evidence(copied.root)
        assert evidence.rows["cell_id"].tolist().count(f"{arm}#2") == 0
        found = analyse(evidence, AnalysisPlan(), resamples=20)
        lost = found.absent.set_index("cell_id").loc[f"{arm}#2"]
        assert lost["status"] == "incomplete"
        assert lost["why"] == "incomplete: fold 3 is not trained yet"
        counts = found.arms.set_index("arm_id").loc[arm]
        assert (counts["ok"], counts["missing"]) == (1, 1)

    def test_a_failed_fold_names_itself(self, copied: RunPaths) -> None:
        rows = results.load_results(copied.root)
        mine = rows[rows["mode"].eq("baseline") & rows["seed"].eq(1) & rows["fold"].eq(2)].iloc[0]
        row = {**json.loads(mine.to_json()), "status": "failed", "error": "no memory"}
        results.write_row(copied.trial(str(mine["cell_id"])), row)
        found = analyse(load_evidence(copied.root), AnalysisPlan(), resamples=20)
        assert found.absent["why"].tolist() == ["fold 2 failed: no memory"]
        assert found.absent["status"].tolist() == ["failed"]

    def test_a_run_of_one_finished_fold(self, copied: RunPaths) -> None:
        rows = results.load_results(copied.root)
        for row in rows[rows["fold"].ne(1)].itertuples():
            shutil.rmtree(copied.trial(str(row.cell_id)).root)
        evidence = load_evidence(copied.root)
        assert evidence.rows.empty
        assert evidence.missing["status"].tolist() == ["incomplete"] * 4

    def test_folds_of_two_datasets_do_not_mix(self, copied: RunPaths) -> None:
        rows = results.load_results(copied.root)
        one = pd.read_parquet(copied.trial(str(rows["cell_id"].iloc[0])).predictions)
        for row in rows[rows["fold"].eq(rows["fold"].iloc[0] % 3 + 1)].itertuples():
            path = copied.trial(str(row.cell_id)).predictions
            pd.concat([pd.read_parquet(path), one]).to_parquet(path)
        with pytest.raises(RunError, match="held out in more than one fold"):
            load_evidence(copied.root)

    def test_replayed(self, run: RunPaths) -> None:
        rows = results.load_results(run.root)
        cell = str(rows.loc[rows["mode"].eq("baseline") & rows["seed"].eq(1), "cell_id"].iloc[0])
        found = replay(run.root, cell, device="cpu")
        assert found.same
        assert found.predictions == 0

    def test_results_by_seed(self, run: RunPaths, fgaug: Any) -> None:
        code, out, _ = fgaug("results", run.root, "--by", "seed", "--format", "csv")
        assert code == 0
        found = pd.read_csv(io.StringIO(out))
        evidence = load_evidence(run.root)
        assert found["valid_auc"].tolist() == evidence.rows["valid_auc"].tolist()
        assert found["valid_auc_low"].lt(found["valid_auc"]).all()
        code, out, _ = fgaug("results", run.root, "--by", "arm", "--format", "csv")
        arms = pd.read_csv(io.StringIO(out))
        means = evidence.rows.groupby("arm_id")["valid_auc"].mean()
        assert arms.set_index("arm_id")["valid_auc_mean"].to_dict() == pytest.approx(
            means.to_dict(), abs=1e-12
        )
        assert arms["seeds"].tolist() == [2, 2]
        for by in ("cell", "seed", "arm"):
            assert fgaug("results", run.root, "--by", by)[0] == 0

    def test_compared(self, run: RunPaths, data: Dataset, copied: RunPaths) -> None:
        evidence = load_evidence(run.root)
        means = evidence.rows.groupby("mode")["valid_auc"].mean()
        both = compare(f"{run.root}:best", f"{run.root}:baseline")
        row = both.summary.set_index("metric").loc["auc"]
        assert both.n_images == len(data)
        assert row["mean_a"] == pytest.approx(means["augmentation"], abs=1e-9)
        assert row["mean_b"] == pytest.approx(means["baseline"], abs=1e-9)
        one = describe(f"{run.root}:baseline#2")
        assert one.n_images == len(data)
        rows = results.load_results(run.root)
        cell = describe(f"{run.root}:{rows['cell_id'].iloc[0]}")
        assert cell.n_images < len(data)
        assert any("of 3 only" in note for note in cell.notes)
        lose(copied, seed=2, fold=3)
        short = compare(f"{copied.root}:best", f"{copied.root}:baseline")
        assert any("seed 2: no result of fold 3" in note for note in short.notes)

    def test_no_sealed_test_set_to_open(self, run: RunPaths, fgaug: Any) -> None:
        code, _, err = fgaug("confirm", run.root, "--arm", "augmentation")
        assert code == 2
        assert "holds out every patient in its folds" in " ".join(err.split())
        code, _, err = fgaug("report", run.root, "--open-test")
        assert code == 2
        assert "no test predictions" in err

    def test_report(self, run: RunPaths, tmp_path: Path, fgaug: Any) -> None:
        found = {section.key: section for section in sections(material(run.root))}
        (table,) = found["folds"].parts
        assert isinstance(table, Table)
        assert (
            table.frame["valid_auc"].tolist() == load_evidence(run.root).rows["valid_auc"].tolist()
        )
        assert table.text.columns.tolist() == [
            "arm", "seed", "AUC, pooled", "95% interval", "fold 1", "fold 2", "fold 3"
        ]  # fmt: skip
        lead = " ".join(part.text for part in found["verdict"].parts if isinstance(part, Text))
        assert "on the held-out folds" in lead
        assert "no network was trained or stopped on the patients" in lead
        code, out, err = fgaug("report", run.root)
        assert code == 0, err
        page = Path(out.strip().splitlines()[-1]).read_text(encoding="utf-8")
        assert "12 cells, pooled over 3 folds: 2 arms started, 2 seeds" in page
        assert "90 images in 3 folds, each held out once" in page

    def test_nothing_left_to_train(self, root: Path, run: RunPaths) -> None:
        assert planner.plan(space(root), run.root).todo == ()
        more = planner.plan(space(root, axes={"seed": [1, 2, 3]}), run.root)
        assert Counter(cell.fold for cell in more.todo) == {1: 2, 2: 2, 3: 2}

    def test_status(self, run: RunPaths) -> None:
        assert read(run.root).ok == 12


def delong_by_patient(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of an AUC by Obuchowski's variance (1997) for clustered data.

    Written out from the paper, apart from the package: placements of each positive and negative,
    summed by patient, with n / (n - 1) corrections and the covariance of both sums.
    """
    positive, negative = p[y], p[~y]
    v10 = [np.mean((x > negative) + 0.5 * (x == negative)) for x in positive]
    v01 = [np.mean((positive > x) + 0.5 * (positive == x)) for x in negative]
    area = float(np.mean(v10))
    names = np.unique(group)
    sums = np.zeros((len(names), 2))
    for side, values, owner in ((0, v10, group[y]), (1, v01, group[~y])):
        for value, name in zip(values, owner, strict=True):
            sums[np.searchsorted(names, name), side] += value - area
    m, n = len(positive), len(negative)
    with_m, with_n = len(np.unique(group[y])), len(np.unique(group[~y]))
    both = len(names)
    s10 = with_m / ((with_m - 1) * m) * (sums[:, 0] ** 2).sum()
    s01 = with_n / ((with_n - 1) * n) * (sums[:, 1] ** 2).sum()
    s11 = both / (both - 1) * (sums[:, 0] * sums[:, 1]).sum()
    se = np.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))
    half = float(student_t.ppf(0.975, both - 1) * se)
    return area - half, area + half
