"""Runs at a URI: locks, messages and readers, against a real S3 server on loopback."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from small_grid import phantom_dataset, write_grid

import fgaug as library
from fgaug.core import lease, mirror
from fgaug.core.store import open_store
from fgaug.errors import RunError, StoreError
from fgaug.runs import looks, results, run_lock
from fgaug.runs.place import mirrored, run_at, run_of_search
from fgaug.study import planner


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_S", 0.1)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "STALE_S", 3.0)


@pytest.fixture
def run_uri(bucket: str, quick: None) -> str:
    return f"{bucket}/runs/x"


def row(cell: str, seed: int) -> dict[str, Any]:
    return {"cell_id": cell, "arm_id": "a", "mode": "baseline", "seed": seed, "status": "ok"}


class TestLocks:
    def test_a_second_search_is_refused_while_the_first_lives(self, run_uri: str) -> None:
        run = run_of_search(run_uri, "x")
        busy = pytest.raises(RunError, match="in use by another search")
        with run_lock.held(run), busy, run_lock.held(run):
            pytest.fail("two searches hold one run")
        with run_lock.held(run):
            (owner,) = run_lock.holders(run)
        assert owner[0].startswith("process ")
        assert not list(run_lock.holders(run))

    def test_shards_share_a_run_and_exclude_the_whole_grid(self, run_uri: str) -> None:
        run = run_of_search(run_uri, "x")
        with run_lock.held(run, "1-of-2"):
            with run_lock.held(run, "2-of-2"):
                pass
            for part in ("1-of-2", None):
                with pytest.raises(RunError, match="in use"), run_lock.held(run, part):
                    pytest.fail("excluded")
        busy = pytest.raises(RunError, match="in use")
        with run_lock.held(run), busy, run_lock.held(run, "2-of-2"):
            pytest.fail("excluded")

    def test_a_search_that_died_elsewhere_is_followed(
        self, run_uri: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = run_of_search(run_uri, "x")
        entry = {"process": 1, "host": "elsewhere", "token": "a", "beat": 3}
        store = mirror.store_at(run.root)
        store.write(f"{mirror.LOCKS}/search.lock", json.dumps(entry).encode())
        with run_lock.held(run):
            pass
        told = [record.getMessage() for record in caplog.records if record.name == "fgaug"]
        (waiting,) = told
        assert "was last held by process 1 on elsewhere; checking for up to 3 s" in waiting

    def test_looks_are_counted_once_each(self, run_uri: str) -> None:
        run = run_of_search(run_uri, "x")
        threads = [
            threading.Thread(target=looks.open_test, args=(mirrored(run_uri, role), ["arm"], role))
            for role in ("search", "read", "trials")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        mirror.refresh(run.root)
        assert [look.number for look in looks.looks_of(run)] == [1, 2, 3]


class TestReading:
    def test_rows_of_a_run_at_a_uri(self, run_uri: str) -> None:
        run = run_of_search(run_uri, "x")
        for seed in (1, 2):
            results.write_row(run.trial(f"c{seed}"), row(f"c{seed}", seed))
        found = library.load_results(run_uri)
        assert found["seed"].tolist() == [1, 2]
        results.write_row(run.trial("c3"), row("c3", 3))
        assert len(library.load_results(run_uri)) == 3

    @pytest.mark.parametrize("command", ["status", "results", "report", "replay"])
    def test_there_is_no_run(self, command: str, bucket: str, fgaug: Any) -> None:
        more = ("abc",) if command == "replay" else ()
        code, _, err = fgaug(command, f"{bucket}/nothing", *more)
        assert code == 2
        assert f"{bucket}/nothing is not a run" in err
        assert "Give the folder" in err

    def test_a_uri_that_pathlib_has_changed(self) -> None:
        with pytest.raises(RunError, match="has lost a slash"):
            run_at(Path("s3://bucket/runs/x"))


class TestMessages:
    def test_no_bucket(self, bucket: str, tmp_path: Path, fgaug: Any) -> None:
        phantom_dataset(tmp_path)
        grid = write_grid(tmp_path)
        code, _, err = fgaug("search", grid, "--out", f"{bucket}-other/x", "--no-dashboard")
        assert code == 2
        assert "The bucket does not exist: create it, or correct the address" in err

    def test_secrets_stay_out(self, bucket: str) -> None:
        name = bucket.removeprefix("s3://")
        run = run_of_search(f"s3://me:not-to-be-shown@{name}/x?region=us-east-1", "x")
        assert run.place == f"s3://{name}/x"
        assert "not-to-be-shown" not in repr(run)
        assert "not-to-be-shown" not in str(run.root)

    def test_no_server(self, bucket: str, monkeypatch: pytest.MonkeyPatch, fgaug: Any) -> None:
        monkeypatch.setattr("fgaug.core.store.PATIENCE_S", 0.5)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        code, _, err = fgaug("status", f"{bucket}/x")
        assert code == 2
        assert f"{bucket}/x cannot be reached" in err
        assert "Check the address, the credentials and the connection" in err


def test_a_plan_reads_and_writes_nothing_else(run_uri: str, tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    planned = planner.plan(write_grid(tmp_path), run_uri)
    assert planned.run.uri == run_uri
    assert not open_store(run_uri, StoreError).entries("")
