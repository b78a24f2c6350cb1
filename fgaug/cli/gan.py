"""`fgaug gan`: train GANs, inspect network files and convert them to `.safetensors`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fgaug.cli import gan_data, gan_quality, gan_train

if TYPE_CHECKING:
    from gan_worker.files.snapshot import Snapshot

app = typer.Typer(no_args_is_help=True)
app.command()(gan_train.train)
app.command()(gan_data.export)
app.command(name="filter")(gan_data.filter_)
app.command()(gan_quality.metrics)
app.command()(gan_quality.select)
File = Annotated[Path, typer.Argument(help="A network file: .pkl or .safetensors.")]
# defaults of each program's own image script
_PYTORCH = "stylegan2-ada-pytorch's generate.py defaults to psi 1 and const noise"
_TENSORFLOW = "the TensorFlow scripts default to psi 0.5 and random noise, as seeded does"


@app.command()
def inspect(file: File) -> None:
    """Print the contents of a network file without executing any of its code."""
    from gan_worker.files import convert as network_files

    _print(file, network_files.inspect_network(file))


@app.command()
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help="New file, *.safetensors.")],
    half: Annotated[
        bool, typer.Option("--half", help="Write float16: half the size, a new identity.")
    ] = False,
) -> None:
    """Convert a network to .safetensors; it generates the same images under the same identity."""
    from gan_worker.files import convert as network_files

    _print(out, network_files.convert_network(file, out, half=half))


def _print(file: Path, snapshot: Snapshot) -> None:
    """Print the properties of a network, one per line."""
    config = snapshot.config
    w_avg = float(snapshot.tensors["mapping.w_avg"].norm())
    own = _PYTORCH if snapshot.kind == "stylegan2-ada-pytorch" else _TENSORFLOW
    noise = "const (stored in the file), none, seeded"
    lost = "" if w_avg else " (not trained: psi below 1 truncates towards zero)"
    average = (
        "the moving average of the generator"
        if snapshot.averaged
        else "the file does not say whether it is the moving average"
    )
    exact = snapshot.stored_as == "float32"
    stored = "" if exact else f", stored as {snapshot.stored_as}, used as float32"
    facts = {
        "kind": f"{snapshot.kind}, originally from {snapshot.source}",
        "network": f"{snapshot.network}, {average}; other networks in the file are ignored",
        "resolution": f"{snapshot.resolution} px",
        "channels": str(snapshot.channels),
        "labels": str(snapshot.labels) if snapshot.labels else "0 (unconditional)",
        "architecture": f"{config.architecture}, z {config.z_dim}, w {config.w_dim}, "
        f"{config.mapping_layers} mapping layers",
        "parameters": f"{snapshot.parameters}{stored}",
        "SHA-256": snapshot.sha256,
        "w_avg norm": f"{w_avg:.6g}{lost}",
        "noise modes": noise if config.use_noise else "none (the network was made without noise)",
        "truncation": f"psi 1 does not truncate, psi 0 gives w_avg for every seed; {own}",
    }
    lines = [str(file), *(f"  {name:<13}{value}" for name, value in facts.items())]
    sys.stdout.write("\n".join(lines) + "\n")
