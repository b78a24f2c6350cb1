"""Errors that end a command with one message: the rule, the value, the cure.

FgaugError                  any error this project raises on purpose
├── UserError               invalid input; exit code 2
│   ├── GridError           a grid file, with all of its problems
│   ├── DataError           images, label tables, datasets
│   ├── SnapshotError       a network file that is rejected or cannot be read
│   ├── BankError           a fake bank that is damaged, unfinished or from other snapshots
│   ├── RunError            a run folder that is missing, damaged or from another grid
│   ├── StoreError          object storage that cannot be reached; finished work is intact
│   └── DiskFullError       no space left on device; finished work is intact
├── TrainingError           a GAN training diverged or collapsed; its snapshots remain; code 1
├── ClusterError            Ray died during a command; finished work is intact; code 3
└── TrialError              one cell failed (NaN loss, out of memory); the grid continues; code 1
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence


class FgaugError(Exception):
    """Base of all errors raised on purpose; users see the text, not a traceback."""

    exit_code = 1


class UserError(FgaugError):
    """Invalid input; the text states the rule, the value and the cure."""

    exit_code = 2


class GridError(UserError):
    """An invalid grid file; ``problems`` lists everything wrong with it."""

    def __init__(self, problems: Sequence[str], source: str = "grid") -> None:
        self.problems, self.source = tuple(problems), source
        count = len(self.problems)
        head = f"{source}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[GridError], tuple[tuple[str, ...], str]]:
        return GridError, (self.problems, self.source)  # errors travel between processes


class DataError(UserError):
    """Real images, a label table or a prepared dataset that cannot be used."""


class SnapshotError(UserError):
    """A network file that is rejected or cannot be read."""


class BankError(UserError):
    """A fake bank that is damaged, unfinished or from other snapshots."""


class RunError(UserError):
    """A run folder that is missing, damaged or from another grid."""


class StoreError(UserError):
    """Object storage that cannot be reached; finished work is intact."""


class DiskFullError(UserError):
    """No space left on device; finished work is intact."""

    ERRNOS = (errno.ENOSPC, errno.EDQUOT)


class TrainingError(FgaugError):
    """A GAN training cannot continue; its last good snapshot remains."""


class ClusterError(FgaugError):
    """Ray died during a command; finished work is intact."""

    exit_code = 3


class TrialError(FgaugError):
    """One cell failed; its row gives the reason and the grid continues."""


def one_line(text: str) -> str:
    """Return an error's text as one line, without traceback lines.

    Lists of problems lose the line that counts them; other lines are joined.
    """
    first, *rest = [line for line in text.splitlines() if line.strip()] or [""]
    problems = [line.strip()[2:] for line in rest if line.lstrip().startswith("- ")]
    others = [line.strip() for line in rest if not line.startswith((" ", "\t"))]
    if problems and re.fullmatch(r".*: \d+ problems?", first):
        return "; ".join([*problems, *others])
    return " ".join([first.strip(), "; ".join(problems), *others]).replace("  ", " ").strip()
