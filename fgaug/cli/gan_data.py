"""`fgaug gan export` and `fgaug gan filter`: training images for GANs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fgaug.core.progress import progress_of
from fgaug.core.split_names import fold_of
from fgaug.errors import DataError

Dataset = Annotated[Path, typer.Option("--dataset", help="A prepared dataset.")]
Split = Annotated[
    str,
    typer.Option(
        "--split", help="Split of the training images: dataset, a resplit's seed, or fold-3."
    ),
]


def export(
    dataset: Dataset,
    label: Annotated[list[str], typer.Option("--label", help="Repeat for a conditional network.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder or *.zip file.")],
    drop: Annotated[
        Path | None, typer.Option("--drop", help="Drop list of `fgaug gan filter`.")
    ] = None,
    split: Split = "dataset",
) -> None:
    """Export a label's training images for the dataset tools of the official StyleGAN code."""
    from gan_worker.training.export import export_training_images

    with progress_of("exporting") as progress:
        done = export_training_images(
            dataset, label, out, drop=drop, split=split_of(split), progress=progress
        )
    several = len(done.counts) > 1
    for number, (name, count) in enumerate(done.counts.items()):
        sys.stderr.write(f"{f'class {number}: ' * several}{name}, {count} images\n")
    if drop is not None:
        sys.stderr.write(f"Excluded {done.dropped} images listed in {drop}\n")
    sys.stderr.write(
        f"After training a network x.pkl on these images, copy {done.record} to "
        "x.trained_on.parquet beside it: searches then check that the network never saw a "
        "validation or test patient.\n"
    )
    sys.stdout.write(f"{done.out.resolve()}\n")


def filter_(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="Drop list to write, a new JSON file.")],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="label: a cross-validated classifier disagrees with the label; thin: few "
            "images are like it; agreement: its readers disagree. Repeatable (default: label).",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", help="thin: share of each label's images to drop.")
    ] = 0.1,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="agreement: table with the readers' votes.")
    ] = None,
    sheet: Annotated[str | None, typer.Option("--sheet", help="Sheet of the workbook.")] = None,
    image_col: Annotated[str, typer.Option("--image-col")] = "image",
    reader_cols: Annotated[
        str | None,
        typer.Option("--reader-cols", help="agreement: a column per reader, as ann,bea,cem."),
    ] = None,
    agree: Annotated[
        str,
        typer.Option("--agree", help="Keep images whose label all, or a majority of, votes name."),
    ] = "all",
    no_vote: Annotated[
        str | None,
        typer.Option("--no-vote", help="Empty votes: skip (others decide) or drop the image."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="label: seed of the folds.")] = 0,
    split: Split = "dataset",
    features: Annotated[
        str,
        typer.Option(
            "--features", help="lite0 (packaged), inception:, vgg16:, dinov2: or model:FILE."
        ),
    ] = "lite0",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """List atypical, mislabelled or disputed training images, for `fgaug gan train --drop`."""
    from fgaug.quality.snapshots.readers import readers_of
    from fgaug.quality.snapshots.training_filter import filter_training_images

    readers = readers_of(
        csv, reader_cols, image_col=image_col, sheet=sheet, agree=agree, no_vote=no_vote
    )
    with progress_of("features") as progress:
        found = filter_training_images(
            dataset,
            out,
            rules=rule or ["label"],
            readers=readers,
            share=share,
            seed=seed,
            split=split_of(split),
            network=features,
            device=device,
            progress=progress,
        )
    considered = found.drops.considered
    for label, count in found.drops.counts().items():
        sys.stderr.write(f"{label}: {count} of {considered[label]} training images\n")
    if "label" in found.drops.rules:
        accuracy = found.drops.rules["label"]["balanced_accuracy"]
        sys.stderr.write(f"Balanced accuracy of the classifier: {accuracy:.0%}\n")
    if "agreement" in found.drops.rules:
        sys.stderr.write("\n".join(_agreement(found.drops.rules["agreement"])) + "\n")
    sys.stdout.write(f"{out.resolve()}\n")


def _agreement(rule: dict[str, Any]) -> list[str]:
    """Return the readers' agreement, a line each."""
    lines = [
        f"Readers ({rule['agree']} must agree): {rule['agreed']} images keep their label, "
        f"{rule['agreed_on_another_label']} agreed on another, {rule['ties']} ties, "
        f"{rule['incomplete']} with empty votes"
    ]
    for pair in rule["cohen"]:
        kappa = _kappa(pair["kappa"])
        lines.append(
            f"Cohen's kappa of {' and '.join(pair['readers'])}: {kappa} ({pair['images']} images)"
        )
    fleiss = rule["fleiss"]
    several = f"{len(rule['readers'])} readers, {fleiss['images']} images"
    return [*lines, f"Fleiss' kappa: {_kappa(fleiss['kappa'])} ({several})"]


def _kappa(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def split_of(text: str) -> int | str:
    """Return `dataset`, `fold-3` for a fold to hold out, or the seed of a resplit."""
    if text == "dataset" or fold_of(text) is not None:
        return text
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise DataError(
            f"--split must be `dataset`, a seed from 0 to {2**32 - 1} as on the axis `split` of "
            f"a grid, or a fold to hold out such as fold-3, got {text}."
        )
    return int(text)
