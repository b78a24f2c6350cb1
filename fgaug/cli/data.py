"""`fgaug data`: prepare, audit and look at datasets of real images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fgaug.cli import options
from fgaug.core import paths
from fgaug.core.progress import progress_of
from fgaug.errors import DataError

if TYPE_CHECKING:
    from fgaug.core.contact_sheet import Block
    from fgaug.data import Dataset

app = typer.Typer(no_args_is_help=True)


@app.command()
def prepare(
    out: Annotated[Path, typer.Option("--out", help="Folder for the dataset.")],
    size: Annotated[int, typer.Option("--size", help="Side in pixels; aspect ratio is not kept.")],
    source: Annotated[Path | None, typer.Argument(help="Folder with the preset's images.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Label table: CSV, TSV or Excel (.xlsx).")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option("--sheet", help="Sheet of the workbook (default: the first).")
    ] = None,
    images: Annotated[str | None, typer.Option("--images", help="Folder with the images.")] = None,
    image_col: Annotated[str, typer.Option("--image-col")] = "image",
    label_col: Annotated[str, typer.Option("--label-col")] = "label",
    group_col: Annotated[str | None, typer.Option("--group-col", help="Patient ID.")] = None,
    stratum_col: Annotated[
        list[str] | None, typer.Option("--stratum-col", help="Scanner, site...; repeatable.")
    ] = None,
    keep_label: Annotated[
        list[str] | None, typer.Option("--keep-label", help="Keep only this label; repeatable.")
    ] = None,
    split_col: Annotated[
        str | None, typer.Option("--split-col", help="Predefined split: train, valid, test.")
    ] = None,
    gan_col: Annotated[
        str | None, typer.Option("--gan-col", help="Marks images the GAN was trained on.")
    ] = None,
    fold_col: Annotated[
        str | None,
        typer.Option("--fold-col", help="Folds, each held out once; bus-bra: kFold."),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            "--unlabelled",
            help="keep: images with an empty label are stored beside the dataset, for GANs alone.",
        ),
    ] = None,
    folders: Annotated[
        Path | None, typer.Option("--folders", help="Folder with one subfolder per label.")
    ] = None,
    label_level: Annotated[
        int | None,
        typer.Option("--label-level", help="How many levels below --folders the labels are."),
    ] = None,
    split_folders: Annotated[
        bool,
        typer.Option("--split-folders", help="Take the split from folders train, valid and test."),
    ] = False,
    with_companions: Annotated[
        bool,
        typer.Option("--with-companions", help="Treat masks and other companions as images."),
    ] = False,
    preset: Annotated[
        str | None, typer.Option("--preset", help="bus-bra, fetal-planes, busi or phantom.")
    ] = None,
    planes: Annotated[
        str | None,
        typer.Option(
            "--planes",
            help="fetal-planes: trans-thalamic,trans-ventricular (default), trans-cerebellum, "
            "other-brain; or all, the set's six classes.",
        ),
    ] = None,
    crop_margin: Annotated[
        float | None,
        typer.Option(
            "--crop-margin",
            help="Crop to the square around the box, this share of its longer side larger "
            "(default with --box-cols: 0; without: whole images).",
        ),
    ] = None,
    box_cols: Annotated[
        str | None,
        typer.Option(
            "--box-cols",
            help="Columns with each image's box: x,y,w,h or xmin,ymin,xmax,ymax, or one column "
            "with four numbers.",
        ),
    ] = None,
    box_format: Annotated[
        str | None,
        typer.Option(
            "--box-format",
            help="xywh (from the left upper corner), xyxy or cxcywh (centre); needed where the "
            "names of the columns do not tell.",
        ),
    ] = None,
    box_units: Annotated[
        str | None,
        typer.Option(
            "--box-units",
            help="pixels, or shares of the image's sides (default: shares if no number exceeds "
            "1, else pixels).",
        ),
    ] = None,
    box_size_cols: Annotated[
        str | None,
        typer.Option(
            "--box-size-cols",
            help="width,height in pixels of the images that boxes were drawn on, if another size.",
        ),
    ] = None,
    box_table: Annotated[
        Path | None,
        typer.Option("--box-table", help="Table with the boxes (default: the label table)."),
    ] = None,
    box_image_col: Annotated[
        str | None,
        typer.Option("--box-image-col", help="Image column of --box-table (default: image)."),
    ] = None,
    no_box: Annotated[
        str | None,
        typer.Option("--no-box", help="Images without a box: keep (whole) or drop."),
    ] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="1 or 3.")] = None,
    valid: Annotated[float, typer.Option("--valid", help="Share of groups for validation.")] = 0.5,
    test: Annotated[
        float | None, typer.Option("--test", help="Share for the sealed test set.")
    ] = None,
    test_per_label: Annotated[
        int | None,
        typer.Option("--test-per-label", help="Images per label in the sealed test set."),
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Move half of the validation groups to training.")
    ] = False,
    skip_broken: Annotated[
        bool,
        typer.Option("--skip-broken", help="Skip broken images and unreadable formats."),
    ] = False,
    copies: Annotated[
        str | None,
        typer.Option(
            "--copies",
            help="Near-duplicates: refuse, drop or group (default: busi group, others refuse).",
        ),
    ] = None,
    drop: Annotated[Path | None, typer.Option("--drop", help="List of images to exclude.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Folder for a page of near-duplicate pairs."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split.")] = 19,
    count: Annotated[
        int | None, typer.Option("--count", help="phantom: number of images.")
    ] = None,
) -> None:
    """Prepare a dataset: decode, resize (Lanczos, Pillow), split by patient and audit."""
    from fgaug.data.boxes import box_request
    from fgaug.data.prepare import prepare as run

    boxes = box_request(
        cols=box_cols,
        format=box_format,
        units=box_units,
        size_cols=box_size_cols,
        table=box_table,
        image_col=box_image_col,
        no_box=no_box,
    )
    with progress_of("reading images") as progress:
        dataset = run(
            out=out,
            size=size,
            csv=csv,
            images=images,
            image_col=image_col,
            label_col=label_col,
            group_col=group_col,
            stratum_cols=tuple(stratum_col or ()),
            keep_labels=tuple(keep_label or ()),
            split_col=split_col,
            gan_col=gan_col,
            fold_col=fold_col,
            sheet=sheet,
            folders=folders,
            label_level=label_level,
            split_folders=split_folders,
            with_companions=with_companions,
            preset=preset,
            source=source,
            planes=[name.strip() for name in planes.split(",")] if planes is not None else (),
            margin=crop_margin,
            boxes=boxes,
            unlabelled=unlabelled,
            phantom={"images": count} if count is not None else None,
            channels=channels,
            valid=valid,
            test=test,
            test_per_label=test_per_label,
            extend=extend,
            skip_broken=skip_broken,
            copies=copies,
            drop=drop,
            pairs=pairs,
            seed=seed,
            progress=progress,
        )
    sys.stdout.write(_described(str(out), dataset) + "\n")


@app.command()
def audit(
    folder: Annotated[str, typer.Argument(help=options.DATASET)],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for a page of near-duplicate pairs."),
    ] = None,
) -> None:
    """Check a dataset for patients in several splits and for copies across splits or labels."""
    from fgaug.data import audit as audits
    from fgaug.data import open_dataset
    from fgaug.data.copies.pairs_page import check_folder, pair_table, write_pairs

    if out is not None:
        check_folder(out, "--out")
    dataset = open_dataset(options.place(folder))
    problems = audits.audit(dataset)
    alike = audits.pairs_of(dataset)
    for warning in audits.suspicions(dataset, alike):
        sys.stderr.write(f"warning: {warning}\n")
    for limit in alike.limits:
        sys.stderr.write(f"note: {limit}\n")
    if out is not None:
        table, pixels = dataset.everything()
        frame = pair_table(table, alike.pairs)
        written = write_pairs(out, frame, lambda rows: pixels[rows], alike.limits)
        sys.stdout.write(f"{len(frame)} near-duplicate pairs: {written[-1].resolve()}\n")
    if problems:
        lines = [f"{dataset.place} breaks rules:", *(f"  - {problem}" for problem in problems)]
        raise DataError("\n".join(lines))
    sys.stdout.write(_described(dataset.place, dataset) + "\naudit: no problems found\n")


@app.command("pseudo-label")
def pseudo_label(
    dataset: Annotated[Path, typer.Argument(help="A dataset prepared with --unlabelled keep.")],
    model: Annotated[Path, typer.Option("--model", help="The model.safetensors that a run kept.")],
    out: Annotated[Path, typer.Option("--out", help="A new CSV file.")],
    bound: Annotated[
        float, typer.Option("--bound", help="Lowest confidence of an accepted label.")
    ] = 0.95,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """Propose labels for images without one, for `fgaug gan train --pseudo-labels`."""
    from fgaug.training.pseudo_label import propose

    found = propose(model, dataset, out, bound=bound, device=device)
    accepted = found.table[found.table["accepted"]]
    for label, rows in found.table.groupby("pseudo_label"):
        count = int((accepted["pseudo_label"] == label).sum())
        sys.stderr.write(f"{label}: {count} of {len(rows)} proposed labels reach {bound:g}\n")
    if found.left_out:
        sys.stderr.write(f"{found.left_out} images of validation and test patients are left out\n")
    sys.stderr.write(
        f"On validation images, whose labels are known, {found.reached} of {found.checked} reach "
        f"the bound, and {found.correct} of these are correct\n"
    )
    sys.stdout.write(f"{out.resolve()}\n")


@app.command()
def sheet(
    folder: Annotated[str, typer.Argument(help=options.DATASET)],
    out: Annotated[Path, typer.Option("--out", help="A PNG file.")] = Path("sheet.png"),
    per_label: Annotated[int, typer.Option("--per-label", help="Images per label.")] = 8,
    split: Annotated[str, typer.Option("--split", help="train or valid.")] = "train",
    rng: Annotated[int, typer.Option("--rng", help="Seed for choosing the images.")] = 0,
) -> None:
    """Draw a contact sheet of real images for each label; the test set stays sealed."""
    from fgaug.core import contact_sheet
    from fgaug.data import open_dataset

    if split == "test":
        raise DataError(
            "--split must be train or valid, got test: the test set is sealed, and seeing its "
            "images would count as a look."
        )
    if split not in ("train", "valid"):
        raise DataError(f"--split must be train or valid, got {split}.")
    if per_label < 1:
        raise DataError(f"--per-label must be at least 1, got {per_label}.")
    if rng < 0:
        raise DataError(f"--rng must be 0 or more, got {rng}.")
    contact_sheet.check_out(out)
    dataset = open_dataset(options.place(folder))
    block = _drawn(dataset, split, per_label, rng)
    spec = dataset.spec
    contact_sheet.save(contact_sheet.draw([[block]], spec.size, spec.channels, "--per-label"), out)
    sys.stdout.write(f"{out.resolve()}\n")


def _drawn(dataset: Dataset, split: str, per_label: int, rng: int) -> Block:
    """Return one row of randomly chosen images of the split for each label."""
    import numpy as np

    from fgaug.core.contact_sheet import Block

    table = dataset.manifest
    if not (table["split"] == split).any():
        raise DataError(f"{dataset.place} has no {split} images.")
    captions, chosen = [], []
    for index, label in enumerate(dataset.spec.labels):
        rows = np.flatnonzero((table["split"] == split) & (table["label"] == label))
        order = np.random.default_rng([rng, index]).permutation(rows)
        chosen.append(order[:per_label])
        captions.append(f"{label}: {len(rows)} image{'s' if len(rows) != 1 else ''}")
    return Block(
        heading=f"{paths.name_of(dataset.uri)}, {split}",
        rows=tuple(captions),
        columns=("",) * max(map(len, chosen)),
        images=lambda: [dataset.pixels()[rows] for rows in chosen],
    )


def _described(folder: str, dataset: object) -> str:
    from fgaug.data import Dataset

    assert isinstance(dataset, Dataset)
    table, spec = dataset.manifest, dataset.spec
    lines = [
        f"{folder}: {len(table)} images of {table['group'].nunique()} groups, {spec.size} px, "
        f"{spec.channels} channel{'s' if spec.channels > 1 else ''}, digest {spec.digest[:12]}"
    ]
    for split, rows in table.groupby("split", sort=False):
        counts = rows["label"].value_counts()
        labels = ", ".join(f"{label} {counts.get(label, 0)}" for label in spec.labels)
        flagged = int(rows["gan"].sum())
        flag = f", {flagged} with the gan flag" if flagged else ""
        lines.append(
            f"  {split}: {len(rows)} images of {rows['group'].nunique()} groups ({labels}{flag})"
        )
    for fold, rows in table.groupby("fold") if spec.folds else ():
        counts = rows["label"].value_counts()
        labels = ", ".join(f"{label} {counts.get(label, 0)}" for label in spec.labels)
        lines.append(
            f"  fold {fold}: {len(rows)} images of {rows['group'].nunique()} groups ({labels})"
        )
    if dataset.unlabelled is not None:
        rest = dataset.unlabelled.manifest
        lines.append(
            f"  without a label: {len(rest)} images of {rest['group'].nunique()} groups, "
            f"{int((rest['split'] == 'train').sum())} of them of training patients, for GANs alone"
        )
    return "\n".join(lines)
