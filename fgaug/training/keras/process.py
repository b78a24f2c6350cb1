"""Start, query and end the TensorFlow process.

TensorFlow and PyTorch never share a process: they would compete for GPU memory and threads.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from fgaug import errors
from fgaug.errors import GridError, TrialError
from fgaug.training.keras.applications import NEEDS, has_tensorflow

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "KERAS_BACKEND": "tensorflow"}
_TAIL = 500  # characters of a dead process's output that its error quotes
_STOP_S = 10.0  # for an idle process to exit by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Fixed settings of a TensorFlow process."""

    device: str  # cpu or cuda
    gpu_share: float  # of the device's memory
    threads: int


class Process:
    """A TensorFlow process and the pipe to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.owner = settings, os.getpid()
        self._wrote: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this
        ours, theirs = multiprocessing.Pipe()
        root = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-P", "-m", "fgaug.training.keras.worker"]
        self._pipe: Connection = ours
        self._unwanted: list[int] = []
        with theirs:
            self._child = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_QUIET, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=self._wrote,
                stderr=self._wrote,
            )
        self.ask("configure", settings=settings)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return not self._pipe.closed and self._child.poll() is None

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command and return the answer.

        Raises:
            FgaugError: the process refused the command; the error is of the class it reports.
            TrialError: the process has died.
        """
        unwanted = [self._unwanted.pop() for _ in range(len(self._unwanted))]
        try:
            self._pipe.send((command, arguments, unwanted))
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise TrialError(self._death()) from None
        except BaseException:  # interrupted, so the next answer would be wrong
            self.end(wait_s=0)
            raise
        if kind == "answer":
            return value
        if kind == "GridError":
            raise GridError(value)
        known = getattr(errors, kind, None)
        if known is not None:
            raise known(value)
        raise RuntimeError(value)

    def forget(self, network: int) -> None:
        """Let the process drop a network before its next answer.

        This sends nothing, as a learner may be garbage-collected while a command is in progress.
        """
        self._unwanted.append(network)

    def end(self, wait_s: float = _STOP_S) -> None:
        """End the process; kill it after `wait_s` seconds."""
        self._pipe.close()
        try:
            self._child.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._wrote.close()

    def _death(self) -> str:
        if self._pipe.closed:
            return "The trial's TensorFlow process has already ended."
        self._pipe.close()
        try:
            code = self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        self._wrote.seek(0)
        said = self._wrote.read().decode("utf-8", "replace").strip()[-_TAIL:]
        self._wrote.close()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        cure = (
            "Signal 9 usually means that the machine ran out of memory: run fewer trials at once."
        )
        return " ".join(
            [
                f"The trial's TensorFlow process ended {how}.",
                *([cure] if code == -9 else []),
                *([f"Its last output: {said}"] if said else []),
            ]
        )


_kept: list[Process] = []  # at most one: the process that the next learner reuses


def process_for(settings: Settings) -> Process:
    """Return the TensorFlow process with these settings; start one if none is alive.

    Raises:
        GridError: TensorFlow is not installed.
    """
    if not has_tensorflow():
        raise GridError([NEEDS])
    if _kept and (not _kept[0].alive or _kept[0].settings != settings or _forked(_kept[0])):
        shut_down()
    if not _kept:
        _kept.append(Process(settings))
    return _kept[0]


def shut_down() -> None:
    """End this process's TensorFlow process, if any."""
    while _kept:
        process = _kept.pop()
        if not _forked(process):
            with contextlib.suppress(OSError, ValueError):
                process.end()


def _forked(process: Process) -> bool:
    """Return whether a parent process started `process`, before this one was forked."""
    return process.owner != os.getpid()


atexit.register(shut_down)
