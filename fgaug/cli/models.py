"""`fgaug predict` and `fgaug replay`: apply a saved classifier, or retrain a cell."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fgaug.core import files
from fgaug.errors import UserError

if TYPE_CHECKING:
    from fgaug.study.replay import Replay

Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")]


def predict(
    model: Annotated[Path, typer.Argument(help="A model.safetensors with its card beside it.")],
    images: Annotated[
        list[str],
        typer.Argument(help="A folder, image files, or a prepared dataset (a folder or URI)."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="A .csv or .parquet file (default: stdout).")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Split of a dataset: valid (default) or train."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Table with the labels of the images.")
    ] = None,
    image_col: Annotated[
        str | None, typer.Option("--image-col", help="Its image name column.")
    ] = None,
    label_col: Annotated[str | None, typer.Option("--label-col", help="Its label column.")] = None,
    group_col: Annotated[
        str | None, typer.Option("--group-col", help="Its patient column.")
    ] = None,
    device: Device = "cpu",
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Skip broken images.")
    ] = False,
) -> None:
    """Predict the label and probabilities of each image with a saved model, as CSV.

    For a prepared dataset, or with --csv, the output includes the true label and the patient for
    `fgaug compare`, which otherwise counts each image as its own patient.
    """
    from fgaug.core.progress import progress_of
    from fgaug.training import predict as prediction

    columns = {"--image-col": image_col, "--label-col": label_col, "--group-col": group_col}
    table = None
    if csv is not None:
        if image_col is None or label_col is None:
            raise UserError("--csv needs its columns: give --image-col and --label-col.")
        table = prediction.LabelTable(
            csv=csv, image_col=image_col, label_col=label_col, group_col=group_col
        )
    elif given := [name for name, value in columns.items() if value is not None]:
        raise UserError(f"{', '.join(given)} can be used only with --csv: give the table too.")
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out must be a .csv or .parquet file, got {out}.")
    with progress_of("reading images") as progress:
        frame = prediction.predict(
            model,
            images,
            split=split,
            device=device,
            skip_broken=skip_broken,
            progress=progress,
            table=table,
        )
    if out is None:
        frame.to_csv(sys.stdout, index=False)
        return
    write = frame.to_csv if out.suffix == ".csv" else frame.to_parquet
    with files.atomic_write(out) as temporary:
        write(temporary, index=False)
    sys.stdout.write(f"{out.resolve()}\n")


def replay(
    run: Annotated[str, typer.Argument(help="The run's folder or URI.")],
    cell: Annotated[str, typer.Argument(help="A cell_id or its first digits.")],
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu or cuda (default: the cell's)."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0, help="Absolute tolerance for metrics and probabilities."
        ),
    ] = 1e-6,
) -> None:
    """Retrain one cell of a run and check that it reproduces the same numbers.

    Writes nothing. Exit code: 0 reproduced, 1 different, 2 a usage error.
    """
    from fgaug.study import replay as study_replay

    replayed = study_replay.replay(run, cell, device=device, tolerance=tolerance)
    sys.stdout.write("\n".join(_described(replayed)) + "\n")
    raise typer.Exit(0 if replayed.same else 1)


def _described(replayed: Replay) -> list[str]:
    """Return lines on what was reproduced, what differs, and changes in the environment."""
    cell = f"cell {replayed.cell.cell_id} ({replayed.cell.described})"
    compared = f"{replayed.compared} result columns and predictions on {replayed.images} images"
    largest = max([replayed.predictions, *(change.size for change in replayed.row)])
    environment = [f"  {c.name}: {c.then} in the run, {c.now} now" for c in replayed.environment]
    if replayed.same:
        exact = "bit-identical" if not largest else f"largest difference {largest:.2g}"
        lines = [f"{cell}: same numbers ({compared}; {exact})"]
        return [
            *lines,
            *(["although the environment has changed:", *environment] if environment else []),
        ]
    lines = [f"{cell}: different numbers ({compared}; tolerance {replayed.tolerance:g})"]
    for change in replayed.beyond:
        by = f" (by {change.size:.3g})" if math.isfinite(change.size) else ""
        lines.append(f"  {change.name}: {change.then} in the run, {change.now} now{by}")
    if not math.isfinite(replayed.predictions):
        lines.append("  predictions: the images or true labels differ")
    elif replayed.predictions > replayed.tolerance:
        lines.append(f"  predictions: probabilities differ by up to {replayed.predictions:.3g}")
    if not environment:
        return [*lines, "the recorded environment is the same"]
    return [*lines, "changes in the environment:", *environment]
