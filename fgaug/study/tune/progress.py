"""Progress of a running search as a table of arms, lines or JSON lines, with GPU usage.

It counts what Tune and the searcher report and decides nothing. Table rows are arms, not cells, so
that 10,000 cells stay readable; the cost of an event does not depend on their number.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fgaug.core.paths import RunPaths
from fgaug.errors import DiskFullError, UserError
from fgaug.grid.cells import Cell
from fgaug.study.tune.counts import (
    OVER,
    SearchCounts,
    arms_table,
    best_arm,
    event_of,
    outcome,
    rates,
)

LOGS = ("auto", "json", "quiet")  # table or lines, JSON lines, failures only
ROWS = 20  # arms on the screen
REDRAW_S = 0.5  # minimum between redraws, which take 12 ms even with 2,000 arms
IDLE_REDRAW_S = 5.0  # between redraws when nothing happens
MANY = 200  # above this number of cells, a log has no line for each cell
LINE_S = 10.0  # minimum between two lines of such a log
STOPPING = "interrupted: trials run to their next evaluation; press Ctrl-C again to stop at once"


class Progress(tune.Callback):
    """A Tune callback that counts cells and shows their progress.

    Args:
        cells: all cells of the search, including finished ones.
        already: number of finished cells; `resume` identifies them.
        dashboard: address of Ray's dashboard.
        console: prints the progress.
        log: `auto`: a live table on a terminal, else lines. `json` (one object per event) and
            `quiet` (failures only) write to the console's file, since the console may be silent.
        stopping: returns whether the search was interrupted.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        already: int,
        dashboard: str | None,
        console: Console,
        *,
        log: str = "auto",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        assert log in LOGS, log
        self.tally = SearchCounts(cells, already)
        self.dashboard, self.console, self.log = dashboard, console, log
        self.stopping, self.announced = stopping, False
        self.ended = 0  # cells finished since the start
        self.stopped_by: UserError | None = None  # ends the search
        self.dead: dict[str, str] = {}  # how often and why processes died, by cell
        self.first_start: float | None = None
        self.live: Live | None = None
        self.drawn_at, self.changed = -math.inf, False
        self.printed_at, self.printed = -math.inf, 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that is never used

    def __enter__(self) -> Progress:
        if self.log == "auto" and self.console.is_terminal:
            # no refresh thread: it would read the counts while they change
            self.live = Live(self._table(), console=self.console, auto_refresh=False)
            self.live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.update(self._table(), refresh=True)
            self.live.stop()
        elif self.log == "auto" and not self._few:
            self._print(self._summary())
        counts = {name: self.tally.counts[name] for name in (*OVER, "paused")}
        self._event("end", {"cells": len(self.tally.cells), **counts})

    def resume(self, run: RunPaths) -> None:
        """Count the results of earlier searches; call this before the first trial."""
        self.tally.resume(run)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.first_start = self.first_start or time.monotonic()
        cell_id = _cell_of(trial)
        self._move(cell_id, "running")
        self.tally.running[cell_id] = {}
        self._event("start", self._named(cell_id, {}))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        cell_id, status = _cell_of(trial), result.get("status")
        if not result.get("done"):
            self.tally.running[cell_id] = result
            self.tally.trained_to(cell_id, float(result["share"]))
            self._event("evaluation", self._named(cell_id, result))
            self.changed = True
            self._draw()
        elif status in ("unwritten", "refused"):
            kind = DiskFullError if status == "unwritten" else UserError
            self.stopped_by = kind(str(result.get("error")))
            self._move(cell_id, None)
        elif status in ("paused", "unstarted"):
            self._wait(cell_id, result)
        else:
            self._end(cell_id, result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Announce a cell whose process or node died and that Tune starts again."""
        cell_id, died = _cell_of(trial), f"its process died{_reason(trial)}"
        self._event("retry", {**self._named(cell_id, {}), "error": died})
        self._move(cell_id, None)
        if self.log == "auto":
            cell = self.tally.cells[cell_id].described
            self._print(f"{cell}: {died}; it resumes from its last checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cell_id, reason = _cell_of(trial), _reason(trial)
        times = "once" if trial.num_failures == 1 else f"{trial.num_failures} times"
        self.dead[cell_id] = f"{times}{reason or ': no reason given'}"
        self._end(cell_id, {"status": "failed", "error": f"its process died{reason}"})

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.stopping() and not self.announced:
            self.announced = self.changed = True
            self._event("interrupted", {"running": self.tally.counts["running"]})
            if self.log == "auto" and self.live is None:
                self._print(STOPPING)
        self._draw()

    def on_pruned(self, cell_id: str, rung: int) -> None:
        """Count a cell whose arm the searcher stopped after `rung`, which Tune does not report."""
        if self.tally.states.get(cell_id) == "pruned":
            return
        arm = self.tally.arm(cell_id)
        arm.rung = rung
        self._move(cell_id, "pruned")
        self._event("pruned", self._named(cell_id, {"rung": rung}))
        if arm.states["pruned"] == 1 and self._few and self.log == "auto" and self.live is None:
            self._print(f"pruned at rung {rung}: {arm.name}")

    def why_dead(self, cell_id: str) -> str:
        """Return the error of a cell whose process died more often than it is retried."""
        return (
            "The trial's process died (killed, or out of memory) "
            f"{self.dead.get(cell_id, 'for no reason given')}"
        )

    @property
    def _few(self) -> bool:
        return len(self.tally.cells) <= MANY

    def _wait(self, cell_id: str, result: Mapping[str, Any]) -> None:
        """Count a cell that paused at a rung or because of an interruption."""
        if result["status"] == "paused":
            so_far = {**self.tally.running.get(cell_id, {}), **result}
            self._event("paused", self._named(cell_id, so_far))
        if self.tally.states.get(cell_id) == "pruned":  # the searcher may have pruned it already
            return
        share = float(result.get("share", self.tally.shares.get(cell_id, 0.0)))
        self.tally.trained_to(cell_id, share)
        self._move(cell_id, "paused" if share else None)

    def _end(self, cell_id: str, result: Mapping[str, Any]) -> None:
        status = "failed" if result.get("status") == "failed" else "ok"
        self._event(
            status, self._named(cell_id, {**self.tally.running.get(cell_id, {}), **result})
        )
        self.ended += 1
        if status == "ok":
            self.tally.score(cell_id, result)
        self.tally.trained_to(cell_id, 1.0)
        self._move(cell_id, status)
        if self.log == "json" or (self.live is not None and status == "ok"):
            return
        cells = self.tally.cells
        text = f"[{self.tally.done}/{len(cells)}] {cells[cell_id].described}: {outcome(result)}"
        if self.log == "quiet":
            if status == "failed":
                self._write(text)
        elif self._few or status == "failed":
            self._print(text)
        else:
            self._print_now_and_then()

    def _move(self, cell_id: str, state: str | None) -> None:
        self.tally.move(cell_id, state)
        self.changed = True
        self._draw()

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _write(self, text: str) -> None:
        self.console.file.write(text + "\n")
        self.console.file.flush()

    def _print_now_and_then(self) -> None:
        """Print the progress at most every 10 s and every one percent of the cells."""
        now, done = time.monotonic(), self.tally.done
        if now - self.printed_at >= LINE_S and done - self.printed >= len(self.tally.cells) / 100:
            self.printed_at, self.printed = now, done
            self._print(self._summary())

    def _named(self, cell_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
        if self.log != "json":
            return {}
        return event_of(self.tally.cells[cell_id], result)

    def _event(self, event: str, content: Mapping[str, Any]) -> None:
        if self.log == "json":
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            self._write(json.dumps({"time": now, "event": event, **content}, allow_nan=False))

    def _draw(self) -> None:
        if self.live is None:
            return
        since = time.monotonic() - self.drawn_at
        if since >= (REDRAW_S if self.changed else IDLE_REDRAW_S):
            self.live.update(self._table(), refresh=True)
            self.drawn_at, self.changed = time.monotonic(), False

    def _rates(self) -> str:
        if self.first_start is None:
            return ""
        elapsed_s = max(time.monotonic() - self.first_start, 1e-9)
        return rates(self.tally, elapsed_s, self.ended)

    def _summary(self) -> str:
        parts = (self.tally.counted(), self._rates(), best_arm(self.tally))
        return "; ".join(filter(None, parts))

    def _table(self) -> Table:
        rates_of_all = ", ".join(filter(None, (self._rates(), gpu_use())))
        lines = (self.tally.counted(), rates_of_all, STOPPING if self.announced else "")
        title = [line for line in lines if line]
        # the table's head, frame and caption take seven more lines
        room = max(1, min(ROWS, self.console.height - 7 - len(title)))
        table = arms_table(self.tally, room)
        table.title = "\n".join(title)
        if self.dashboard:
            table.caption = f"dashboard {self.dashboard} (token: `ray get-auth-token`)"
        return table


def _cell_of(trial: Any) -> str:
    return str(trial.config["cell_id"])


def _reason(trial: Any) -> str:
    """Return the last line of a trial's error after a colon; empty if Ray gives none."""
    lines = str(trial.get_error() or "").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def gpu_use() -> str:
    """Return the usage of the visible GPUs, such as `GPU 63% 4.1/80 GB`.

    Mean utilisation and total memory (1 GB = 10^9 bytes) over all programs. Empty without a GPU or
    without NVML.
    """
    try:
        return _nvml_use()
    except Exception:  # no error of torch or NVML may end a search
        return ""


def _nvml_use() -> str:
    import torch

    count = torch.cuda.device_count()
    if not count:
        return ""
    import pynvml

    # torch's access to NVML respects CUDA_VISIBLE_DEVICES; `mem_get_info` would take hundreds of
    # megabytes of each GPU for a CUDA context in this process, which trains nothing
    handles = [torch.cuda._get_pynvml_handler(device) for device in range(count)]
    memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
    busy = sum(torch.cuda.utilization(device) for device in range(count)) / count
    used, total = (sum(getattr(each, name) for each in memory) / 1e9 for name in ("used", "total"))
    many = f"{count} GPUs" if count > 1 else "GPU"
    return f"{many} {busy:.0f}% {used:.1f}/{total:.0f} GB"
