"""A search on S3 whose nodes, processes, driver and connections are killed thirty times.

`FGAUG_TEST_SEED` chooses other kills. What happened when is printed, and written to `kills.log` in
the test's folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from faulty_proxy import Faults
from nodes import Job, Node, need_nodes
from nodes_search import (
    CELLS,
    GRID_OF_RUN,
    WORK,
    Nodes,
    assert_brought,
    nodes_with_store,
    write_inputs,
)

from fgaug.study import search

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3600)]
KILLS, SEED = 30, int(os.environ.get("FGAUG_TEST_SEED", "20261201"))
STEPS = 600
PAUSE_S = (5.0, 15.0)  # between kills
STORE_AWAY_S = 5.0
END_S = 900.0  # from the last kill to the end of the search


class Chaos:
    """A search and what happens to it; every decision comes from the seed."""

    def __init__(self, nodes: Nodes, work: Path, log: Path) -> None:
        self.nodes, self.log = nodes, log
        self.rng = random.Random(SEED)
        self.began = time.monotonic()
        self.done: Counter[str] = Counter()
        self.driver, self.other = nodes.join_with(work, "first", "second")
        self.job = nodes.search(self.driver, f"{WORK}/grid.yaml")
        self.number = 0
        self.tell(f"seed {SEED}")

    def __enter__(self) -> Chaos:
        return self

    def __exit__(self, *_: object) -> None:
        self.job.close()

    def tell(self, what: str) -> None:
        line = f"{time.monotonic() - self.began:7.1f} s  {what}"
        print(line, flush=True)
        with self.log.open("a") as file:
            file.write(f"{line}\n")

    def strike(self) -> None:
        """Kill something; it does not count if there was nothing to kill."""
        kind = self.rng.choices(
            ["process", "connections", "store", "requests", "node", "driver"],
            weights=[8, 5, 4, 5, 4, 4],
        )[0]
        hit: str | None = getattr(self, f"_{kind}")()
        if hit is not None:
            self.done[kind] += 1
            self.tell(f"{self.done.total():2} {kind}: {hit}")

    def again(self) -> None:
        """Start the search again if its driver has ended before the run is complete."""
        code = self.job.poll()
        if code is None or code == 0:
            return
        self.tell(f"the driver ended with exit code {code}: {last_line(self.job)}")
        self._search_again()

    def _process(self) -> str | None:
        """Kill a process in which a cell trains or fakes are made."""
        found = [
            (each, node.name)
            for node in (self.driver, self.other)
            for each in sorted(node.processes(), key=lambda each: each.pid)
            if named(each).startswith("ray::") and "Agent" not in named(each)
        ]
        if not found:
            return None
        victim, where = self.rng.choice(found)
        name = named(victim)
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return None
        return f"{name} on {where}"

    def _connections(self) -> str:
        self.nodes.store.proxy.drop()
        return "all cut"

    def _store(self) -> str:
        self.nodes.store.proxy.off()
        time.sleep(STORE_AWAY_S)
        self.nodes.store.proxy.on()
        return f"away for {STORE_AWAY_S:.0f} s"

    def _requests(self) -> str:
        seed = self.rng.randrange(1 << 30)
        self.nodes.store.proxy.set(Faults(delay_s=0.05, fail=0.2, cut=0.2, seed=seed))
        time.sleep(STORE_AWAY_S)
        self.nodes.store.proxy.set(Faults())
        return f"40% failed or cut for {STORE_AWAY_S:.0f} s"

    def _node(self) -> str:
        gone, self.other = self.other, self._new()
        gone.kill()
        return f"{gone.name} is off, {self.other.name} has joined"

    def _driver(self) -> str:
        """Switch the driver's node off, and go on from another one."""
        gone, self.driver, self.other = self.driver, self.other, self._new()
        gone.kill()
        self._search_again()
        return f"{gone.name} is off, {self.driver.name} goes on, {self.other.name} has joined"

    def _search_again(self) -> None:
        self.job.close()
        self.job = self.nodes.search(self.driver, GRID_OF_RUN)

    def _new(self) -> Node:
        self.number += 1
        return self.nodes.join(f"new-{self.number}")


def test_the_numbers_are_those_of_an_undisturbed_search(tmp_path: Path) -> None:
    need_nodes()
    for name in ("alone", "work"):
        (tmp_path / name).mkdir()
    grid = write_inputs(tmp_path / "alone", tmp_path / "alone", max_steps=STEPS)
    assert search.search(grid, tmp_path / "alone" / "run", dashboard=False).ok == CELLS
    write_inputs(tmp_path / "work", WORK, max_steps=STEPS)
    with (
        nodes_with_store() as nodes,
        Chaos(nodes, tmp_path / "work", tmp_path / "kills.log") as chaos,
    ):
        nodes.wait_for_rows(1, chaos.job, END_S)
        while chaos.done.total() < KILLS:
            time.sleep(chaos.rng.uniform(*PAUSE_S))
            assert chaos.job.poll() != 0, f"complete after {chaos.done}: nothing left to kill"
            chaos.again()
            chaos.strike()
        end = time.monotonic() + END_S
        while chaos.job.poll() != 0:
            assert time.monotonic() < end, chaos.job.output()
            chaos.again()
            time.sleep(1)
        chaos.tell(f"complete: {dict(chaos.done)}")
        nodes.bring(nodes.network.add("reader"), tmp_path / "frames")
    assert_brought(tmp_path / "frames", tmp_path / "alone" / "run")


def named(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline()).strip()
    return ""


def last_line(job: Job) -> str:
    return (job.output().strip().splitlines() or [""])[-1]
