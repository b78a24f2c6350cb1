"""`fgaug power`: the smallest gain a planned study can detect, and its cost in runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgaug.errors import UserError

if TYPE_CHECKING:
    from fgaug.analysis.power.designs import Outlook, TwoStage

SEEDS = (5, 10, 20)  # seeds per arm of the default designs


def power(
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Pilot run: gives seed sd, patient variance and arms."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Default: the pilot's plan's, else auc.")
    ] = None,
    arms: Annotated[
        int | None, typer.Option("--arms", help="Arms to compare with the baseline (default: 1).")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds per arm; several designs as 3,5,10.")
    ] = None,
    baseline_seeds: Annotated[
        str, typer.Option("--baseline-seeds", help="A number, or auto: sqrt(arms) times --seeds.")
    ] = "auto",
    patients: Annotated[
        int | None, typer.Option("--patients", help="Patients in the planned evaluation set.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", help="Instead of --patients if each image is a patient."),
    ] = None,
    seed_sd: Annotated[
        float | None, typer.Option("--seed-sd", help="Sample sd of the metric over seeds.")
    ] = None,
    expected: Annotated[
        float | None, typer.Option("--expected", help="Expected metric of the baseline, as 0.85.")
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option("--correlation", help="Correlation of two recipes' errors (default: 0.9)."),
    ] = None,
    positives: Annotated[
        float | None, typer.Option("--positives", help="Share of the second label (default: 0.5).")
    ] = None,
    two_stage: Annotated[
        str | None,
        typer.Option("--two-stage", help="Screening seeds,confirmation seeds,arms: 5,20,3."),
    ] = None,
    gain: Annotated[
        str | None, typer.Option("--gain", help="Gains to give the power of, as 0.005,0.01.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Print the smallest gain that a study can detect with power .8, and the runs it takes.

    Gains are in units of the metric. With patients the claim covers new patients (level E2),
    without only the patients at hand (E1). Says so if no number of seeds is enough.
    """
    from fgaug.analysis.power.assumptions import assumed
    from fgaug.analysis.power.designs import outlook

    if format not in ("table", "csv", "json"):
        raise UserError(f"--format must be table, csv or json, got {format}.")
    if patients is not None and images is not None:
        raise UserError(
            "--patients and --images both set the size of the evaluation set: give one."
        )
    size = patients if patients is not None else images
    measured: tuple[int, ...] = ()
    if run is None:
        given, notes = assumed(
            metric or "auc",
            1 if arms is None else arms,
            size,
            seed_sd=seed_sd,
            expected=expected,
            correlation=correlation,
            positives=positives,
        )
    else:
        from fgaug.analysis.power import pilot as pilots

        if any(value is not None for value in (expected, correlation, positives)):
            raise UserError(
                "--expected, --correlation and --positives cannot be combined with --run, which "
                "measures them: drop them."
            )
        pilot = pilots.pilot_of(run, metric)
        given, notes = pilots.after_pilot(pilot, arms=arms, patients=size, seed_sd=seed_sd)
        measured = (pilot.seeds,)
    found = outlook(
        given,
        seeds=_whole("--seeds", seeds) if seeds is not None else [*measured, *SEEDS],
        baseline_seeds=_baseline_seeds(baseline_seeds),
        gains=_numbers("--gain", gain) if gain is not None else (),
        stages=_stages(two_stage),
        notes=notes,
    )
    if format == "csv":
        found.designs.assign(level=found.level).to_csv(sys.stdout, index=False)
    elif format == "json":
        sys.stdout.write(json.dumps(_plain(found), indent=1, ensure_ascii=False) + "\n")
    else:
        _show(found)


def _numbers(option: str, text: str, example: str = "0.005,0.01") -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < value < 1e6 for value in found):
        raise UserError(
            f"{option} must be a number above 0 or a list, as {example}, got {text!r}."
        )
    return found


def _whole(option: str, text: str, example: str = "3,5,10") -> list[int]:
    found = _numbers(option, text, example)
    if any(value != int(value) for value in found):
        raise UserError(f"{option} takes whole numbers, as {example}, got {text!r}.")
    return [int(value) for value in found]


def _baseline_seeds(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1e6):
        raise UserError(f"--baseline-seeds must be auto or a whole number above 0, got {text!r}.")
    return int(text)


def _stages(text: str | None) -> TwoStage | None:
    from fgaug.analysis.power.designs import TwoStage

    if text is None:
        return None
    parts = _whole("--two-stage", text, "5,20,3")
    if len(parts) != 3:
        raise UserError(
            f"--two-stage must be screening,confirmation,arms, as 5,20,3, got {text!r}."
        )
    return TwoStage(screen=parts[0], confirm=parts[1], top=parts[2])


def _plain(found: Outlook) -> dict[str, Any]:
    """Convert the result for JSON; undefined values become null."""
    return {
        "level": found.level,
        **asdict(found.given),
        "designs": json.loads(found.designs.to_json(orient="records", double_precision=15)),
        "warnings": list(found.warnings),
        "notes": list(found.notes),
    }


def _show(found: Outlook) -> None:
    """Print a table of designs, then warnings and assumptions."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else 140
    console = Console(width=width, highlight=False, markup=False)
    claim = "new patients" if found.level == "E2" else "these patients only"
    title = f"{found.given.metric}, level {found.level}: these recipes on {claim}; two-sided 5 %"
    title += "\nvisible gain: smallest gain with power .8; then the power at given gains"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("design", no_wrap=True)
    for name in ("seeds + baseline", "runs", "visible gain"):
        table.add_column(name, justify="right")
    for gain in found.gains:
        table.add_column(f"+{gain:g}", justify="right")
    for row in found.designs.to_dict("records"):
        runs = str(row["runs"]) if row["runs"] is not None else ""
        cells = [row["design"], row["seeds"], runs, _number(row["smallest_gain"], 4)]
        cells += [_number(row[f"power_{gain:g}"], 2) for gain in found.gains]
        table.add_row(*cells)
    console.print(table)
    for word, lines in (("warning", found.warnings), ("note", found.notes)):
        for line in lines:
            console.print(f"{word}: {line}", soft_wrap=True)


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
