"""Ctrl-C: the first lets what trains reach its next evaluation, the second ends it at once.

Tune's own answer to the first is five seconds for all
trials to stop, then it kills them; one evaluation may be minutes away.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from types import FrameType
from typing import Any

from fgaug.core.paths import RunPaths

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether a search was told to stop, for this process and for those that train.

    They learn it from a file, as they may be on other nodes, which see the run's folder too. Its
    name is this search's alone: a search that was killed leaves nothing that stops the next one.
    """

    def __init__(self, run: RunPaths) -> None:
        self.file = run.stop(uuid.uuid4().hex)
        self.asked = False
        self.before: dict[signal.Signals, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what its searcher holds for a restore that never happens here

    def __enter__(self) -> Interrupt:
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        if threading.current_thread() is threading.main_thread():  # no other may take signals
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # one that is ignored, as Ctrl-C is by a script's background jobs, stays so
            self.before = {k: v for k, v in handlers.items() if v not in (signal.SIG_IGN, None)}
            for number in self.before:
                signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.file.unlink(missing_ok=True)

    def _received(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; nothing is printed here, as it may come in the middle of a print."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(OSError):  # no space: no new cell starts, those at work train on
            self.file.touch()
