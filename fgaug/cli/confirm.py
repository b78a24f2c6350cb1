"""`fgaug confirm`: named arms of a run on fresh seeds, judged on its sealed test set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fgaug.cli import show
from fgaug.cli.room import Cpus, Gpus


def confirm(
    run: Annotated[Path, typer.Argument(help="The folder of a search.")],
    arm: Annotated[
        list[str], typer.Option("--arm", help="An arm_id, or its first digits; may be repeated.")
    ],
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=2, help="Fresh ones of each arm; the grid's, else 20."),
    ] = None,
    no_dashboard: Annotated[
        bool, typer.Option("--no-dashboard", help="Do not start Ray's dashboard.")
    ] = False,
    log: Annotated[
        str, typer.Option("--log", help="auto, json (an object an event) or quiet.")
    ] = "auto",
    address: Annotated[
        str | None, typer.Option("--address", help="Join this Ray cluster; auto: the one here.")
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Of a cell that failed or whose process died.")
    ] = 1,
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Train arms of a run on fresh seeds, open its sealed test set and say what it shows.

    Each look at the test set is written into looks.json first; the same command again trains
    nothing and is another look. Exit code: 0 complete, 1 failures, 2 a mistake, 3 incomplete.
    """
    from fgaug.study.confirmation import confirm as confirmation_confirm

    confirmed = confirmation_confirm.confirm(
        run,
        arm,
        seeds=seeds,
        dashboard=not no_dashboard,
        console=show.console_for(log),
        address=address,
        retries=retries,
        log=log,
        cpus=cpus,
        gpus=gpus,
    )
    sys.stdout.write("\n".join(confirmed.lines) + "\n")
    raise typer.Exit(confirmed.exit_code)
