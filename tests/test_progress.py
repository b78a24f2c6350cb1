"""What is seen of a search: a table of arms, lines, JSON lines, or failures alone."""

from __future__ import annotations

import io
import json
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from small_grid import grid

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import DiskFullError, UserError
from fgaug.grid.cells import Cell, Context, cells_of, recipes_of
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.runs.results import write_row
from fgaug.study.run import Run
from fgaug.study.tune import progress as search_progress
from fgaug.study.tune.progress import Progress

pytestmark = pytest.mark.ray
RESULT = {"valid_acc": 0.8, "valid_auc": 0.9, "valid_loss": 0.5}
DONE = {**RESULT, "done": True, "status": "ok", "wall_s": 1.5}
HALF = {
    **{**RESULT, "done": False, "share": 0.5, "step": 2, "epoch": -1},
    "images_seen": 300,
    "train_s": 1.0,
}


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    """Two arms, baseline and augmentation, with seeds 1 and 2, seeds outermost."""
    return made(tmp_path)


def made(root: Path, **changes: Any) -> tuple[Cell, ...]:
    space = parse_space(grid(root, **changes))
    weights = {recipe.model_dump_json(): "scratch" for recipe in recipes_of(expand(space))}
    context = Context(dataset_digest="d", generator={}, pool=100, weights=weights)
    return cells_of(space, expand(space), {None: context})


def many(cells: tuple[Cell, ...], arms: int, seeds: int) -> list[Cell]:
    """Return cells of many arms, seeds outermost."""
    return [
        replace(
            cells[-1], seed=seed, ratio=float(arm), cell_id=f"{arm}-{seed}", arm_id=f"arm-{arm}"
        )
        for seed in range(seeds)
        for arm in range(arms)
    ]


def trial_of(cell: Cell, failures: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        config={"cell_id": cell.cell_id}, get_error=lambda: "it was killed", num_failures=failures
    )


def terminal(out: io.StringIO, height: int = 40) -> Console:
    return Console(
        file=out,
        force_terminal=True,
        width=140,
        height=height,
        legacy_windows=False,
        color_system=None,
    )


def pipe(out: io.StringIO) -> Console:
    return Console(file=out, force_terminal=False, width=140)


def table_of(progress: Progress, width: int = 140) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(progress._table())
    return out.getvalue()


def few(cells: tuple[Cell, ...], console: Console, log: str = "auto") -> Progress:
    """Let one cell finish, one fail, one pause, one run half way."""
    with Progress(cells, 0, "http://127.0.0.1:1", console, log=log) as progress:
        for cell in cells:
            progress.on_trial_start(0, [], trial_of(cell))
        progress.on_trial_result(0, [], trial_of(cells[0]), DONE)
        progress.on_trial_error(0, [], trial_of(cells[1]))
        progress.on_trial_result(0, [], trial_of(cells[2]), HALF)
        progress.on_trial_result(0, [], trial_of(cells[3]), HALF)
        paused = {"done": True, "status": "paused", "share": 0.5}
        progress.on_trial_result(0, [], trial_of(cells[3]), paused)
    return progress


def test_the_table_has_a_row_an_arm(cells: tuple[Cell, ...]) -> None:
    out = io.StringIO()
    progress = few(cells, terminal(out))
    assert "2 of 4 cells done, 1 running, 0 waiting, 1 paused, 1 failed" in out.getvalue()
    assert "http://127.0.0.1:1" in out.getvalue()
    text = table_of(progress)
    assert "cells/min, 300 images/s, at most a minute left" in text
    baseline = next(line for line in text.splitlines() if "baseline" in line)
    assert re.sub(r"\W+", " ", baseline).split() == [
        "baseline",
        "1",
        "2",
        "0",
        "900",
        "0",
        "500",
        "1",
        "running",
        "step",
        "2",
        "4",
    ]
    assert re.search(r"augmentation psi 1 ratio 1 .* 0/2 .* paused, 1 failed", text)
    assert max(map(len, table_of(progress, 80).splitlines())) <= 80
    assert "running, step 2/4" in table_of(progress, 80)


def test_a_log_has_one_line_for_each_cell_that_ends(cells: tuple[Cell, ...]) -> None:
    out = io.StringIO()
    few(cells, pipe(out))
    lines = out.getvalue().splitlines()
    assert lines == [
        "[1/4] baseline seed 1: acc 0.800 auc 0.900 loss 0.500 in 1.5 s",
        "[2/4] augmentation psi 1 ratio 1 seed 1: failed: its process died: it was killed",
    ]


def test_json_lines_tell_every_event(cells: tuple[Cell, ...]) -> None:
    out = io.StringIO()
    few(cells, Console(file=out, quiet=True), log="json")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    kinds = Counter(event["event"] for event in events)
    assert kinds == {"start": 4, "ok": 1, "failed": 1, "evaluation": 2, "paused": 1, "end": 1}
    assert {event["time"][-6:] for event in events} == {"+00:00"}
    evaluation = next(event for event in events if event["event"] == "evaluation")
    assert evaluation["step"] == 2
    assert evaluation["metrics"] == RESULT
    failed = next(event for event in events if event["event"] == "failed")
    named = {name: failed[name] for name in ("mode", "psi", "ratio", "seed", "error")}
    expected = ("augmentation", 1.0, 1.0, 1, "its process died: it was killed")
    assert tuple(named.values()) == expected
    assert failed["cell_id"] == cells[1].cell_id
    assert failed["arm_id"] == cells[1].arm_id
    end = {"cells": 4, "ok": 1, "pruned": 0, "failed": 1, "paused": 1}
    assert {name: events[-1][name] for name in end} == end


def test_json_lines_have_no_nan_and_no_line_break(cells: tuple[Cell, ...]) -> None:
    out = io.StringIO()
    progress = Progress(cells, 0, None, pipe(out), log="json")
    progress.on_trial_start(0, [], trial_of(cells[0]))
    nan = {"done": True, "status": "failed", "error": "a\nb", "valid_auc": float("nan")}
    progress.on_trial_result(0, [], trial_of(cells[0]), nan)
    _, failed = map(json.loads, out.getvalue().splitlines())
    assert failed["metrics"] == {"valid_auc": None}
    assert failed["error"] == "a\nb"


def test_quiet_shows_failures_alone(cells: tuple[Cell, ...]) -> None:
    out = io.StringIO()
    few(cells, Console(file=out, quiet=True), log="quiet")
    assert out.getvalue().splitlines() == [
        "[2/4] augmentation psi 1 ratio 1 seed 1: failed: its process died: it was killed"
    ]


MANY_LINES = "grid: 2 problems\n  - the first of them\n  - the second"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MANY_LINES, "the first of them; the second"),
        (
            "CUDA error: an illegal access\nCompile with DSA",
            "CUDA error: an illegal access Compile",
        ),
        ("KeyError: 'x'\n  File \"a.py\", line 1\n    x", "KeyError: 'x'"),
        ("Several:\n  - one\nMend them.", "Several: one Mend them."),
    ],
)
@pytest.mark.parametrize("log", ["auto", "quiet", "table"])
def test_the_whole_reason_of_a_failure_is_said(
    cells: tuple[Cell, ...], error: str, said: str, log: str
) -> None:
    out = io.StringIO()
    console = terminal(out) if log == "table" else pipe(out)
    with Progress(cells, 0, None, console, log=log.replace("table", "auto")) as progress:
        progress.on_trial_start(0, [], trial_of(cells[0]))
        failed = {"done": True, "status": "failed", "error": error, "traceback": "runs/t.txt"}
        progress.on_trial_result(0, [], trial_of(cells[0]), failed)
    assert f"failed: {said}" in out.getvalue()
    assert "(traceback: runs/t.txt)" in out.getvalue()


def test_pruned_arms_are_told_by_the_feed(cells: tuple[Cell, ...]) -> None:
    out = io.StringIO()
    arm = [cell for cell in cells if cell.mode == "augmentation"]
    with Progress(cells, 0, None, pipe(out)) as progress:
        progress.on_trial_start(0, [], trial_of(arm[0]))
        for cell in (*arm, *arm):
            progress.on_pruned(cell.cell_id, 1)
        paused = {"done": True, "status": "paused", "share": 0.5}
        progress.on_trial_result(0, [], trial_of(arm[0]), paused)  # later than its pruning
    assert out.getvalue() == "pruned at rung 1: augmentation psi 1 ratio 1\n"
    assert progress.tally.counts["pruned"] == 2
    assert progress.tally.left == pytest.approx(2)
    assert "pruned at rung 1" in table_of(progress)
    assert "2 of 4 cells done, 0 running, 2 waiting, 2 pruned" in table_of(progress)


def test_a_failed_cell_that_is_tried_again_is_counted_once(cells: tuple[Cell, ...]) -> None:
    progress = Progress(cells, 0, None, pipe(io.StringIO()))
    for _ in range(2):
        progress.on_trial_start(0, [], trial_of(cells[0]))
        progress.on_trial_error(0, [], trial_of(cells[0]))
    progress.on_trial_start(0, [], trial_of(cells[0]))
    assert progress.tally.left == pytest.approx(4)
    progress.on_trial_result(0, [], trial_of(cells[0]), DONE)
    assert +progress.tally.counts == {"ok": 1}
    assert (progress.tally.done, progress.tally.waiting) == (1, 3)
    assert progress.tally.left == pytest.approx(3)


def test_a_process_that_died_and_is_started_again(cells: tuple[Cell, ...]) -> None:
    for log, expected in (("auto", 1), ("quiet", 0), ("json", 2)):
        out = io.StringIO()
        progress = Progress(cells, 0, None, pipe(out), log=log)
        progress.on_trial_start(0, [], trial_of(cells[0]))
        progress.on_trial_recover(0, [], trial_of(cells[0]))
        assert (progress.tally.done, progress.tally.waiting) == (0, 4)
        lines = out.getvalue().splitlines()
        assert len(lines) == expected
        if log == "auto":
            assert lines == [
                "baseline seed 1: its process died: it was killed; "
                "it resumes from its last checkpoint"
            ]
        if log == "json":
            retry = json.loads(lines[1])
            assert (retry["event"], retry["cell_id"]) == ("retry", cells[0].cell_id)
            assert retry["error"] == "its process died: it was killed"


@pytest.mark.parametrize(("failures", "times"), [(1, "once"), (2, "2 times"), (5, "5 times")])
def test_a_death_says_how_often_it_happened(
    cells: tuple[Cell, ...], failures: int, times: str
) -> None:
    progress = Progress(cells, 0, None, pipe(io.StringIO()))
    progress.on_trial_error(0, [], trial_of(cells[0], failures))
    assert progress.why_dead(cells[0].cell_id) == (
        f"The trial's process died (killed, or out of memory) {times}: it was killed"
    )


def test_earlier_searches_are_resumed(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    write_row(run.trial(cells[0].cell_id), {**RESULT, "status": "ok"})
    write_row(run.trial(cells[1].cell_id), {"status": "failed"})
    files.write_json(run.trial(cells[2].cell_id).paused, {"share": 0.5, "rows": [RESULT]})
    files.write_text(run.trial(cells[2].cell_id).checkpoint, "")
    files.write_text(run.trial(cells[3].cell_id).result, "{")
    progress = Progress(cells, 1, None, pipe(io.StringIO()))
    assert progress.tally.done == 1
    progress.resume(run)
    assert +progress.tally.counts == {"ok": 1, "paused": 1}
    assert (progress.tally.done, progress.tally.waiting) == (1, 2)
    assert progress.tally.left == pytest.approx(2.5)
    assert "0.900" in table_of(progress)
    assert progress.tally.trained == 0  # of this search: rates are its own


def test_means_are_of_finished_seeds_and_leave_out_undefined_values(
    cells: tuple[Cell, ...],
) -> None:
    progress = Progress(many(cells, 1, 4), 0, None, pipe(io.StringIO()))
    for number, cell in enumerate(many(cells, 1, 4)):
        progress.on_trial_start(0, [], trial_of(cell))
        if number < 3:
            auc = (0.5, 0.7, float("nan"))[number]
            progress.on_trial_result(0, [], trial_of(cell), {**DONE, "valid_auc": auc})
        else:
            progress.on_trial_result(0, [], trial_of(cell), {**HALF, "valid_auc": 0.99})
    assert progress.tally.arms["arm-0"].mean("auc") == pytest.approx(0.6)
    assert re.search(r"3/4 .* 0\.600 .* 1 running, step 2/4", table_of(progress))


def test_epochs_count_the_frozen_one(tmp_path: Path) -> None:
    cells = made(tmp_path, budget={"unit": "epochs", "max": 9})
    progress = Progress(cells, 0, None, pipe(io.StringIO()))
    progress.on_trial_start(0, [], trial_of(cells[0]))
    progress.on_trial_result(0, [], trial_of(cells[0]), {**HALF, "step": 40, "epoch": 4})
    assert progress.tally.trained == pytest.approx(0.5)
    assert "1 running, epoch 4/9" in table_of(progress)


def storm(cells: list[Cell], console: Console, log: str = "auto") -> float:
    """Let all cells train, eight at once; return the seconds that it took."""
    began = time.monotonic()
    with Progress(cells, 0, None, console, log=log) as progress:
        for first in range(0, len(cells), 8):
            some = [(trial_of(cell), cell) for cell in cells[first : first + 8]]
            for trial, _ in some:
                progress.on_trial_start(0, [], trial)
            for trial, _ in some:
                progress.on_trial_result(0, [], trial, HALF)
                progress.on_step_end(0, [])
            for trial, cell in some:
                auc = 0.5 + float(cell.ratio or 0) / 10_000
                progress.on_trial_result(0, [], trial, {**DONE, "valid_auc": auc})
    return time.monotonic() - began


@pytest.mark.parametrize("log", ["auto", "json", "quiet"])
def test_ten_thousand_cells_cost_little(cells: tuple[Cell, ...], log: str) -> None:
    out = io.StringIO()
    assert storm(many(cells, 2_000, 5), terminal(out), log) < 5
    if log == "auto":
        last = out.getvalue()[out.getvalue().rindex("10000 of 10000 cells done") :]
        assert "0 running, 0 waiting" in last
        assert last.count("augmentation") == search_progress.ROWS
        assert "1980 more arms" in last
        assert "1980 done" in last
        assert last.index("ratio 1999") < last.index("ratio 1998")  # the best first
    elif log == "json":
        assert len(out.getvalue().splitlines()) == 30_001
    else:
        assert out.getvalue() == ""


def test_a_table_is_drawn_at_most_twice_a_second(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, drawn = [0.0], []
    monkeypatch.setattr(search_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    some = many(cells, 100, 5)
    with Progress(some, 0, None, terminal(io.StringIO())) as progress:
        table = progress._table
        monkeypatch.setattr(progress, "_table", lambda: drawn.append(now[0]) or table())
        for cell in some:
            now[0] += 0.01
            progress.on_trial_start(0, [], trial_of(cell))
        assert len(drawn) == 10  # in five seconds
        now[0] += 0.5
        progress.on_step_end(0, [])  # what changed since the last drawing is shown without event
        assert len(drawn) == 11
        now[0] += 4
        progress.on_step_end(0, [])
        assert len(drawn) == 11  # nothing changed


def test_a_table_fits_a_low_terminal_and_shows_running_arms_first(
    cells: tuple[Cell, ...],
) -> None:
    some = many(cells, 50, 1)
    progress = Progress(some, 0, "http://127.0.0.1:1", terminal(io.StringIO(), height=15))
    for cell in some[:10]:
        progress.on_trial_start(0, [], trial_of(cell))
        progress.on_trial_result(0, [], trial_of(cell), DONE)
    progress.on_trial_start(0, [], trial_of(some[49]))
    text = table_of(progress)
    assert len(text.splitlines()) <= 15
    assert text.index("ratio 49") < text.index("ratio 0")
    assert "44 more arms" in text
    assert "39 waiting" in text


def test_a_long_log_has_a_line_now_and_then_and_every_failure(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, out = [0.0], io.StringIO()
    monkeypatch.setattr(search_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    some = many(cells, 200, 5)
    with Progress(some, 0, None, pipe(out)) as progress:
        for number, cell in enumerate(some):
            now[0] += 0.1 if number < 500 else 5  # at first 10 s are rarer, then one percent
            progress.on_trial_start(0, [], trial_of(cell))
            if number == 7:
                progress.on_trial_error(0, [], trial_of(cell))
            else:
                progress.on_trial_result(0, [], trial_of(cell), DONE)
    lines = out.getvalue().splitlines()
    assert sum("failed: its process died" in line for line in lines) == 1
    summaries = [line for line in lines if "cells done" in line]
    assert 5 + 49 <= len(summaries) <= 5 + 52
    assert summaries[-1].startswith("1000 of 1000 cells done, 0 running, 0 waiting, 1 failed;")
    assert "best augmentation psi 1 ratio 0: auc 0.900 (5/5)" in summaries[-1]
    assert " left" in summaries[3]


def test_an_unwritten_row_stops_the_search(cells: tuple[Cell, ...]) -> None:
    progress = Progress(cells, 0, None, Console(file=io.StringIO()))
    progress.on_trial_start(0, [], trial_of(cells[0]))
    unwritten = {"done": True, "status": "unwritten", "error": "No space left"}
    progress.on_trial_result(0, [], trial_of(cells[0]), unwritten)
    assert isinstance(progress.stopped_by, DiskFullError)
    assert str(progress.stopped_by) == "No space left"
    assert (progress.ended, progress.tally.waiting) == (0, 4)


def test_a_node_with_another_version_stops_the_search(cells: tuple[Cell, ...]) -> None:
    progress = Progress(cells, 0, None, Console(file=io.StringIO()))
    progress.on_trial_start(0, [], trial_of(cells[0]))
    refused = {"done": True, "status": "refused", "error": "n has 0.0.9"}
    progress.on_trial_result(0, [], trial_of(cells[0]), refused)
    assert type(progress.stopped_by) is UserError
    assert (progress.ended, progress.tally.waiting) == (0, 4)


def test_the_command_knows_its_logs(fgaug: Any, capsys: Any, tmp_path: Path) -> None:
    from fgaug.cli import show

    code, _, err = fgaug("search", tmp_path / "grid.yaml", "--log", "loud")
    assert code == 2
    assert "--log must be auto, json or quiet, got loud" in err
    assert show._LOGS == search_progress.LOGS
    run = Run(root=tmp_path, ok=3, pruned=1, failed=0, missing=2)
    show.closing_line(run, "json")
    closed = json.loads(capsys.readouterr().err)
    assert (closed["event"], closed["ok"], closed["exit_code"]) == ("closed", 3, 3)
    show.closing_line(run, "quiet")
    assert "3 ok, 1 pruned, 0 failed, 2 missing" in capsys.readouterr().err


def test_an_interrupted_search_says_so_once(cells: tuple[Cell, ...]) -> None:
    out, asked = io.StringIO(), [False]
    with Progress(cells, 0, None, pipe(out), stopping=lambda: asked[0]) as progress:
        progress.on_trial_start(0, [], trial_of(cells[0]))
        progress.on_step_end(0, [])
        assert out.getvalue() == ""
        asked[0] = True
        for _ in range(3):
            progress.on_step_end(0, [])
        assert out.getvalue() == f"{search_progress.STOPPING}\n"
        assert search_progress.STOPPING in " ".join(table_of(progress).split())


def test_a_cell_that_is_not_begun_any_more_waits_where_it_was(cells: tuple[Cell, ...]) -> None:
    unstarted = {"done": True, "status": "unstarted"}
    progress = Progress(cells, 0, None, pipe(io.StringIO()))
    progress.on_trial_start(0, [], trial_of(cells[0]))
    progress.on_trial_result(0, [], trial_of(cells[0]), unstarted)
    assert (+progress.tally.counts, progress.tally.waiting) == ({}, 4)
    for result in ({"done": True, "status": "paused", "share": 0.5}, unstarted):
        progress.on_trial_start(0, [], trial_of(cells[1]))
        progress.on_trial_result(0, [], trial_of(cells[1]), result)
        assert +progress.tally.counts == {"paused": 1}
        assert progress.tally.left == pytest.approx(3.5)


class TestGpus:
    def test_nothing_is_said_where_nothing_is_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        assert search_progress.gpu_use() == ""

    def test_two_gpus_in_the_title(
        self, cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import pynvml
        import torch

        memory = {0: (3e9, 80e9), 1: (1.1e9, 80e9)}
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "_get_pynvml_handler", lambda device: device)
        monkeypatch.setattr(torch.cuda, "utilization", lambda device: (26, 100)[device])
        monkeypatch.setattr(
            pynvml,
            "nvmlDeviceGetMemoryInfo",
            lambda handle: SimpleNamespace(used=memory[handle][0], total=memory[handle][1]),
        )
        progress = few(cells, terminal(io.StringIO()))
        assert "left, 2 GPUs 63% 4.1/160 GB" in " ".join(table_of(progress).split())

    def test_an_error_of_nvml_is_no_error_of_the_search(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        def broken(device: int) -> None:
            raise RuntimeError("driver not loaded")

        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "_get_pynvml_handler", broken)
        assert search_progress.gpu_use() == ""
