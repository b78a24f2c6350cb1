"""Show the progress of a long command: a bar in a terminal, else a log line now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_S = 30.0  # between log lines without a terminal
Advance = Callable[[int, int], None]  # done, total; in images unless a unit is given


class _Rate(ProgressColumn):
    """Images, or another unit, per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {self.unit}/s" if speed else "")


@contextlib.contextmanager
def progress_of(
    title: str, console: Console | None = None, unit: str = "images"
) -> Iterator[Advance]:
    """Yield a progress callback that takes (images done, total), or those of another unit.

    Shows images/s and the remaining time on `console`; None means stderr.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, console, unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, _Rate(unit), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, wanted: bar.update(task, completed=done, total=wanted)


def _lines(title: str, console: Console, unit: str) -> Advance:
    started = last = time.monotonic()

    def advance(done: int, wanted: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_S or not done:
            return
        last = now
        rate = done / (now - started)
        left = (wanted - done) / rate
        console.print(
            f"{title}: {done} of {wanted} {unit}, {rate:.3g} {unit}/s, {left / 60:.0f} min left"
        )

    return advance
