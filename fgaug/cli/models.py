"""`fgaug predict` and `fgaug replay`: a saved classifier at work, a cell trained again."""

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
    model: Annotated[Path, typer.Argument(help="A model.safetensors, its card beside it.")],
    images: Annotated[
        list[Path], typer.Argument(help="A folder, image files, or a prepared dataset.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="A .csv or .parquet file, instead of stdout.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Of a prepared dataset: valid (default) or train."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="A label table of a folder's images.")
    ] = None,
    image_col: Annotated[
        str | None, typer.Option("--image-col", help="Its column of image names.")
    ] = None,
    label_col: Annotated[
        str | None, typer.Option("--label-col", help="Its column of labels.")
    ] = None,
    group_col: Annotated[
        str | None, typer.Option("--group-col", help="Its column of patients.")
    ] = None,
    device: Device = "cpu",
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave broken images out.")
    ] = False,
) -> None:
    """Print, as CSV, the label that a saved model predicts for each image, with probabilities.

    Predictions of a prepared dataset, or with --csv, carry the true label and the patient, which
    `fgaug compare` wants: without patients it takes each image for one.
    """
    from fgaug.core.progress import progress_of
    from fgaug.training import predict as prediction

    columns = {"--image-col": image_col, "--label-col": label_col, "--group-col": group_col}
    table = None
    if csv is not None:
        if image_col is None or label_col is None:
            raise UserError("--csv goes with --image-col and --label-col: name its columns.")
        table = prediction.LabelTable(
            csv=csv, image_col=image_col, label_col=label_col, group_col=group_col
        )
    elif given := [name for name, value in columns.items() if value is not None]:
        raise UserError(f"{', '.join(given)}: a column of --csv, and no table is given.")
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out is a .csv or .parquet file, got {out}.")
    with progress_of("reading the images") as progress:
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
    run: Annotated[Path, typer.Argument(help="The folder of a search.")],
    cell: Annotated[str, typer.Argument(help="A cell_id, or its first digits.")],
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu or cuda; as the cell was trained, if left out."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Of metrics and probabilities, absolute.")
    ] = 1e-6,
) -> None:
    """Train one cell of a run again and say whether it gives the same numbers.

    Nothing is written. Exit code: 0 the same, 1 different, 2 a mistake in what is asked.
    """
    from fgaug.study import replay as study_replay

    replayed = study_replay.replay(run, cell, device=device, tolerance=tolerance)
    sys.stdout.write("\n".join(_described(replayed)) + "\n")
    raise typer.Exit(0 if replayed.same else 1)


def _described(replayed: Replay) -> list[str]:
    """Return the lines that say what is the same, what differs and what may be why."""
    cell = f"cell {replayed.cell.cell_id} ({replayed.cell.described})"
    compared = f"{replayed.compared} columns of its row, predictions of {replayed.images} images"
    largest = max([replayed.predictions, *(change.size for change in replayed.row)])
    environment = [f"  {c.name}: {c.then} in the run, {c.now} now" for c in replayed.environment]
    if replayed.same:
        exact = "to the last bit" if not largest else f"the largest difference is {largest:.2g}"
        lines = [f"{cell}: same numbers ({compared}; {exact})"]
        return [
            *lines,
            *(["although the environment differs:", *environment] if environment else []),
        ]
    lines = [f"{cell}: different numbers ({compared}; tolerance {replayed.tolerance:g})"]
    for change in replayed.beyond:
        by = f" (by {change.size:.3g})" if math.isfinite(change.size) else ""
        lines.append(f"  {change.name}: {change.then} in the run, {change.now} now{by}")
    if not math.isfinite(replayed.predictions):
        lines.append("  predictions: of other images, or of other labels")
    elif replayed.predictions > replayed.tolerance:
        lines.append(f"  predictions: probabilities differ by up to {replayed.predictions:.3g}")
    if not environment:
        return [*lines, "nothing that is recorded of the environment differs"]
    return [*lines, "what differs in the environment:", *environment]
