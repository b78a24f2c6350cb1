"""The command line: parses arguments and prints; data go to stdout, logs to stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from fgaug.cli import compare, confirm, models, power, show, stage
from fgaug.cli.room import Cpus, Gpus
from fgaug.core.machine import narrow_threads, settle
from fgaug.core.version import __version__
from fgaug.errors import DiskFullError, FgaugError, UserError

app = typer.Typer(
    name="fgaug",
    help="Do GAN-generated images help my classifier?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class _LateGroup(TyperGroup):
    """A group of commands that imports its module when a command or its help is needed.

    `fgaug --help` and `fgaug status` need none of the three, which would double their start-up.
    """

    load: ClassVar[Callable[[], typer.Typer]]

    def list_commands(self, ctx: Any) -> list[str]:
        self._fill()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        self._fill()
        return super().get_command(ctx, cmd_name)

    def _fill(self) -> None:
        if not self.commands:
            self.commands.update(typer.main.get_group(type(self).load()).commands)


def _group(name: str, help: str) -> Callable[[Callable[[], typer.Typer]], None]:
    """Return a decorator that registers a command group under `name`; the function imports it."""

    def add(load: Callable[[], typer.Typer]) -> None:
        late = type("_LateGroup", (_LateGroup,), {"load": staticmethod(load)})
        app.add_typer(typer.Typer(), name=name, help=help, cls=late, no_args_is_help=True)

    return add


@_group("data", help="Prepare and check datasets of real images.")
def _data() -> typer.Typer:
    from fgaug.cli import data

    return data.app


@_group("gan", help="Train, evaluate, inspect and convert GANs.")
def _gan() -> typer.Typer:
    from fgaug.cli import gan

    return gan.app


@_group("bank", help="Generate, verify, import and export banks of fake images.")
def _bank() -> typer.Typer:
    from fgaug.cli import bank

    return bank.app


app.command()(models.predict)

app.command()(models.replay)

app.command()(stage.stage)

app.command()(compare.compare)

app.command()(power.power)

app.command()(confirm.confirm)

Out = Annotated[
    str | None,
    typer.Option("--out", help="The run's folder or URI, s3://... (default: runs/<name>)."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan only; train and write nothing.")
]
NoDashboard = Annotated[bool, typer.Option("--no-dashboard", help="Do not start Ray's dashboard.")]
RunFolder = Annotated[str, typer.Argument(help="The run's folder or URI.")]
Log = Annotated[
    str,
    typer.Option(
        "--log",
        help="auto (live table on a terminal, else lines), json (one object per event) or quiet.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"fgaug {__version__}\n")
        raise typer.Exit()


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    os.environ["FGAUG_DEBUG"] = "1" if debug else os.environ.get("FGAUG_DEBUG", "")


@app.command()
def search(
    grid: Annotated[str, typer.Argument(help="A grid file (YAML), or its URI.")],
    out: Out = None,
    dry_run: DryRun = False,
    no_dashboard: NoDashboard = False,
    log: Log = "auto",
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster to join; auto: one already running."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="K/N: train only the K-th of N shards.")
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Retries of a failed or crashed trial.")
    ] = 1,
    cpus: Cpus = None,
    gpus: Gpus = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            help="Copy the grid's local inputs to this URI, for nodes that cannot see them "
            "(default with --address and a run at a URI: `inputs` beside the run).",
        ),
    ] = None,
) -> None:
    """Generate the fakes a grid needs, then train every cell without a result.

    Exit code: 0 complete, 1 failures, 2 an error in the grid or its inputs, 3 incomplete.
    Ctrl-C once: trials run to their next evaluation and save a checkpoint. Twice: stop at once.
    """
    from fgaug.errors import GridError
    from fgaug.study import search as study_search
    from fgaug.study.dry_run import dry_plan
    from fgaug.study.plan import Shard
    from fgaug.study.resources import room_of
    from fgaug.study.storage import inputs_of, storage_of

    console = show.console_for(log)
    part = None if shard is None else Shard.parse(shard)
    room = room_of(cpus, gpus, address)
    if dry_run:
        planned = dry_plan(grid, out, part, room)
        show.plan(planned, room)
        # a plan by counts has named them among what is absent
        if (
            room is not None
            and not planned.absent
            and (problems := room.misfits(planned.space.resources))
        ):
            raise GridError(problems, planned.space.name)
        if (place := storage_of(storage, out, address)) is not None and not planned.absent:
            sys.stdout.write("\n".join(inputs_of(planned, place).lines()) + "\n")
        return
    run = study_search.search(
        grid,
        out,
        dashboard=not no_dashboard,
        console=console,
        log=log,
        address=address,
        shard=part,
        retries=retries,
        cpus=cpus,
        gpus=gpus,
        storage=storage,
    )
    show.closing_line(run, log)
    raise typer.Exit(run.exit_code)


@app.command()
def results(
    run: RunFolder,
    by: Annotated[
        str, typer.Option("--by", help="cell (one row per trial), arm, or seed (folds pooled).")
    ] = "cell",
    format: Annotated[
        str, typer.Option("--format", help="table, csv, json or parquet.")
    ] = "table",
) -> None:
    """Print the results of a run, one row per trial, per arm, or per arm and seed."""
    show.results(run, by, format)


@app.command()
def status(
    run: RunFolder,
    format: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Redraw until the search ends; q or Ctrl-C leaves. Not on a terminal: a line for "
            "each change.",
        ),
    ] = False,
) -> None:
    """Print the progress of a run, also while a search is training it."""
    if watch:
        from fgaug.cli import watch_status

        watch_status.watch(run, format)
    else:
        show.status(run, format)


@app.command()
def grafana(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A folder (default: where this machine's Ray has Grafana look)."),
    ] = None,
) -> None:
    """Write the Grafana dashboard of searches into a folder and print its path."""
    from fgaug.core.grafana import provide

    sys.stdout.write(f"{provide(folder)}\n")


@app.command()
def report(
    run: Annotated[str | None, typer.Argument(help="The run's folder or URI.")] = None,
    open_test: Annotated[
        bool,
        typer.Option("--open-test", help="Report on the sealed test set; counts as a look."),
    ] = False,
    published: Annotated[
        str | None,
        typer.Option("--published", help="Report on a published study: thesis or breast."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Report folder for --published (default: published-NAME)."),
    ] = None,
) -> None:
    """Write the report of a run (HTML, tables and figures) and print its path."""
    from fgaug.analysis.published import write
    from fgaug.analysis.report import write as report_writer

    if published is not None and (run is not None or open_test):
        raise UserError(
            "--published cannot be combined with a run or --open-test: fgaug ships its data."
        )
    if published is None and (run is None or out is not None):
        raise UserError(
            "Give either a run or --published. `fgaug report RUN` writes into the run's folder; "
            "only `fgaug report --published thesis` takes --out DIR."
        )
    if published is not None:
        path = write.published(published, out)
    else:
        assert run is not None  # refused above
        path = report_writer.report(run, open_test=open_test)
    sys.stdout.write(f"{path.resolve()}\n")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo.")] = Path("demo"),
    dry_run: DryRun = False,
    no_dashboard: NoDashboard = False,
) -> None:
    """Run the built-in example: simulated images, a bank of fakes, a grid search, a report."""
    import tempfile

    from fgaug.analysis.report import write as report_writer
    from fgaug.study import planner
    from fgaug.study import search as study_search
    from fgaug.study.demo import demo_dataset, demo_space

    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            demo_dataset(Path(folder))
            show.plan(planner.plan(demo_space(Path(folder)), Path(folder) / "run"))
        return
    demo_dataset(out)
    run = study_search.search(demo_space(out), out / "run", dashboard=not no_dashboard)
    if run.missing:  # it was interrupted
        show.closing_line(run)
        raise typer.Exit(run.exit_code)
    show.results(run.place, "arm", "table")
    show.closing_line(run)
    sys.stdout.write(f"report: {report_writer.report(run.root).resolve()}\n")
    raise typer.Exit(run.exit_code)


class _LateHandler(logging.Handler):
    """Prints log records to stderr with rich, imported at the first record."""

    @cached_property
    def _rich(self) -> logging.Handler:
        from rich.console import Console
        from rich.logging import RichHandler

        return RichHandler(console=Console(stderr=True), show_time=False, show_path=False)

    def emit(self, record: logging.LogRecord) -> None:
        self._rich.emit(record)


_INTERRUPTED = 130  # typer's exit code for Ctrl-C


def main() -> None:
    """Run a command; print errors as one message with an exit code, not as a traceback."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version
    logger = logging.getLogger("fgaug")
    if not logger.handlers:  # a program may call several commands
        logger.addHandler(_LateHandler())
    try:
        settle()
        narrow_threads()
        code = app(standalone_mode=False) or 0  # an Exit comes back as its code
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except Exception as error:
        if os.environ.get("FGAUG_DEBUG"):
            raise
        sys.exit(_explained(error))
    except KeyboardInterrupt:
        _complain("Interrupted. Finished work is kept; run the same command again to resume.")
        sys.exit(3)


def _explained(error: Exception) -> int:
    """Print one message for an error and return its exit code."""
    usage = getattr(error, "format_message", None)  # typer's own usage errors have it
    if isinstance(error, FgaugError):
        _complain(str(error))
        return error.exit_code
    if usage is not None:
        _complain(f"{usage()} Try `fgaug --help`.")
        return 2
    if isinstance(error, OSError):
        if error.errno in DiskFullError.ERRNOS:
            _complain(f"No space left on device ({error}). Free some; finished work is intact.")
        else:
            _complain(f"{error}.")
        return 2
    if isinstance(error, typer.Abort):
        _complain("Aborted.")
        return 3
    _complain(
        f"Internal error: {type(error).__name__}: {error}. "
        "Run with `fgaug --debug ...` and report the traceback."
    )
    return 1


def _complain(message: str) -> None:
    sys.stderr.write(f"fgaug: {message}\n")
