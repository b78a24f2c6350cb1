"""A search whose run is at a URI, against a real S3 server: equal to one in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from small_grid import phantom_dataset, write_grid

import fgaug as library
from fgaug.core.cluster import started
from fgaug.core.store import Entry, Store, open_store
from fgaug.errors import StoreError
from fgaug.study import search

pytestmark = pytest.mark.ray
MACHINE = ["wall_s", "train_images_per_s", "peak_rss_mb", "started_at"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a filled bank and a grid of four cells."""
    root = tmp_path_factory.mktemp("on a store")
    phantom_dataset(root)
    write_grid(root, budget={"unit": "steps", "max": 8, "evaluations": 4})
    return root


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with started(cpus=2, gpus=0, dashboard=False):
        yield


@pytest.fixture(scope="module")
def whole(cluster: None, root: Path) -> Path:
    """The same search in a folder."""
    assert search.search(root / "grid.yaml", root / "whole").ok == 4
    return root / "whole"


def same(uri: str, whole: Path) -> None:
    found, expected = library.load_results(uri), library.load_results(whole)
    pd.testing.assert_frame_equal(found.drop(columns=MACHINE), expected.drop(columns=MACHINE))
    for load in (library.load_curves, library.load_predictions):
        columns = ["train_s"] if load is library.load_curves else []
        pd.testing.assert_frame_equal(
            load(uri).drop(columns=columns), load(whole).drop(columns=columns)
        )


@pytest.fixture
def on_new_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the driver a cache of its own; workers have that of the cluster."""
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


def test_equal_to_a_search_in_a_folder(
    cluster: None, root: Path, whole: Path, bucket: str, on_new_machine: None, tmp_path: Path
) -> None:
    uri = f"{bucket}/runs/x"
    run = search.search(root / "grid.yaml", uri)
    assert (run.ok, run.failed, run.missing, run.place) == (4, 0, 0, uri)
    same(uri, whole)
    stored = open_store(uri, StoreError).entries("")
    files = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    assert set(stored) == {name for name in files if not name.endswith(".lock")}
    again = search.search(root / "grid.yaml", uri)
    assert again == run
    page = run.report()
    assert open_store(uri, StoreError).entries("report")["report/index.html"].size > 10_000
    assert page.is_file()


def test_a_driver_that_dies_is_followed_from_another_machine(
    root: Path, bucket: str, tmp_path: Path
) -> None:
    """Its finished cells are kept, and the others give the numbers of an undisturbed search."""
    uri, grid = f"{bucket}/runs/killed", tmp_path / "grid.yaml"
    text = (root / "grid.yaml").read_text(encoding="utf-8")
    grid.write_text(
        text.replace("max: 8", "max: 100").replace("evaluations: 4", "evaluations: 20")
    )

    def command(machine: str) -> subprocess.Popen[str]:
        words = ["search", str(grid), "--out", uri, "--no-dashboard", "--cpus", "1"]
        script = (
            "import sys\n"
            "from fgaug.core import lease\n"
            "lease.STALE_S = 5.0\n"
            "from fgaug.cli.app import main\n"
            f"sys.argv[1:] = {words!r}\n"
            "main()\n"
        )
        environment = {**os.environ, "FGAUG_CACHE": str(tmp_path / machine)}
        return subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True
        )

    store = open_store(uri, StoreError)
    with command("one") as first:
        deadline = time.monotonic() + 120
        while not rows_of(store):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
    kept = rows_of(store)
    assert 0 < len(kept) < 4, "it died too late to test anything"
    with command("two") as second:
        _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    expected = search.search(grid, tmp_path / "undisturbed", dashboard=False, cpus=1)
    same(uri, Path(expected))
    assert rows_of(store).items() >= kept.items(), "a finished cell was trained again"


def rows_of(store: Store) -> dict[str, Entry]:
    """Return the rows that a store has, with their sizes and times."""
    entries = store.entries("trials").items()
    return {name: entry for name, entry in entries if name.endswith("result.json")}
