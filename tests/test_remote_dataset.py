"""Prepared datasets on an object store: opened on nodes, fetched once, never half."""

from __future__ import annotations

import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_grid import grid, phantom_dataset

from fgaug.core import cache, files, store
from fgaug.core.paths import within
from fgaug.core.store import ObjectStore
from fgaug.data import Dataset, open_dataset
from fgaug.data.dataset import write_dataset
from fgaug.data.stage import upload_of_dataset
from fgaug.errors import DataError, DiskFullError, GridError, UserError
from fgaug.grid.load import parse_space
from fgaug.runs.trial_inputs import dataset_at
from fgaug.study import planner

PIXELS = "pixels/part-00000.parquet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_dataset(tmp_path_factory.mktemp("prepared"), images=400, test=0.2)


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the test a node of its own, with an empty cache."""
    return on_node(tmp_path, "one", monkeypatch)


def on_node(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "node" / name))
    return tmp_path / "node" / name


def staged(folder: Path, place: str) -> str:
    upload_of_dataset(folder, store.open_store(place, DataError)).run()
    return place


@pytest.fixture
def parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the same dataset with its pixels in four files."""
    monkeypatch.setattr("fgaug.data.dataset.PART_BYTES", 1)
    whole = open_dataset(folder)
    blocks = np.split(np.asarray(whole.pixels()), 4)
    made = write_dataset(tmp_path / "parts", whole.spec, whole.manifest, blocks)
    assert len([*(made.root / "pixels").iterdir()]) == 4
    return made.root


@pytest.fixture
def uri(secret_bucket: str, folder: Path) -> str:
    return staged(folder, within(secret_bucket, "datasets/phantom"))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the files that are read from stores, by name."""
    found: Counter[str] = Counter()
    for method in ("read", "download"):
        inner = getattr(ObjectStore, method)

        def counted(self: ObjectStore, name: str, *rest: Any, inner: Any = inner) -> Any:
            answer = inner(self, name, *rest)
            found[name] += 1
            return answer

        monkeypatch.setattr(ObjectStore, method, counted)
    return found


class TestOpened:
    def test_the_same_as_in_its_folder(self, uri: str, folder: Path) -> None:
        local, there = open_dataset(folder), open_dataset(uri)
        assert there.spec == local.spec
        assert there.manifest.equals(local.manifest)
        assert (there.pixels() == local.pixels()).all()
        assert there.uri == uri
        assert there.place == uri.replace("key:secret@", "").split("?")[0]

    def test_pixels_when_needed_and_once_a_node(
        self, uri: str, fetched: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_dataset(uri)
        assert fetched == Counter(["files.json", "dataset.json", "manifest.parquet"])
        open_dataset(uri).pixels()
        open_dataset(uri).pixels()
        assert fetched.pop("files.json") == 3
        assert fetched == Counter(["dataset.json", "manifest.parquet", PIXELS])
        on_node(tmp_path, "two", monkeypatch)
        open_dataset(uri).pixels()
        assert fetched.pop("files.json") == 1
        assert set(fetched.values()) == {2}

    def test_side_by_side_fetched_once(self, uri: str, fetched: Counter[str]) -> None:
        found: list[np.ndarray] = []
        threads = [
            threading.Thread(target=lambda: found.append(open_dataset(uri).pixels()))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 4
        assert fetched.pop("files.json") == 4
        assert fetched == Counter(["dataset.json", "manifest.parquet", PIXELS])

    def test_several_parts(
        self,
        secret_bucket: str,
        parts: Path,
        folder: Path,
        node: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        on_node(node, "two", monkeypatch)
        there = open_dataset(staged(parts, within(secret_bucket, "parts"))).pixels()
        assert (there == open_dataset(folder).pixels()).all()

    def test_a_split_of_it(self, uri: str, folder: Path) -> None:
        one, other = (open_dataset(place).with_split(3) for place in (uri, folder))
        assert one.manifest.equals(other.manifest)
        assert one.uri == uri

    def test_copied_there_by_other_means(self, secret_bucket: str, folder: Path) -> None:
        to = store.open_store(within(secret_bucket, "plain"), DataError)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            to.upload(path.relative_to(folder).as_posix(), path)
        there = open_dataset(to.uri)
        assert (there.pixels() == open_dataset(folder).pixels()).all()


class TestRefused:
    """Each with one message, and nothing of it stays on the node."""

    def refused(self, place: str, words: str) -> None:
        with pytest.raises(DataError, match=words) as caught:
            open_dataset(place).pixels()
        assert "secret" not in str(caught.value)

    def test_no_dataset_there(self, secret_bucket: str) -> None:
        self.refused(
            within(secret_bucket, "nothing"), "There is no prepared dataset at s3://.*Correct"
        )
        nowhere = re.sub(r"@bucket-\w+", "@nowhere", secret_bucket)
        self.refused(within(nowhere, "x"), "the bucket does not exist")

    @pytest.mark.parametrize("name", ["manifest.parquet", PIXELS])
    def test_a_damaged_file(self, uri: str, folder: Path, node: Path, name: str) -> None:
        to = store.open_store(uri, DataError)
        good = (folder / name).read_bytes()
        to.write(name, good[:-40] + b"x" * 40)
        self.refused(uri, f"{name} is damaged: its SHA-256 is .* Stage the folder again")
        to.write(name, good[:-1])
        self.refused(uri, f"{name} is damaged: it has {len(good) - 1} bytes instead of")
        assert not [*node.glob("*.npy")]
        to.write(name, good)  # the cache kept nothing of it
        assert (open_dataset(uri).pixels() == open_dataset(folder).pixels()).all()

    @pytest.mark.parametrize("name", ["manifest.parquet", PIXELS])
    def test_a_missing_file(self, uri: str, name: str) -> None:
        store.open_store(uri, DataError).remove(name)
        self.refused(uri, f"{name} is missing")

    def test_a_damaged_listing(self, uri: str) -> None:
        store.open_store(uri, DataError).write("files.json", b'{"schema": 1')
        self.refused(uri, "files.json is damaged")

    def test_not_copied_to_its_end(self, secret_bucket: str, folder: Path) -> None:
        to = store.open_store(within(secret_bucket, "half"), DataError)
        to.upload("dataset.json", folder / "dataset.json")
        self.refused(to.uri, "manifest.parquet is missing")

    def test_parts_missing_without_a_listing(
        self, secret_bucket: str, parts: Path, node: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on_node(node, "two", monkeypatch)
        place = staged(parts, within(secret_bucket, "parts"))
        for name in ("files.json", "pixels/part-00001.parquet"):
            store.open_store(place, DataError).remove(name)
        self.refused(place, "has 400 images in its manifest and 300 in pixels/")

    def test_no_access(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(self: ObjectStore, name: str) -> None:
            self._reached(name, lambda: raise_(OSError("AWS Error ACCESS_DENIED: no")))

        monkeypatch.setattr(ObjectStore, "read", denied)
        self.refused(uri, "Access is denied: give credentials")

    def test_a_store_that_fails_in_the_middle(
        self, uri: str, node: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = open_dataset(uri)
        with monkeypatch.context() as patch:

            def broken(self: ObjectStore, name: str) -> None:
                self._reached(name, lambda: raise_(OSError("connection reset")))

            patch.setattr(ObjectStore, "read", broken)
            with pytest.raises(DataError, match=r"part-00000.*cannot be reached \(connection res"):
                opened.pixels()
        assert not [*node.glob("*.npy")]
        assert len(opened.pixels()) == 400

    def test_the_cache_disk_is_full(
        self, uri: str, node: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, **options: Any) -> Any:
            with files.disk_errors(path):
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files, "atomic_write", full)
            with pytest.raises(DiskFullError, match=f"cache {node} of .*set FGAUG_CACHE"):
                open_dataset(uri)
        opened = open_dataset(uri)
        with monkeypatch.context() as patch:
            patch.setattr(files, "atomic_write", full)
            with pytest.raises(DiskFullError, match=f"cache {node} of .*set FGAUG_CACHE"):
                opened.pixels()
        assert len(opened.pixels()) == 400

    def test_replaced_after_the_search_started(
        self, uri: str, folder: Path, tmp_path: Path
    ) -> None:
        digest = open_dataset(folder).spec.digest
        assert dataset_at(uri, digest).spec.digest == digest
        with pytest.raises(DataError, match="was replaced after the search started"):
            dataset_at(uri, "0" * 64)


def raise_(error: Exception) -> Any:
    raise error


class TestPlanned:
    def plan(self, tmp_path: Path, place: str) -> Any:
        return planner.plan(parse_space(grid(tmp_path, dataset=place)), tmp_path / "run")

    def test_the_same_cells(
        self, uri: str, folder: Path, tmp_path: Path, fetched: Counter[str]
    ) -> None:
        local, there = self.plan(tmp_path, str(folder)), self.plan(tmp_path, uri)
        assert [c.cell_id for c in there.cells] == [c.cell_id for c in local.cells]
        assert there.sources[None].dataset == uri
        assert local.sources[None].dataset == str(folder.resolve())
        assert PIXELS not in fetched  # a driver without a GPU need not hold the pixels
        assert "secret" not in there.space.to_yaml()

    def test_its_problems(self, secret_bucket: str, tmp_path: Path) -> None:
        with pytest.raises(GridError, match="`dataset`: There is no prepared dataset at s3://b"):
            self.plan(tmp_path, within(secret_bucket, "nothing"))


class TestCommands:
    def test_shown_without_the_secret(self, uri: str, fgaug: Any, tmp_path: Path) -> None:
        code, out, err = fgaug("data", "audit", uri)
        assert (code, "secret" in out + err) == (0, False), err
        assert out.startswith(f"{open_dataset(uri).place}: 400 images")
        code, out, err = fgaug("data", "sheet", uri, "--out", tmp_path / "sheet.png")
        assert code == 0, err
        assert (tmp_path / "sheet.png").is_file()


class TestLimits:
    """Copies make room for others, the least recently used first; running trials keep theirs."""

    def copy(self, name: str, size: int, age_s: float) -> Path:
        import os
        import time

        path = cache.fetched(name)
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x" * size)
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    def test_by_size(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        oldest, older = self.copy("a", 60_000, 9e4), self.copy("b", 60_000, 8e4)
        young = self.copy("c", 60_000, 60)
        monkeypatch.setenv("FGAUG_CACHE_GB", "0.00059")
        pixels = open_dataset(uri).pixels()  # 400 kB
        assert pixels.nbytes == 400 * 32 * 32
        assert (oldest.exists(), older.exists(), young.exists()) == (False, True, True)
        monkeypatch.setenv("FGAUG_CACHE_GB", "0.0001")
        with cache.making(young.with_name("d"), 10):
            assert (older.exists(), young.exists()) == (False, True)

    def test_by_age(self) -> None:
        old, young = self.copy("a", 10, 31 * 86400), self.copy("b", 10, 29 * 86400)
        assert cache.evict() == 10
        assert (old.exists(), young.exists()) == (False, True)

    def test_used_copies_are_young(self, uri: str, node: Path) -> None:
        import os

        open_dataset(uri).pixels()
        places = [*node.glob("*.npy"), *node.glob("fetched/*")]
        assert len(places) == 2
        for path in places:
            os.utime(path, (0, 0))
        open_dataset(uri).pixels()
        assert cache.evict() == 0
        assert all(path.exists() for path in places)

    def test_a_limit_that_is_none(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FGAUG_CACHE_GB", "lots")
        with pytest.raises(UserError, match="FGAUG_CACHE_GB must be a size in GB above 0"):
            open_dataset(uri)


def test_images_without_a_label(secret_bucket: str, tmp_path: Path, unlabelled: Dataset) -> None:
    there = open_dataset(staged(unlabelled.root, within(secret_bucket, "partly")))
    local, remote = unlabelled.everything(), there.everything()
    assert remote[0].equals(local[0])
    rows = np.arange(len(local[0]))
    assert (remote[1][rows] == local[1][rows]).all()
    assert there.unlabelled is not None
    assert there.unlabelled.place.endswith("/partly/unlabelled")


@pytest.fixture
def unlabelled(tmp_path: Path) -> Dataset:
    """Return a dataset with images without a label."""
    from PIL import Image

    from fgaug.data import make_phantom
    from fgaug.data.prepare import prepare

    made = make_phantom(60, size=32)
    (tmp_path / "img").mkdir()
    for name, pixels in zip(made.table["image_id"], made.images, strict=True):
        Image.fromarray(pixels[..., 0]).save(tmp_path / "img" / f"{name}.png")
    table = made.table.rename(columns={"image_id": "file"})
    table.loc[table.index % 3 == 0, "label"] = ""
    table[["file", "label", "group"]].to_csv(tmp_path / "labels.csv", index=False)
    columns = {"image_col": "file", "label_col": "label", "group_col": "group"}
    prepare(
        out=tmp_path / "partly",
        csv=tmp_path / "labels.csv",
        images=tmp_path / "img",
        size=32,
        unlabelled="keep",
        **columns,
    )
    return open_dataset(tmp_path / "partly")
