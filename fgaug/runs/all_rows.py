"""All rows of a run: from its cache where a result file is unchanged, else from the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fgaug.core.paths import RunPaths, TrialPaths
from fgaug.errors import RunError
from fgaug.runs import row_cache, row_table
from fgaug.runs.row_cache import SETTLED_NS, Entry, FileState
from fgaug.runs.row_table import RowTable

MANY = 1000  # rows that a mirror's cache may lack
Row = dict[str, Any]
ReadRows = Callable[[TrialPaths], list[Row]]


def read(run: RunPaths, read_rows: ReadRows) -> RowTable | None:
    """Return the rows of a run's trials, ordered by cell and round; None if there are none.

    Args:
        run: the run.
        read_rows: reads the rows of a trial that the cache lacks.

    Raises:
        RunError: by `read_rows`.
    """
    states = row_cache.result_states(run)
    entries, table = _cached(run, states)
    if run.uri is not None and len(states) - len(entries) > MANY:
        write_cache(run, read_rows)  # a search does so in its folder; a mirror is this machine's
        entries, table = _cached(run, states)
    lacking = (cell_id for cell_id in states if cell_id not in entries)
    others = {cell_id: read_rows(run.trial(cell_id)) for cell_id in lacking}
    return _joined(states, entries, table, others)


def statuses(
    run: RunPaths, cell_ids: Iterable[str], read_status: Callable[[TrialPaths], str | None]
) -> dict[str, str]:
    """Return the statuses of cells with a row, in the order of `cell_ids`.

    Args:
        run: the run.
        cell_ids: the cells.
        read_status: reads the status of a cell that the cache lacks; None without a usable row.
    """
    states, entries = row_cache.result_states(run), row_cache.read_index(run)
    found = {}
    for cell_id in cell_ids:
        if (state := states.get(cell_id)) is None:
            continue
        entry = entries.get(cell_id)
        if entry is not None and entry.state == state:
            found[cell_id] = entry.status
        elif (status := read_status(run.trial(cell_id))) is not None:
            found[cell_id] = status
    return found


def write_cache(run: RunPaths, read_rows: ReadRows) -> int:
    """Bring a run's cache up to date and return how many trials it holds.

    Leaves out trials whose rows cannot be read, and those written within the last seconds.
    """
    settled = time.time_ns() - SETTLED_NS
    states = {
        cell_id: state
        for cell_id, state in row_cache.result_states(run).items()
        if state.modified_ns < settled
    }
    entries, table = _cached(run, states)
    others: dict[str, list[Row]] = {}
    for cell_id in (cell_id for cell_id in states if cell_id not in entries):
        try:
            rows = read_rows(run.trial(cell_id))
        except RunError:
            continue
        if rows and isinstance(rows[-1].get("status"), str):
            others[cell_id] = rows
    if not others:
        return len(entries)
    held = {cell: state for cell, state in states.items() if cell in entries or cell in others}
    joined = _joined(held, entries, table, others)
    assert joined is not None
    written: dict[str, Entry] = {}
    first = 0
    for cell_id, state in held.items():
        known, rows = entries.get(cell_id), others.get(cell_id, [])
        status = known.status if known is not None else str(rows[-1]["status"])
        count = known.count if known is not None else len(rows)
        written[cell_id] = Entry(state, status, first, count)
        first += count
    row_cache.write(run, written, row_table.to_parquet(joined))
    return len(written)


def _cached(
    run: RunPaths, states: Mapping[str, FileState]
) -> tuple[dict[str, Entry], RowTable | None]:
    """Return the trials whose files are as the cache describes them, and the cache's rows."""
    entries, parquet = row_cache.read_parts(run)
    if not entries:
        return {}, None
    try:
        table = row_table.from_parquet(parquet)
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
        return {}, None
    if max(entry.first + entry.count for entry in entries.values()) > len(table):
        return {}, None
    unchanged = {
        cell_id: entry for cell_id, entry in entries.items() if states.get(cell_id) == entry.state
    }
    return unchanged, table


def _joined(
    states: Mapping[str, FileState],
    entries: Mapping[str, Entry],
    table: RowTable | None,
    others: Mapping[str, Sequence[Row]],
) -> RowTable | None:
    """Return cached and other rows in the order of `states`."""
    rank = {cell_id: place for place, cell_id in enumerate(states)}
    tables, ranks = [], []
    if entries and table is not None:
        counts = np.array([entry.count for entry in entries.values()], np.int64)
        firsts = np.array([entry.first for entry in entries.values()], np.int64)
        begins = np.cumsum(counts) - counts
        places = np.repeat(firsts - begins, counts) + np.arange(counts.sum())
        of_cells = np.array([rank[cell_id] for cell_id in entries], np.int64)
        tables.append(table.take(places))
        ranks.append(np.repeat(of_cells, counts))
    if rows := [row for of_cell in others.values() for row in of_cell]:
        tables.append(RowTable.of(rows))
        of_rows = [rank[cell_id] for cell_id, of_cell in others.items() for _ in of_cell]
        ranks.append(np.array(of_rows, np.int64))
    if not tables:
        return None
    whole = row_table.concatenated(tables)
    order = np.concatenate(ranks)
    if (np.diff(order) >= 0).all():
        return whole
    return whole.take(np.argsort(order, kind="stable"))
