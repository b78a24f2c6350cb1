"""`fgaug status --watch`: shows the progress of a run until its search ends."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fgaug.cli import show
from fgaug.runs.status import read

if TYPE_CHECKING:
    from fgaug.runs.status import Status

EVERY_S = 2.0  # between two looks at the run
SHARE = 0.2  # of the time that looking may take: a look at a large run lasts seconds
HINT = "q or Ctrl-C leaves; the search goes on"
Wait = Callable[[float], bool]  # waits so many seconds; True: the user has had enough


def watch(run: str, format: str) -> None:
    """Show the progress of a run until no search is active in it, q or Ctrl-C.

    A terminal shows the state of the moment. Elsewhere each change is one line, with `format` json
    one object.
    """
    show.check_status_format(format)
    with contextlib.suppress(KeyboardInterrupt), _waiting() as wait:
        if format == "text" and sys.stdout.isatty():
            _redraw(_states(run, wait))
        else:
            _print_changes(_states(run, wait), _json if format == "json" else _text)


def _states(run: str, wait: Wait) -> Iterator[Status]:
    while True:
        began = time.monotonic()
        found = read(run)
        took = time.monotonic() - began
        yield found
        if not found.searches or wait(max(EVERY_S, took / SHARE)):
            return


def _redraw(states: Iterator[Status]) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for found in states:
            lines = [*show.status_lines(found), *([HINT] if found.searches else [])]
            live.update(Text("\n".join(lines)), refresh=True)


def _print_changes(states: Iterator[Status], line: Callable[[Status], str]) -> None:
    before: object = None
    told: set[tuple[str, str]] = set()  # failures
    for found in states:
        now = (found.searches, found.cells, found.ok, found.pruned, found.failed, found.paused)
        new = {(failure.cell_id, failure.error) for failure in found.failures} - told
        if now != before or new:
            sys.stdout.write(line(found) + "\n")
            sys.stdout.flush()
        before, told = now, told | new


def _json(found: Status) -> str:
    return json.dumps(show.status_value(found))


def _text(found: Status) -> str:
    """Return a state as one line: the time, the counts, and the latest failure if there is one."""
    clock = datetime.datetime.now().strftime("%H:%M:%S")
    parts = [f"{clock} {show.counts_of(found)}"]
    if found.left_s:
        parts.append(f"at most {show.duration(found.left_s)} left")
    if found.failures:
        latest = found.failures[0]
        parts.append(f"latest failure {latest.cell} ({latest.cell_id}): {latest.error}")
    if not found.searches:
        parts.append("no active search")
    return "; ".join(parts)


@contextlib.contextmanager
def _waiting() -> Iterator[Wait]:
    """Yield a function that waits, and returns True once q was pressed on a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield _sleep
        return
    import termios
    import tty

    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)  # keys arrive without Enter; Ctrl-C still interrupts
    try:
        yield lambda seconds: _pressed_q(keys, seconds)
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed_q(keys: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([keys], [], [], left)[0]:
            pressed = os.read(keys, 64)
            if not pressed or b"q" in pressed.lower():  # nothing: the terminal is gone
                return True
    return False
