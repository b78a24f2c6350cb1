"""`fgaug gan metrics` and `fgaug gan select`: measure snapshots and select one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fgaug.cli import options
from fgaug.cli.gan_data import Split, split_of
from fgaug.cli.options import output, printed
from fgaug.core.progress import progress_of
from fgaug.errors import UserError

if TYPE_CHECKING:
    from fgaug.quality.snapshots.table import Row

_HEADS = {"fid": "FID", "kid": "KID x 1000", "precision": "precision", "recall": "recall"}
Label = Annotated[str | None, typer.Option("--label", help="Only rows with this label.")]
Beside = Annotated[
    str | None,
    typer.Option("--beside", help="thesis: also print the thesis's networks (tables 3.3, 3.4)."),
]


def metrics(
    snapshots: Annotated[
        list[Path], typer.Argument(help="Network files, or folders with snapshots.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", help=options.DATASET)],
    label: Annotated[
        str, typer.Option("--label", help="Compare with this label's training images.")
    ],
    images: Annotated[
        int, typer.Option("--images", help="Fakes per snapshot, z_seeds from 1.")
    ] = 5000,
    features: Annotated[
        str,
        typer.Option(
            "--features", help="lite0 (packaged), inception:, vgg16:, dinov2: or model:FILE."
        ),
    ] = "lite0",
    pr_features: Annotated[
        str | None,
        typer.Option(
            "--pr-features", help="Network of precision and recall, if another: vgg16:FILE."
        ),
    ] = None,
    noise: Annotated[
        str, typer.Option("--noise", help="seeded (per image), const or none.")
    ] = "seeded",
    class_index: Annotated[
        int | None,
        typer.Option("--class", help="Class index of the label in a conditional network."),
    ] = None,
    split: Split = "dataset",
    drop: Annotated[
        Path | None, typer.Option("--drop", help="Drop list used to train the networks.")
    ] = None,
    beside: Beside = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """Measure FID, KID, precision and recall (k = 3) of snapshots against real training images.

    Prints the scores of reals against reals as a floor. Stores results in metrics.csv and
    metrics.json beside the snapshots and reuses the ones already there.
    """
    _check_beside(beside)
    from fgaug.quality.snapshots.measure import SnapshotOptions, measure_snapshots

    how = SnapshotOptions(
        dataset=options.place(dataset),
        label=label,
        images=images,
        features=features,
        pr_features=pr_features,
        noise=noise,
        split=split_of(split),
        drop=drop,
        class_index=class_index,
        device=device,
    )
    with progress_of("measuring") as progress:
        rows = measure_snapshots(snapshots, how, progress)
    _print(rows, beside=beside)


def select(
    folder: Annotated[Path, typer.Argument(help="A folder measured with `fgaug gan metrics`.")],
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            help="thesis (highest precision among the 4 lowest FIDs), fid (same as breast and "
            "lowest-fid), lowest-kid, highest-precision or highest-recall.",
        ),
    ],
    among: Annotated[
        int | None,
        typer.Option("--among", help="Consider only this many snapshots, by lowest FID."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Copy the selected snapshot to this file."),
    ] = None,
    label: Label = None,
    class_index: Annotated[
        int | None, typer.Option("--class", help="Only rows with this class.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option("--features", help="Only rows with these features: lite0, inception..."),
    ] = None,
    pr_features: Annotated[
        str | None,
        typer.Option("--pr-features", help="Only rows with these for precision and recall."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", help="Only rows with this many fakes.")
    ] = None,
    noise: Annotated[
        str | None, typer.Option("--noise", help="Only rows with this noise.")
    ] = None,
    beside: Beside = None,
) -> None:
    """Select a snapshot by a rule; print the table, then the snapshot's path as the last line."""
    _check_beside(beside)
    from fgaug.quality.snapshots.select import select_snapshot

    found = select_snapshot(
        folder,
        rule,
        among=among,
        out=out,
        label=label,
        class_index=class_index,
        features=features,
        pr_features=pr_features,
        images=images,
        noise=noise,
    )
    _print(found.rows, found.row, beside)
    if found.note:
        sys.stdout.write(f"note: {found.note}\n")
    sys.stdout.write(f"rule {rule}: {found.words}\n{found.file.resolve()}\n")


def _check_beside(beside: str | None) -> None:
    if beside not in (None, "thesis"):
        raise UserError(f"--beside must be thesis, got {beside}.")


def _print(rows: Sequence[Row], chosen: Row | None = None, beside: str | None = None) -> None:
    """Print comparable rows as two tables, with notes and the published numbers if asked."""
    first = rows[0]
    whole = _table("all fakes against all training images", first)
    same = _table("at the floor's sizes", first)
    for row in rows:
        name = f"{'*' if row is chosen else ' '} {row['snapshot']}"
        whole.add_row(name, *(_number(row[measure], measure) for measure in _HEADS))
        same.add_row(name, *(_spread(row, f"{measure}_at_floor", measure) for measure in _HEADS))
    same.add_section()
    floor = (_spread(first, f"floor_{measure}", measure) for measure in _HEADS)
    same.add_row("  reals against reals", *floor)
    output().print(whole, same)
    sys.stdout.write("\n".join(_foot(first)) + "\n")
    if beside is not None:
        from fgaug.analysis.published.thesis_networks import beside_thesis

        part = beside_thesis(rows)
        output().print(printed(part), part.note, highlight=False)


def _table(title: str, row: Row) -> Table:
    """Return an empty table; every column head names its feature network."""
    from fgaug.quality.snapshots.table import BY

    table = Table(title=title, title_justify="left")
    table.add_column("  snapshot", no_wrap=True)
    for measure, head in _HEADS.items():
        label = row[BY[measure]].replace("-", "-\n", 1)
        table.add_column(f"{head}\n{label}", justify="right")
    return table


def _number(value: float, measure: str) -> str:
    if measure == "kid":
        value *= 1000
    return f"{value:.2f}" if measure in ("fid", "kid") else f"{value:.3f}"


def _spread(row: Row, name: str, measure: str) -> str:
    return f"{_number(row[name], measure)} ± {_number(row[f'{name}_sd'], measure)}"


def _foot(row: Row) -> list[str]:
    of_class = "" if row["class"] is None else f", class {row['class']}"
    by = {"group": "split by patient", "image": "split by image"}[row["floor_by"]]
    described = {row["features"]: row["features_described"]}
    described |= {row["pr_features"]: row["pr_features_described"]}
    networks = "; ".join(f"{label}: {words}" for label, words in described.items())
    return [
        f"{row['label']}{of_class}: {row['n_fake']} fakes (z_seeds 1-{row['n_fake']}, psi "
        f"{row['psi']:g}, noise {row['noise']}) against {row['n_real']} training images of "
        f"{row['dataset']}",
        f"features {networks}. Scores from different feature networks are not comparable",
        f"floor: {row['floor_n_reference']} reals against {row['floor_n_sample']} other reals, "
        f"mean ± sd over {row['floor_cuts']} random splits, {by}. Compare the floor only with "
        "the second table, where fakes are measured at the same sample sizes",
    ]
