"""What a person sees of a running search: a live table, or lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fgaug.cells import Cell
from fgaug.recipe import Budget

RECENT = 8  # finished cells kept on the screen


class Progress(tune.Callback):
    """Counts cells as they end and draws them; stops nothing, decides nothing."""

    def __init__(
        self, cells: Sequence[Cell], already: int, dashboard: str | None, console: Console
    ) -> None:
        self.cells = {cell.cell_id: cell for cell in cells}
        self.already, self.dashboard, self.console = already, dashboard, console
        self.running: dict[str, Mapping[str, Any]] = {}
        self.recent: list[tuple[str, Mapping[str, Any]]] = []
        self.ended, self.failed = 0, 0
        self.full_disk: str | None = None
        self.dead: dict[str, str] = {}  # why, by cell
        self.first_start: float | None = None
        self.live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that never happens here

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live = Live(self._table(), console=self.console, refresh_per_second=2)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.update(self._table())
            self.live.stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.first_start = self.first_start or time.monotonic()
        self.running[_cell_of(trial)] = {}
        self._draw()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        cell_id = _cell_of(trial)
        if not result.get("done"):
            self.running[cell_id] = result
            self._draw()
            return
        self.running.pop(cell_id, None)
        if result.get("status") == "unwritten":
            self.full_disk = str(result.get("error"))
        elif result.get("status") != "paused":
            self._end(cell_id, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cell_id = _cell_of(trial)
        self.running.pop(cell_id, None)
        lines = str(trial.get_error() or "").strip().splitlines() or ["no reason given"]
        self.dead[cell_id] = lines[-1]
        self._end(cell_id, {"status": "failed", "error": "its process died"})

    def why_dead(self, cell_id: str) -> str:
        """Return what is known of a cell whose process died more often than it is retried."""
        reason = self.dead.get(cell_id, "no reason given")
        return f"The trial's process died (killed, or out of memory), twice in a row: {reason}"

    def _end(self, cell_id: str, result: Mapping[str, Any]) -> None:
        self.ended += 1
        self.failed += result.get("status") == "failed"
        self.recent = [*self.recent, (cell_id, result)][-RECENT:]
        if self.live is None:
            done = self.already + self.ended
            total = self.already + len(self.cells)
            self.console.print(
                f"[{done}/{total}] {self.cells[cell_id].described}: {_outcome(result)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        self._draw()

    def _draw(self) -> None:
        if self.live is not None:
            self.live.update(self._table())

    def _table(self) -> Table:
        total = self.already + len(self.cells)
        waiting = len(self.cells) - self.ended - len(self.running)
        title = (
            f"{self.already + self.ended} of {total} cells done, {len(self.running)} running, "
            f"{waiting} waiting, {self.failed} failed{self._time_left()}"
        )
        table = Table(
            title=title,
            title_justify="left",
            caption=self.dashboard
            and (f"dashboard {self.dashboard} (its token: `ray get-auth-token`)"),
        )
        for name in ("cell", "mode", "psi", "ratio", "seed", "at", "acc", "auc", "loss"):
            table.add_column(name, justify="left" if name in ("cell", "mode") else "right")
        for cell_id, result in self.recent:
            table.add_row(*self._row(cell_id, result, _outcome(result, short=True)))
        for cell_id, result in self.running.items():
            at = self._at(self.cells[cell_id].budget, result)
            table.add_row(*self._row(cell_id, result, at), style="cyan")
        return table

    def _row(self, cell_id: str, result: Mapping[str, Any], at: str) -> list[str]:
        cell = self.cells[cell_id]
        values = (result.get(f"valid_{name}") for name in ("acc", "auc", "loss"))
        return [
            cell_id,
            cell.mode,
            "" if cell.psi is None else f"{cell.psi:g}",
            "" if cell.ratio is None else f"{cell.ratio:g}",
            str(cell.seed),
            at,
            *("" if value is None else f"{value:.3f}" for value in values),
        ]

    def _at(self, budget: Budget, result: Mapping[str, Any]) -> str:
        if not result:
            return "start"
        if budget.unit == "steps":
            return f"step {result['step']}/{budget.max}"
        return f"epoch {result['epoch']}/{budget.max}"

    def _time_left(self) -> str:
        if not self.ended or self.first_start is None or self.ended == len(self.cells):
            return ""
        each = (time.monotonic() - self.first_start) / self.ended
        minutes = each * (len(self.cells) - self.ended) / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", under a minute left"


def _cell_of(trial: Any) -> str:
    return str(trial.config["cell_id"])


def _outcome(result: Mapping[str, Any], short: bool = False) -> str:
    if result.get("status") == "failed":
        first = str(result.get("error", "")).splitlines() or [""]
        return "failed" if short else f"failed: {first[0]}"
    if short:
        return f"{result['wall_s']:.1f} s"
    return (
        f"acc {result['valid_acc']:.3f} auc {result['valid_auc']:.3f} "
        f"loss {result['valid_loss']:.3f} in {result['wall_s']:.1f} s"
    )
