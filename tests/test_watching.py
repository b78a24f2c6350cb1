"""A search as its users watch it: Ray's lists, a real Prometheus, the Grafana dashboard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import prometheus
import pytest
from small_grid import phantom_dataset, write_grid

from fgaug.core import grafana

CELLS = {f"{arm} seed {n}" for arm in ("baseline", "augmentation psi 1 ratio 4") for n in (1, 2)}
FAKES = {"dbp psi 1", "trv psi 1"}
NEEDS_GPU = ["GPU memory of running cells"]
MINUTES = ["Cells finished per minute"]  # a rate: needs two values of a counter


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is seen of one search: see `watched_search.main`."""
    if prometheus.binary() is None:
        pytest.skip("no Prometheus: `make test-all` unpacks Debian's, where apt-get is there")
    root = tmp_path_factory.mktemp("watching")
    phantom_dataset(root)
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [4], "seed": [1, 2]}
    grid = write_grid(root, axes=axes, budget={"unit": "steps", "max": 16, "evaluations": 8})
    program = Path(__file__).parent / "watched_search.py"
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}
    done = subprocess.run(
        [sys.executable, str(program), str(grid), str(root / "run")],
        env={**os.environ, **own, "RAY_metrics_report_interval_ms": "1000"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.ray
@pytest.mark.slow
class TestWatching:
    def test_every_panel_of_the_dashboard_has_an_answer(self, seen: dict[str, Any]) -> None:
        assert [each for each in seen["unanswered"] if each not in MINUTES] == NEEDS_GPU

    def test_the_statuses_add_up_to_the_grid(self, seen: dict[str, Any]) -> None:
        assert set(seen["totals"]) == {4}
        assert seen["done"] == [[{"status": "ok"}, 4]]
        assert seen["gone"] == [], "Ray forgets gauges of a search that is over"

    def test_series_name_arms_cells_and_processes(self, seen: dict[str, Any]) -> None:
        arms = {labels["arm"] for labels in seen["panels"]["Validation AUC by arm"]}
        assert arms <= {cell.partition(" seed")[0] for cell in CELLS}
        assert arms
        cells = {labels["cell"] for labels in seen["panels"]["Training images/s by cell"]}
        assert {cell.rpartition(" (")[0] for cell in cells} <= CELLS
        processes = {labels["Component"] for labels in seen["panels"]["Memory by process"]}
        assert {each.removeprefix("ray::") for each in processes} <= CELLS | FAKES

    def test_ray_lists_cells_and_fakes_by_what_they_are(self, seen: dict[str, Any]) -> None:
        tasks = [(function, name) for function, name in seen["tasks"]]
        assert {name for function, name in tasks if function == "Trial.train"} == CELLS
        made = {name for function, name in tasks if function == "GanWorker.make"}
        assert made == FAKES
        actors = [name for kind, name in seen["actors"] if kind == "Trial"]
        shared = [name for name in actors if name.endswith(" and later cells")]
        assert len(shared) == 2, "two at once, and one of them trains the third cell"
        (alone,) = set(actors) - set(shared)
        assert alone in CELLS
        assert {name for kind, name in seen["actors"] if kind == "GanWorker"} == FAKES

    def test_everything_listens_on_loopback(self, seen: dict[str, Any]) -> None:
        assert seen["addresses"]
        assert all(address.startswith("127.") for address in seen["addresses"])


def test_the_dashboard_is_written_where_ray_has_grafana_look(
    fgaug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tempfile.mkdtemp(dir="/tmp")  # Ray takes no long one
    monkeypatch.setenv("RAY_TMPDIR", short)
    code, _, err = fgaug("grafana")
    assert code == 2
    assert "or give a folder: `fgaug grafana FOLDER`" in err
    folder = Path(short) / "ray" / "session_latest" / "metrics" / "grafana" / "dashboards"
    folder.mkdir(parents=True)
    code, out, _ = fgaug("grafana")
    assert (code, out) == (0, f"{folder / grafana.NAME}\n")
    assert json.loads(Path(out.strip()).read_text())["title"] == "fgaug"
    shutil.rmtree(short)
    monkeypatch.setenv(grafana.RAY_SETTING, str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    assert fgaug("grafana")[1] == f"{tmp_path / 'own' / grafana.NAME}\n"
    assert fgaug("grafana", tmp_path / "new")[1] == f"{tmp_path / 'new' / grafana.NAME}\n"
    (tmp_path / "file").touch()
    code, _, err = fgaug("grafana", tmp_path / "file")
    assert code == 2
    assert "cannot be written" in err


def test_the_dashboard_is_whole() -> None:
    """Panels have ids of their own, places that do not overlap, and a known source of data."""
    found = json.loads(grafana.dashboard())
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    places = [panel["gridPos"] for panel in found["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    variables = {each["name"] for each in found["templating"]["list"]}
    assert variables == {"datasource", "run"}
    sources = {panel["datasource"]["uid"] for panel in found["panels"]}
    assert sources == {"${datasource}"}
