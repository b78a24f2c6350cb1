"""`fgaug bank import`: images made elsewhere into a bank."""

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
    bank: Annotated[str, typer.Argument(help="The bank's folder or URI.")],
    folder: Annotated[
        list[str], typer.Option("--folder", help="LABEL=DIR; once for each label of the bank.")
    ],
    psi: Annotated[float, typer.Option("--psi", help="The truncation they were made at.")],
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            help="File names, {seed} for the digits, * for anything: 'trv*seed{seed}.png'; "
            "or LABEL=PATTERN. Images that end in digits if left out.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Pixels; those of the bank or the first image.")
    ] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="1 or 3.")] = None,
    noise: Annotated[
        str | None, typer.Option("--noise", help="As it was drawn: seeded, const or none.")
    ] = None,
) -> None:
    """Add image files that another program made; their names hold the seeds."""
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
            "Not imported: %s that would fit a --pattern with another ending: %s.",
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
    """Return the folders with what is read of them, or refuse images of formats that are not.

    Raises:
        BankError: images that no decoder reads lie among the others.
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
                cure="A --pattern that fits them has them imported",
                way_out="take them out of the folder. No image was imported",
            )
            problems += [f"{each.folder}: {problem}" for problem in report]
            if below := [path.as_posix() for path in tree.images if len(path.parts) > 1]:
                _LOG.warning(
                    "%s: not imported: %s in folders below: %s.",
                    each.folder,
                    counted(len(below), "image"),
                    some(below),
                )
        found.append(replace(each, skip=skip))
    if problems:
        raise BankError("\n".join(problems))
    return found


def label_folders(folders: Sequence[str], patterns: Sequence[str]) -> list[LabelFolder]:
    """Return what `--folder LABEL=DIR` and `--pattern [LABEL=]PATTERN` name."""
    from fgaug.bank.seed_files import LabelFolder
    from fgaug.data.tables.label_table import fit_label

    places: dict[str, Path] = {}
    for text in folders:
        label, _, place = text.partition("=")
        if not label or not place:
            raise BankError(f"--folder is LABEL=DIR, got {text}.")
        if not fit_label(label):
            raise BankError(f"A label names a folder of the bank and cannot be {label!r}.")
        if label in places:
            raise BankError(f"--folder names `{label}` twice. Give each label one folder.")
        places[label] = Path(place)
    of_label: dict[str | None, str] = {}
    for text in patterns:
        label, equals, rest = text.partition("=")
        key = label if equals and label in places else None  # `psi=0.7_{seed}.png` is a pattern
        if key in of_label:
            raise BankError(
                f"--pattern is given twice for {f'`{key}`' if key else 'all labels'}: "
                f"{of_label[key]} and {rest if key else text}. Give each label one: "
                f"--pattern {next(iter(places))}='...'."
            )
        of_label[key] = rest if key else text
    return [
        LabelFolder(label=label, folder=place, pattern=of_label.get(label, of_label.get(None)))
        for label, place in places.items()
    ]
