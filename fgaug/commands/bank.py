"""`fgaug bank`: fakes made ahead of a search, and what a bank holds."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fgaug.axes import MAX_POOL, usable_psi
from fgaug.errors import BankError

app = typer.Typer(help="Fill and inspect banks of fakes.", no_args_is_help=True)


@app.command()
def fill(
    bank: Annotated[Path, typer.Argument(help="The bank's folder.")],
    grid: Annotated[Path | None, typer.Option("--grid", help="Fill what its cells need.")] = None,
    snapshot: Annotated[
        list[str] | None,
        typer.Option("--snapshot", help="LABEL=FILE, or LABEL=FILE:CLASS; once for each label."),
    ] = None,
    psi: Annotated[list[float] | None, typer.Option("--psi")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="z_seeds: 1-2000, or 1,5,9.")
    ] = None,
    noise: Annotated[str, typer.Option("--noise", help="seeded, const or none.")] = "seeded",
    size: Annotated[int | None, typer.Option("--size", help="Pixels; the network's own.")] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="1 or 3.")] = None,
) -> None:
    """Generate what a bank lacks, for a grid or for seeds of given networks."""
    from fgaug import study
    from fgaug.data.images import MAX_SIZE, MIN_SIZE

    console = Console(stderr=True)
    if grid is not None:
        if snapshot or psi or seeds:
            raise BankError("Give --grid, or --snapshot with --psi and --seeds, not both.")
        study.fill_for_grid(grid, bank, console)
        return
    if not (snapshot and psi and seeds):
        raise BankError(
            "Say what to fill: --grid grid.yaml, or "
            "--snapshot LABEL=FILE --psi 0.7 --seeds 1-2000."
        )
    try:
        for value in psi:
            usable_psi(value)
    except ValueError as error:
        raise BankError(f"--psi: {error}.") from None
    if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
        raise BankError(f"--size must lie from {MIN_SIZE} to {MAX_SIZE} pixels, got {size}.")
    if channels not in (None, 1, 3):
        raise BankError(f"--channels must be 1 or 3, got {channels}.")
    if noise not in ("seeded", "const", "none"):
        raise BankError(f"--noise is seeded, const or none, got {noise}.")
    study.fill_from_snapshots(
        bank,
        _snapshots(snapshot),
        psi,
        _z_seeds(seeds),
        noise=noise,
        size=size,
        channels=channels,
        console=console,
    )


@app.command()
def info(bank: Annotated[str, typer.Argument(help="A bank's folder or file:// URI.")]) -> None:
    """Print what a bank holds; reads no pixels."""
    from fgaug.bank import open_bank

    opened = open_bank(bank)
    spec = opened.spec
    lines = [
        f"{opened.paths.root}: {spec.size} px, {spec.channels} channel"
        f"{'s' if spec.channels > 1 else ''}, noise {spec.noise}, {len(opened.index())} images, "
        f"{len(opened.shards)} shards, {sum(s.bytes for s in opened.shards) / 1e6:.1f} MB"
    ]
    for label, source in spec.sources.items():
        of_class = "" if source.class_index is None else f", class {source.class_index}"
        lines.append(f"  {label}: {source.kind} {source.name} {source.sha256[:12]}{of_class}")
    held = opened.index().groupby(["label", "psi"])["z_seed"].agg(["count", "min", "max"])
    for row in held.reset_index().itertuples(index=False):
        lines.append(
            f"  {row.label} psi {row.psi:g}: {row.count} images, z_seeds {row.min}-{row.max}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def _snapshots(texts: list[str]) -> dict[str, tuple[str, int | None]]:
    from fgaug.data.table import fit_label

    named = [_snapshot(text) for text in texts]
    labels = [label for label, _ in named]
    for label in labels:
        if labels.count(label) > 1:
            raise BankError(f"--snapshot names `{label}` twice. Give each label one network.")
        if not fit_label(label):
            raise BankError(f"A label names a folder of the bank and cannot be {label!r}.")
    return dict(named)


def _snapshot(text: str) -> tuple[str, tuple[str, int | None]]:
    """Return the label and its (file, class) of `LABEL=FILE` or `LABEL=FILE:CLASS`."""
    label, equals, rest = text.partition("=")
    if not (label and equals and rest):
        raise BankError(f"--snapshot is LABEL=FILE or LABEL=FILE:CLASS, got {text}.")
    file, colon, last = rest.rpartition(":")
    if colon and last.isdecimal():
        return label, (file, int(last))
    return label, (rest, None)


def _z_seeds(text: str) -> list[int]:
    """Return the integers of `1-2000` or `1,5,9-12`."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise BankError(f"--seeds is a range or a list such as 1-2000 or 1,5,9, got {text}.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= 2**32:
            raise BankError(f"--seeds: {part} is not a range within 0-4294967295.")
        if len(found) + last + 1 - first > MAX_POOL:
            raise BankError(f"--seeds: at most {MAX_POOL} at once, got {text}. Fill it in parts.")
        found += range(first, last + 1)
    return found
