"""`fgaug confirm`: retrain chosen arms on fresh seeds and test them on the sealed test set."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fgaug.cli import show
from fgaug.cli.room import Cpus, Gpus


def confirm(
    run: Annotated[str, typer.Argument(help="The run's folder or URI.")],
    arm: Annotated[
        list[str], typer.Option("--arm", help="An arm_id or its first digits; repeatable.")
    ],
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=2, help="Fresh seeds per arm (default: the grid's, else 20)."),
    ] = None,
    no_dashboard: Annotated[
        bool, typer.Option("--no-dashboard", help="Do not start Ray's dashboard.")
    ] = False,
    log: Annotated[
        str, typer.Option("--log", help="auto, json (one object per event) or quiet.")
    ] = "auto",
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster to join; auto: one already running."),
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Retries of a failed or crashed trial.")
    ] = 1,
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Train arms of a run on fresh seeds and test them on its sealed test set.

    Every look at the test set is first recorded in looks.json; repeating the command trains
    nothing but counts as another look. Exit code: 0 complete, 1 failures, 2 error, 3 incomplete.
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
