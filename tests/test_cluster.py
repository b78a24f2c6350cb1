"""The cluster: on loopback alone, however Ray was imported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_grid import phantom_dataset, write_grid

from fgaug.core.cluster import SIGNAL, started
from fgaug.errors import ClusterError
from fgaug.runs.results import load_results

LISTENING = """
import psutil, ray
from fgaug.core import cluster

with cluster.started(cpus=1, dashboard=False):
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                print(connection.laddr.ip)
"""


@pytest.mark.ray
def test_a_program_that_imported_ray_before_is_on_loopback_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=120, check=True
    )
    addresses = done.stdout.split()
    assert addresses
    own = [address.removeprefix("::ffff:") for address in addresses]
    assert all(address.startswith("127.") for address in own), addresses


def kill_raylet(of: psutil.Process) -> None:
    (raylet,) = [each for each in of.children(recursive=True) if each.name() == "raylet"]
    raylet.kill()


def wait_for_the_dead() -> None:
    """Wait for a task whose raylet is killed meanwhile."""
    with started(dashboard=False):
        import ray

        forever = ray.remote(lambda: time.sleep(1000)).remote()
        kill_raylet(psutil.Process())
        ray.wait([forever])


@pytest.mark.ray
def test_a_raylet_that_dies_ends_what_waits_for_it() -> None:
    before, began = signal.getsignal(SIGNAL), time.monotonic()
    with pytest.raises(ClusterError, match="Ray died: raylet ended"):
        wait_for_the_dead()
    assert time.monotonic() - began < 90
    assert signal.getsignal(SIGNAL) == before


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["evaluation", "start"])
def test_a_search_whose_raylet_dies_says_so_and_goes_on(tmp_path: Path, moment: str) -> None:
    phantom_dataset(tmp_path)
    write_grid(tmp_path, budget={"unit": "steps", "max": 40, "evaluations": 20})
    words = ["search", tmp_path / "grid.yaml", "--out", tmp_path / "run", "--no-dashboard"]
    command = [sys.executable, "-m", "fgaug", *map(str, words), "--log", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f'"event": "{moment}"' in line:
                break
        kill_raylet(psutil.Process(process.pid))
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "run the same command again to resume" in errors.splitlines()[-1]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert load_results(tmp_path / "run")["status"].tolist() == ["ok"] * 4
