"""`fgaug status`: read from the files of a run alone, while a search holds it or not."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.runs.results import write_pruned, write_row
from fgaug.runs.status import read

HOLD = """
import fcntl, sys
with open(sys.argv[1], "a+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    lock.write("process 12 on there")
    lock.flush()
    print("held", flush=True)
    sys.stdin.read()
"""


def fabricate(root: Path, cells: int, **statuses: int) -> RunPaths:
    """Write a run of `cells` cells, the first of them with the given statuses."""
    run = RunPaths(root)
    names = [f"{number:012x}" for number in range(cells)]
    files.write_text(run.space, "name: little\n")
    files.write_json(run.environment, {"cells": names})
    todo = iter(names)
    for status, count in statuses.items():
        for cell_id in [next(todo) for _ in range(count)]:
            leave(run, cell_id, status)
    return run


def leave(run: RunPaths, cell_id: str, status: str, **columns: Any) -> None:
    """Leave what a cell of that status leaves."""
    trial = run.trial(cell_id)
    row = {"mode": "augmentation", "psi": 0.5, "ratio": 2, "seed": 7, "status": status, **columns}
    if status == "paused":
        files.write_json(trial.paused, {"schema": 1, "rows": [row]})
        files.write_text(trial.checkpoint, "")
    elif status == "pruned":
        write_pruned(trial, 1, row)
    else:
        write_row(trial, row)


def age(run: RunPaths, cell_id: str, seconds: float) -> None:
    written = time.time() - seconds
    os.utime(run.trial(cell_id).result, (written, written))


@contextlib.contextmanager
def held(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold a lock, as a search does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_cells_are_counted_by_what_they_left(odd_root: Path) -> None:
    run = fabricate(odd_root, 12, ok=4, pruned=3, paused=2, failed=1)
    run.trial(f"{10:012x}").root.mkdir()  # begun: not yet at a rung
    found = read(run.root)
    assert (found.cells, found.ok, found.pruned, found.paused) == (12, 4, 3, 2)
    assert (found.failed, found.missing, found.done) == (1, 2, 8)
    assert (found.name, found.searches, found.left_s) == ("little", (), None)


def test_a_pruned_cell_that_waited_at_a_rung_is_pruned(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 1, paused=1)
    write_pruned(run.trial("0" * 12), 0, {})
    assert (read(tmp_path).pruned, read(tmp_path).paused) == (1, 0)


def test_a_damaged_row_is_missing_and_left_as_it_is(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 3, ok=3)
    torn = ["{", '{"schema": 1, "rows": []}', "[]"]
    for number, text in enumerate(torn):
        run.trial(f"{number:012x}").result.write_text(text)
    assert read(tmp_path).missing == 3
    assert [run.trial(f"{n:012x}").result.read_text() for n in range(3)] == torn


def test_a_living_search_is_named_and_a_dead_one_is_not(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 4, ok=1)
    with held(run.lock) as process:
        assert read(tmp_path).searches == ("process 12 on there",)
        process.kill()
        process.wait()
        assert read(tmp_path).searches == ()
    assert run.lock.read_text() == "process 12 on there"


def test_each_shard_at_work_is_named(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 4)
    run.lock.touch()
    (tmp_path / "search.1-of-3.lock").write_text("process 1 on a host that is gone")
    with held(tmp_path / "search.3-of-3.lock"):
        assert read(tmp_path).searches == ("process 12 on there",)


def test_reading_does_not_disturb_the_lock(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 1)
    run.lock.touch()
    read(tmp_path)
    with held(run.lock):
        pass


def test_the_rate_is_that_of_the_last_hour_or_of_the_search(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 40, ok=8, failed=2, pruned=5)
    for number in range(15):
        age(run, f"{number:012x}", 60 * (number + 1))
    age(run, f"{0:012x}", 7200)
    idle = read(tmp_path)
    assert idle.cells_per_h == pytest.approx(9)  # without the old one; pruning is no training
    assert idle.newest_age_s == pytest.approx(120, abs=5)
    assert idle.left_s is None
    with held(run.lock):
        began = time.time() - 450
        os.utime(run.lock, (began, began))
        busy = read(tmp_path)  # six cells in its seven and a half minutes: 2 to 7 minutes ago
    assert busy.cells_per_h == pytest.approx(48, rel=0.05)
    assert busy.left_s == pytest.approx(25 / 48 * 3600, rel=0.05)


def test_the_last_three_failures_come_with_their_reasons(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 5)
    for number in range(5):
        error = f"TrialError: reason {number}\x1b[31m\n  traceback"
        leave(run, f"{number:012x}", "failed", error=error, ratio=None)
        age(run, f"{number:012x}", 100 * number)
    failures = read(tmp_path).failures
    assert [failure.error for failure in failures] == [
        f"TrialError: reason {number} [31m" for number in range(3)
    ]
    assert failures[1].cell == "augmentation psi 0.5 seed 7"
    assert failures[1].age_s == pytest.approx(100, abs=5)


def test_a_reason_of_several_lines_is_told_whole(fgaug: Any, tmp_path: Path) -> None:
    run = fabricate(tmp_path, 2)
    problems = "grid: 2 problems\n  - Blur fails on grey\n  - Rain fails too, " + "x" * 300
    leave(run, "0" * 12, "failed", error=problems)
    files.write_text(run.trial("0" * 12).traceback, "Traceback")
    _, out, _ = fgaug("status", tmp_path)
    assert f"Blur fails on grey; Rain fails too, {'x' * 300}" in out
    assert f"traceback: {run.trial('0' * 12).traceback}" in out


def test_what_is_not_a_run_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run .* Give the folder of a search"):
        read(tmp_path / "nowhere")
    files.write_json(RunPaths(tmp_path).environment, ["cells"])
    with pytest.raises(RunError, match="holds a list, not an object"):
        read(tmp_path)
    RunPaths(tmp_path).environment.write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read(tmp_path)


def test_a_clock_that_runs_ahead_gives_no_negative_age(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 1, ok=1)
    age(run, "0" * 12, -500)
    assert read(tmp_path).newest_age_s == 0


def test_ten_thousand_cells_are_read_in_time(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 10_000)
    text = json.dumps({"schema": 1, "rows": [{"status": "ok", **{f"c{n}": n for n in range(60)}}]})
    for number in range(9_000):
        trial = run.trial(f"{number:012x}")
        trial.root.mkdir(parents=True)
        trial.result.write_text(text)
    began = time.monotonic()
    found = read(tmp_path)
    assert time.monotonic() - began < 5
    assert (found.ok, found.missing) == (9_000, 1_000)


def test_the_command_prints_text_and_json(fgaug: Any, tmp_path: Path) -> None:
    run = fabricate(tmp_path, 6, ok=3, failed=1)
    with held(run.lock):
        code, out, err = fgaug("status", tmp_path)
        assert (code, err) == (0, "")
        assert "run little" in out
        assert "searched by process 12 on there" in out
        assert "4 of 6 cells done: 3 ok, 0 pruned, 1 failed; 0 paused, 2 missing" in out
        assert "left at this rate" in out
        assert "failed: augmentation psi 0.5 ratio 2 seed 7 (000000000003)" in out
        code, out, _ = fgaug("status", tmp_path, "--format", "json")
    value = json.loads(out)
    assert (code, value["ok"], value["searches"]) == (0, 3, ["process 12 on there"])
    assert value["failures"][0]["error"] == "no reason given"
    assert "no active search" in fgaug("status", tmp_path)[1]


def test_the_command_refuses_what_it_cannot_do(fgaug: Any, tmp_path: Path) -> None:
    code, _, err = fgaug("status", tmp_path)
    assert code == 2
    assert "is not a run" in err
    code, _, err = fgaug("status", tmp_path, "--format", "csv")
    assert code == 2
    assert "--format must be text or json, got csv" in err


def watching(root: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fgaug", "status", str(root), "--watch", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_watching_prints_a_line_per_change_until_the_search_ends(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 4, ok=1)
    with held(run.lock) as search, watching(tmp_path) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "1 of 4 cells done: 1 ok, 0 pruned, 0 failed; 0 paused, 3 missing" in first
        leave(run, f"{1:012x}", "failed", error="no memory")
        second = process.stdout.readline()
        assert "2 of 4 cells done" in second
        assert "latest failure augmentation psi 0.5 ratio 2 seed 7 (000000000001)" in second
        assert "no memory" in second
        search.kill()
        search.wait()
        last = process.stdout.read().splitlines()
        assert process.wait(60) == 0
    assert len(last) == 1, "not a line for each look"
    assert last[0].endswith("no active search")


def test_watching_as_json_writes_an_object_a_line_and_ctrl_c_leaves(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 2, ok=1)
    with held(run.lock), watching(tmp_path, "--format", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ok"] == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_watching_a_run_without_a_search_prints_it_once(fgaug: Any, tmp_path: Path) -> None:
    fabricate(tmp_path, 2, ok=2)
    code, out, err = fgaug("status", tmp_path, "--watch")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert fgaug("status", tmp_path / "nowhere", "--watch")[0] == 2


def test_on_a_terminal_it_redraws_and_q_leaves(tmp_path: Path) -> None:
    run = fabricate(tmp_path, 2, ok=1)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "fgaug", "status", str(tmp_path), "--watch"]
    with held(run.lock):
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        shown = until(ours, "q or Ctrl-C leaves")
        assert "1 of 2 cells done" in shown
        leave(run, f"{1:012x}", "ok")
        until(ours, "2 of 2 cells done")
        os.write(ours, b"xq")
        assert process.wait(60) == 0
    assert termios.tcgetattr(theirs) == before, "the terminal is as it was"
    os.close(theirs)
    os.close(ours)


def until(terminal: int, words: str) -> str:
    """Return what a terminal shows, as soon as that includes the words."""
    shown = ""
    while words not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown
