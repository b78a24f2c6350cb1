"""`fgaug bank quality`: measure each set of fakes against real images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fgaug.cli import options
from fgaug.cli.bank_export import BankUri, Labels, Psis
from fgaug.cli.gan_data import Split, split_of
from fgaug.cli.options import output, printed
from fgaug.core.progress import progress_of


def quality(
    bank: BankUri,
    dataset: Annotated[str, typer.Option("--dataset", help=options.DATASET)],
    filter_: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", help='Also measure fakes that pass, as "realism>=1"; repeatable.'
        ),
    ] = None,
    label: Labels = None,
    psi: Psis = None,
    images: Annotated[
        int, typer.Option("--images", help="Fakes per set, lowest z_seeds first.")
    ] = 1000,
    features: Annotated[
        str,
        typer.Option("--features", help="lite0, or inception, vgg16, dinov2 or model with :FILE."),
    ] = "lite0",
    pr_features: Annotated[
        str | None,
        typer.Option(
            "--pr-features",
            help="Network of precision, recall, density and coverage, if another: vgg16:FILE.",
        ),
    ] = None,
    split: Split = "dataset",
    against: Annotated[
        str | None, typer.Option("--against", help="Second bank to compare these fakes with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write tables and figures to this folder.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Measure the quality of each set of fakes (label, psi, filter), with reals as reference.

    Reports FID, KID, precision, recall, density and coverage, copies of training images,
    strata and high frequencies. The bank stores the results and `fgaug report` shows them.
    """
    from fgaug.analysis.report.bank_pictures import write_quality
    from fgaug.analysis.report.fakes.sets import known_parts
    from fgaug.analysis.report.parts import Table, Text
    from fgaug.bank import open_bank
    from fgaug.quality.fake_sets.measure import FakeSetOptions, measure_bank

    how = FakeSetOptions(
        dataset=options.place(dataset),
        filters=tuple(filter_ or ()),
        images=images,
        features=features,
        pr_features=pr_features,
        split=split_of(split),
        against=against,
        device=device,
    )
    opened = open_bank(bank)
    wanted = options.selected(opened, label or [], options.psis(psi or []), None)
    with progress_of("measuring") as progress:
        kept = measure_bank(opened, wanted, how, progress)
    console = output()
    for part in known_parts(kept):
        if isinstance(part, Table) and len(part.text):
            console.print(printed(part), f"{part.note}\n" if part.note else "", highlight=False)
        elif isinstance(part, Text):
            console.print(part.text, markup=False, highlight=False)
    if out is not None:
        write_quality(opened, how.dataset, kept, out)
        sys.stdout.write(f"{out.resolve()}\n")
