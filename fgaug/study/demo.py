"""The demo's simulated dataset and grid."""

from __future__ import annotations

from pathlib import Path

from fgaug.core import paths
from fgaug.grid.load import load_space
from fgaug.grid.space import Space


def demo_space(folder: Path) -> Space:
    """Return the demo grid with its dataset and banks below `folder`."""
    space = load_space(paths.shipped("search_spaces") / "demo.yaml")
    entries = [
        entry.model_copy(update={"bank": str(folder / Path(entry.bank).name)})
        for entry in space.axes.snapshot
    ]
    axes = space.axes.model_copy(update={"snapshot": entries})
    return space.model_copy(update={"dataset": str(folder / "dataset"), "axes": axes})


def demo_dataset(folder: Path) -> None:
    """Prepare the demo's phantom images below `folder` unless they exist."""
    from fgaug.data.prepare import prepare

    if not (folder / "dataset" / "manifest.parquet").is_file():
        prepare(out=folder / "dataset", size=32, preset="phantom", phantom={"images": 600})
