"""Progress of a running search: a table of arms, lines, or JSON lines, with the load of the GPUs.

It counts what Tune and the searcher report and decides nothing. A row is an arm, not a cell, so
that 10,000 cells stay readable; an event costs the same whatever their number.
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

LOGS = ("auto", "json", "quiet")  # a table or lines, JSON lines, failures alone
ROWS = 20  # arms on the screen
REDRAW_S = 0.5  # at least, between two drawings: one takes 12 ms, with 2,000 arms too
IDLE_REDRAW_S = 5.0  # where nothing happens but time
MANY = 200  # cells above which a log no longer has a line for each
LINE_S = 10.0  # at least, between two lines of such a log
STOPPING = "interrupted: what trains goes on to its next evaluation; Ctrl-C again ends at once"


class Progress(tune.Callback):
    """Counts cells as they go on and shows them.

    Args:
        cells: all cells of the search, also those that need no training.
        already: how many of them those are; `resume` finds out which.
        dashboard: address of Ray's dashboard.
        log: `auto` a live table in a terminal, else lines; `json` one object an event and `quiet`
            failures alone, both straight to the console's file, as the console may be mute.
        stopping: whether the search was interrupted and waits for what trains.
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
        self.stopping, self.told = stopping, False
        self.ended = 0  # cells, since the start
        self.full_disk: str | None = None
        self.dead: dict[str, str] = {}  # how often and why, by cell
        self.first_start: float | None = None
        self.live: Live | None = None
        self.drawn_at, self.changed = -math.inf, False
        self.said_at, self.said = -math.inf, 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that never happens here

    def __enter__(self) -> Progress:
        if self.log == "auto" and self.console.is_terminal:
            # drawn when told: a thread of its own would read the counts while they change
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
        """Find out which cells earlier searches finished; call it before the first trial."""
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
        elif status == "unwritten":
            self.full_disk = str(result.get("error"))
            self._move(cell_id, None)
        elif status in ("paused", "unstarted"):
            self._wait(cell_id, result)
        else:
            self._end(cell_id, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cell_id = _cell_of(trial)
        lines = str(trial.get_error() or "").strip().splitlines()
        times = "once" if trial.num_failures == 1 else f"{trial.num_failures} times"
        self.dead[cell_id] = f"{times}: {lines[-1] if lines else 'no reason given'}"
        reason = f": {lines[-1]}" if lines else ""
        self._end(cell_id, {"status": "failed", "error": f"its process died{reason}"})

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.stopping() and not self.told:
            self.told = self.changed = True
            self._event("interrupted", {"running": self.tally.counts["running"]})
            if self.log == "auto" and self.live is None:
                self._print(STOPPING)
        self._draw()

    def on_pruned(self, cell_id: str, rung: int) -> None:
        """Count a cell whose arm was stopped after `rung`: the feed's word, Tune knows nothing."""
        if self.tally.states.get(cell_id) == "pruned":
            return
        arm = self.tally.arm(cell_id)
        arm.rung = rung
        self._move(cell_id, "pruned")
        self._event("pruned", self._named(cell_id, {"rung": rung}))
        if arm.states["pruned"] == 1 and self._few and self.log == "auto" and self.live is None:
            self._print(f"pruned at rung {rung}: {arm.name}")

    def why_dead(self, cell_id: str) -> str:
        """Return what is known of a cell whose process died more often than it is retried."""
        return (
            "The trial's process died (killed, or out of memory) "
            f"{self.dead.get(cell_id, 'for no reason given')}"
        )

    @property
    def _few(self) -> bool:
        return len(self.tally.cells) <= MANY

    def _wait(self, cell_id: str, result: Mapping[str, Any]) -> None:
        """Count a cell that stopped at a rung, or because the search is to stop."""
        if result["status"] == "paused":
            so_far = {**self.tally.running.get(cell_id, {}), **result}
            self._event("paused", self._named(cell_id, so_far))
        if self.tally.states.get(cell_id) == "pruned":  # the feed may have heard of it first
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
        """Say how far the search is, 10 s and one percent after the last time."""
        now, done = time.monotonic(), self.tally.done
        if now - self.said_at >= LINE_S and done - self.said >= len(self.tally.cells) / 100:
            self.said_at, self.said = now, done
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
        said = (self.tally.counted(), rates_of_all, STOPPING if self.told else "")
        title = [line for line in said if line]
        # head, frame and caption take seven lines beside it
        room = max(1, min(ROWS, self.console.height - 7 - len(title)))
        table = arms_table(self.tally, room)
        table.title = "\n".join(title)
        if self.dashboard:
            table.caption = f"dashboard {self.dashboard} (its token: `ray get-auth-token`)"
        return table


def _cell_of(trial: Any) -> str:
    return str(trial.config["cell_id"])


def gpu_use() -> str:
    """Return the use of the GPUs that this process sees, as `GPU 63% 4.1/80 GB`.

    The mean share of time that they were busy, and their memory in all (GB of 10^9 bytes),
    whatever programs use it. Nothing where there is no GPU, or no NVML to ask.
    """
    try:
        return _asked()
    except Exception:  # torch and NVML have errors of their own; none of them may end a search
        return ""


def _asked() -> str:
    import torch

    count = torch.cuda.device_count()
    if not count:
        return ""
    import pynvml

    # torch's own way to NVML, which heeds CUDA_VISIBLE_DEVICES; its `mem_get_info` would take
    # hundreds of megabytes of each GPU for a context of this process, which trains nothing
    handles = [torch.cuda._get_pynvml_handler(device) for device in range(count)]
    memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
    busy = sum(torch.cuda.utilization(device) for device in range(count)) / count
    used, total = (sum(getattr(each, name) for each in memory) / 1e9 for name in ("used", "total"))
    many = f"{count} GPUs" if count > 1 else "GPU"
    return f"{many} {busy:.0f}% {used:.1f}/{total:.0f} GB"
