"""A run's report, and the demo that ends with one.  run -> [reports] -> page"""

from __future__ import annotations

from pathlib import Path

from fgaug import paths, results
from fgaug.errors import RunError
from fgaug.paths import RunPaths
from fgaug.space import Space, load_space


def report(run: str | Path) -> Path:
    """Write a run's report and return its path."""
    from fgaug.report.page import render, write_report

    run_paths = RunPaths(Path(run))
    frame = results.load_results(run)
    if frame.empty:
        raise RunError(f"{run} has no finished trial yet; run `fgaug search` first.")
    environment = paths.read_json(run_paths.environment, RunError)
    from fgaug.yaml_file import read_yaml

    wanted, space = set(environment["cells"]), read_yaml(run_paths.space)
    html = render(
        name=str(space["name"]),
        frame=frame,
        curves=results.load_curves(run),
        space=space,
        environment={key: value for key, value in environment.items() if key != "cells"},
        missing=len(wanted - set(frame["cell_id"])),
    )
    write_report(run_paths.report, html)
    return run_paths.report


def demo_space(folder: Path) -> Space:
    """Return the shipped demo grid, its dataset and bank placed below `folder`."""
    space = load_space(paths.shipped("search_spaces") / "demo.yaml")
    return space.model_copy(
        update={"dataset": str(folder / "dataset"), "bank": str(folder / "bank")}
    )


def demo_dataset(folder: Path) -> None:
    """Prepare the demo's phantom images below `folder`, unless they are there."""
    from fgaug.data.prepare import prepare

    if not (folder / "dataset" / "manifest.parquet").is_file():
        prepare(out=folder / "dataset", size=32, preset="phantom", phantom={"images": 600})
