"""MLflow and W&B hold a run a cell with each step once, in the runs or groups of their arms."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from small_grid import grid, phantom_dataset
from test_loggers import cells_in, curve, pa_table
from wandb_file import runs_in

from fgaug.core import files
from fgaug.core.cluster import started
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError
from fgaug.grid.cells import Cell
from fgaug.grid.load import parse_space
from fgaug.study import checks, planner, search
from fgaug.study.tune.loggers import loggers_of
from fgaug.study.tune.wandb_runs import WandB

pytestmark = pytest.mark.ray
FOUND = {"valid_loss": 0.5, "valid_acc": 0.8, "valid_auc": 0.9, "wall_s": 3.0}


@pytest.fixture(autouse=True)
def _nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # so that it is taken back, too
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


class Played:
    """Cells whose legs are played by hand."""

    def __init__(self, root: Path) -> None:
        self.run = RunPaths(root / "run")
        self.cells = cells_in(root)
        self.cell = self.cells[-1]
        self.again()

    def again(self) -> None:
        """Start another search in the same folder."""
        (self.logger,) = loggers_of(["mlflow"], self.run, self.cells)

    def reports(self, rows: list[dict[str, Any]], cell: Cell | None = None) -> None:
        for row in rows:
            self.logger.on_trial_result(0, [], self.trial(cell), {**row, "done": False})

    def ends(self, status: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            files.write_table(self.run.trial(self.cell.cell_id).curve, pa_table(rows))
        found = FOUND if status == "ok" else {}
        self.logger.on_trial_complete(0, [], self.trial(status=status, done=True, **found))

    def trial(self, cell: Cell | None = None, **last: Any) -> SimpleNamespace:
        cell_id = (cell or self.cell).cell_id
        return SimpleNamespace(config={"cell_id": cell_id, "until": 0.5}, last_result=last)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.run.mlflow.resolve().as_uri())

    def runs(self) -> list[Any]:
        return runs_of(self.client, "run")

    def parents(self) -> list[Any]:
        return runs_of(self.client, "run", "arm")

    def steps(self, name: str = "valid_auc") -> list[int]:
        (run,) = self.runs()
        return [metric.step for metric in self.client.get_metric_history(run.info.run_id, name)]


def runs_of(client: MlflowClient, name: str, kind: str = "cell") -> list[Any]:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if run.data.tags["fgaug.kind"] == kind]


@pytest.fixture
def played(odd_root: Path) -> Played:
    return Played(odd_root)


def test_a_run_is_a_cell_with_its_parameters(played: Played) -> None:
    played.reports(curve(2))
    (run,) = played.runs()
    cell = played.cell
    assert run.info.run_name == cell.described == "augmentation psi 1 ratio 1 seed 2"
    assert run.info.status == "RUNNING"
    params = run.data.params
    assert (params["cell_id"], params["arm_id"]) == (cell.cell_id, cell.arm_id)
    assert (params["mode"], params["psi"], params["ratio"]) == ("augmentation", "1.0", "1.0")
    assert (params["filter"], params["seed"]) == ("none", "2")
    assert params["recipe.model"] == "mobilenetv3_small_050"
    assert params["budget.max"] == "4"
    assert "until" not in params
    assert played.steps() == [1, 2]
    assert run.data.metrics["images_per_s"] == 128
    assert run.data.metrics["valid_auc"] == pytest.approx(curve(2)[-1]["valid_auc"])
    assert "MLFLOW_TRACKING_URI" not in os.environ  # it would lead the next search here


def test_an_arm_is_the_parent_of_its_seeds(played: Played) -> None:
    first, second = played.cells[1], played.cells[-1]
    assert (first.arm_id, first.seed, second.seed) == (second.arm_id, 1, 2)
    played.reports(curve(1), first)
    played.reports(curve(1), second)
    (arm,) = played.parents()
    assert arm.info.run_name == "augmentation psi 1 ratio 1"
    assert arm.info.status == "RUNNING"
    parents = [run.data.tags["mlflow.parentRunId"] for run in played.runs()]
    assert parents == [arm.info.run_id] * 2
    child = played.runs()[0].data.params
    own = {name: value for name, value in child.items() if name not in ("cell_id", "seed")}
    assert arm.data.params == own
    assert "mlflow.parentRunId" not in arm.data.tags
    played.reports(curve(1), played.cells[0])  # the baseline
    assert {run.info.run_name for run in played.parents()} == {arm.info.run_name, "baseline"}


def test_the_next_search_finds_the_arms_that_it_has(played: Played) -> None:
    played.reports(curve(1))
    played.again()
    played.reports(curve(2)[1:])
    played.again()
    played.reports(curve(1), played.cells[1])  # another seed of the arm
    (arm,) = played.parents()
    assert len(played.runs()) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in played.runs()} == {arm.info.run_id}


def test_cells_of_an_earlier_version_get_their_arm(played: Played) -> None:
    """It logged cells without tags."""
    played.reports(curve(1))
    (cell,), (arm,) = played.runs(), played.parents()
    for name in ("mlflow.parentRunId", "fgaug.kind", "fgaug.search"):
        played.client.delete_tag(cell.info.run_id, name)
    played.client.delete_run(arm.info.run_id)
    played.again()
    played.reports(curve(2)[1:])
    (cell,), (arm,) = played.runs(), played.parents()
    assert cell.data.tags["mlflow.parentRunId"] == arm.info.run_id
    assert played.steps() == [1, 2]


def test_another_search_in_the_same_experiment_has_its_own_arms(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (tmp_path / "own").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "both")
    played.reports(curve(1))
    played.run = RunPaths(tmp_path / "other")
    played.again()
    played.reports(curve(1))
    runs = {kind: runs_of(MlflowClient(place), "both", kind) for kind in ("cell", "arm")}
    for both in runs.values():
        assert {run.data.tags["fgaug.search"] for run in both} == {"run", "other"}
    parents = {run.info.run_id: run.data.tags["fgaug.search"] for run in runs["arm"]}
    assert all(
        parents[run.data.tags["mlflow.parentRunId"]] == run.data.tags["fgaug.search"]
        for run in runs["cell"]
    )


def test_a_cell_goes_on_in_the_same_run(played: Played) -> None:
    played.reports(curve(2))  # the last evaluation of a leg is told by its end alone
    played.ends("paused", curve(3))
    assert played.steps() == [1, 2, 3]
    assert played.runs()[0].info.status == "KILLED"
    played.reports(curve(4)[3:])
    assert played.runs()[0].info.status == "RUNNING"
    played.ends("ok", curve(5))
    assert played.steps() == [1, 2, 3, 4, 5]
    (run,) = played.runs()
    assert run.info.status == "FINISHED"
    assert {name: run.data.metrics[f"result/{name}"] for name in FOUND} == FOUND


def test_a_killed_search_leaves_no_step_twice_in_the_next(played: Played) -> None:
    """Its checkpoint is older than what it reported last."""
    played.reports(curve(4))
    played.logger.on_experiment_end([])
    assert played.runs()[0].info.status == "KILLED"
    played.again()
    played.reports(curve(5)[2:])
    played.ends("ok", curve(6))
    assert played.steps() == [1, 2, 3, 4, 5, 6]
    played.again()
    played.reports(curve(1), played.cells[0])
    assert len(played.runs()) == 2


def test_a_store_that_begins_late_gets_the_whole_curve(played: Played) -> None:
    """The grid had no logger when the cell began."""
    files.write_table(played.run.trial(played.cell.cell_id).curve, pa_table(curve(3)))
    played.reports(curve(4)[3:])
    assert played.steps() == [1, 2, 3, 4]


def test_a_cell_that_fails_and_is_tried_again(played: Played) -> None:
    played.reports([{**row, "valid_auc": float("nan")} for row in curve(2)])
    played.ends("failed", [])
    (run,) = played.runs()
    assert run.info.status == "FAILED"
    assert "valid_auc" not in run.data.metrics
    played.ends("unstarted", [])  # a leg that did not begin
    assert played.runs()[0].info.status == "FAILED"
    played.reports(curve(3))
    played.logger.on_trial_error(0, [], played.trial())
    assert played.runs()[0].info.status == "FAILED"
    assert played.steps("train_loss") == [1, 2, 3]


def test_a_store_that_cannot_be_written_ends_no_search(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    files.write_text(played.run.mlflow, "a file")
    with caplog.at_level(logging.WARNING, "fgaug"):
        played.reports(curve(3))
        played.ends("ok", curve(3))
        played.logger.on_experiment_end([])
    own = [record for record in caplog.records if record.name == "fgaug"]
    assert len(own) == 1
    assert "MLflow's store cannot be written" in own[0].message
    assert "the search continues" in own[0].message


def test_the_users_own_store(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (tmp_path / "own").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of mine")
    played.reports(curve(1))
    assert os.environ["MLFLOW_TRACKING_URI"] == place
    assert not played.run.mlflow.exists()
    assert len(runs_of(MlflowClient(tracking_uri=place), "of mine")) == 1


def test_what_is_not_installed_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in checks.OPTIONAL_LOGGERS else usual(name),
    )
    space = parse_space(grid(tmp_path, loggers=["tensorboard", "mlflow", "wandb"]))
    with pytest.raises(GridError) as error:
        planner.plan(space, tmp_path / "run")
    for name in ("mlflow", "wandb"):
        assert f"`loggers: {name}` needs a package that is not installed" in str(error.value)
        assert f"pip install 'fgaug[{name}]'" in str(error.value)
    assert "`dataset`" in str(error.value)  # with all else that is wrong


def test_a_folder_of_that_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    space = parse_space(grid(tmp_path, loggers=["wandb"]))
    assert len(checks.logger_problems(space)) == (importlib.util.find_spec("wandb").origin is None)


def test_wandb_is_offline_unless_asked(odd_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, cells = RunPaths(odd_root / "run"), cells_in(odd_root)
    usual = {"job_type": "seed", "resume": "allow"}
    assert WandB(run, cells)._made().kwargs == {**usual, "mode": "offline"}
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_PROJECT", "of mine")
    asked = WandB(run, cells)._made()
    assert (asked.kwargs, asked.project) == (usual, "of mine")


@pytest.mark.slow
@pytest.mark.timeout(600)  # W&B starts a process for each of the twelve segments
def test_a_search_tells_what_its_curves_hold(tmp_path: Path) -> None:
    """Cells pause at rungs and go on; no identity changes."""
    phantom_dataset(tmp_path)
    changes = {
        "axes": {"mode": ["augmentation"], "psi": [1.0], "ratio": [0.5, 1, 2], "seed": [1, 2]},
        "budget": {"unit": "steps", "max": 9, "evaluations": 9},
        "scheduler": {"type": "arm_asha", "metric": "loss"},
    }
    space = parse_space(grid(tmp_path, **changes, loggers=["mlflow", "wandb"]))
    with started(cpus=2, gpus=0, dashboard=False):
        run = search.search(space, tmp_path / "run")
        assert planner.plan(parse_space(grid(tmp_path, **changes)), run.root).todo == ()
    assert (run.ok, run.pruned) == (4, 4)
    assert (run.root / "report" / "index.html").is_file()
    client = MlflowClient(tracking_uri=RunPaths(run.root).mlflow.resolve().as_uri())
    runs = {each.data.params["cell_id"]: each for each in runs_of(client, "run")}
    parents = {each.data.tags["fgaug.arm_id"]: each for each in runs_of(client, "run", "arm")}
    trials = {folder.name: folder for folder in (run.root / "trials").iterdir()}
    segments = [each for each in runs_in(run.root) if each.kind == "seed"]
    assert {*runs} == {*trials} == {each.id for each in segments}
    statuses = Counter[str]()
    for cell_id, folder in trials.items():
        expected = pd.read_parquet(folder / "curve.parquet")
        own = runs[cell_id]
        history = client.get_metric_history(own.info.run_id, "valid_loss")
        assert [metric.step for metric in history] == expected["step"].tolist()
        assert [metric.value for metric in history] == expected["valid_loss"].tolist()
        (row,) = json.loads((folder / "result.json").read_text())["rows"]
        words = {"ok": "FINISHED", "pruned": "KILLED"}
        assert own.info.status == words[row["status"]]
        if row["status"] == "ok":
            assert own.data.metrics["result/valid_auc"] == row["valid_auc"]
        arm = parents[own.data.params["arm_id"]]
        assert own.data.tags["mlflow.parentRunId"] == arm.info.run_id
        statuses[arm.info.status] += 1

        told = [each for each in segments if each.id == cell_id]
        assert len(told) in (1, 3)  # the arm that goes on does so at two rungs
        for each in told:
            assert (each.name, each.project) == (own.info.run_name, "fgaug")
            assert each.group == f"run: {arm.info.run_name}"
            assert each.config["arm_id"] == own.data.params["arm_id"]
            assert each.finished
        losses = {step["_step"]: step["valid_loss"] for each in told for step in each.history
                  if "valid_loss" in step}  # fmt: skip
        assert losses == dict(expected[["step", "valid_loss"]].to_numpy())
    assert Counter(each.id for each in segments).most_common(3)[1][1] == 3
    assert statuses == {"FINISHED": 4, "KILLED": 4}  # the arms are as their cells
    assert len(parents) == 4
    assert {each.name for each in runs_in(run.root) if each.kind == "arm"} == {
        arm.info.run_name for arm in parents.values()
    }
