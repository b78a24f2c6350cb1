"""Writing the report of a published study by its name."""

from __future__ import annotations

from pathlib import Path

from fgaug.errors import UserError


def published(which: str, out: str | Path | None = None) -> Path:
    """Write the re-analysis of a source study's published tables, and return the page's path.

    Args:
        which: `thesis` or `breast`.
        out: the folder; `published-thesis` or `published-breast` if left out.

    Raises:
        UserError: there is no such study.
        DataError: tables are missing or damaged.
    """
    from fgaug.analysis.published.breast_page import write_breast
    from fgaug.analysis.published.thesis_page import write_thesis

    writers = {"thesis": write_thesis, "breast": write_breast}
    if which not in writers:
        raise UserError(f"--published must be {' or '.join(writers)}, got {which}.")
    return writers[which](Path(out or f"published-{which}"))
