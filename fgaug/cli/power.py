"""`fgaug power`: what a study can see before it is run, and what it costs."""

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

SEEDS = (5, 10, 20)  # designs that are told of where none is asked for


def power(
    run: Annotated[
        Path | None,
        typer.Option("--run", help="A pilot run: seed sd, patients' part and arms are its."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="auc (or what the pilot's plan names).")
    ] = None,
    arms: Annotated[
        int | None, typer.Option("--arms", help="Compared with the baseline; 1 if left out.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Of an arm; several designs as 3,5,10.")
    ] = None,
    baseline_seeds: Annotated[
        str, typer.Option("--baseline-seeds", help="A number, or auto: sqrt(arms) times as many.")
    ] = "auto",
    patients: Annotated[
        int | None, typer.Option("--patients", help="Of the planned evaluation set.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", help="Instead of --patients where each is a patient."),
    ] = None,
    seed_sd: Annotated[
        float | None, typer.Option("--seed-sd", help="Sample sd of the metric between seeds.")
    ] = None,
    expected: Annotated[
        float | None, typer.Option("--expected", help="The baseline's metric, as 0.85.")
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option("--correlation", help="Of two recipes' errors over patients; 0.9."),
    ] = None,
    positives: Annotated[
        float | None, typer.Option("--positives", help="Share of the second label; 0.5.")
    ] = None,
    two_stage: Annotated[
        str | None,
        typer.Option("--two-stage", help="Screening seeds,confirming seeds,arms, as 5,20,3."),
    ] = None,
    gain: Annotated[
        str | None, typer.Option("--gain", help="Whose power is told, as 0.01 or 0.005,0.01.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Tell the smallest gain a study can see (power .8), its runs, and what it never can.

    Gains are in units of the metric. With patients the claim is about new patients (level E2);
    without, about these patients alone (E1).
    """
    from fgaug.analysis.power.assumptions import assumed
    from fgaug.analysis.power.designs import outlook

    if format not in ("table", "csv", "json"):
        raise UserError(f"--format is table, csv or json, got {format}.")
    if patients is not None and images is not None:
        raise UserError("--patients and --images are two ways to say one size: give one.")
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
                "--run measures what --expected, --correlation and --positives assume: drop them."
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
        raise UserError(f"{option} is a number above 0 or a list as {example}, got {text!r}.")
    return found


def _whole(option: str, text: str, example: str = "3,5,10") -> list[int]:
    found = _numbers(option, text, example)
    if any(value != int(value) for value in found):
        raise UserError(f"{option} holds whole numbers, as {example}, got {text!r}.")
    return [int(value) for value in found]


def _baseline_seeds(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1e6):
        raise UserError(f"--baseline-seeds is auto or a whole number above 0, got {text!r}.")
    return int(text)


def _stages(text: str | None) -> TwoStage | None:
    from fgaug.analysis.power.designs import TwoStage

    if text is None:
        return None
    parts = _whole("--two-stage", text, "5,20,3")
    if len(parts) != 3:
        raise UserError(f"--two-stage is screening,confirming,arms, as 5,20,3, got {text!r}.")
    return TwoStage(screen=parts[0], confirm=parts[1], top=parts[2])


def _plain(found: Outlook) -> dict[str, Any]:
    """Return what was found as JSON holds it; what is undefined is null."""
    return {
        "level": found.level,
        **asdict(found.given),
        "designs": json.loads(found.designs.to_json(orient="records", double_precision=15)),
        "warnings": list(found.warnings),
        "notes": list(found.notes),
    }


def _show(found: Outlook) -> None:
    """Print a table of designs, then warnings and what was assumed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else 140
    console = Console(width=width, highlight=False, markup=False)
    claim = "new patients" if found.level == "E2" else "these patients alone"
    title = f"{found.given.metric}, level {found.level}: these recipes on {claim}; two-sided 5 %"
    title += "\nvisible gain: the smallest with power .8; then the power at each gain"
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
