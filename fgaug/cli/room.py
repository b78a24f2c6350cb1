"""`--cpus` and `--gpus`: the share of this machine that a command may use."""

from __future__ import annotations

from typing import Annotated

import typer

from fgaug.errors import UserError


def whole_number(text: str) -> int:
    """Parse the value of `--cpus` or `--gpus`.

    Raises:
        UserError: not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"--cpus and --gpus must be whole numbers, got {text}. They limit the whole command. "
            "To give each trial a fraction of a GPU, set `resources: {gpu: 0.5}` in the grid."
        ) from None


Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus",
        parser=whole_number,
        metavar="N",
        help="CPU cores to use (default: all available).",
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        parser=whole_number,
        metavar="N",
        help="GPUs to use (default: all visible).",
    ),
]
