"""Ends a command whose cluster has died, where it would wait for ever.  cluster -> [watchdog]"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fgaug.errors import ClusterError

SIGNAL = signal.SIGUSR2
LOOK_S = 1.0
AGAIN_S = 10.0  # what it comes up in may swallow it, or wait for the dead once more


@contextlib.contextmanager
def watched(dead: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Raise ClusterError out of the block once `dead` names a process that has ended.

    Ray's calls wait in C++ and come back for a KeyboardInterrupt alone, so it travels as one. A
    thread that is not the main one gets no signals: there nothing is watched.

    Raises:
        ClusterError: the cluster died.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    ended, gone = threading.Event(), list[str]()

    def interrupt(number: int, frame: Any) -> None:
        if gone and not ended.is_set():
            raise KeyboardInterrupt

    def look() -> None:
        while not ended.wait(AGAIN_S if gone else LOOK_S):
            gone[:] = dead()
            if gone and main.ident is not None:
                signal.pthread_kill(main.ident, SIGNAL)

    before = signal.signal(SIGNAL, interrupt)
    thread = threading.Thread(target=look, name="fgaug-watchdog", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        if gone and not isinstance(error, ClusterError):
            raise ClusterError(
                f"Ray died: {', '.join(gone)} ended (killed, or out of memory?). What was "
                "finished is kept; run the same command again to go on."
            ) from error
        raise
    finally:
        ended.set()
        thread.join()
        signal.signal(SIGNAL, before)
