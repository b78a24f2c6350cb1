"""A running search shows itself at Ray's metrics port, on loopback alone, at next to no cost."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from small_grid import grid, phantom_dataset, write_grid

from fgaug.grid.cells import Cell, Context, cells_of, recipes_of
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.study.tune import ray_metrics
from fgaug.study.tune.progress import Progress
from fgaug.study.tune.ray_metrics import Metrics

pytestmark = pytest.mark.ray
TOKEN = "ab" * 32  # of the cluster of this test

WATCHED = """
import json, pathlib, re, sys, threading, time, urllib.request
import fgaug, psutil, ray
from fgaug.core.cluster import started

token, grid, out = sys.argv[1:]
seen = {}

def metrics():
    (node,) = ray.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        text = answer.read().decode()
    return re.findall(r"^ray_fgaug_.*$", text, re.MULTILINE)

def until(found):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            lines = metrics()
        except OSError:  # the agent is not up yet
            lines = []
        if found(lines):
            return lines
        time.sleep(0.2)
    return lines

def watch():
    seen["running"] = until(lambda lines: any("images_per_second{" in line for line in lines))
    me = psutil.Process()
    seen["addresses"] = [
        connection.laddr.ip
        for process in [me, *me.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

with started(cpus=2, gpus=0, dashboard=False):
    watcher = threading.Thread(target=watch)
    watcher.start()
    fgaug.search(grid, out)
    watcher.join()
    seen["end"] = until(lambda lines: any(line.endswith(" 4.0") for line in lines))
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_a_running_search_is_seen_at_the_metrics_port(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    path = write_grid(tmp_path, budget={"unit": "steps", "max": 60, "evaluations": 30})
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, TOKEN, str(path), str(tmp_path / "run")],
        env={**os.environ, **own, "RAY_metrics_report_interval_ms": "1000"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    speeds = values(seen["running"], "ray_fgaug_images_per_second")
    assert 1 <= len(speeds) <= 2, "of the cells that train"
    cell_ids = {folder.name for folder in (tmp_path / "run" / "trials").iterdir()}
    for cell, speed in speeds.items():
        words, cell_id = re.fullmatch(r"(.*) \((\w{12})\)", cell).groups()  # type: ignore[union-attr]  # else it fails here
        assert "seed" in words
        assert cell_id in cell_ids
        assert speed > 1
    assert set(values(seen["running"], "ray_fgaug_steps_done")) == set(speeds)
    assert values(seen["end"], "ray_fgaug_cells_done_total", "status") == {"ok": 4}
    own_addresses = [address.removeprefix("::ffff:") for address in seen["addresses"]]
    assert own_addresses
    assert all(address.startswith("127.") for address in own_addresses)


def values(lines: list[str], name: str, tag: str = "cell") -> dict[str, float]:
    """Return the values of a metric by one of its tags."""
    found = [line for line in lines if line.startswith(f"{name}{{")]
    tags = [re.search(rf'[{{,]{tag}="([^"]*)"', line) for line in found]
    return {
        tag.group(1): float(line.split()[-1])
        for tag, line in zip(tags, found, strict=True)
        if tag is not None
    }


class Recorded:
    """Stands for a metric of Ray and keeps what it is told."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.told: list[tuple[float, dict[str, str]]] = []

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((value, tags))

    inc = set


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    space = parse_space(grid(tmp_path))
    weights = {recipe.model_dump_json(): "scratch" for recipe in recipes_of(expand(space))}
    context = Context(dataset_digest="d", generator={}, pool=100, weights=weights)
    return cells_of(space, expand(space), {None: context})


def test_gauges_are_of_running_cells_and_counters_of_this_search(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(ray_metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ray_metrics, "metrics", SimpleNamespace(Gauge=Recorded, Counter=Recorded))
    progress = Progress(cells, 0, None, Console(file=io.StringIO()))
    told: Any = Metrics(progress.tally, "small")
    trials = [SimpleNamespace(config={"cell_id": cell.cell_id}) for cell in cells]
    half = {
        "share": 0.5,
        "step": 2,
        "epoch": -1,
        "images_seen": 300,
        "train_s": 2.0,
        "done": False,
    }
    for trial in trials[:3]:
        progress.on_trial_start(0, [], trial)
    for _ in range(100):
        progress.on_trial_result(0, [], trials[0], half)
        progress.on_trial_result(0, [], trials[1], {**half, "epoch": 3})
        told.on_step_end(0, [])
    assert [value for value, _ in told.speed.told] == [150, 150], "once for all these reports"
    assert [value for value, _ in told.steps.told] == [2, 2]
    assert [value for value, _ in told.epochs.told] == [3]
    assert told.steps.told[0][1] == {
        "run": "small",
        "cell": f"{cells[0].described} ({cells[0].cell_id})",
    }
    ok = {"status": "ok", "done": True, "valid_acc": 1, "valid_auc": 1, "valid_loss": 0}
    progress.on_trial_result(0, [], trials[0], {**ok, "wall_s": 1})
    progress.on_trial_result(0, [], trials[1], {"status": "failed", "done": True, "error": "x"})
    progress.on_pruned(cells[3].cell_id, 0)
    for _ in range(2):
        now[0] += ray_metrics.EVERY_S
        told.on_step_end(0, [])
    counted = {tags["status"]: value for value, tags in told.done.told}
    assert counted == {"ok": 1, "failed": 1, "pruned": 1}
    assert len(told.done.told) == 3
    assert len(told.speed.told) == 2, "a cell that has ended is set no more"
    by_status = {tags["status"]: value for value, tags in told.cells.told}
    states = {"ok": 1, "failed": 1, "pruned": 1, "running": 1, "waiting": 0, "paused": 0}
    assert by_status == states, "and set again, as Ray forgets what is not"
    means = {tags["arm"]: value for value, tags in told.auc.told[-1:]}
    assert means == {cells[0].arm_described: 1}
    assert len(told.auc.told) == len(told.loss.told) == 2
    assert told.gpu.told == [], "no series without a GPU"


def test_only_the_best_arms_have_a_series(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_metrics, "metrics", SimpleNamespace(Gauge=Recorded, Counter=Recorded))
    monkeypatch.setattr(ray_metrics, "ARMS", 1)
    progress = Progress(cells, 0, None, Console(file=io.StringIO()))
    told: Any = Metrics(progress.tally, "small")
    for value, cell in enumerate(cells):
        progress.tally.score(cell.cell_id, {"valid_auc": value / 10, "valid_loss": None})
    told.export()
    best = max(progress.tally.arms.values(), key=lambda arm: arm.mean("auc") or 0)
    assert told.auc.told == [(best.mean("auc"), {"run": "small", "arm": best.name})]
    assert told.loss.told == [], "a value that is unknown leaves no series"


def test_a_report_costs_next_to_nothing(cells: tuple[Cell, ...]) -> None:
    """Ray's own metrics: measured .1 us a step, and 4 us a running cell every two seconds."""
    progress = Progress(cells, 0, None, Console(file=io.StringIO()))
    told = Metrics(progress.tally, "small")
    for cell in cells:
        progress.tally.move(cell.cell_id, "running")
        progress.tally.running[cell.cell_id] = {
            "share": 0.5,
            "step": 1,
            "epoch": 1,
            "train_s": 1.0,
        }
    told.on_step_end(0, [])
    began = time.perf_counter()
    for _ in range(1000):
        told.on_step_end(0, [])
    each_s = (time.perf_counter() - began) / 1000
    began = time.perf_counter()
    for _ in range(100):
        told.export()
    export_s = (time.perf_counter() - began) / 100 / len(cells)
    assert each_s < 20e-6
    assert export_s < 1e-3
