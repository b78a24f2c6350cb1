""".rows.cache: the same rows as in the trials' own files, whatever happens to either."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from test_results import row

import fgaug
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.runs import all_rows, results, row_cache, row_table, status
from fgaug.runs.row_table import RowTable

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=5)
)
VALUES = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.text(), LEAVES, max_size=2)
# one type in most columns, as in rows of trials
COLUMN = st.sampled_from(
    [st.floats(), st.integers(-9, 9), st.text(max_size=5), st.booleans(), st.none(), VALUES]
)
KEYS = ("a", "form", "=", "", "\N{SNOWMAN}", "wall_s")


@st.composite
def rows_of_trials(draw: st.DrawFn) -> list[dict[str, Any]]:
    kinds = {key: draw(COLUMN) for key in KEYS}
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        keys = draw(st.permutations(KEYS))[: draw(st.integers(1, len(KEYS)))]
        rows.append({key: draw(kinds[key] | st.none()) for key in keys})
    return rows


@given(rows=rows_of_trials(), data=st.data())
def test_a_table_gives_the_frame_of_its_rows(rows: list[dict[str, Any]], data: Any) -> None:
    rows = json.loads(json.dumps(rows))
    cut = data.draw(st.integers(0, len(rows)))
    halves = [RowTable.of(rows[:cut]), RowTable.of(rows[cut:])]
    read = [row_table.from_parquet(row_table.to_parquet(half)) for half in halves]
    whole = row_table.concatenated([table for table in read if len(table)])
    assert_frame_equal(whole.frame(), pd.DataFrame(rows), check_exact=True)
    order = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    expected = pd.DataFrame([rows[place] for place in order])
    assert_frame_equal(whole.take(order).frame(), expected, check_exact=True)


def settle(run: RunPaths) -> None:
    """Make the result files old enough to be cached."""
    for file in run.trials.glob("*/result.json"):
        then = time.time_ns() - 10 * row_cache.SETTLED_NS + random.getrandbits(20)
        os.utime(file, ns=(then, then))


def from_json(run: RunPaths) -> pd.DataFrame:
    """Return the rows as from a copy of the run without a cache."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(run.root, copy, ignore=shutil.ignore_patterns(".rows.cache"))
        return fgaug.load_results(copy)


def check(run: RunPaths) -> None:
    """Check that every reader finds what the files say."""
    expected = from_json(run)
    assert_frame_equal(fgaug.load_results(run.root), expected, check_exact=True)
    cells = [f"{number:012x}" for number in range(40)]
    last = expected.sort_values("round").groupby("cell_id")["status"].last().to_dict()
    assert results.statuses_of(run, cells) == last
    assert [*results.statuses_of(run, cells)] == sorted(last)


def change(run: RunPaths, rng: random.Random) -> None:
    """Write, rewrite or remove the rows of some trials."""
    for _ in range(rng.randint(1, 6)):
        cell_id = f"{rng.randrange(40):012x}"
        trial = run.trial(cell_id)
        rounds = rng.choice([[None], [None], [1, 2, 3]])
        further: dict[str, Any] = rng.choice([{}, {"n_fake_dbp": 3}, {"snapshot": "x"}])
        lost = rng.choice([(), ("valid_auc", "weights", "peak_gpu_mb")])
        known = [row(cell_id, round=number, **further) for number in rounds]
        for each in known:
            each["seed"] = rng.randint(0, 2**32 - 1)
            each["status"] = rng.choice(["ok", "failed", "pruned"])
            each["psi"] = rng.choice([None, 0.5, 1.0])
            each["wall_s"] = rng.choice([1, 1.5, float("nan"), None])
            each["gan_saw_removed"] = rng.choice([None, True, False])
            each |= dict.fromkeys(lost)
        if rng.random() < 0.2:
            shutil.rmtree(trial.root, ignore_errors=True)
        else:
            results.write_rows(trial, known)


@pytest.mark.parametrize("seed", range(8))
def test_rows_are_those_of_the_files_while_a_search_goes_on(tmp_path: Path, seed: int) -> None:
    run, rng = RunPaths(tmp_path), random.Random(seed)
    run.trials.mkdir()
    for _ in range(6):
        change(run, rng)
        if rng.random() < 0.7:
            settle(run)
        check(run)
        held = results.compact_rows(run)
        assert held <= len(row_cache.result_states(run))
        check(run)
    settle(run)
    assert results.compact_rows(run) == len(row_cache.result_states(run))
    check(run)


def made(root: Path, cells: int = 20) -> RunPaths:
    """Return a run whose rows are all in its cache."""
    run = RunPaths(root)
    for number in range(cells):
        results.write_row(run.trial(f"{number:012x}"), row(f"{number:012x}", status="ok"))
    settle(run)
    assert results.compact_rows(run) == cells
    return run


def test_a_cached_row_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    results.write_row(run.trial("0" * 12), row("0" * 12, status="failed"))
    (tmp_path / "trials" / f"{1:012x}" / "result.json").unlink()
    read: list[str] = []
    whole = results.read_rows
    monkeypatch.setattr(results, "read_rows", lambda at: read.append(at.root.name) or whole(at))
    cells = [f"{number:012x}" for number in range(20)]
    frame = fgaug.load_results(run.root)
    assert read == ["0" * 12]
    assert sorted(frame["cell_id"]) == [cells[0], *cells[2:]]
    statuses = results.statuses_of(run, cells)
    assert read == ["0" * 12] * 2
    assert statuses == {cells[0]: "failed"} | dict.fromkeys(cells[2:], "ok")
    assert results.damaged(run, cells) == []


def test_a_row_written_just_now_stays_out_of_the_cache(tmp_path: Path) -> None:
    """A second write within one tick of the clock could leave the file's size and time alike."""
    run = made(tmp_path)
    fresh = run.trial(f"{77:012x}")
    results.write_row(fresh, row(f"{77:012x}"))
    before = run.row_cache.read_bytes()
    assert results.compact_rows(run) == 20
    assert run.row_cache.read_bytes() == before
    assert len(fgaug.load_results(run.root)) == 21


def test_a_cache_with_any_byte_changed_is_ignored(tmp_path: Path) -> None:
    run = made(tmp_path, 6)
    expected, whole = from_json(run), run.row_cache.read_bytes()
    cells = [f"{number:012x}" for number in range(12)]
    rng = random.Random(1)
    for place in [*range(0, 60), *rng.sample(range(len(whole)), 150)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        run.row_cache.write_bytes(changed)
        assert_frame_equal(fgaug.load_results(run.root), expected)
        assert results.statuses_of(run, cells) == dict.fromkeys(cells[:6], "ok")
    for length in (0, 1, 50, 400, len(whole) - 1):
        run.row_cache.write_bytes(whole[:length])
        assert_frame_equal(fgaug.load_results(run.root), expected)
    assert results.compact_rows(run) == 6  # repairs it
    assert run.row_cache.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]", b"fgaug rows 0\n", b"\x00" * 2000])
def test_a_foreign_file_is_ignored_and_replaced(tmp_path: Path, content: bytes) -> None:
    run = made(tmp_path, 3)
    run.row_cache.write_bytes(content)
    assert len(fgaug.load_results(run.root)) == 3
    assert results.compact_rows(run) == 3
    assert row_cache.read_index(run).keys() == row_cache.result_states(run).keys()


def test_the_cache_of_another_run_is_of_no_use(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", 5), made(tmp_path / "other", 5)
    results.write_row(other.trial("0" * 12), row("0" * 12, status="failed", seed=99))
    settle(other)
    shutil.copy(one.row_cache, other.row_cache)
    assert_frame_equal(fgaug.load_results(other.root), from_json(other))


def test_a_cache_whose_index_and_rows_disagree_is_ignored(tmp_path: Path) -> None:
    run = made(tmp_path, 5)
    index, parquet = row_cache.read_parts(run)
    few = row_table.from_parquet(parquet).take(np.arange(4))
    for rows in (row_table.to_parquet(few), b"no Parquet"):
        row_cache.write(run, index, rows)
        assert_frame_equal(fgaug.load_results(run.root), from_json(run))


def test_a_damaged_row_is_refused_and_never_cached(tmp_path: Path) -> None:
    run = made(tmp_path, 3)
    for text in ("{", '{"schema": 1, "rows": [3]}', '{"schema": 1, "rows": []}'):
        run.trial("0" * 12).result.write_text(text)
        settle(run)
        assert results.compact_rows(run) == 0 or "0" * 12 not in row_cache.read_index(run)
        assert results.damaged(run, ["0" * 12]) == ["0" * 12]
    run.trial("0" * 12).result.write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        fgaug.load_results(run.root)


def test_the_status_of_a_run_reads_the_cache(tmp_path: Path) -> None:
    run = made(tmp_path, 12)
    cells = [f"{number:012x}" for number in range(14)]
    run.environment.write_text(json.dumps({"cells": cells}))
    results.write_row(run.trial(cells[3]), row(cells[3], status="failed", error="odd"))
    without = Path(shutil.copytree(tmp_path, tmp_path.parent / "copy"))
    (without / ".rows.cache").unlink()
    found, expected = status.read(run.root), status.read(without)
    assert (found.ok, found.failed, found.missing) == (11, 1, 2)
    assert (expected.ok, expected.failed, expected.missing) == (11, 1, 2)
    assert [each.error for each in found.failures] == ["odd"]
    assert found.newest_age_s == pytest.approx(expected.newest_age_s, abs=5)


def test_a_run_without_rows_has_no_cache(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    run.trials.mkdir()
    assert results.compact_rows(run) == 0
    assert not run.row_cache.exists()
    assert all_rows.read(run, results.read_rows) is None
    assert fgaug.load_results(tmp_path).empty
