"""How far a long command is: a bar in a terminal, a line now and then elsewhere."""

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

LINE_S = 30.0  # between two lines where there is no terminal
Advance = Callable[[int, int], None]  # images done, images wanted


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} images/s" if speed else "")


@contextlib.contextmanager
def progress_of(title: str, console: Console | None = None) -> Iterator[Advance]:
    """Yield a function to be told (images done, images wanted) as work goes on.

    Shows images/s and the time left on `console`, stderr where None.
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
