"""`fgaug stage`: copy a dataset, a bank or networks to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def stage(
    source: Annotated[
        Path, typer.Argument(help="A prepared dataset, a bank, or network files (folder or file).")
    ],
    uri: Annotated[
        str, typer.Argument(help="Folder of the copy, such as s3://bucket/datasets/breast.")
    ],
) -> None:
    """Copy a dataset, a bank or networks to a store that all nodes of a cluster reach.

    Sends only what is missing there or differs, after printing its size. The file that makes the
    copy valid is written last; run the same command again to resume.
    """
    from rich.console import Console

    from fgaug.study import stage as staging

    staging.stage(source, uri, Console(stderr=True))
