"""Where commands print tables: the terminal, or a file.  tables -> [output]"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FILE_COLUMNS = 200  # of a file, which has no width of its own: no table of ours is wrapped


def output() -> Console:
    """Return standard output, as wide as the terminal or FILE_COLUMNS."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
