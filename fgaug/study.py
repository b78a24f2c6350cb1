"""Puts the rooms together: plan, fill, search, report, demo; what commands and notebooks call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console

from fgaug import cluster, paths, planning, results, run_folder
from fgaug.bank import BankSpec, Demand, Source
from fgaug.errors import RunError, SnapshotError
from fgaug.paths import RunPaths
from fgaug.planning import Plan
from fgaug.space import Generator, Space, load_space

if TYPE_CHECKING:
    from gan_worker.snapshot import Snapshot
    from gan_worker.sources import LabelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run on disk and how complete it is."""

    root: Path
    ok: int
    failed: int
    missing: int

    @property
    def exit_code(self) -> int:
        """0 complete, 1 failures, 3 incomplete."""
        return 3 if self.missing else 1 if self.failed else 0

    def results(self) -> pd.DataFrame:
        """Return one row a trial; see `load_results`."""
        return results.load_results(self.root)

    def curves(self) -> pd.DataFrame:
        """Return the learning curves of all trials."""
        return results.load_curves(self.root)

    def predictions(self) -> pd.DataFrame:
        """Return the validation predictions of all trials."""
        return results.load_predictions(self.root)


def plan(grid: str | Path | Space, out: str | Path | None = None) -> Plan:
    """Return the plan of a grid, all checks made; see `planning.make_plan`."""
    space = grid if isinstance(grid, Space) else load_space(Path(grid))
    planned = planning.make_plan(space, Path(out) if out is not None else None, _describe)
    if planned.missing.count:
        from gan_worker.sources import check_sources

        assert planned.bank_spec is not None
        check_sources(_label_sources(planned), planned.bank_spec)
    return planned


def search(
    grid: str | Path | Space,
    out: str | Path | None = None,
    *,
    dashboard: bool = True,
    console: Console | None = None,
) -> Run:
    """Train every cell of a grid that has no finished row, filling its bank first.

    Args:
        grid: a YAML file or a Space.
        out: the run's folder, `runs/<name>` where None.
        dashboard: start Ray's dashboard on loopback.
        console: where progress is shown, stderr where None.

    Raises:
        GridError: the grid, dataset, bank or snapshots break a rule; nothing was started.
        RunError: another search holds the run's folder.
    """
    console = console or Console(stderr=True)
    planned = plan(grid, out)
    with run_folder.held(planned.run):
        run_folder.note_start(planned)
        if planned.todo:
            _execute(planned, dashboard, console)
        results.compact(planned.run)
    return _counted(planned)


def _execute(planned: Plan, dashboard: bool, console: Console) -> None:
    space = planned.space
    with cluster.started(dashboard=dashboard) as running:
        from fgaug.search import runner

        runner.check_fits(space.resources, running.cpus, running.gpus)
        if running.dashboard:
            console.print(f"Ray dashboard: {running.dashboard} (token: `ray get-auth-token`)")
        _fill_on_cluster(planned, console)
        runner.run_cells(
            planned.run,
            planned.todo,
            planned.sources,
            space.resources,
            at_once=planning.parallel_trials(space, running.cpus, running.gpus),
            already=len(planned.cells) - len(planned.todo),
            dashboard=running.dashboard,
            console=console,
        )


def _fill_on_cluster(planned: Plan, console: Console) -> None:
    """Fill what the grid's unfinished cells lack, with every device, before any trial starts."""
    if not planned.missing.count:
        return
    assert planned.bank is not None
    assert planned.bank_spec is not None
    fill_bank(planned.bank, planned.bank_spec, _label_sources(planned), planned.missing, console)


def _label_sources(planned: Plan) -> dict[str, LabelSource]:
    assert planned.bank_spec is not None
    assert planned.space.generator is not None
    generator = planned.space.generator
    return {label: _label_source(label, generator) for label in planned.bank_spec.sources}


def fill_bank(
    root: Path,
    spec: BankSpec,
    sources: Mapping[str, LabelSource],
    demand: Demand,
    console: Console,
) -> None:
    """Fill a bank on the cluster that this process is connected to, showing progress."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from gan_worker.actor import actor_run
    from gan_worker.fill import fill

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("filling the bank", total=demand.count)

        def progress(done: int, wanted: int) -> None:
            bar.update(task, completed=done, total=wanted)

        bank = fill(
            root, spec, sources, demand, run=actor_run(root, spec, sources), progress=progress
        )
    console.print(f"bank {root}: {len(bank.index())} images in {len(bank.shards)} shards")


def fill_for_grid(grid: Path, root: Path | None, console: Console) -> None:
    """Fill a bank with every fake a grid's cells need: `fgaug bank fill --grid`."""
    space = load_space(grid)
    if root is not None:
        space = space.model_copy(update={"bank": str(root)})
    planned = plan(space)
    if not planned.missing.count:
        console.print(f"bank {planned.bank}: holds all {planned.demand.count} fakes of the grid")
        return
    with cluster.started(dashboard=False):
        _fill_on_cluster(planned, console)


def fill_from_snapshots(
    root: Path,
    files: Mapping[str, tuple[str, int | None]],
    psis: list[float],
    z_seeds: list[int],
    *,
    noise: str,
    size: int | None,
    channels: int | None,
    console: Console,
) -> None:
    """Fill a bank from network files alone: `fgaug bank fill --snapshot`.

    `files` holds (file, class or None) by label.
    """
    from gan_worker.generator import load_generator
    from gan_worker.sources import LabelSource, check_sources, describe

    sources = {
        label: LabelSource(kind="stylegan2", file=file, class_index=class_index)
        for label, (file, class_index) in files.items()
    }
    described = {label: describe(label, source) for label, source in sources.items()}
    if size is None or channels is None:
        file, _ = next(iter(files.values()))
        native = load_generator(file)
        size, channels = size or native.size, channels or native.channels
    spec = BankSpec(size=size, channels=channels, noise=noise, sources=described)
    check_sources(sources, spec)
    wanted = np.asarray(z_seeds, np.int64)
    demand = Demand.of((label, psi, wanted) for label in sources for psi in psis)
    with cluster.started(dashboard=False):
        fill_bank(root, spec, sources, demand, console)


def inspect_network(file: Path) -> Snapshot:
    """Return what a network file holds: `fgaug gan inspect`."""
    from gan_worker.snapshot import read_snapshot

    return read_snapshot(file)


def convert_network(file: Path, out: Path) -> Snapshot:
    """Write a network file's generator as `.safetensors`: `fgaug gan convert`."""
    from gan_worker.snapshot import read_snapshot, write_safetensors

    if out.exists():
        raise SnapshotError(f"{out} exists. Choose another name, or remove it first.")
    snapshot = read_snapshot(file)
    write_safetensors(snapshot, out)
    return snapshot


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


def _describe(label: str, generator: Generator) -> Source:
    from gan_worker.sources import describe

    return describe(label, _label_source(label, generator))


def _label_source(label: str, generator: Generator) -> LabelSource:
    from gan_worker.sources import LabelSource

    if generator.kind != "stylegan2":
        return LabelSource(kind=generator.kind)
    snapshot = generator.snapshots[label]
    return LabelSource(kind="stylegan2", file=snapshot.file, class_index=snapshot.class_index)


def _counted(planned: Plan) -> Run:
    statuses = results.finished(planned.run, [cell.cell_id for cell in planned.cells])
    values = list(statuses.values())
    return Run(
        root=planned.run.root,
        ok=values.count("ok"),
        failed=values.count("failed"),
        missing=len(planned.cells) - len(values),
    )
