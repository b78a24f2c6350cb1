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
from wandb_file import runs_in

from fgaug.analysis.report import files as report_files
from fgaug.core import files, mirror
from fgaug.core.paths import RunPaths
from fgaug.grid.cells import Cell
from fgaug.runs import confirmation_records
from fgaug.runs.place import mirrored
from fgaug.study import tracking
from fgaug.study.tune.loggers import loggers_of
from fgaug.study.tune.mlflow_runs import MLflow
from fgaug.study.tune.tracked import TrackedSearch

pytestmark = pytest.mark.ray  # Ray's callbacks are imported, and its logger
SMALL = World(patients=30, seeds=3)
VERDICTS = {"effect", "ci_low", "ci_high", "p_value", "twin_effect", "mean", "mean_against"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")


def cells_of(run: RunPaths, root: Path) -> tuple[Cell, ...]:
    """Return the cells of a simulated run: those of a small grid under the simulated names."""
    usual = cells_in(root)[-1]
    record = json.loads(run.environment.read_text())
    return tuple(
        replace(
            usual, cell_id=cell_id, arm_id=arm["arm_id"], seed=seed,
            mode=arm["mode"], psi=arm["psi"], ratio=arm["ratio"],
        )
        for arm in record["arms"]
        for cell_id, seed in arm["cells"].items()
    )  # fmt: skip


def planned_of(run: RunPaths, cells: tuple[Cell, ...], *loggers: str) -> Any:
    """Return what summaries read of a plan."""
    return SimpleNamespace(run=run, space=SimpleNamespace(loggers=loggers), grid_cells=cells)


@dataclass(frozen=True)
class Ended:
    """A simulated run as a search would leave it, summarised to a store of MLflow's."""

    run: RunPaths
    cells: tuple[Cell, ...]
    search: TrackedSearch
    printed: str

    @property
    def table(self) -> pd.DataFrame:
        """The report's table of verdicts, as it is on disk."""
        return pd.read_csv(self.run.report.parent / "tables" / "verdicts.csv", index_col="arm_id")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    root = tmp_path_factory.mktemp("ended")
    arms = grid_of(worth={(1.0, 2): 3.0}, twin=1.2)
    arms[3] = replace(arms[3], pruned=3)
    arms[4] = replace(arms[4], failed=1)
    run = RunPaths(write_run(root / "run", arms, SMALL))
    files.write_text(run.report.parent / "test" / "index.html", "opened by hand")
    cells, seen = cells_of(run, root), []
    console = Console(file=io.StringIO(), width=200)
    with pytest.MonkeyPatch.context() as patch:
        drawing = b"<?xml version='1.0'?><svg/>"  # figures are what takes the time
        patch.setattr(report_files, "encoded", lambda figure, fmt: drawing)
        patch.setattr(MLflow, "summarise", lambda self, search: seen.append(search))
        tracking.summarise(planned_of(run, cells, "mlflow", "tensorboard"), console)
    return Ended(run, cells, *seen, console.file.getvalue())


class Store:
    """A store of MLflow's in a folder of its own, filled by the searches of a run."""

    def __init__(self, root: Path, cells: tuple[Cell, ...]) -> None:
        self.run, self.cells = RunPaths(root / "run"), cells

    def logger(self) -> Any:
        (logger,) = loggers_of(["mlflow"], self.run, self.cells)
        return logger

    def gets(self, search: TrackedSearch) -> None:
        logger = self.logger()
        logger.summarise(search)
        assert not logger.broken

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.run.mlflow.resolve().as_uri())

    def runs(self, kind: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name("run")
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id])
        return [run for run in found if run.data.tags["fgaug.kind"] == kind]


@pytest.fixture
def store(odd_root: Path, ended: Ended) -> Store:
    return Store(odd_root, ended.cells)


def test_arms_have_the_numbers_and_verdicts_of_the_report(ended: Ended, store: Store) -> None:
    assert ended.printed == f"report: {ended.run.report}\n"
    store.gets(ended.search)
    table, arms = ended.table, store.runs("arm")
    assert len(arms) == 7  # a baseline, two twins, four arms with fakes
    compared = 0
    for arm in arms:
        arm_id, metrics = arm.data.tags["fgaug.arm_id"], arm.data.metrics
        own = [cell for cell in ended.cells if cell.arm_id == arm_id]
        paths = [ended.run.trial(cell.cell_id).result for cell in own]
        rows = [json.loads(path.read_text())["rows"][0] for path in paths]
        done = [row["valid_auc"] for row in rows if row["status"] == "ok"]
        assert metrics["arm/seeds"] == len(done)
        if done:
            assert metrics["arm/valid_auc_mean"] == pytest.approx(sum(done) / len(done))
        if arm_id not in table.index:
            assert "verdict/effect" not in metrics
            continue
        told = {
            name.removeprefix("verdict/"): value
            for name, value in metrics.items()
            if name.startswith("verdict/")
        }
        expected = table.loc[arm_id]
        for name in told.keys() | VERDICTS:
            shown = told.get(name, math.nan)
            assert shown == pytest.approx(expected[name], nan_ok=True), name
        if isinstance(expected["verdict"], str):
            compared += 1
            assert arm.data.tags["verdict"] == expected["verdict"]
            assert expected["sentence"] in arm.data.tags["mlflow.note.content"]
    assert compared == 4
    best = max(arms, key=lambda arm: arm.data.metrics.get("verdict/effect", -1))
    assert best.data.tags["verdict"] == "better"
    assert best.info.run_name == "augmentation psi 1 ratio 2"
    statuses = sorted(arm.info.status for arm in arms)
    assert statuses == ["FAILED", *["FINISHED"] * 5, "KILLED"]


def test_the_report_is_an_artifact_without_the_sealed_test(ended: Ended, store: Store) -> None:
    store.gets(ended.search)
    (report,) = store.runs("report")
    names = [item.path for item in store.client.list_artifacts(report.info.run_id, "report")]
    assert "report/index.html" in names
    assert "report/test" not in names
    tables = store.client.list_artifacts(report.info.run_id, "report/tables")
    assert "report/tables/verdicts.csv" in [item.path for item in tables]
    assert "The arm that looks best is" in report.data.tags["mlflow.note.content"]
    assert report.data.metrics["cells/ok"] == 17
    assert report.data.metrics["cells/pruned"] == 3
    assert report.info.status == "FAILED"


def test_a_search_that_ends_again_changes_nothing(ended: Ended, store: Store) -> None:
    store.gets(ended.search)
    before = {run.info.run_id: run.data.metrics for run in store.runs("arm")}
    store.gets(ended.search)
    after = {run.info.run_id: run.data.metrics for run in store.runs("arm")}
    assert after == before
    assert len(store.runs("report")) == 1
    history = store.client.get_metric_history(next(iter(after)), "arm/seeds")
    assert len(history) == 1


def test_a_number_that_becomes_undefined_does_not_stay(ended: Ended, store: Store) -> None:
    store.gets(ended.search)
    first, *others = sorted(ended.search.arms, key=lambda arm: arm.verdict != "better")
    assert math.isfinite(first.numbers["verdict/effect"])
    less = {**first.numbers, "verdict/effect": math.nan}
    del less["verdict/ci_low"]
    lost = replace(first, numbers=less, status="missing", verdict="")
    store.gets(replace(ended.search, arms=(lost, *others)))
    arms = [a for a in store.runs("arm") if a.data.tags["fgaug.arm_id"] == first.arm_id]
    assert len(arms) == 1
    assert math.isnan(arms[0].data.metrics["verdict/effect"])
    assert math.isnan(arms[0].data.metrics["verdict/ci_low"])
    assert arms[0].data.metrics["arm/seeds"] == first.numbers["arm/seeds"]
    assert arms[0].data.tags["verdict"] == ""
    assert arms[0].info.status == "KILLED"


def test_shards_that_start_together_share_an_arm(ended: Ended, store: Store) -> None:
    """Each has looked for the arm before the other made it."""
    shards = store.logger(), store.logger()
    for shard in shards:
        shard.tracker = shard._made()
    both = ended.cells[-2:]
    assert both[0].arm_id == both[1].arm_id
    for shard, cell in zip(shards, both, strict=True):
        trial = SimpleNamespace(config={"cell_id": cell.cell_id}, last_result={})
        shard.on_trial_result(0, [], trial, {**curve(1)[0], "done": False})
    assert len(store.runs("arm")) == 2
    store.gets(ended.search)
    arms = [a for a in store.runs("arm") if a.data.tags["fgaug.arm_id"] == both[0].arm_id]
    assert len(arms) == 1
    parents = {run.data.tags["mlflow.parentRunId"] for run in store.runs("cell")}
    assert parents == {arms[0].info.run_id}


def test_a_run_at_a_uri_is_continued_from_another_machine(
    ended: Ended, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, less = [], replace(ended.search, arms=ended.search.arms[:1], report={})
    for machine in ("laptop", "server"):
        monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / machine))
        store = Store(tmp_path, ended.cells)
        store.run = mirrored(f"{bucket}/runs/run", "search")
        assert store.run.name == "run"
        store.gets(less)
        mirror.push(store.run.mlflow)
        stores.append(store)
    laptop, server = ([run.info.run_id for run in each.runs("arm")] for each in stores)
    assert laptop == server
    assert len(laptop) == 1
    assert not stores[0].run.mlflow.samefile(stores[1].run.mlflow)


def test_a_second_stage_adds_its_verdict(ended: Ended, store: Store, tmp_path: Path) -> None:
    arm_id = ended.cells[-1].arm_id
    numbers = {**dict.fromkeys(confirmation_records.NUMBERS, 0.25), "p_value": None}
    row = {"arm_id": arm_id, "against": "baseline", "verdict": "better", **numbers}
    judged = confirmation_records.SealedVerdict(
        date="2026-01-01", look=1, counted="look 1 of 1 planned",
        comparisons=(row, {**row, "against": "twin", "verdict": "worse"}),
    )  # fmt: skip
    stage = confirmation_records.SecondStage(
        by="confirm", date="2026-01-01", metric="auc", shortlist=(), left_out=(),
        seeds={arm_id: (7,)}, cells=(), judged=(judged,),
    )  # fmt: skip
    run = RunPaths(tmp_path / "confirmed")
    confirmation_records.write(run, [stage])
    found = tracking.second_stages(run)
    assert {*found} == {arm_id}
    (word, more), last = found[arm_id], ended.search.arms[-1]
    assert last.arm_id == arm_id
    added = replace(last, confirmed=word, numbers={**last.numbers, **more})
    store.gets(replace(ended.search, arms=(*ended.search.arms[:-1], added)))
    by_arm = {arm.data.tags["fgaug.arm_id"]: arm.data for arm in store.runs("arm")}
    assert by_arm[arm_id].tags["confirmed"] == "better"
    assert by_arm[arm_id].metrics["confirmed/effect"] == 0.25
    assert "confirmed/p_value" not in by_arm[arm_id].metrics  # undefined
    assert not any("confirmed" in data.tags for k, data in by_arm.items() if k != arm_id)


def test_wandb_has_a_summary_for_each_arm(ended: Ended, odd_root: Path) -> None:
    run, table = RunPaths(odd_root / "run"), ended.table
    run.root.mkdir()
    for _ in range(2):  # offline: a second segment of each run, under the same id
        (logger,) = loggers_of(["wandb"], run, ended.cells)
        logger.summarise(ended.search)
        assert not logger.broken
    runs = runs_in(run.root)
    arms = [each for each in runs if each.kind == "arm"]
    assert len(arms) == 14
    assert len({each.id for each in arms}) == 7
    for each in arms:
        assert each.finished
        assert each.group == f"run: {each.name}"
        assert "seed" not in each.config
        arm_id = each.config["arm_id"]
        if arm_id in table.index and isinstance(table.loc[arm_id, "verdict"], str):
            assert each.summary["verdict"] == table.loc[arm_id, "verdict"]
            shown = each.summary["verdict/effect"]  # null if undefined
            shown = math.nan if shown is None else shown
            assert shown == pytest.approx(table.loc[arm_id, "effect"], nan_ok=True)
    reports = [each for each in runs if each.kind == "report"]
    assert len({each.id for each in reports}) == 1
    (names,) = reports[0].artifacts.values()
    assert {"index.html", "tables/verdicts.csv"} <= names
    assert "test/index.html" not in names
    assert reports[0].summary["ok"] == 17


def test_a_group_with_a_long_name_is_shortened(tmp_path: Path) -> None:
    usual = cells_in(tmp_path)
    long = [replace(cell, filter=f"agrees > 0.5 {'x' * 200}") for cell in usual]
    (logger,) = loggers_of(["wandb"], RunPaths(tmp_path / "run"), long)
    groups = {arm.arm_id: logger._group(arm) for arm in logger.arms.values()}
    assert max(map(len, groups.values())) == 128
    assert all(name.endswith(arm_id) for arm_id, name in groups.items() if len(name) == 128)


def test_what_cannot_be_analysed_ends_no_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunPaths(write_run(tmp_path / "run", grid_of(), SMALL))
    cells = cells_of(run, tmp_path)
    run.environment.write_text("{", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "fgaug"):
        tracking.summarise(planned_of(run, cells, "mlflow"), Console(file=io.StringIO()))
    assert "The trackers get no means, verdicts and report" in caplog.text
    assert not run.mlflow.exists()


@pytest.mark.parametrize(("loggers", "finished"), [(["tensorboard"], True), (["mlflow"], False)])
def test_there_may_be_nothing_to_summarise(
    tmp_path: Path, loggers: list[str], finished: bool
) -> None:
    arms = [replace(arm, missing=0 if finished else SMALL.seeds) for arm in grid_of()]
    run = RunPaths(write_run(tmp_path / "run", arms, SMALL))
    cells = cells_of(run, tmp_path)
    tracking.summarise(planned_of(run, cells, *loggers), Console(file=io.StringIO()))
    assert not run.report.exists()
    assert not run.mlflow.exists()
