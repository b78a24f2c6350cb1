"""What is seen of a running search: a table of arms, lines, or JSON lines.  runner -> [progress]

It counts what Tune and the feed tell it; it stops nothing and decides nothing. A row is an arm,
not a cell, so that 10,000 cells stay readable; an event costs the same whatever their number.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fgaug.cells import Cell
from fgaug.paths import RunPaths
from fgaug.search.tally import OVER, Tally, arms_table, number, share_of

LOGS = ("auto", "json", "quiet")  # a table or lines, JSON lines, failures alone
ROWS = 20  # arms on the screen
REDRAW_S = 0.5  # at least, between two drawings: one takes 12 ms, with 2,000 arms too
IDLE_REDRAW_S = 5.0  # where nothing happens but time
MANY = 200  # cells above which a log no longer has a line for each
LINE_S = 10.0  # at least, between two lines of such a log
_DETAILS = ("share", "rung", "wall_s", "error")  # of JSON lines, where an event has them


class Progress(tune.Callback):
    """Counts cells as they go on and shows them.

    Args:
        cells: all cells of the search, also those that need no training.
        already: how many of them those are; `resume` finds out which.
        dashboard: address of Ray's dashboard.
        log: `auto` a live table in a terminal, else lines; `json` one object an event and `quiet`
            failures alone, both straight to the console's file, as the console may be mute.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        already: int,
        dashboard: str | None,
        console: Console,
        *,
        log: str = "auto",
    ) -> None:
        assert log in LOGS, log
        self.tally = Tally(cells, already)
        self.dashboard, self.console, self.log = dashboard, console, log
        self.ended = 0  # cells, since the start
        self.full_disk: str | None = None
        self.dead: dict[str, str] = {}  # why, by cell
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
            self.tally.trained_to(cell_id, share_of(self.tally.cells[cell_id].budget, result))
            self._event("evaluation", self._named(cell_id, result))
            self.changed = True
            self._draw()
        elif status == "unwritten":
            self.full_disk = str(result.get("error"))
            self._move(cell_id, None)
        elif status == "paused":
            so_far = {**self.tally.running.get(cell_id, {}), **result}
            self._event("paused", self._named(cell_id, so_far))
            if self.tally.states.get(cell_id) != "pruned":  # the feed may have heard of it first
                self.tally.trained_to(cell_id, float(result.get("share", 0.0)))
                self._move(cell_id, "paused")
        else:
            self._end(cell_id, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cell_id = _cell_of(trial)
        lines = str(trial.get_error() or "").strip().splitlines() or ["no reason given"]
        self.dead[cell_id] = lines[-1]
        self._end(cell_id, {"status": "failed", "error": "its process died"})

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
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
        reason = self.dead.get(cell_id, "no reason given")
        return f"The trial's process died (killed, or out of memory), twice in a row: {reason}"

    @property
    def _few(self) -> bool:
        return len(self.tally.cells) <= MANY

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
        if self.live is not None or self.log == "json":
            return
        cells = self.tally.cells
        text = f"[{self.tally.done}/{len(cells)}] {cells[cell_id].described}: {_outcome(result)}"
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
        """Return what an event says of a cell."""
        if self.log != "json":
            return {}
        cell = self.tally.cells[cell_id]
        names = ("cell_id", "arm_id", "mode", "psi", "ratio", "seed")
        metrics = {k: number(v) for k, v in result.items() if k.startswith("valid_")}
        return {
            **{name: getattr(cell, name) for name in names},
            "cell": cell.described,
            "step": result.get("step"),
            "metrics": metrics,
            **{name: result[name] for name in _DETAILS if name in result},
        }

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
        tally, elapsed = self.tally, max(time.monotonic() - self.first_start, 1e-9)
        rate = self.ended / elapsed * 60
        parts = [f"{rate:.{1 if rate < 100 else 0}f} cells/min"] if self.ended else []
        speed = sum(_images_per_s(report) for report in tally.running.values())
        parts += [f"{speed:.0f} images/s"] if speed else []
        if tally.trained > 0 and tally.left > 1e-6:
            # arms that are stopped later make it shorter
            bound = "at most" if tally.counts["paused"] or tally.counts["pruned"] else "about"
            parts.append(f"{bound} {_duration(elapsed / tally.trained * tally.left)} left")
        return ", ".join(parts)

    def _summary(self) -> str:
        parts = [self.tally.counted(), self._rates()]
        scored = [(mean, arm) for arm in self.tally.arms.values() if (mean := arm.mean("auc"))]
        if scored:
            mean, best = max(scored, key=lambda pair: pair[0])
            parts.append(f"best {best.name}: auc {mean:.3f} ({best.states['ok']}/{best.seeds})")
        return "; ".join(filter(None, parts))

    def _table(self) -> Table:
        # head, frame and caption take nine lines
        room = max(1, min(ROWS, self.console.height - 9))
        table = arms_table(self.tally, room)
        table.title = "\n".join(filter(None, (self.tally.counted(), self._rates())))
        if self.dashboard:
            table.caption = f"dashboard {self.dashboard} (its token: `ray get-auth-token`)"
        return table


def _cell_of(trial: Any) -> str:
    return str(trial.config["cell_id"])


def _images_per_s(report: Mapping[str, Any]) -> float:
    seconds = float(report.get("train_s") or 0.0)
    return float(report.get("images_seen") or 0.0) / seconds if seconds > 0 else 0.0


def _duration(seconds: float) -> str:
    if seconds < 60:
        return "a minute"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _outcome(result: Mapping[str, Any]) -> str:
    if result.get("status") == "failed":
        first = str(result.get("error", "")).splitlines() or [""]
        return f"failed: {first[0]}"
    return (
        f"acc {result['valid_acc']:.3f} auc {result['valid_auc']:.3f} "
        f"loss {result['valid_loss']:.3f} in {result['wall_s']:.1f} s"
    )
