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
Advance = Callable[[int, int], None]  # images done, total


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} images/s" if speed else "")


@contextlib.contextmanager
def progress_of(title: str, console: Console | None = None) -> Iterator[Advance]:
    """Yield a progress callback that takes (images done, total).

    Shows images/s and the remaining time on `console`; None means stderr.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, _Rate(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, wanted: bar.update(task, completed=done, total=wanted)


def _lines(title: str, console: Console) -> Advance:
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
            f"{title}: {done} of {wanted} images, {rate:.3g} images/s, {left / 60:.0f} min left"
        )

    return advance
