"""Loading a run's rows, and the predictions of all finished trials in one order of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fgaug.analysis.findings.folds import folds_of, pooled_images, pooled_rows
from fgaug.core.files import read_table
from fgaug.core.paths import RunPaths
from fgaug.core.split_names import FOLDS, fold_of
from fgaug.errors import RunError
from fgaug.runs import environment
from fgaug.runs.confirmation_records import cells_of
from fgaug.runs.environment import Environment
from fgaug.runs.looks import still_sealed
from fgaug.runs.place import run_at
from fgaug.runs.results import last_rounds, load_results, screened, splits_of

Singles: TypeAlias = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)
Which: TypeAlias = Literal["valid", "sealed"]
READERS = 4  # files read in parallel: most of the time goes to the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The data on which all comparisons rest."""

    # of `load_results`, any status; the last round of a cell with rounds; with folds, one row per
    # arm and seed (see `folds.pooled_rows`), under the split `folds`
    rows: pd.DataFrame
    labels: tuple[str, ...]  # in the dataset's order
    images: Mapping[str, pd.DataFrame]  # by split: image_id, group, label, y (int)
    probability: Mapping[str, Singles]  # cell_id -> float32 [N, L], in the order of its images
    missing: pd.DataFrame  # cells of the grid without a row: cell_id, status, known axes


def load_evidence(run: str | Path, which: Which = "valid") -> Evidence:
    """Return the rows of a run and the predictions of its finished trials.

    Args:
        run: the run folder.
        which: `valid`, or the `sealed` test set, which requires a recorded look.

    Raises:
        RunError: there is no run or no finished trial, a file is damaged or missing, trials of
            one split have different images, or the test set is still sealed.
    """
    folder = run_at(run)
    rows = last_rounds(load_results(run))
    if rows.empty:
        raise RunError(f"{run} has no finished trial yet. Run `fgaug search` first.")
    ok = rows[rows["status"].eq("ok")]
    if which == "sealed":
        ok = ok[screened(ok)]
        _refuse_sealed(folder, ok)
    recorded = environment.read(folder)
    labels = _labels(folder, recorded, ok, which)
    images: dict[str, pd.DataFrame] = {}
    probability: dict[str, Singles] = {}
    doubles: dict[str, NDArray[np.float64]] = {}  # of folds, whose pooled scores are computed here
    for split, cells in ok.groupby(splits_of(ok), sort=False)["cell_id"]:
        files = {cell: _file(folder, cell, which) for cell in map(str, cells)}
        if fold_of(str(split)) is None:
            images[str(split)], singles = _read_split(files, labels, np.float32)
            probability |= singles
        else:
            images[str(split)], found = _read_split(files, labels, np.float64)
            doubles |= found
    missing = _missing(folder, recorded, set(rows["cell_id"]))
    if folds := folds_of(rows):
        every = pooled_images(images, folds)
        rows, missing, pooled = pooled_rows(rows, missing, every, doubles, labels)
        probability |= {run: p.astype(np.float32) for run, p in pooled.items()}
        images = {split: of for split, of in images.items() if fold_of(split) is None}
        images |= {FOLDS: every} if pooled else {}
    return Evidence(
        rows=rows, labels=labels, images=images, probability=probability, missing=missing
    )


def _labels(
    folder: RunPaths, recorded: Environment, ok: pd.DataFrame, which: Which
) -> tuple[str, ...]:
    """Return the dataset's labels, from the predictions if the run did not record them."""
    if recorded.dataset is not None and recorded.dataset.labels:
        return recorded.dataset.labels
    if ok.empty:
        return ()
    schema = pq.read_schema(_file(folder, str(ok["cell_id"].iloc[0]), which))
    return tuple(name.removeprefix("p_") for name in schema.names if name.startswith("p_"))


def _file(folder: RunPaths, cell: str, which: Which) -> Path:
    trial = folder.trial(cell)
    path = trial.predictions if which == "valid" else trial.sealed
    if not path.is_file():
        cure = (
            "Restore the file, or remove the trial's folder and search again."
            if which == "valid"
            else "A dataset without a test set has no test predictions."
        )
        raise RunError(f"Cell {cell} has finished, but {path} is missing. {cure}")
    return path


def _read_split(
    files: Mapping[str, Path], labels: tuple[str, ...], dtype: type[Real]
) -> tuple[pd.DataFrame, dict[str, NDArray[Real]]]:
    """Return the images of a split in the first trial's order, and all trials' predictions."""
    first = next(iter(files))
    table = _last_round(read_table(files[first], RunError))
    order = table.column("image_id").combine_chunks()
    images: pd.DataFrame = table.select(["image_id", "group", "label"]).to_pandas()
    index = {label: number for number, label in enumerate(labels)}
    if unknown := sorted({*map(str, images["label"])} - index.keys()):
        raise RunError(
            f"Cell {first} has images with labels that its dataset lacks: {unknown[:3]}."
        )
    images["y"] = images["label"].map(index).astype(np.int64)
    names = [f"p_{label}" for label in labels]

    def read(item: tuple[str, Path]) -> tuple[str, NDArray[Real]]:
        cell, path = item
        return cell, _probabilities(cell, path, names, order, first).astype(dtype)

    with ThreadPoolExecutor(READERS) as pool:
        return images, dict(pool.map(read, files.items()))


def _probabilities(
    cell: str, path: Path, names: list[str], order: pa.Array, first: str
) -> NDArray[np.float64]:
    """Return one trial's predictions, float64 [N, L], in the order of `order`."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
        wanted = [name for name in ("image_id", "round") if name in file.schema_arrow.names]
        table = file.read([*wanted, *names], use_threads=False)
    except (OSError, pa.ArrowException) as problem:
        reason = str(problem).splitlines()[0]
        raise RunError(
            f"{path} of cell {cell} cannot be read ({reason}). Remove the trial's folder and "
            "search again."
        ) from None
    table = _last_round(table)
    if any(name not in table.column_names for name in names):
        raise RunError(f"{path} of cell {cell} lacks one of the columns {', '.join(names)}.")
    ids = table.column("image_id").combine_chunks()
    values = np.stack([table.column(name).to_numpy() for name in names], axis=1)
    if not ids.equals(order):
        places = pc.index_in(order, value_set=ids)
        if len(ids) != len(order) or places.null_count:
            raise RunError(
                f"Cell {cell} was evaluated on other images than cell {first} ({len(ids)} and "
                f"{len(order)}, {len(order) - places.null_count} in common). Trials of one split "
                "must be evaluated on the same images: keep grids of different datasets in "
                "separate run folders."
            )
        values = values[places.to_numpy()]
    return values


def _last_round(table: pa.Table) -> pa.Table:
    if "round" not in table.column_names or table.column("round").null_count == table.num_rows:
        return table
    rounds = table.column("round")
    return table.filter(pc.equal(rounds, pc.max(rounds)))


def _refuse_sealed(folder: RunPaths, ok: pd.DataFrame) -> None:
    arm_of = dict(zip(ok["cell_id"], ok["arm_id"], strict=True))
    shut = still_sealed(folder, arm_of, arm_of.__getitem__)
    if shut:
        raise RunError(
            f"The test predictions of {len(shut)} of {len(ok)} trials of {folder.place} are "
            "sealed. `fgaug report --open-test` records a look and then opens them."
        )


def _missing(folder: RunPaths, recorded: Environment, known: set[str]) -> pd.DataFrame:
    """Return the grid's cells without a row; those paused at a rung are `paused`."""
    columns = ["cell_id", "arm_id", "seed", "status"]
    found = []
    for cell in _grid_cells(recorded, cells_of(folder)):
        if cell["cell_id"] not in known:
            waits = folder.trial(cell["cell_id"]).paused.is_file()
            found.append({**cell, "status": "paused" if waits else "missing"})
    return pd.DataFrame(found) if found else pd.DataFrame(columns=columns)


def _grid_cells(recorded: Environment, confirmed: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield each cell of the grid with its recorded axes, or only its id if there are none."""
    left = {*(recorded.cells or ())}
    for arm in recorded.arms:
        for cell, seed in arm.seeds.items():
            if cell in left:
                left.remove(cell)
                yield {"cell_id": cell, **arm.columns, "seed": seed}
    for cell in left - {*confirmed}:
        yield {"cell_id": cell, "arm_id": None, "seed": None}
