"""`fgaug bank sheet` and `fgaug bank export`: look at fakes, or hand them to other programs."""

from __future__ import annotations

import sys
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fgaug.cli import options
from fgaug.core.progress import progress_of
from fgaug.errors import BankError

if TYPE_CHECKING:
    import numpy as np

    from fgaug.bank import Bank, Demand
    from fgaug.core.contact_sheet import Block

SHOWN = 8  # z_seeds on a sheet by default
BankUri = Annotated[str, typer.Argument(help="The bank: a folder, or a file:// or s3:// URI.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="Only this label; repeatable (default: all).")
]
Psis = Annotated[
    list[str] | None, typer.Option("--psi", help="Such as 0.5 or 0.3,0.5,1 (default: all).")
]
Filter = Annotated[
    str | None,
    typer.Option("--filter", help="Only fakes whose scores pass, such as agrees or realism>=1."),
]
Scorers = Annotated[
    list[str] | None,
    typer.Option("--scorer", help="Scores folder for --filter, if several match."),
]


def export(
    bank: BankUri,
    to: Annotated[str, typer.Option("--to", help="png, bmp or hf (Hugging Face datasets).")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    label: Labels = None,
    psi: Annotated[
        list[str] | None,
        typer.Option("--psi", help="Such as 0.3,0.5 or benign=1.6,malignant=1.2 (default: all)."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="z_seeds, such as 1-100 or 1,5,9 (default: all).")
    ] = None,
    filter: Filter = None,
    scorer: Scorers = None,
    count: Annotated[
        int | None,
        typer.Option("--count", help="The first N selected fakes per label and psi."),
    ] = None,
    layout: Annotated[
        str,
        typer.Option("--layout", help="psi: LABEL/psi_0.7/FILE. label: LABEL/FILE, one psi each."),
    ] = "psi",
) -> None:
    """Export fakes as image files with an index, or as a Hugging Face dataset.

    With --filter, the index (or the dataset's README.md) states the filter and its scores.
    """
    from fgaug.bank import Demand, open_bank
    from fgaug.bank.export import (
        MARKERS,
        Pictures,
        check_layout,
        check_out,
        write_hf,
        write_pictures,
    )

    if to not in MARKERS:
        raise BankError(f"--to must be png, bmp or hf, got {to}.")
    _check_scorers(scorer, filter)
    how = Pictures(suffix=to, layout=layout)
    if to == "hf" and layout != "psi":
        raise BankError("--layout arranges image files. Omit it with --to hf.")
    parts = options.psis_of_labels(psi or [], label or [])
    z_seeds = None if seeds is None else options.z_seeds(seeds)
    check_out(out, to)
    opened = open_bank(bank)
    chosen = [options.selected(opened, labels, psis, z_seeds) for labels, psis in parts]
    wanted = ((*key, z) for part in chosen for key, z in part.wanted.items())
    asked = demand = Demand.of(wanted)
    check_layout(demand, how)
    selection = None
    if filter is not None:
        selection = options.selection_of(opened, filter, scorer or [])
        demand = options.passing(opened, demand, filter, scorer or [])
    if count is not None:
        demand = options.first(demand, count, asked.wanted)
    with progress_of("exporting") as progress:

        def report(done: int) -> None:
            progress(done, demand.count)

        if to == "hf":
            write_hf(opened, demand, out, report, selection)
        else:
            write_pictures(opened, demand, out, report, how, selection)
    sys.stderr.write(f"exported {demand.count} images\n")
    sys.stdout.write(f"{out.resolve()}\n")


def sheet(
    bank: BankUri,
    out: Annotated[Path, typer.Option("--out", help="A PNG file.")] = Path("sheet.png"),
    label: Labels = None,
    psi: Psis = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help=f"z_seeds, such as 1-8 or 1,5 (default: the first {SHOWN})."),
    ] = None,
    grid: Annotated[
        int | None, typer.Option("--grid", help="N: show N x N z_seeds per label and psi.")
    ] = None,
    filter: Filter = None,
    scorer: Scorers = None,
) -> None:
    """Draw a contact sheet of fakes, one row per z_seed and one column per psi.

    --filter shows only z_seeds that pass at every label and psi on the sheet.
    """
    from fgaug.bank import open_bank
    from fgaug.core import contact_sheet

    contact_sheet.check_out(out)
    _check_scorers(scorer, filter)
    asked = None if seeds is None else list(dict.fromkeys(options.z_seeds(seeds)))
    psis = options.psis(psi or [])
    if grid is not None:
        _check_grid(grid, asked)
    opened = open_bank(bank)
    held = options.selected(opened, label or [], psis, None)
    if filter is not None:
        held = options.passing(opened, held, filter, scorer or [])
    labels, psis, z_seeds = _shown(opened, held, label or [], psis, asked, grid)
    if grid is None:
        lines = contact_sheet.wrapped([_table(opened, at, psis, z_seeds) for at in labels])
    else:
        lines = [[_square(opened, at, psi, z_seeds, grid) for psi in psis] for at in labels]
    spec = opened.spec
    fewer = "--label, --psi, or " + ("--seeds" if grid is None else "a smaller --grid")
    contact_sheet.save(contact_sheet.draw(lines, spec.size, spec.channels, fewer), out)
    sys.stdout.write(f"{out.resolve()}\n")


def _check_scorers(scorers: list[str] | None, filter: str | None) -> None:
    if scorers and filter is None:
        raise BankError(
            "--scorer chooses the scores that --filter reads. Give --filter, or omit it."
        )


def _check_grid(grid: int, asked: list[int] | None) -> None:
    if grid < 1:
        raise BankError(f"--grid must be at least 1, got {grid}.")
    if asked is not None and len(asked) != grid * grid:
        raise BankError(
            f"--grid {grid} needs {grid * grid} z_seeds, but --seeds gives {len(asked)}. "
            f"Give {grid * grid}, or omit --seeds to show the first ones."
        )


def _shown(
    bank: Bank,
    chosen: Demand,
    labels: list[str],
    psis: list[float],
    asked: list[int] | None,
    grid: int | None,
) -> tuple[list[str], list[float], list[int]]:
    """Return the sheet's labels, psis and z_seeds; `chosen` holds every combination of them."""
    import numpy as np

    held = chosen.wanted
    gone = [label for label in labels if all(label != other for other, _ in held)]
    if gone:
        raise BankError(f"--filter keeps no fakes of {', '.join(gone)}. Loosen it.")
    labels = list(dict.fromkeys(labels or [label for label, _ in held]))
    if not psis:
        known = sorted({psi for _, psi in held})
        psis = [psi for psi in known if all((label, psi) in held for label in labels)]
    if not psis:
        raise BankError(
            f"The bank has no psi in common for {', '.join(labels)}. Choose fewer with --label; "
            "`fgaug bank info` lists what the bank holds."
        )
    if asked is not None:
        options.selected(bank, labels, psis, asked)
    if lacking := [
        f"{label} at psi {psi:g}" for label in labels for psi in psis if (label, psi) not in held
    ]:
        raise BankError(f"--filter keeps no fakes of {', '.join(lacking)}. Loosen it.")
    common = reduce(np.intersect1d, [held[label, psi] for label in labels for psi in psis])
    if asked is not None:
        if lost := [z_seed for z_seed in asked if z_seed not in common]:
            raise BankError(
                f"{len(lost)} of the {len(asked)} z_seeds in --seeds fail --filter at some label "
                f"or psi on the sheet (the first is {lost[0]}). Omit --seeds or --filter."
            )
        return labels, psis, asked
    wanted = grid * grid if grid is not None else min(SHOWN, max(1, len(common)))
    if len(common) < wanted:
        raise BankError(
            f"A sheet of these labels and psis needs {wanted} z_seeds common to all of them, but "
            f"the bank has {len(common)}. Reduce --label, --psi or --grid; "
            "`fgaug bank info` lists what the bank holds."
        )
    return labels, psis, common[:wanted].tolist()


def _table(bank: Bank, label: str, psis: list[float], z_seeds: list[int]) -> Block:
    """Return a block with one row per z_seed and one column per psi."""
    import numpy as np

    from fgaug.bank.export import psi_text
    from fgaug.core.contact_sheet import Block

    def images() -> list[np.ndarray]:
        columns = [bank.read(label=label, psi=psi, z_seeds=z_seeds) for psi in psis]
        return list(np.stack(columns, axis=1))

    return Block(
        heading=label,
        rows=tuple(f"z_seed {z_seed}" for z_seed in z_seeds),
        columns=tuple(f"psi {psi_text(psi)}" for psi in psis),
        images=images,
    )


def _square(bank: Bank, label: str, psi: float, z_seeds: list[int], side: int) -> Block:
    """Return a block of `side` x `side` images in row order."""
    from fgaug.bank.export import psi_text
    from fgaug.core.contact_sheet import Block

    def images() -> list[np.ndarray]:
        read = bank.read(label=label, psi=psi, z_seeds=z_seeds)
        return list(read.reshape(side, side, *read.shape[1:]))

    first, last = z_seeds[0], z_seeds[-1]
    whole = z_seeds == list(range(first, last + 1))
    span = f"{first}-{last}" if whole else f"{first}...{last}"
    return Block(
        heading=f"{label}, psi {psi_text(psi)}, z_seeds {span}",
        rows=("",) * side,
        columns=("",) * side,
        images=images,
    )
