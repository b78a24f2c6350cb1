"""Ctrl-C: the first lets running trials reach their next evaluation, the second stops at once.

Tune itself would give trials five seconds and then kill them, but the next evaluation may be
minutes away.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from types import FrameType
from typing import Any

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import DiskFullError, StoreError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether a search was interrupted, for this process and its trials.

    Trials may run on other nodes, so they look for a file in the run's folder or store. Its name
    is unique to this search: a killed search leaves nothing that would stop the next one.
    """

    def __init__(self, run: RunPaths, deadline: float | None = None) -> None:
        """Prepare for a search.

        Args:
            run: its run.
            deadline: in seconds since the epoch, for a run at a URI, whose trials may be on nodes
                with other clocks: they stop by the same file then.
        """
        self.file, self.uri = run.stop(uuid.uuid4().hex), run.uri
        self.asked = False
        self.telling: threading.Thread | None = None
        self.timer: threading.Timer | None = None
        if deadline is not None:
            self.timer = threading.Timer(max(0.0, deadline - time.time()), self._tell)
        self.before: dict[signal.Signals, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher's state for a restore that is never used

    def __enter__(self) -> Interrupt:
        if self.timer is not None:
            self.timer.start()
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # ignored signals stay ignored, such as Ctrl-C in a script's background jobs
            self.before = {k: v for k, v in handlers.items() if v not in (signal.SIG_IGN, None)}
            for number in self.before:
                signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.timer is not None:
            self.timer.cancel()
        for thread in (self.telling, self.timer):
            if thread is not None:
                thread.join()
        with contextlib.suppress(StoreError):
            files.remove(self.file)

    def _received(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; prints nothing, because it may arrive in the middle of a print."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self.uri is None:
            with contextlib.suppress(OSError):  # disk full: running trials continue, none start
                self.file.touch()
        else:
            self.telling = threading.Thread(target=self._tell, name="fgaug stop")
            self.telling.start()

    def _tell(self) -> None:
        with contextlib.suppress(OSError, DiskFullError, StoreError):  # as above
            files.write_text(self.file, "")
