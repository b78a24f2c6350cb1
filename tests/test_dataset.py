"""Datasets on disk: identity by content, whole or refused, pixels in manifest order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fgaug.core.paths import DatasetPaths
from fgaug.data import Dataset, dataset, open_dataset
from fgaug.data.dataset import digest_of
from fgaug.data.prepare import prepare
from fgaug.errors import DataError

N = 12


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


def source(root: Path, suffix: str = ".png", reverse: bool = False, **columns: object) -> Path:
    """Write twelve images of six patients and their table; return the table's path."""
    (root / "i").mkdir(parents=True)
    for number in range(N):
        pixels = np.random.RandomState(number).randint(0, 256, size=(20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "i" / f"n{number:02d}{suffix}")
    rows = {
        "image": [f"n{number:02d}{suffix}" for number in range(N)],
        "label": ["dbp", "trv"] * (N // 2),
        "patient": [number // 2 for number in range(N)],
        "device": ["GE", "Aplio", "GE"] * (N // 3),
        **columns,
    }
    table = pd.DataFrame(rows)
    table.iloc[:: -1 if reverse else 1].to_csv(root / "L.csv", index=False)
    return root / "L.csv"


def prepared(out: Path, csv: Path, **options: object) -> Dataset:
    given = {"group_col": "patient", "stratum_cols": ["device"], "size": 8, **options}
    return prepare(out=out, csv=csv, images=csv.parent / "i", **given)


@pytest.fixture
def made(tmp_path: Path) -> Dataset:
    return prepared(tmp_path / "d", source(tmp_path / "s"))


def test_what_is_written_is_read(made: Dataset) -> None:
    again = open_dataset(made.root)
    assert again.spec == made.spec
    assert again.manifest.equals(made.manifest)
    assert list(again.manifest) == [
        "image_id",
        "label",
        "group",
        "device",
        "split",
        "gan",
        "sha256",
        "source",
    ]
    assert again.spec.labels == ("dbp", "trv")
    assert again.spec.sizes["height"] == {"min": 20, "median": 20.0, "max": 20}
    assert len(again) == N


def test_pixels_follow_the_manifest(made: Dataset) -> None:
    pixels = made.pixels()
    assert pixels.shape == (N, 8, 8, 1)
    assert pixels.dtype == np.uint8
    assert isinstance(pixels, np.memmap)
    first = np.random.RandomState(0).randint(0, 256, size=(20, 20), dtype=np.uint8)
    expected = Image.fromarray(first).resize((8, 8), Image.Resampling.LANCZOS)
    assert (pixels[0, ..., 0] == np.asarray(expected)).all()


def test_many_parts(tmp_path: Path, made: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [made.pixels()[first : first + 2] for first in range(0, N, 2)]
    monkeypatch.setattr(dataset, "PART_BYTES", 300)
    again = dataset.write_dataset(tmp_path / "parts", made.spec, made.manifest, blocks)
    files = sorted((tmp_path / "parts" / "pixels").iterdir())
    assert len(files) == 2  # six images of 64 bytes reach 300 bytes
    ids = [name for file in files for name in pq.read_table(file)["image_id"].to_pylist()]
    assert ids == made.manifest["image_id"].tolist()
    assert again.spec.digest == made.spec.digest
    assert (again.pixels() == made.pixels()).all()


def test_tables_are_plain_parquet(made: Dataset) -> None:
    frame = pd.read_parquet(DatasetPaths(made.root).manifest)
    assert frame["group"].dtype == np.int64
    assert frame["gan"].dtype == bool


class TestDigest:
    """Identity by content."""

    def test_order_encoding_and_place_do_not_matter(self, tmp_path: Path, made: Dataset) -> None:
        reversed_rows = prepared(tmp_path / "r", source(tmp_path / "sr", reverse=True))
        encoded = prepared(tmp_path / "e", source(tmp_path / "se", suffix=".bmp"))
        shutil.move(made.root, tmp_path / "moved")
        moved = open_dataset(tmp_path / "moved")
        digests = {each.spec.digest for each in (made, reversed_rows, encoded, moved)}
        assert len(digests) == 1

    def test_order_of_manifest_rows_does_not_matter(self, made: Dataset) -> None:
        spec = made.spec
        rest = {"size": 8, "channels": 1, "crop": None, "resize_filter": spec.resize_filter}
        shuffled = made.manifest.sample(frac=1, random_state=1)
        assert digest_of(shuffled, strata=spec.strata, **rest) == spec.digest
        assert digest_of(made.manifest, strata=(), **rest) != spec.digest

    @pytest.mark.parametrize(
        "change",
        [
            {"label": ["trv", "dbp"] * (N // 2)},
            {"patient": [number // 3 for number in range(N)]},
            {"patient": [f"p{number // 2}" for number in range(N)]},
            {"device": ["GE"] * N},
        ],
    )
    def test_rows_matter(self, tmp_path: Path, made: Dataset, change: dict[str, object]) -> None:
        other = prepared(tmp_path / "o", source(tmp_path / "so", **change))
        assert other.spec.digest != made.spec.digest

    @pytest.mark.parametrize(
        "change", [{"size": 9}, {"channels": 3}, {"valid": 0.3}, {"extend": True}, {"seed": 1}]
    )
    def test_settings_matter(
        self, tmp_path: Path, made: Dataset, change: dict[str, object]
    ) -> None:
        other = prepared(tmp_path / "o", tmp_path / "s" / "L.csv", **change)
        assert other.spec.digest != made.spec.digest

    def test_pixels_matter(self, tmp_path: Path, made: Dataset) -> None:
        path = tmp_path / "s" / "i" / "n03.png"
        pixels = np.array(Image.open(path))
        pixels[0, 0] ^= 1
        Image.fromarray(pixels).save(path)
        assert prepared(tmp_path / "o", tmp_path / "s" / "L.csv").spec.digest != made.spec.digest

    def test_renamed_images_are_the_same_set_in_another_order(
        self, tmp_path: Path, made: Dataset
    ) -> None:
        csv = source(tmp_path / "named")
        table = pd.read_csv(csv)
        for name in table["image"]:
            number = int(name[1:3])
            (csv.parent / "i" / name).rename(csv.parent / "i" / f"m{N - number:02d}.png")
        table["image"] = [f"m{N - number:02d}" for number in range(N)]
        table.to_csv(csv, index=False)
        other = prepared(tmp_path / "o", csv)
        assert other.spec.digest == made.spec.digest
        assert (other.pixels() == made.pixels()[::-1]).all()  # not the other's cached array


class TestRefusals:
    """Folders that are no dataset, or not whole."""

    def test_missing_and_unfinished(self, tmp_path: Path, made: Dataset) -> None:
        with pytest.raises(DataError, match="does not exist"):
            open_dataset(tmp_path / "none")
        DatasetPaths(made.root).manifest.unlink()
        with pytest.raises(DataError, match="not a finished dataset"):
            open_dataset(made.root)

    def test_another_schema(self, made: Dataset) -> None:
        path = DatasetPaths(made.root).spec
        raw = json.loads(path.read_text())
        path.write_text(json.dumps({**raw, "schema_version": 2}))
        with pytest.raises(DataError, match="schema version 2; this version of fgaug reads 1"):
            open_dataset(made.root)
        path.write_text(json.dumps({**raw, "sise": 8}))
        with pytest.raises(DataError, match="sise"):
            open_dataset(made.root)
        path.write_text("{")
        with pytest.raises(DataError, match="cannot be read as JSON"):
            open_dataset(made.root)

    def test_lost_and_damaged_pixels(self, made: Dataset) -> None:
        part = DatasetPaths(made.root).pixels(0)
        data = part.read_bytes()
        part.write_bytes(data[:-10])
        with pytest.raises(DataError, match="damaged"):
            open_dataset(made.root)
        part.unlink()
        with pytest.raises(DataError, match="12 images in its manifest and 0 in pixels"):
            open_dataset(made.root)

    def test_pixels_of_other_bytes(
        self, made: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "another machine"))
        part = DatasetPaths(made.root).pixels(0)
        data = bytearray(part.read_bytes())
        middle = len(data) // 3  # the file holds little but pixels
        data[middle : middle + 40] = bytes(255 - byte for byte in data[middle : middle + 40])
        part.write_bytes(data)
        with pytest.raises(DataError, match="not a valid pixel file"):
            open_dataset(made.root).pixels()

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("x")
        with pytest.raises(DataError, match="is a file, not a dataset folder"):
            open_dataset(tmp_path / "x")

    def test_an_edited_manifest(self, made: Dataset) -> None:
        path = DatasetPaths(made.root).manifest
        made.manifest.assign(split="train").to_parquet(path, index=False)
        with pytest.raises(DataError, match="was changed after it was prepared"):
            open_dataset(made.root)
        made.manifest.drop(columns="gan").to_parquet(path, index=False)
        with pytest.raises(DataError, match="has no column gan"):
            open_dataset(made.root)

    def test_a_finished_dataset_is_kept(self, tmp_path: Path, made: Dataset) -> None:
        before = DatasetPaths(made.root).manifest.stat().st_mtime_ns
        again = prepared(made.root, tmp_path / "s" / "L.csv")
        assert again.spec == made.spec
        assert DatasetPaths(made.root).manifest.stat().st_mtime_ns == before
        with pytest.raises(DataError, match="already holds another dataset"):
            prepared(made.root, tmp_path / "s" / "L.csv", size=16)
        assert open_dataset(made.root).spec == made.spec

    def test_an_unfinished_dataset_is_written_anew(self, tmp_path: Path, made: Dataset) -> None:
        files = DatasetPaths(made.root)
        files.manifest.unlink()
        shutil.copy(files.pixels(0), files.pixels(7))
        again = prepared(made.root, tmp_path / "s" / "L.csv", size=16)
        assert again.spec.size == 16
        assert again.pixels().shape == (N, 16, 16, 1)

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "d").write_text("mine")
        with pytest.raises(DataError, match="is a file"):
            prepared(tmp_path / "d", source(tmp_path / "s"))
        assert (tmp_path / "d").read_text() == "mine"
