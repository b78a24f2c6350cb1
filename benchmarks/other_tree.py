"""Another commit's code in a process of its own, timed in turn with this one's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


class OtherTree:
    """A program that prints `ready`, then a number of seconds for every line that it reads."""

    def __init__(self, root: Path, program: str) -> None:
        root = root.resolve()
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while self._line() != "ready\n":
            pass

    def __call__(self, asked: str = "") -> float:
        """Return the seconds that the program prints for a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{asked}\n")
        self.process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the other tree's process ended")
        return line
