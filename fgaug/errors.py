"""Errors that end a command with one message: the rule, the value, the cure.

FgaugError                  anything this project raises on purpose
├── UserError               the input is wrong; exit code 2
│   ├── GridError           a grid file, with every problem found in it
│   ├── DataError           images, label tables, datasets
│   ├── SnapshotError       a network file that is refused or cannot be read
│   ├── BankError           a fake bank that is damaged, unfinished or of other snapshots
│   ├── RunError            a run directory that is missing, damaged or of another grid
│   └── DiskFullError       no space left; what was finished stays valid
├── TrainingError           a network's training diverged or collapsed; its snapshots stay; code 1
├── ClusterError            Ray died under a command; what was finished stays valid; code 3
└── TrialError              one cell failed (NaN loss, out of memory); the grid goes on; code 1
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence


class FgaugError(Exception):
    """Any error raised on purpose; its text is all that a user needs to read."""

    exit_code = 1


class UserError(FgaugError):
    """The input breaks a rule; the text names the rule, the value and the cure."""

    exit_code = 2


class GridError(UserError):
    """A grid file with one or more problems, all of them in ``problems``."""

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
    """A network file that is refused or cannot be read."""


class BankError(UserError):
    """A fake bank that is damaged, unfinished, or belongs to other snapshots."""


class RunError(UserError):
    """A run directory that is missing, damaged or belongs to another grid."""


class DiskFullError(UserError):
    """No space left on a device; whatever was finished before stays valid."""

    ERRNOS = (errno.ENOSPC, errno.EDQUOT)


class TrainingError(FgaugError):
    """A network's training cannot go on; its last good snapshot stays."""


class ClusterError(FgaugError):
    """Ray died under a command; whatever was finished before stays valid."""

    exit_code = 3


class TrialError(FgaugError):
    """One cell failed; its row says why and the grid goes on."""


def one_line(text: str) -> str:
    """Return an error's text in one line, all of it but the lines of a traceback.

    A list of problems loses the line that counts them, and other lines are joined.
    """
    first, *rest = [line for line in text.splitlines() if line.strip()] or [""]
    problems = [line.strip()[2:] for line in rest if line.lstrip().startswith("- ")]
    told = [line.strip() for line in rest if not line.startswith((" ", "\t"))]
    if problems and re.fullmatch(r".*: \d+ problems?", first):
        return "; ".join([*problems, *told])
    return " ".join([first.strip(), "; ".join(problems), *told]).replace("  ", " ").strip()
