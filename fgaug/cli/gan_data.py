"""`fgaug gan export` and `fgaug gan filter`: the images that networks learn from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fgaug.core.progress import progress_of
from fgaug.errors import DataError

Dataset = Annotated[Path, typer.Option("--dataset", help="A prepared dataset.")]
Split = Annotated[
    str,
    typer.Option("--split", help="Whose training images: dataset, or the seed of another draw."),
]


def export(
    dataset: Dataset,
    label: Annotated[
        list[str], typer.Option("--label", help="Repeat for a conditional network's labels.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder, or a new file *.zip.")],
    drop: Annotated[
        Path | None, typer.Option("--drop", help="Leave out the images of `fgaug gan filter`.")
    ] = None,
    split: Split = "dataset",
) -> None:
    """Write a label's training images for the dataset tools of the official GAN programs."""
    from gan_worker.training.export import export_training_images

    with progress_of("exporting") as progress:
        done = export_training_images(
            dataset, label, out, drop=drop, split=split_of(split), progress=progress
        )
    several = len(done.counts) > 1
    for number, (name, count) in enumerate(done.counts.items()):
        sys.stderr.write(f"{f'class {number}: ' * several}{name}, {count} images\n")
    if drop is not None:
        sys.stderr.write(f"{done.dropped} images were left out, as {drop} says\n")
    sys.stderr.write(
        f"Copy {done.record} to x.trained_on.parquet beside a network x.pkl trained on these: "
        "searches then see that it meets no validation or test patient.\n"
    )
    sys.stdout.write(f"{done.out.resolve()}\n")


def filter_(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="The drop list, a new JSON file.")],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="label: a cross-validated classifier disagrees with it; thin: there are few "
            "images like it. May be repeated; label if left out.",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", help="thin: of each label's images, those to drop.")
    ] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="label: of the folds of patients.")] = 0,
    split: Split = "dataset",
    features: Annotated[
        str,
        typer.Option(
            "--features", help="lite0 (packaged), inception:, vgg16:, dinov2: or model:FILE."
        ),
    ] = "lite0",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """List training images that networks should not learn from, for `train --drop`."""
    from fgaug.quality.snapshots.training_filter import filter_training_images

    with progress_of("features") as progress:
        found = filter_training_images(
            dataset,
            out,
            rules=rule or ["label"],
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
        sys.stderr.write(f"The classifier is right on {accuracy:.0%} (balanced over labels)\n")
    sys.stdout.write(f"{out.resolve()}\n")


def split_of(text: str) -> int | str:
    """Return `dataset`, or the seed that a split is drawn by."""
    if text == "dataset":
        return text
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise DataError(
            f"--split is `dataset`, or a seed from 0 to {2**32 - 1} as on the axis `split` of a "
            f"grid, got {text}."
        )
    return int(text)
