"""`--cpus` and `--gpus`: how much of this machine a command trains on."""

from __future__ import annotations

from typing import Annotated

import typer

from fgaug.errors import UserError


def whole_number(text: str) -> int:
    """Return the value of `--cpus` or `--gpus`.

    Raises:
        UserError: it is no whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"--cpus and --gpus take whole numbers, got {text}. They limit what the whole command "
            "uses. To give each trial a part of a GPU, set `resources: {gpu: 0.5}` in the grid."
        ) from None


Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus",
        parser=whole_number,
        metavar="N",
        help="Cores to use; all that are allowed if left out.",
    ),
]

Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        parser=whole_number,
        metavar="N",
        help="GPUs to use; all that are visible if left out.",
    ),
]
