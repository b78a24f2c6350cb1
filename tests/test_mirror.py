"""Mirrors of a store: what is written below them is in the store, what is there comes back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fgaug.core import files, mirror, write_through
from fgaug.core.store import Entry, ObjectStore, Store, open_store
from fgaug.errors import StoreError


@pytest.fixture
def store(bucket: str) -> Store:
    return open_store(f"{bucket}/runs/x", StoreError)


def another_machine(store: Store, role: mirror.Role, cache: Path) -> Path:
    """Return a mirror below a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGAUG_CACHE", str(cache))
        return mirror.attach(store, role)


@pytest.fixture
def here(store: Store, tmp_path: Path) -> Path:
    return another_machine(store, "search", tmp_path / "here")


@pytest.fixture
def there(store: Store, tmp_path: Path) -> Path:
    return another_machine(store, "read", tmp_path / "there")


def test_a_file_is_in_the_store_before_it_appears(
    here: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_text(here / "plan.json", "one")
    assert store.open("plan.json").read() == b"one"

    def refuse(self: Store, name: str, path: Path) -> None:
        raise StoreError("unreachable")

    monkeypatch.setattr(ObjectStore, "upload", refuse)
    with pytest.raises(StoreError):
        files.write_text(here / "plan.json", "two")
    assert (here / "plan.json").read_text() == "one", "nothing appears that the store lacks"
    assert [path.name for path in here.iterdir()] == ["plan.json"], "and nothing is left behind"


def test_what_one_machine_writes_another_reads(here: Path, there: Path) -> None:
    files.write_text(here / "trials" / "a" / "result.json", "1")
    mirror.refresh(there)
    assert (there / "trials" / "a" / "result.json").read_text() == "1"
    files.write_text(here / "trials" / "a" / "result.json", "22")
    files.write_text(here / "space.yaml", "x")
    mirror.refresh(there)
    assert (there / "trials" / "a" / "result.json").read_text() == "22"
    files.remove(here / "trials" / "a" / "result.json")
    files.move(here / "space.yaml", here / "space.1.yaml")
    mirror.refresh(there)
    assert sorted(p.name for p in there.rglob("*") if p.is_file() and p.name[0] != ".") == [
        "space.1.yaml"
    ]


def test_what_is_the_same_is_not_fetched_again(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_text(here / "a.json", "1")
    files.write_text(here / "b.json", "1")
    mirror.refresh(there)
    fetched: list[str] = []
    download = ObjectStore.download

    def noted(self: ObjectStore, name: str, path: Path) -> None:
        fetched.append(name)
        download(self, name, path)

    monkeypatch.setattr(ObjectStore, "download", noted)
    mirror.refresh(there)
    assert fetched == []
    files.write_text(here / "b.json", "12")
    mirror.refresh(there)
    assert fetched == ["b.json"]


def test_large_files_come_when_they_are_read(here: Path, there: Path) -> None:
    files.write_text(here / "trials" / "a" / "checkpoint", "weights")
    mirror.refresh(there)
    checkpoint = there / "trials" / "a" / "checkpoint"
    assert checkpoint.read_bytes() == b""
    assert write_through.fetched(checkpoint).read_bytes() == b"weights"
    mirror.refresh(there)
    assert checkpoint.read_bytes() == b"weights", "what was fetched stays"


def test_a_file_written_while_a_refresh_lists_the_store_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = ObjectStore.entries

    def listed_before(self: ObjectStore, below: str) -> object:
        found = entries(self, below)
        time.sleep(0.05)
        files.write_text(here / "new.json", "1")
        return found

    monkeypatch.setattr(ObjectStore, "entries", listed_before)
    mirror.refresh(here)
    assert (here / "new.json").read_text() == "1"


def test_what_a_trial_sends_with_its_last_report(here: Path, there: Path, store: Store) -> None:
    for name in ("result.json", "curve.parquet", "checkpoint", "paused.json"):
        files.write_text(there / "trials" / "a" / name, name)
    mirror.receive(here / "trials" / "a", mirror.contents(there / "trials" / "a"))
    assert (here / "trials" / "a" / "result.json").read_text() == "result.json"
    assert (here / "trials" / "a" / "checkpoint").read_bytes() == b""
    files.remove(there / "trials" / "a" / "paused.json")
    mirror.receive(here / "trials" / "a", mirror.contents(there / "trials" / "a"))
    assert not (here / "trials" / "a" / "paused.json").exists()
    with_many = there / "trials" / "b"
    files.write_text(with_many / "predictions.parquet", "x" * 2_000_000)
    files.write_text(with_many / "result.json", "{}")
    assert mirror.contents(with_many) == {"predictions.parquet": b"", "result.json": b"{}"}


def test_a_folder_that_mirrors_nothing_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("1")
    mirror.refresh(tmp_path)
    mirror.forget(tmp_path)
    mirror.push(tmp_path)
    assert os.listdir(tmp_path) == ["result.json"]


class TestPacks:
    def test_packed_trials_have_no_objects_and_all_their_files(
        self, here: Path, there: Path, store: Store
    ) -> None:
        folders = [here / "trials" / name for name in ("a", "b")]
        for folder in folders:
            files.write_text(folder / "result.json", folder.name)
            files.write_text(folder / "curve.parquet", "curve")
        mirror.pack(folders)
        assert list(store.entries("")) == ["packs/000001.parquet"]
        mirror.refresh(there)
        assert (there / "trials" / "b" / "result.json").read_text() == "b"
        assert (here / "trials" / "b" / "result.json").read_text() == "b"
        mirror.refresh(here)
        assert (here / "trials" / "b" / "curve.parquet").read_text() == "curve"
        mirror.refresh(there)
        assert (there / "trials" / "a" / "curve.parquet").read_text() == "curve"

    def test_an_object_of_its_own_has_precedence(self, here: Path, there: Path) -> None:
        files.write_text(here / "trials" / "a" / "result.json", "old")
        mirror.pack([here / "trials" / "a"])
        files.write_text(here / "trials" / "a" / "result.json", "new")
        mirror.refresh(there)
        assert (there / "trials" / "a" / "result.json").read_text() == "new"

    def test_packs_add_up_and_are_read_once(
        self, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b"):
            files.write_text(here / "trials" / name / "result.json", name)
            mirror.pack([here / "trials" / name])
        mirror.refresh(there)
        assert sorted(path.name for path in (there / "trials").iterdir()) == ["a", "b"]
        monkeypatch.setattr("fgaug.core.packs._rows", lambda path: pytest.fail("read again"))
        mirror.refresh(there)

    def test_a_pack_written_during_a_listing_hides_no_trial(
        self, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files.write_text(here / "trials" / "a" / "result.json", "a")
        listed, late = ObjectStore.entries, [here / "trials" / "a"]

        def entries(self: ObjectStore, below: str) -> dict[str, Entry]:
            found = listed(self, below)
            if below == "" and late:  # past the packs, before the trials
                mirror.pack([late.pop()])
                return {}
            return found

        monkeypatch.setattr(ObjectStore, "entries", entries)
        mirror.refresh(there)
        assert (there / "trials" / "a" / "result.json").read_text() == "a"

    def test_a_large_file_is_fetched_before_it_is_packed(self, here: Path, there: Path) -> None:
        files.write_text(there / "trials" / "a" / "predictions.parquet", "numbers")
        mirror.refresh(here)
        assert (here / "trials" / "a" / "predictions.parquet").read_bytes() == b""
        mirror.pack([here / "trials" / "a"])
        mirror.refresh(there)
        assert (there / "trials" / "a" / "predictions.parquet").read_text() == "numbers"
