"""`fgaug bank import`: add images from another generator to a bank."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fgaug.core.progress import progress_of
from fgaug.errors import BankError

if TYPE_CHECKING:
    from fgaug.bank.seed_files import LabelFolder

_LOG = logging.getLogger("fgaug")


def import_(
    bank: Annotated[str, typer.Argument(help="The bank: a folder, or a file:// or s3:// URI.")],
    folder: Annotated[
        list[str], typer.Option("--folder", help="LABEL=DIR, once per label of the bank.")
    ],
    psi: Annotated[float, typer.Option("--psi", help="Truncation psi of the images.")],
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            help="PATTERN or LABEL=PATTERN for file names: {seed} matches the z_seed, * anything, "
            "as in 'trv*seed{seed}.png' (default: image names that end in digits).",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", help="Pixels (default: the bank's, else the first image's)."),
    ] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="1 or 3.")] = None,
    noise: Annotated[
        str | None,
        typer.Option("--noise", help="Noise mode of the images: seeded, const or none."),
    ] = None,
) -> None:
    """Add images from another program; each file name must contain the z_seed."""
    from fgaug.bank.import_images import import_folders
    from fgaug.bank.seed_files import of_other_endings, some
    from fgaug.data.problems import counted
    from fgaug.data.reading.source_image import read_image
    from fgaug.grid.axes import usable_psi

    try:
        usable_psi(psi)
    except ValueError as error:
        raise BankError(f"--psi: {error}.") from None
    folders = _looked_into(label_folders(folder, pattern or []))
    with progress_of("importing") as progress:
        opened = import_folders(
            bank,
            folders,
            psi,
            read_image,
            size=size,
            channels=channels,
            noise=noise,
            progress=progress,
        )
    if others := of_other_endings(folders):
        _LOG.warning(
            "Not imported: %s with a name that matches --pattern but a different extension: %s.",
            counted(len(others), "file"),
            some([path.name for path in others]),
        )
    index = opened.index()
    lines = [
        f"{each.label} psi {psi:g}: "
        f"{((index['label'] == each.label) & (index['psi'] == psi)).sum()} images"
        for each in folders
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _looked_into(folders: Sequence[LabelFolder]) -> list[LabelFolder]:
    """Return the folders with the file names to skip.

    Raises:
        BankError: a folder holds images in a format that cannot be read.
    """
    from fgaug.bank.seed_files import some
    from fgaug.data.folders.tree import read_tree
    from fgaug.data.problems import counted

    found, problems = [], []
    for each in folders:
        skip: frozenset[str] = frozenset()
        if each.pattern is None and each.folder.is_dir():
            tree = read_tree(each.folder, paired=True)
            skip = frozenset(path.name for path in tree.companions if len(path.parts) == 1)
            report = tree.report(
                cure="To import them, give a --pattern that matches them",
                way_out="remove them from the folder. No image was imported",
            )
            problems += [f"{each.folder}: {problem}" for problem in report]
            if below := [path.as_posix() for path in tree.images if len(path.parts) > 1]:
                _LOG.warning(
                    "%s: not imported: %s in subfolders: %s.",
                    each.folder,
                    counted(len(below), "image"),
                    some(below),
                )
        found.append(replace(each, skip=skip))
    if problems:
        raise BankError("\n".join(problems))
    return found


def label_folders(folders: Sequence[str], patterns: Sequence[str]) -> list[LabelFolder]:
    """Parse `--folder LABEL=DIR` and `--pattern [LABEL=]PATTERN` into one folder per label."""
    from fgaug.bank.seed_files import LabelFolder
    from fgaug.data.tables.label_table import fit_label

    places: dict[str, Path] = {}
    for text in folders:
        label, _, place = text.partition("=")
        if not label or not place:
            raise BankError(f"--folder must be LABEL=DIR, got {text}.")
        if not fit_label(label):
            raise BankError(f"A label must be a valid folder name, got {label!r}.")
        if label in places:
            raise BankError(f"--folder names `{label}` twice. Give one folder per label.")
        places[label] = Path(place)
    of_label: dict[str | None, str] = {}
    for text in patterns:
        label, equals, rest = text.partition("=")
        key = label if equals and label in places else None  # `psi=0.7_{seed}.png` is a pattern
        if key in of_label:
            raise BankError(
                f"--pattern is given twice for {f'`{key}`' if key else 'all labels'}: "
                f"{of_label[key]} and {rest if key else text}. Give one per label: "
                f"--pattern {next(iter(places))}='...'."
            )
        of_label[key] = rest if key else text
    return [
        LabelFolder(label=label, folder=place, pattern=of_label.get(label, of_label.get(None)))
        for label, place in places.items()
    ]
