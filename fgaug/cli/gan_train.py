"""`fgaug gan train`: train GANs on a dataset's own images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fgaug.cli.gan_data import Dataset, Split, split_of
from fgaug.errors import UserError


def train(
    dataset: Dataset,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the networks, one subfolder each.")
    ],
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Repeatable (default: all).")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="auto, thesis-dbp, thesis-trv, paper256 or stylegan2-config-e (no ADA).",
        ),
    ] = "auto",
    kimg: Annotated[
        int | None, typer.Option("--kimg", help="Training length in thousands of real images.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a preset option, as gamma=0.16; repeatable."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Train once per value, as gamma=0.08,0.16; repeatable."),
    ] = None,
    conditional: Annotated[
        bool, typer.Option("--conditional", help="Train one conditional network for all labels.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Initialise from this network where shapes match."),
    ] = None,
    drop: Annotated[
        Path | None, typer.Option("--drop", help="Drop list of `fgaug gan filter`.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option("--augment", help="none (StyleGAN2) or ada (default: as the preset)."),
    ] = None,
    images: Annotated[
        float | None,
        typer.Option(
            "--images",
            help="Train on N images of each label, or a share below 1, of whole patients.",
        ),
    ] = None,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="Train one network on all labels and the images without one, to start from.",
        ),
    ] = False,
    pseudo_labels: Annotated[
        Path | None,
        typer.Option(
            "--pseudo-labels",
            help="Table of `fgaug data pseudo-label`: adds its accepted images to their labels.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="float32, bfloat16, auto (the faster one here) or mixed (bfloat16 on a GPU, "
            "float32 else); default: as the preset.",
        ),
    ] = None,
    split: Split = "dataset",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    gpus: Annotated[
        int,
        typer.Option("--gpus", min=1, help="GPUs per network (with --device cpu: processes)."),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and print all settings; train nothing.")
    ] = False,
) -> None:
    """Train StyleGAN2 or StyleGAN2-ADA on a dataset's training images; repeat to resume."""
    from gan_worker.training import jobs as training_jobs

    changes = {name: training_jobs.option_of(name, text) for name, text in _pairs("--set", option)}
    if kimg is not None:
        changes["kimg"] = kimg
    if precision is not None:
        changes["precision"] = precision
    asked = training_jobs.TrainRequest(
        dataset=dataset,
        out=out,
        labels=label or (),
        preset=preset,
        changes=changes,
        sweep={
            name: [training_jobs.option_of(name, part) for part in text.split(",")]
            for name, text in _pairs("--sweep", sweep)
        },
        conditional=conditional,
        start=start,
        drop=drop,
        unlabelled=unlabelled,
        pseudo_labels=pseudo_labels,
        augment=augment,
        images=images,
        split=split_of(split),
        device=device,
        gpus=gpus,
    )
    jobs = training_jobs.jobs_of(asked)
    if dry_run:
        sys.stdout.write("\n".join(training_jobs.told(job) for job in jobs) + "\n")
        return
    if not training_jobs.train(jobs, Console(stderr=True)):
        sys.stderr.write("Interrupted. Run the same command again to resume.\n")
        raise typer.Exit(3)
    for job in jobs:
        sys.stdout.write(f"{job.out}\n")


def _pairs(flag: str, texts: list[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UserError(f"{flag} must be NAME=VALUE, such as gamma=0.16, got {text}.")
        pairs.append((name.strip().replace("-", "_"), value))
    return pairs
