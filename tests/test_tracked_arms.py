"""Trackers get each arm with the numbers and the verdict of the report, and the report itself."""

from __future__ import annotations

import io
import json
import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console
from simulated_run import World, grid_of, write_run
from test_loggers import cells_in, curve
from wandb_file import OfflineRun, runs_in

from fgaug.analysis.report import files as report_files
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.runs import confirmation_records
from fgaug.study import tracking
from fgaug.study.tune.loggers import loggers_of

pytestmark = pytest.mark.ray  # Ray's callbacks are imported, and its logger
SMALL = World(patients=30, seeds=3)
VERDICTS = {"effect", "ci_low", "ci_high", "p_value", "twin_effect", "mean", "mean_against"}


@pytest.fixture(autouse=True)
def _offline_and_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    drawing = b"<?xml version='1.0'?><svg/>"  # figures are what takes the time
    monkeypatch.setattr(report_files, "encoded", lambda figure, fmt: drawing)


@dataclass
class Searched:
    """A simulated run as a search would leave it, and what its trackers got."""

    root: Path
    names: tuple[str, ...] = ("mlflow",)

    def __post_init__(self) -> None:
        arms = grid_of(worth={(1.0, 2): 3.0}, twin=1.2)
        arms[3] = replace(arms[3], pruned=3)
        arms[4] = replace(arms[4], failed=1)
        self.run = RunPaths(write_run(self.root / "run", arms, SMALL))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the run: those of a small grid under the simulated names."""
        usual = cells_in(self.root)[-1]
        record = json.loads(self.run.environment.read_text())
        return tuple(
            replace(
                usual, cell_id=cell_id, arm_id=arm["arm_id"], seed=seed,
                mode=arm["mode"], psi=arm["psi"], ratio=arm["ratio"],
            )
            for arm in record["arms"]
            for cell_id, seed in arm["cells"].items()
        )  # fmt: skip

    def ends(self) -> str:
        """Summarise the search as its end does, and return what it printed."""
        console = Console(file=io.StringIO(), width=200)
        space = SimpleNamespace(loggers=list(self.names))
        planned: Any = SimpleNamespace(run=self.run, space=space, grid_cells=self.cells)
        tracking.summarise(planned, console)
        return str(console.file.getvalue())

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.run.mlflow.resolve().as_uri())

    def runs(self, kind: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name("run")
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id])
        return [run for run in found if run.data.tags["fgaug.kind"] == kind]

    def table(self) -> pd.DataFrame:
        """Return the report's table of verdicts, as it is on disk."""
        return pd.read_csv(self.run.report.parent / "tables" / "verdicts.csv", index_col="arm_id")


@pytest.fixture
def searched(odd_root: Path) -> Searched:
    return Searched(odd_root)


def test_arms_have_the_numbers_and_verdicts_of_the_report(searched: Searched) -> None:
    assert "report" in searched.ends()
    table, arms = searched.table(), searched.runs("arm")
    assert len(arms) == 7  # a baseline, two twins, four arms with fakes
    compared = 0
    for arm in arms:
        arm_id, metrics = arm.data.tags["fgaug.arm_id"], arm.data.metrics
        own = [cell for cell in searched.cells if cell.arm_id == arm_id]
        rows = [
            json.loads(searched.run.trial(c.cell_id).result.read_text())["rows"][0] for c in own
        ]
        done = [row["valid_auc"] for row in rows if row["status"] == "ok"]
        assert metrics["arm/seeds"] == len(done)
        if done:
            assert metrics["arm/valid_auc_mean"] == pytest.approx(sum(done) / len(done))
        if arm_id not in table.index:
            assert "verdict/effect" not in metrics
            continue
        told = {name.removeprefix("verdict/"): value for name, value in metrics.items()
                if name.startswith("verdict/")}  # fmt: skip
        expected = table.loc[arm_id]
        for name in told.keys() | VERDICTS:
            shown = told.get(name, math.nan)
            assert shown == pytest.approx(expected[name], nan_ok=True), name
        if isinstance(expected["verdict"], str):
            compared += 1
            assert arm.data.tags["fgaug.verdict"] == expected["verdict"]
            assert expected["sentence"] in arm.data.tags["mlflow.note.content"]
    assert compared == 4
    best = max(arms, key=lambda arm: arm.data.metrics.get("verdict/effect", -1))
    assert best.data.tags["fgaug.verdict"] == "better"
    assert best.info.run_name == "augmentation psi 1 ratio 2"
    statuses = sorted(arm.info.status for arm in arms)
    assert statuses == ["FAILED", *["FINISHED"] * 5, "KILLED"]


def test_the_report_is_an_artifact_without_the_sealed_test(searched: Searched) -> None:
    files.write_text(searched.run.report.parent / "test" / "index.html", "opened by hand")
    searched.ends()
    (report,) = searched.runs("report")
    names = [item.path for item in searched.client.list_artifacts(report.info.run_id, "report")]
    assert "report/index.html" in names
    assert "report/test" not in names
    tables = searched.client.list_artifacts(report.info.run_id, "report/tables")
    assert "report/tables/verdicts.csv" in [item.path for item in tables]
    assert "The arm that looks best is" in report.data.tags["mlflow.note.content"]
    assert report.data.metrics["cells/ok"] == 17
    assert report.data.metrics["cells/pruned"] == 3
    assert report.info.status == "FAILED"


def test_a_search_that_ends_again_changes_nothing(searched: Searched) -> None:
    searched.ends()
    before = {run.info.run_id: run.data.metrics for run in searched.runs("arm")}
    searched.ends()
    after = {run.info.run_id: run.data.metrics for run in searched.runs("arm")}
    assert after == before
    assert len(searched.runs("report")) == 1
    history = searched.client.get_metric_history(next(iter(after)), "arm/seeds")
    assert len(history) == 1


def test_a_number_that_becomes_undefined_does_not_stay(searched: Searched) -> None:
    searched.ends()
    arm = next(each for each in searched.runs("arm") if "verdict/effect" in each.data.metrics)
    arm_id = arm.data.tags["fgaug.arm_id"]
    for cell in searched.cells:
        if cell.arm_id == arm_id:
            row = json.loads(searched.run.trial(cell.cell_id).result.read_text())
            row["rows"][0] |= {"status": "failed", "error": "broken"}
            files.write_json(searched.run.trial(cell.cell_id).result, row)
    searched.ends()
    again = searched.client.get_run(arm.info.run_id)
    assert math.isnan(again.data.metrics["verdict/effect"])
    assert again.data.metrics["arm/seeds"] == 0
    assert again.data.tags["fgaug.verdict"] == "not shown"
    assert again.info.status == "FAILED"


def test_shards_that_start_together_share_an_arm(searched: Searched) -> None:
    """Each has looked for the arm before the other made it."""
    one, two = (loggers_of(["mlflow"], searched.run, searched.cells)[0] for _ in "ab")
    first, second = searched.cells[-2:]
    assert first.arm_id == second.arm_id
    for shard, other in ((one, two), (two, one)):
        assert shard is not other
        shard.tracker = shard._made()
    for shard, cell in ((one, first), (two, second)):
        trial = SimpleNamespace(config={"cell_id": cell.cell_id}, last_result={})
        shard.on_trial_result(0, [], trial, {**curve(1)[0], "done": False})
    assert len(searched.runs("arm")) == 2
    searched.ends()
    arms = [a for a in searched.runs("arm") if a.data.tags["fgaug.arm_id"] == first.arm_id]
    assert len(arms) == 1
    parents = {run.data.tags["mlflow.parentRunId"] for run in searched.runs("cell")}
    assert parents == {arms[0].info.run_id}


def test_a_second_stage_adds_its_verdict(searched: Searched) -> None:
    arm_id = searched.cells[-1].arm_id
    row = {
        "arm_id": arm_id, "arm": "an arm", "against": "baseline", "verdict": "better",
        "metric": "auc", "n_seeds": 1, "n_seeds_against": 1, "reason": None,
        **dict.fromkeys(confirmation_records.NUMBERS, 0.25), "p_value": None,
    }  # fmt: skip
    judged = confirmation_records.SealedVerdict(
        date="2026-01-01", look=1, counted="look 1 of 1 planned",
        comparisons=(row, {**row, "against": "twin", "verdict": "worse"}),
    )  # fmt: skip
    stage = confirmation_records.SecondStage(
        by="confirm", date="2026-01-01", metric="auc", shortlist=(), left_out=(),
        seeds={arm_id: (7,)}, cells=(), judged=(judged,),
    )  # fmt: skip
    confirmation_records.write(searched.run, [stage])
    searched.ends()
    by_arm = {arm.data.tags["fgaug.arm_id"]: arm.data for arm in searched.runs("arm")}
    assert by_arm[arm_id].tags["fgaug.confirmed"] == "better"
    assert by_arm[arm_id].metrics["confirmed/effect"] == 0.25
    assert "confirmed/p_value" not in by_arm[arm_id].metrics  # undefined
    assert not any("fgaug.confirmed" in data.tags for k, data in by_arm.items() if k != arm_id)


def test_wandb_has_a_summary_for_each_arm(odd_root: Path) -> None:
    searched = Searched(odd_root, names=("wandb",))
    searched.ends()
    searched.ends()  # offline: a second segment of each run, under the same id
    runs, table = runs_in(searched.run.root), searched.table()
    arms = [run for run in runs if run.kind == "arm"]
    assert len(arms) == 14
    assert len({run.id for run in arms}) == 7
    for run in arms:
        assert run.finished
        assert run.group == f"run: {run.name}"
        assert "seed" not in run.config
        arm_id = run.config["arm_id"]
        if arm_id in table.index and isinstance(table.loc[arm_id, "verdict"], str):
            assert run.summary["verdict"] == table.loc[arm_id, "verdict"]
            shown = run.summary["verdict/effect"]  # null if undefined
            shown = math.nan if shown is None else shown
            assert shown == pytest.approx(table.loc[arm_id, "effect"], nan_ok=True)
    report = _report(runs)
    (files_in,) = report.artifacts.values()
    assert {"index.html", "tables/verdicts.csv"} <= files_in
    assert report.summary["ok"] == 17
    assert {run.id for run in runs if run.kind == "report"} == {report.id}


def _report(runs: list[OfflineRun]) -> OfflineRun:
    return next(run for run in runs if run.kind == "report")


def test_a_group_with_a_long_name_is_shortened(tmp_path: Path) -> None:
    usual = cells_in(tmp_path)
    long = [replace(cell, filter=f"agrees > 0.5 {'x' * 200}") for cell in usual]
    (logger,) = loggers_of(["wandb"], RunPaths(tmp_path / "run"), long)
    groups = {arm.arm_id: logger._group(arm) for arm in logger.arms.values()}
    assert max(map(len, groups.values())) == 128
    assert all(name.endswith(arm_id) for arm_id, name in groups.items() if len(name) == 128)


def test_what_cannot_be_analysed_ends_no_search(
    searched: Searched, caplog: pytest.LogCaptureFixture
) -> None:
    searched.run.environment.write_text("{", encoding="utf-8")
    cells = ()  # they are read from the damaged file in this test alone
    planned: Any = SimpleNamespace(
        run=searched.run, space=SimpleNamespace(loggers=["mlflow"]), grid_cells=cells
    )
    with caplog.at_level(logging.WARNING, "fgaug"):
        tracking.summarise(planned, Console(file=io.StringIO()))
    assert "The trackers get no means, verdicts and report" in caplog.text
    assert not searched.run.mlflow.exists()


def test_a_grid_without_such_trackers_makes_no_report(odd_root: Path) -> None:
    searched = Searched(odd_root, names=("tensorboard",))
    assert searched.ends() == ""
    assert not searched.run.report.exists()
