"""Results: what a trial leaves is whole or not there, and loads as one frame."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

import fgaug
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.grid.arm_names import further_axes
from fgaug.runs import results
from fgaug.runs.results import TrialResult

LABELS = ("dbp", "trv")
# The contract's order; no axis, nothing opened.
CONTRACT = [
    "cell_id",
    "arm_id",
    "mode",
    "psi",
    "ratio",
    "filter",
    "seed",
    "round",
    "status",
    "stopped_by",
    "error",
    "n_real",
    "n_fake",
    "n_dropped",
    "budget_unit",
    "budget_used",
    "best_epoch",
    "best_step",
    "valid_loss",
    "valid_acc",
    "valid_auc",
    "valid_f1_macro",
    "valid_brier",
    "valid_ece",
    "precision_dbp",
    "precision_trv",
    "recall_dbp",
    "recall_trv",
    "specificity_dbp",
    "specificity_trv",
    "images_seen",
    "wall_s",
    "train_images_per_s",
    "peak_rss_mb",
    "peak_gpu_mb",
    "leakage",
    "gan_saw_removed",
    "dataset_digest",
    "recipe_digest",
    "snapshots",
    "version",
    "host",
    "device",
    "started_at",
    "rung",
    "micro_batch",
    "oom_events",
    "weights",
    "computed_in",
]


def row(cell_id: str = "a" * 12, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(results.columns(LABELS), 1.5)
    values |= {
        "cell_id": cell_id,
        "arm_id": "b" * 12,
        "mode": "augmentation",
        "psi": 0.7,
        "ratio": 2.0,
        "filter": "none",
        "seed": 7,
        "round": None,
        "status": "ok",
        "stopped_by": "patience",
        "error": None,
        "n_real": 30,
        "budget_unit": "epochs",
        "gan_saw_removed": False,
        "leakage": "unknown",
        "dataset_digest": "d" * 64,
        "weights": "scratch",
        "computed_in": "float32",
        "recipe_digest": "e" * 12,
        "snapshots": None,
        "version": "0.1.0",
        "host": "here",
        "device": "cpu x1",
        "started_at": "2024-05-01T00:00:00+00:00",
    }
    return values | changes


def result(values: dict[str, Any], sealed: bool = True) -> TrialResult:
    predictions = pd.DataFrame(
        {
            "image_id": ["x", "y"],
            "group": [3, 4],
            "label": ["dbp", "trv"],
            "p_dbp": [0.25, 1.0],
            "p_trv": [0.75, 0.0],
            "round": pd.array([pd.NA, pd.NA], dtype="Int64"),
        }
    )
    curve = pd.DataFrame({"step": [1, 2], "valid_auc": [0.5, math.nan], "frozen": [True, False]})
    return TrialResult(
        row=values, curve=curve, predictions=predictions, sealed=predictions if sealed else None
    )


@pytest.fixture
def run(odd_root: Path) -> RunPaths:
    made = RunPaths(odd_root / "run")
    made.trials.mkdir(parents=True)
    return made


def write(run: RunPaths, cell_id: str, **changes: Any) -> None:
    results.write_trial(run.trial(cell_id), result(row(cell_id, **changes)))


class TestTrips:
    def test_a_trial_is_read_back(self, run: RunPaths) -> None:
        made = result(row())
        results.write_trial(run.trial("a" * 12), made)
        (found,) = results.read_rows(run.trial("a" * 12))
        assert found == made.row
        assert list(found) == results.columns(LABELS)
        curves = fgaug.load_curves(run.root)
        assert curves["cell_id"].tolist() == ["a" * 12] * 2
        pd.testing.assert_frame_equal(curves.drop(columns="cell_id"), made.curve)
        predictions = fgaug.load_predictions(str(run.root))
        pd.testing.assert_frame_equal(predictions.drop(columns="cell_id"), made.predictions)
        sealed = pd.read_parquet(run.trial("a" * 12).sealed)
        pd.testing.assert_frame_equal(sealed, made.predictions)

    def test_without_a_test_set_nothing_is_sealed(self, run: RunPaths) -> None:
        results.write_trial(run.trial("a"), result(row("a"), sealed=False))
        assert not run.trial("a").sealed.exists()

    @pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), np.float64("inf")])
    def test_what_is_no_number_is_null_and_loads_as_nan(self, run: RunPaths, value: float) -> None:
        write(run, "a", valid_auc=value)
        text = run.trial("a").result.read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        assert json.loads(text)["rows"][0]["valid_auc"] is None
        loaded = fgaug.load_results(run.root)
        assert loaded["valid_auc"].dtype == np.float64
        assert math.isnan(loaded["valid_auc"][0])

    def test_numpy_values_and_structures(self, run: RunPaths) -> None:
        steps = ({"Rotate": {"limit": 3}},)
        write(
            run,
            "a",
            n_real=np.int64(3),
            gan_saw_removed=np.bool_(True),
            **{"recipe.augmentation": steps},
        )
        (found,) = results.read_rows(run.trial("a"))
        assert (found["n_real"], found["gan_saw_removed"]) == (3, True)
        assert found["recipe.augmentation"] == '[{"Rotate": {"limit": 3}}]'

    def test_the_row_comes_last(self, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
        """A trial that is cut off has files and no row: it is trained again."""

        def cut_off(path: Path, value: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("fgaug.core.files.write_json", cut_off)
        with pytest.raises(KeyboardInterrupt):
            write(run, "a")
        assert run.trial("a").sealed.is_file()
        assert results.statuses_of(run, ["a"]) == {}
        assert fgaug.load_results(run.root).empty


class TestFinished:
    def test_statuses(self, run: RunPaths) -> None:
        write(run, "a")
        results.write_row(run.trial("b"), {"cell_id": "b", "status": "failed", "error": "x"})
        assert results.statuses_of(run, ["a", "b", "c"]) == {"a": "ok", "b": "failed"}
        assert results.statuses_of(run, []) == {}

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            "\udcff",
            '{"schema": 2, "rows": []}',
            '{"schema": 1, "rows": []}',
            '{"schema": 1, "rows": [{}]}',
            '{"schema": 1, "rows": [3]}',
        ],
    )
    def test_a_damaged_row_is_set_aside(self, run: RunPaths, text: str) -> None:
        write(run, "a")
        write(run, "b")
        path = run.trial("a").result
        path.write_bytes(text.encode(errors="surrogateescape"))
        assert results.statuses_of(run, ["a", "b", "c"]) == {"b": "ok"}
        assert results.damaged(run, ["a", "b", "c"]) == ["a"]
        assert path.exists(), "looking changes nothing"
        assert results.set_aside_damaged(run, ["a", "b", "c"]) == ["a"]
        assert not path.exists()
        kept = path.with_name("result.json.corrupt")
        assert kept.read_bytes() == text.encode(errors="surrogateescape")
        write(run, "a")
        assert results.statuses_of(run, ["a"]) == {"a": "ok"}

    def test_loading_names_a_damaged_row(self, run: RunPaths) -> None:
        write(run, "a")
        run.trial("a").result.write_text("{")
        with pytest.raises(RunError, match=r"a/result\.json cannot be read as JSON"):
            fgaug.load_results(run.root)


class TestLoading:
    def test_columns_in_the_contracts_order(self, run: RunPaths) -> None:
        assert results.columns(LABELS) == CONTRACT
        write(run, "a", **{"recipe.model": "resnet18", "n_fake_dbp": 3, "fakes": "dbp=3"})
        found = list(fgaug.load_results(run.root).columns)
        at = CONTRACT.index("status")
        assert found == [*CONTRACT[:at], "recipe.model", "fakes", *CONTRACT[at:], "n_fake_dbp"]

    def test_types(self, run: RunPaths) -> None:
        write(run, "a")
        write(run, "b", mode="baseline", psi=None, ratio=None, filter=None)
        results.write_row(
            run.trial("c"), {"cell_id": "c", "mode": "synthetic", "status": "failed", "seed": 1}
        )
        frame = fgaug.load_results(run.root)
        assert frame["cell_id"].tolist() == ["a", "b", "c"]
        assert frame["psi"].dtype == frame["valid_auc"].dtype == np.float64
        assert frame["seed"].tolist() == [7, 7, 1]
        assert frame["psi"].isna().tolist() == [False, True, True]
        assert frame["round"].isna().all()

    def test_failures_alone(self, run: RunPaths) -> None:
        results.write_row(run.trial("c"), {"cell_id": "c", "mode": "baseline", "status": "failed"})
        frame = fgaug.load_results(run.root)
        assert frame["valid_auc"].dtype == np.float64
        assert frame["status"].tolist() == ["failed"]
        results.compact(run)

    def test_rows_in_order_whatever_their_names(self, run: RunPaths) -> None:
        write(run, "3", seed=2)
        write(run, "2", seed=1)
        write(run, "1", psi=0.9)
        write(run, "4", mode="baseline", psi=None, ratio=None)
        assert fgaug.load_results(run.root)["cell_id"].tolist() == ["2", "3", "1", "4"]

    def test_several_rounds(self, run: RunPaths) -> None:
        paths = run.trial("a")
        paths.root.mkdir()
        rows = [row("a", round=r) for r in (1, 5)]
        paths.result.write_text(json.dumps({"schema": 1, "rows": rows}))
        assert fgaug.load_results(run.root)["round"].tolist() == [1, 5]

    def test_an_empty_run(self, run: RunPaths) -> None:
        frame = fgaug.load_results(run.root)
        assert frame.empty
        assert list(frame.columns) == results.columns(())
        assert fgaug.load_curves(run.root).empty
        assert list(fgaug.load_predictions(run.root).columns) == ["cell_id"]
        results.compact(run)
        assert pd.read_parquet(run.results).empty

    def test_no_run(self, tmp_path: Path) -> None:
        for load in (fgaug.load_results, fgaug.load_curves, fgaug.load_predictions):
            with pytest.raises(RunError, match=r"is not a run \(no folder `trials`\)\."):
                load(tmp_path / "nothing")

    def test_strangers_among_the_trials(self, run: RunPaths) -> None:
        write(run, "a")
        (run.trials / ".DS_Store").write_text("x")
        (run.trials / "unfinished").mkdir()
        assert len(fgaug.load_results(run.root)) == 1

    def test_compact_is_read_by_pandas(self, run: RunPaths) -> None:
        write(run, "a", **{"recipe.dropout": 0.5, "remove": "dbp=all"})
        write(run, "b", mode="baseline", psi=None, **{"recipe.dropout": 0})
        results.compact(run)
        found = pd.read_parquet(run.results)
        whole = fgaug.load_results(run.root)
        both = (frame.astype(object).where(frame.notna(), None) for frame in (found, whole))
        pd.testing.assert_frame_equal(*both, check_dtype=False)
        assert found["recipe.dropout"].tolist() == [0.5, 0.0]


class TestOneTableOfRuns:
    """What is empty in one run and filled in another is of one type in both."""

    FILLED = (
        {},
        {"mode": "baseline", "psi": None, "ratio": None, "filter": None, "snapshots": None},
        {"error": "it died", "status": "failed", **dict.fromkeys(("valid_auc", "n_real", "seed"))},
        {"round": 3, "rung": 1, "oom_events": 2, "peak_gpu_mb": 12, "psi": 1, "ratio": 2},
        {"gan_saw_removed": None, "started_at": None, "budget_used": None, "leakage": None},
        {"n_real": None, "n_fake": 7, "n_dropped": np.int64(3), "wall_s": 4},
    )

    def runs(self, root: Path) -> list[RunPaths]:
        made = []
        for number, changes in enumerate(self.FILLED):
            run = RunPaths(root / f"run {number}")
            values = row("a", **{"n_fake": 3, "n_dropped": 0, "budget_used": 5, **changes})
            whole = ("best_epoch", "best_step", "images_seen", "rung", "micro_batch", "oom_events")
            values |= {name: None for name in whole if name not in changes}
            results.write_trial(run.trial("a"), result(values))
            results.compact(run)
            made.append(run)
        return made

    def test_any_two_runs_are_one_table(self, odd_root: Path) -> None:
        runs = self.runs(odd_root)
        files = [run.results for run in runs]
        schemas = [pq.read_schema(file) for file in files]
        for schema in schemas:
            assert not [field.name for field in schema if pa.types.is_null(field.type)]
            assert [(f.name, f.type) for f in schema] == [(f.name, f.type) for f in schemas[0]]
        pa.unify_schemas([schema.remove_metadata() for schema in schemas])
        for pair in itertools.permutations(range(len(files)), 2):
            read = dataset([str(files[place]) for place in pair]).to_table()
            assert read.num_rows == 2
        whole = dataset([str(file) for file in files]).to_table().to_pandas()
        assert whole["error"].dropna().tolist() == ["it died"]
        assert whole["round"].dropna().tolist() == [3]
        assert whole["gan_saw_removed"].isna().sum() == 1

    def test_axes_have_the_type_of_their_values(self, odd_root: Path) -> None:
        axes = {
            "recipe.learning_rate": ([1, 0.5], "double"),
            "recipe.pretrained": ([True, False], "bool"),
            "recipe.model": (["resnet18", None], "string"),
            "recipe.augmentation": (["none", ({"Rotate": {"limit": 3}},)], "string"),
            "split": (["dataset", "7"], "string"),
            "real_fraction": ([1, 0.5], "double"),
            "remove": ([None, "x=1"], "string"),
        }
        run = RunPaths(odd_root / "run")
        for place in (0, 1):
            of_row = {name: values[place] for name, (values, _) in axes.items()}
            of_row |= dict.fromkeys(("n_fake", "n_dropped", "budget_used", "best_epoch"))
            results.write_row(run.trial(str(place)), row(str(place), **of_row))
        results.compact(run)
        schema = pq.read_schema(run.results)
        assert {name: str(schema.field(name).type) for name in axes} == {
            name: kind for name, (_, kind) in axes.items()
        }

    @pytest.mark.parametrize("epoch", [[None, None], [1, 2], [1, None]])
    def test_curves_and_predictions_too(self, epoch: list[Any], odd_root: Path) -> None:
        run = RunPaths(odd_root / "run")
        made = result(row("a"))
        curve = made.curve.assign(epoch=pd.Series(epoch, dtype=object), train_loss=math.nan)
        results.write_trial(run.trial("a"), dataclasses.replace(made, curve=curve))
        schema = pq.read_schema(run.trial("a").curve)
        kinds = {name: str(schema.field(name).type) for name in ("epoch", "step", "train_loss")}
        assert kinds == {"epoch": "int64", "step": "int64", "train_loss": "double"}
        for file in (run.trial("a").predictions, run.trial("a").sealed):
            schema = pq.read_schema(file)
            assert str(schema.field("round").type) == "int64"
            assert str(schema.field("label").type) == "string"
            assert str(schema.field("group").type) == "int64"


def test_no_documented_column_is_taken_for_an_axis() -> None:
    rows = [row("a" * 12, arm_id="a"), row("b" * 12, arm_id="b")]
    for number, each in enumerate(rows):  # columns that differ between arms are candidates
        each.update({name: f"{name} {number}" for name in results.FURTHER})
    assert further_axes(pd.DataFrame(rows)) == ()
