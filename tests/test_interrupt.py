"""Ctrl-C in a search: once, and it can go on as if nothing had been; twice, and it is over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from same_frames import assert_same
from small_grid import phantom_dataset, write_grid

from fgaug.core.cluster import started
from fgaug.core.paths import RunPaths
from fgaug.study import search
from fgaug.study.tune.interrupt import SIGNALS, Interrupt

pytestmark = pytest.mark.ray
LOOKS = 60


@pytest.fixture
def restored() -> Iterator[None]:
    """Fail where a test leaves other handlers than it found."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_leaves_a_file_and_the_second_ends(
    number: signal.Signals, restored: None, tmp_path: Path
) -> None:
    with Interrupt(RunPaths(tmp_path)) as interrupt:
        assert (interrupt.asked, interrupt.file.exists()) == (False, False)
        os.kill(os.getpid(), number)
        assert (interrupt.asked, interrupt.file.exists()) == (True, True)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored(restored: None, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt(RunPaths(tmp_path)) as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupt.asked
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for what needs no process of its own."""
    with started(cpus=2, gpus=0, dashboard=False):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and a grid of four cells with many evaluations each."""
    root = tmp_path_factory.mktemp("it is interrupted")
    phantom_dataset(root)
    write_grid(root, budget={"unit": "steps", "max": LOOKS, "evaluations": LOOKS})
    return root


@pytest.fixture(scope="module")
def whole(cluster: None, root: Path) -> Path:
    """A search that nobody interrupted."""
    assert search.search(root / "grid.yaml", root / "whole").ok == 4
    return root / "whole"


@contextlib.contextmanager
def searching(root: Path, run: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a search in a process group of its own, as a shell starts it."""
    arguments = ["search", root / "grid.yaml", "--out", root / run, "--no-dashboard"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fgaug", *map(str, arguments), "--log", "json"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(event: str, process: subprocess.Popen[str]) -> None:
    """Read the log of a search up to an event."""
    assert process.stderr is not None
    for line in process.stderr:
        if f'"event": "{event}"' in line:
            return
    raise AssertionError(f"the search ended without {event}")


def interrupted(root: Path, run: str, number: signal.Signals, *, group: bool) -> list[str]:
    """Let a search train, send it one signal, and return the rest of its log."""
    with searching(root, run) as process:
        wait_for("evaluation", process)
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    return errors.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGINT, True),  # a terminal sends it to all that the command has started
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),  # `kill`
    ],
)
def test_interrupted_once_it_goes_on_to_the_same_frame(
    number: signal.Signals, group: bool, whole: Path, root: Path
) -> None:
    run = root / f"once {number.name}"
    lines = interrupted(root, run.name, number, group=group)
    events = [json.loads(line) for line in lines]
    kinds = Counter(event["event"] for event in events)
    assert (kinds["interrupted"], kinds["failed"]) == (1, 0)
    closed = {"event": "closed", "ok": 0, "failed": 0, "missing": 4, "exit_code": 3}
    assert {name: events[-1][name] for name in closed} == closed
    assert not list(run.glob(".stop-*"))
    paused = {path.parent for path in run.glob("trials/*/paused.json")}
    assert {folder for folder in (run / "trials").iterdir() if any(folder.iterdir())} == paused
    assert 1 <= len(paused) <= 2, "no new cell is started"
    for folder in paused:
        assert 0 < len(pd.read_parquet(folder / "curve.parquet")) < LOOKS
        assert (folder / "checkpoint").is_file()
    assert search.search(root / "grid.yaml", run).exit_code == 0
    assert_same(run, whole)


@pytest.mark.slow
def test_interrupted_twice_it_ends_at_once_and_keeps_what_was_finished(
    whole: Path, root: Path
) -> None:
    run = root / "twice"
    with searching(root, run.name) as process:
        wait_for("ok", process)
        before = {path: path.read_bytes() for path in run.glob("trials/*/result.json")}
        began = time.monotonic()
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)  # else they are one
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert "run the same command again to resume" in errors.splitlines()[-1]
    assert before
    assert all(path.read_bytes() == content for path, content in before.items())
    assert search.search(root / "grid.yaml", run).exit_code == 0
    assert_same(run, whole)
