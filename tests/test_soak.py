"""A search killed a hundred times, each time some other process of it: the same numbers.

`FGAUG_SOAK_KILLS` and `FGAUG_SOAK_SEED` change how often, and which.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from same_frames import assert_same
from small_grid import phantom_dataset, write_grid

from fgaug.runs.results import load_results

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3 * 3600)]

# what is killed -> what its title (of a program, its path) holds; the driver is what was started
VICTIMS = {  # what the titles of their processes hold
    "trial": ("ray::Trial", " seed "),
    "actor": ("ray::GanWorker", "ray::dbp psi ", "ray::trv psi "),
    "raylet": ("/raylet/raylet",),
    "driver": (),
}
# how many seconds it has worked by then, at most
WORKS_S = {"trial": 4.0, "actor": 0.4, "raylet": 12.0, "driver": 12.0}
APPEARS_S = 60.0
ENDS_S = 180.0  # for a search to end by itself after a kill, done or not


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset and a grid of 60 cells, some of which its scheduler stops."""
    phantom_dataset(tmp_path)
    write_grid(
        tmp_path,
        axes={
            "mode": ["augmentation", "synthetic"],
            "psi": [0.5, 0.7, 1.0],
            "ratio": [1, 3],
            "seed": [1, 2, 3, 4],
        },
        controls=["oversample"],
        cells=60,
        budget={"unit": "steps", "max": 54, "evaluations": 18},
        scheduler={"type": "arm_asha", "eta": 3, "rungs": 2},
    )
    return tmp_path


def search_command(root: Path, run: Path) -> list[str]:
    words = ["search", root / "grid.yaml", "--out", run, "--no-dashboard", "--log", "json"]
    return [sys.executable, "-m", "fgaug", *map(str, words), "--retries", "5"]


def find(victim: str, driver: psutil.Process) -> list[psutil.Process]:
    if victim == "driver":
        return [driver]
    found: list[psutil.Process] = []
    below: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        below = driver.children(recursive=True)
    for process in below:
        with contextlib.suppress(psutil.Error, IndexError):
            title = process.cmdline()[0]
            if any(part in title for part in VICTIMS[victim]):
                found.append(process)
    return found


class Soak:
    """Searches of one grid that are killed until there were enough kills."""

    def __init__(self, root: Path, kills: int, seed: int) -> None:
        self.root, self.kills, self.rng = root, kills, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()

    def whole_search(self, run: Path) -> None:
        """Start one search again and again until it is complete."""
        for _ in range(10 * self.kills):
            if self._one_try(run) == 0:
                return
        raise AssertionError("the search never ends")

    def _one_try(self, run: Path) -> int:
        """Start the search, kill until its driver ends, and return its exit code."""
        victim = self.rng.choice(list(VICTIMS))
        if victim == "actor":  # a bank is made again as it was
            shutil.rmtree(self.root / "bank", ignore_errors=True)
        workers: set[psutil.Process] = set()
        log = (self.root / "soak.log").open("a+")
        with log, subprocess.Popen(search_command(self.root, run), stderr=log) as process:
            driver = psutil.Process(process.pid)
            while self.done.total() < self.kills and self._kill(victim, driver, workers):
                if victim in ("raylet", "driver"):
                    break
                victim = self.rng.choice(["trial", "raylet", "driver"])
            code = process.wait(ENDS_S)
        # what writes files is gone before the next search; Ray's own agents take longer
        _, left = psutil.wait_procs(list(workers), timeout=60)
        assert not left, f"still there after {dict(self.done)} kills: {left}"
        self.codes[code] += 1
        return code

    def _kill(self, victim: str, driver: psutil.Process, workers: set[psutil.Process]) -> bool:
        """Kill a victim after it has worked for a moment; False if the search ended before.

        An actor may have made its fakes by then: once trials work it is too late, and none is
        killed.
        """
        began = time.monotonic()
        works_until = None
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            workers |= {*find("trial", driver), *find("actor", driver)}
            found = find(victim, driver)
            now = time.monotonic()
            if found and works_until is None:
                works_until = now + self.rng.uniform(0, WORKS_S[victim])
            if found and works_until is not None and now >= works_until:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.rng.choice(found).kill()
                    self.done[victim] += 1
                    return True
            if victim == "actor" and not found and find("trial", driver):
                return True
            assert found or now - began < APPEARS_S, f"no {victim} appeared"
            time.sleep(0.1)
        return False


def test_killed_a_hundred_times_it_ends_with_the_same_frame(root: Path) -> None:
    whole = root / "whole"
    subprocess.run(search_command(root, whole), check=True, capture_output=True, timeout=1800)
    assert set(load_results(whole)["status"]) == {"ok", "pruned"}
    kills = int(os.environ.get("FGAUG_SOAK_KILLS", "100"))
    soak = Soak(root, kills, int(os.environ.get("FGAUG_SOAK_SEED", "0")))
    runs = 0
    while soak.done.total() < kills:
        run = root / f"killed {runs}"
        soak.whole_search(run)
        assert_same(run, whole)
        assert not list(run.rglob("*.tmp"))
        runs += 1
    print(f"{dict(soak.done)} kills in {runs} searches, exit codes {dict(soak.codes)}")
    assert set(soak.done) == set(VICTIMS) or kills < 40
