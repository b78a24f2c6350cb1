"""`fgaug bank`: fill, extend, verify and describe a bank of fakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fgaug.cli import bank_export, bank_import, bank_quality, bank_score, options
from fgaug.errors import BankError

if TYPE_CHECKING:
    from fgaug.study.banks import Verdict

app = typer.Typer(no_args_is_help=True)
app.command()(bank_export.export)
app.command()(bank_export.sheet)
app.command()(bank_score.score)
app.command()(bank_quality.quality)
app.command(name="import")(bank_import.import_)
Bank = Annotated[str, typer.Argument(help="The bank: a folder, or a file:// or s3:// URI.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="z_seeds, such as 1-2000 or 1,5,9.")]
Psis = Annotated[
    list[str] | None, typer.Option("--psi", help="Truncation psi, such as 0.7 or 0.3,0.5,1.")
]


@app.command()
def fill(
    bank: Bank,
    grid: Annotated[
        Path | None, typer.Option("--grid", help="Generate what this grid needs.")
    ] = None,
    snapshot: Annotated[
        list[str] | None,
        typer.Option("--snapshot", help="LABEL=FILE or LABEL=FILE:CLASS, once per label."),
    ] = None,
    psi: Psis = None,
    seeds: Seeds = None,
    noise: Annotated[
        str, typer.Option("--noise", help="seeded, const (stored in the network) or none.")
    ] = "seeded",
    size: Annotated[
        int | None, typer.Option("--size", help="Pixels (default: the network's).")
    ] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="1 or 3.")] = None,
    cutoff: Annotated[
        int | None,
        typer.Option("--cutoff", help="Truncate only this many layers, from the first."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="float32; float16 or bfloat16 (off by a few grey levels); or auto: that of the "
            "bank, else bfloat16 if it is faster here.",
        ),
    ] = "float32",
) -> None:
    """Generate missing fakes, for a grid or for given networks, psis and z_seeds."""
    from fgaug.bank.format import check_options
    from fgaug.study import banks, execute

    console = Console(stderr=True)
    if grid is not None:
        if snapshot or psi or seeds:
            raise BankError("Give either --grid, or --snapshot with --psi and --seeds, not both.")
        execute.fill_for_grid(grid, bank, console)
        return
    if not (snapshot and psi and seeds):
        raise BankError(
            "Give the fakes to generate: --grid grid.yaml, or "
            "--snapshot LABEL=FILE --psi 0.7 --seeds 1-2000."
        )
    check_options(size, channels, noise)
    if cutoff is not None and cutoff < 1:
        raise BankError(f"--cutoff must be at least 1, got {cutoff}.")
    if precision not in ("float32", "float16", "bfloat16", "auto"):
        raise BankError(
            f"--precision must be float32, float16, bfloat16 or auto, got {precision}."
        )
    banks.fill_from_snapshots(
        bank,
        _snapshots(snapshot),
        options.psis(psi),
        options.z_seeds(seeds),
        noise=noise,
        size=size,
        channels=channels,
        cutoff=cutoff,
        precision=precision,
        console=console,
    )


@app.command()
def extend(
    bank: Bank,
    seeds: Annotated[str, typer.Option("--seeds", help="z_seeds to add, such as 2001-4000.")],
    psi: Psis = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Default: all.")] = None,
) -> None:
    """Generate more z_seeds with the bank's own copies of its networks."""
    from fgaug.study import banks

    banks.extend_bank(
        bank, options.z_seeds(seeds), label or [], options.psis(psi or []), Console(stderr=True)
    )


@app.command()
def verify(
    bank: Bank,
    images: Annotated[
        int, typer.Option("--images", min=0, help="Images to regenerate per shard.")
    ] = 2,
    rng: Annotated[int, typer.Option("--rng", min=0, help="Seed for choosing the images.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Regenerate bad shards.")] = False,
) -> None:
    """Check every file of a bank and regenerate a sample of its images for comparison.

    Exit code: 0 clean (or repaired), 1 damaged.
    """
    from fgaug.study import banks

    console = Console(stderr=True)
    verdict = banks.verify_bank(bank, images=images, rng=rng, console=console)
    _print(verdict)
    if verdict.bad and repair:
        banks.repair_bank(bank, verdict, console)
        verdict = banks.verify_bank(bank, images=images, rng=rng, console=console)
        _print(verdict)
    raise typer.Exit(1 if verdict.bad else 0)


def _print(verdict: Verdict) -> None:
    verified, regenerated = verdict.verified, verdict.differences
    lines = [
        f"{len(verified.shards)} intact shards, {verified.images} images: SHA-256, columns and "
        "index match",
        *(f"  not regenerated: {reason}" for reason in verdict.skipped),
    ]
    if regenerated:
        largest = max(each.largest for each in regenerated)
        count = sum(each.images for each in regenerated)
        lines.append(
            f"{count} images regenerated: largest difference {largest} of 255 grey levels"
        )
    lines += [f"  bad: {problem}" for problem in verdict.bad.values()]
    lines.append("clean" if not verdict.bad else f"{len(verdict.bad)} bad")
    sys.stdout.write("\n".join(lines) + "\n")


@app.command()
def info(bank: Bank) -> None:
    """Print the contents of a bank without reading pixels."""
    from fgaug.bank import open_bank
    from fgaug.bank.scores import all_scores, scorers_of

    opened = open_bank(bank)
    spec = opened.spec
    cutoff = "" if spec.cutoff is None else f", truncates {spec.cutoff} layers"
    cutoff += "" if spec.precision == "float32" else f", {spec.precision}"
    lines = [
        f"{opened.store.place()}: {spec.size} px, {spec.channels} channel"
        f"{'s' if spec.channels > 1 else ''}, noise {spec.noise}{cutoff}, "
        f"{len(opened.index())} images, {len(opened.shards)} shards, "
        f"{sum(s.bytes for s in opened.shards) / 1e6:.1f} MB"
    ]
    for label, source in spec.sources.items():
        of_class = "" if source.class_index is None else f", class {source.class_index}"
        lines.append(f"  {label}: {source.kind} {source.name} {source.sha256[:12]}{of_class}")
    held = opened.index().groupby(["label", "psi"])["z_seed"].agg(["count", "min", "max"])
    for row in held.reset_index().itertuples(index=False):
        lines.append(
            f"  {row.label} psi {row.psi:g}: {row.count} images, z_seeds {row.min}-{row.max}"
        )
    for scorer in scorers_of(opened.store):
        count = len(all_scores(opened.store, scorer))
        lines.append(f"  scores {scorer.folder}: {count} images ({scorer.words})")
    sys.stdout.write("\n".join(lines) + "\n")


def _snapshots(texts: list[str]) -> dict[str, tuple[str, int | None]]:
    from fgaug.data.tables.label_table import fit_label

    named = [_snapshot(text) for text in texts]
    labels = [label for label, _ in named]
    for label in labels:
        if labels.count(label) > 1:
            raise BankError(f"--snapshot names `{label}` twice. Give one network per label.")
        if not fit_label(label):
            raise BankError(f"A label must be a valid folder name, got {label!r}.")
    return dict(named)


def _snapshot(text: str) -> tuple[str, tuple[str, int | None]]:
    """Parse `LABEL=FILE` or `LABEL=FILE:CLASS` into the label and its (file, class)."""
    label, equals, rest = text.partition("=")
    if not (label and equals and rest):
        raise BankError(f"--snapshot must be LABEL=FILE or LABEL=FILE:CLASS, got {text}.")
    file, colon, last = rest.rpartition(":")
    if colon and last.isdecimal():
        return label, (file, int(last))
    return label, (rest, None)
