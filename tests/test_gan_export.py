"""Exports for other GAN programs: lossless, the same bytes each time, with their record."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_grid import phantom_dataset

from fgaug.cli import gan
from fgaug.data import Dataset, open_dataset
from fgaug.data.prepare import prepare
from fgaug.errors import DataError, DiskFullError
from gan_worker.training import export as gan_export
from gan_worker.training.export import export_training_images
from gan_worker.training.images import training_images


def export(*arguments: object) -> None:
    gan.app(["export", *map(str, arguments)], standalone_mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_dataset(tmp_path_factory.mktemp("gan-export"), test=0.2)


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    return open_dataset(folder)


def decoded(file: Path | io.BytesIO, mode: str = "L") -> np.ndarray:
    with Image.open(file) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        array = np.asarray(image)
    return array[..., None] if mode == "L" else array


def every(data: Dataset, *labels: str) -> np.ndarray:
    images = training_images(data, labels)
    return images.take(np.arange(len(images)))


class TestFolder:
    def test_every_image_is_there_as_it_is(
        self, folder: Path, data: Dataset, odd_root: Path, capsys: Any
    ) -> None:
        out = odd_root / "trv.images"
        export("--dataset", folder, "--label", "trv", "--out", out)
        pixels = every(data, "trv")
        files = sorted(out.iterdir())
        assert [file.name for file in files] == [f"img{n:08d}.png" for n in range(len(pixels))]
        for file, image in zip(files, pixels, strict=True):
            assert (decoded(file) == image).all()
        text = capsys.readouterr()
        assert text.out == f"{out}\n"
        assert f"trv, {len(pixels)} images\n" in text.err
        assert "class" not in text.err
        assert f"copy {odd_root / 'trv.images.trained_on.parquet'} to x.trained_on" in text.err
        assert sorted(path.name for path in odd_root.iterdir()) == [
            "trv.images",
            "trv.images.trained_on.parquet",
        ]

    def test_several_labels_have_classes(
        self, folder: Path, data: Dataset, tmp_path: Path, capsys: Any
    ) -> None:
        out = tmp_path / "both"
        export("--dataset", folder, "--label", "trv", "--label", "dbp", "--out", out)
        images = training_images(data, ["dbp", "trv"])
        described = json.loads((out / "dataset.json").read_bytes())
        assert described["classes"] == ["dbp", "trv"]
        assert described["labels"] == [
            [f"img{number:08d}.png", index] for number, index in enumerate(images.classes)
        ]
        for (name, _), image in zip(
            described["labels"], images.take(np.arange(len(images))), strict=True
        ):
            assert (decoded(out / name) == image).all()
        assert f"class 1: trv, {images.counts['trv']} images\n" in capsys.readouterr().err

    def test_colour(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for label in ("a", "b"):
            (tmp_path / "in" / label).mkdir(parents=True)
            for number in range(24):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "in" / label / f"{number}.png")
        prepare(out=tmp_path / "d", size=8, folders=tmp_path / "in")
        export_training_images(tmp_path / "d", ["b"], tmp_path / "o")
        pixels = every(open_dataset(tmp_path / "d"), "b")
        assert pixels.shape[3] == 3
        for number, image in enumerate(pixels):
            assert (decoded(tmp_path / "o" / f"img{number:08d}.png", "RGB") == image).all()

    def test_an_empty_folder_is_taken(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "o").mkdir()
        done = export_training_images(folder, ["dbp"], tmp_path / "o")
        assert len(list((tmp_path / "o").iterdir())) == done.counts["dbp"]

    def test_the_current_folder_is_taken(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = folder.absolute()
        (tmp_path / "o").mkdir()
        monkeypatch.chdir(tmp_path / "o")
        done = export_training_images(folder, ["dbp"], Path())
        assert len(list((tmp_path / "o").iterdir())) == done.counts["dbp"]
        assert done.record == tmp_path / "o.trained_on.parquet"


class TestZip:
    def test_every_image_is_there_as_it_is(
        self, folder: Path, data: Dataset, odd_root: Path
    ) -> None:
        out = odd_root / "both.zip"
        done = export_training_images(folder, ["dbp", "trv"], out)
        assert done.record == odd_root / "both.trained_on.parquet"
        with zipfile.ZipFile(out) as file:
            assert file.testzip() is None
            names = file.namelist()
            assert names == sorted(names)
            for info in file.infolist():
                assert info.compress_type == zipfile.ZIP_STORED
                assert info.date_time == (1980, 1, 1, 0, 0, 0)
            described = json.loads(file.read("dataset.json"))
            pixels = every(data, "dbp", "trv")
            assert len(described["labels"]) == len(pixels) == len(names) - 1
            for (name, _), image in zip(described["labels"], pixels, strict=True):
                assert (decoded(io.BytesIO(file.read(name))) == image).all()

    def test_the_same_images_give_the_same_bytes(self, folder: Path, tmp_path: Path) -> None:
        again = phantom_dataset(tmp_path, test=0.2)
        export_training_images(folder, ["dbp", "trv"], tmp_path / "1.zip")
        export_training_images(again, ["trv", "dbp"], tmp_path / "2.ZIP")
        assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.ZIP").read_bytes()

    def test_one_label_has_no_classes(self, folder: Path, tmp_path: Path) -> None:
        export_training_images(folder, ["dbp"], tmp_path / "1.zip")
        with zipfile.ZipFile(tmp_path / "1.zip") as file:
            assert {name[:3] for name in file.namelist()} == {"img"}


class TestRecord:
    def test_it_names_the_images_and_their_patients(
        self, folder: Path, data: Dataset, tmp_path: Path
    ) -> None:
        done = export_training_images(folder, ["trv"], tmp_path / "o")
        record = pd.read_parquet(done.record)
        expected = training_images(data, ["trv"]).table
        assert record.equals(expected[["sha256", "group", "label"]])

    def test_it_is_of_the_split_asked_for(
        self, folder: Path, data: Dataset, tmp_path: Path
    ) -> None:
        export("--dataset", folder, "--label", "trv", "--out", tmp_path / "o", "--split", 3)
        record = pd.read_parquet(tmp_path / "o.trained_on.parquet")
        expected = training_images(data.with_split(3), ["trv"]).table
        assert record["sha256"].equals(expected["sha256"])

    def test_gan_flags_decide(self, tmp_path: Path) -> None:
        folder = phantom_dataset(tmp_path, images=120, extend=True)
        table = open_dataset(folder).manifest
        done = export_training_images(folder, ["trv"], tmp_path / "o")
        flagged = table[table["gan"] & (table["label"] == "trv")]
        assert done.counts == {"trv": len(flagged)}
        assert set(pd.read_parquet(done.record)["sha256"]) == set(flagged["sha256"])
        assert len(flagged) < ((table["split"] == "train") & (table["label"] == "trv")).sum()


class TestRefusals:
    def test_what_is_there_stays(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").write_text("mine")
        (tmp_path / "o.zip").write_text("mine")
        (tmp_path / "plain").write_text("mine")
        (tmp_path / "seen.trained_on.parquet").write_text("mine")
        (tmp_path / "d.zip").mkdir()
        for name, words in {
            "full": r"full is not empty\. Give a new folder, or a new file",
            "o.zip": r"o\.zip exists",
            "plain": "plain exists",
            "d.zip": r"d\.zip exists",
            "seen": r"seen\.trained_on\.parquet exists: it is the record of another",
            "seen.zip": r"seen\.trained_on\.parquet exists",
        }.items():
            with pytest.raises(DataError, match=words):
                export_training_images(folder, ["dbp"], tmp_path / name)
        assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"mine"}

    def test_the_command_ends_with_2(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(DataError) as refused:
            export("--dataset", folder, "--label", "dpb", "--out", tmp_path / "o")
        assert refused.value.exit_code == 2
        assert 'did you mean "dbp"?' in str(refused.value)
        with pytest.raises(DataError, match=r"--split must be `dataset`, a seed from 0 .* got -1"):
            export("--dataset", folder, "--label", "dbp", "--out", tmp_path / "o", "--split=-1")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["o", "o.zip"])
    def test_a_full_disk_leaves_nothing(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        encode, made = gan_export._png, []

        def full(pixels: np.ndarray) -> bytes:
            made.append(pixels)
            if len(made) > 5:
                raise OSError(28, "No space left on device")
            return encode(pixels)

        monkeypatch.setattr(gan_export, "_png", full)
        with pytest.raises(DiskFullError):
            export_training_images(folder, ["dbp"], tmp_path / name)
        assert not list(tmp_path.iterdir())
        monkeypatch.setattr(gan_export, "_png", encode)
        export_training_images(folder, ["dbp"], tmp_path / name)
