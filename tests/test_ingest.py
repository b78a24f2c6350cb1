"""Ingest: what is read, and what is refused, from real files in odd dialects and formats."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgaug.data.ingest import from_csv, from_folders
from fgaug.data.prepare import prepare
from fgaug.data.problems import refuse, shortened
from fgaug.data.reading import source_image, squares
from fgaug.data.reading.samples import BrokenImageError
from fgaug.data.reading.source_image import read_image
from fgaug.data.reading.squares import Box
from fgaug.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


def noise(seed: int, shape: tuple[int, ...] = (20, 24)) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, size=shape).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of four patients, as L.csv in `tmp_path` will say."""
    for number in range(8):
        save(tmp_path / "images" / f"scan {number}.png", noise(number))
    return tmp_path / "images"


def rows(count: int = 8) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"scan {number}" for number in range(count)],
            "label": ["dbp", "trv"] * (count // 2),
            "patient": [number // 2 + 7 for number in range(count)],
            "device": ["GE", "Aplio"] * (count // 2),
        }
    )


def write(tmp_path: Path, table: pd.DataFrame, sep: str = ",", encoding: str = "utf-8") -> Path:
    table.to_csv(tmp_path / "L.csv", sep=sep, index=False, encoding=encoding)
    return tmp_path / "L.csv"


def refusal(csv: Path, folder: Path, **columns: object) -> str:
    with pytest.raises(DataError) as caught:
        from_csv(csv, folder, "image", "label", **columns)
    return str(caught.value)


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_dialects(tmp_path: Path, folder: Path, sep: str, encoding: str) -> None:
    table = rows().assign(device="Gerät 1")
    csv = write(tmp_path, table, sep, encoding)
    read = from_csv(csv, folder, "image", "label", "patient", ["device"])
    assert read.table["image_id"].tolist() == table["image"].tolist()
    assert read.table["group"].tolist() == table["patient"].tolist()
    assert read.table["group"].dtype == np.int64
    assert set(read.table["device"]) == {"Gerät 1"}
    assert [file.path.name for file in read.files] == [f"scan {n}.png" for n in range(8)]


def test_blanks_around_names_and_values(tmp_path: Path, folder: Path) -> None:
    lines = [" image ; label ;patient "]
    lines += [f"  scan {n} ; {'dbp ' if n % 2 else ' trv'} ; p{n // 2} " for n in range(8)]
    (tmp_path / "L.csv").write_text("\n".join([*lines, " ; ; ", ""]))
    table = from_csv(tmp_path / "L.csv", folder, "image", "label", "patient").table
    assert sorted(set(table["label"])) == ["dbp", "trv"]
    assert sorted(set(table["group"])) == ["p0", "p1", "p2", "p3"]


def test_names_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"00{number}.png", noise(number))
    table = pd.DataFrame({"image": ["000", "001", "002", "003"], "label": ["0", "1", "0", "1"]})
    read = from_csv(write(tmp_path, table), tmp_path / "images", "image", "label")
    assert read.table["image_id"].tolist() == ["000", "001", "002", "003"]
    assert sorted(set(read.table["label"])) == ["0", "1"]


def test_groups_of_mixed_type_are_text(tmp_path: Path, folder: Path) -> None:
    table = rows().assign(patient=["1", "1", "x", "x", "2", "2", "3", "3"])
    read = from_csv(write(tmp_path, table), folder, "image", "label", "patient")
    assert read.table["group"].tolist() == ["1", "1", "x", "x", "2", "2", "3", "3"]


@pytest.mark.parametrize("name", ["a.PNG", "a.Jpg", "a.jpeg", "a.bmp", "a.tif", "a.TIFF"])
@pytest.mark.parametrize("written", ["a", "A", "exact"])
def test_extensions(tmp_path: Path, name: str, written: str) -> None:
    save(tmp_path / "i" / name, noise(1))
    save(tmp_path / "i" / "sub" / "b.png", noise(2))
    wanted = name if written == "exact" else written
    table = pd.DataFrame({"image": [wanted, r"sub\b"], "label": ["x", "y"]})
    read = from_csv(write(tmp_path, table), tmp_path / "i", "image", "label")
    assert read.table["image_id"].tolist() == ["a", "sub/b"]


def test_two_files_fit_a_name(tmp_path: Path) -> None:
    save(tmp_path / "i" / "a.png", noise(1))
    save(tmp_path / "i" / "a.bmp", noise(2))
    table = pd.DataFrame({"image": ["a"], "label": ["x"]})
    assert "match several files" in refusal(write(tmp_path, table), tmp_path / "i")
    both = pd.DataFrame({"image": ["a.png", "a.bmp"], "label": ["x", "y"]})
    read = from_csv(write(tmp_path, both), tmp_path / "i", "image", "label")
    assert read.table["image_id"].tolist() == ["a.bmp", "a.png"]


@pytest.mark.parametrize("escape", ["../secret", "a/../../secret", "..\\secret", "/etc/secret"])
def test_names_that_leave_the_folder(tmp_path: Path, folder: Path, escape: str) -> None:
    save(tmp_path / "secret.png", noise(1))
    table = rows()
    table.loc[0, "image"] = escape
    text = refusal(write(tmp_path, table), folder)
    assert "1 image outside" in text
    assert escape in text


def test_every_problem_at_once(tmp_path: Path, folder: Path) -> None:
    table = rows()
    table.loc[0, "image"] = "scan 77"
    table.loc[1, "label"] = None
    table.loc[2, "patient"] = None
    table.loc[3, "image"] = "../x"
    text = refusal(write(tmp_path, table), folder, group_col="patient")
    for part in ("4 problems", "scan 77", '1 row without "label": scan 1', "scan 2", "../x"):
        assert part in text


def test_long_lists_are_cut(tmp_path: Path, folder: Path) -> None:
    table = pd.DataFrame({"image": [f"no {n}" for n in range(25)], "label": "x"})
    text = refusal(write(tmp_path, table), folder)
    assert "25 images not found" in text
    assert "no 9 and 15 more" in text


def test_a_heading_counts_what_the_list_leaves_out() -> None:
    kinds = [*shortened([f"row {n}" for n in range(48)], "more rows"), "another problem"]
    with pytest.raises(DataError) as caught:
        refuse("t.csv", kinds, "Correct the rows.")
    lines = str(caught.value).splitlines()
    assert lines[0] == "t.csv: 49 problems"
    assert lines[-3:] == ["  - and 38 more rows", "  - another problem", "Correct the rows."]
    assert shortened(["a"] * 10) == ["a"] * 10


def test_missing_columns_come_with_near_names(tmp_path: Path, folder: Path) -> None:
    csv = write(tmp_path, rows().rename(columns={"patient": "Patient ID"}))
    text = refusal(csv, folder, group_col="patient_id", stratum_cols=["Device"])
    assert 'column "patient_id" is missing, did you mean "Patient ID"?' in text
    assert 'did you mean "device"?' in text


def test_an_image_listed_twice(tmp_path: Path, folder: Path) -> None:
    table = rows()
    same = table.iloc[[0]]
    other = table.iloc[[1]].assign(label="dbp", image="scan 1.png")
    text = refusal(write(tmp_path, pd.concat([table, same, other])), folder)
    assert "1 image is listed more than once with different labels: scan 1" in text
    assert "1 image is listed more than once: scan 0" in text


def test_rows_longer_than_the_header(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "L.csv").write_text("image,label\nscan 0,dbp\nscan 1,trv,x,y\n")
    assert "cannot be read as a table" in refusal(tmp_path / "L.csv", folder)


@pytest.mark.parametrize("text", ["", "\n", "image,label\n"])
def test_empty_tables(tmp_path: Path, folder: Path, text: str) -> None:
    (tmp_path / "L.csv").write_text(text)
    assert "L.csv" in refusal(tmp_path / "L.csv", folder)


def test_missing_table_or_folder(tmp_path: Path, folder: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "none.csv", folder)
    assert "does not exist" in refusal(write(tmp_path, rows()), tmp_path / "none")


def test_one_label_is_refused_and_labels_are_kept(tmp_path: Path, folder: Path) -> None:
    csv = write(tmp_path, rows().assign(label=["a", "b", "c", "a", "b", "c", "a", "b"]))
    assert "at least two labels" in refusal(csv, folder, keep_labels=["a"])
    assert 'no row has label "d"' in refusal(csv, folder, keep_labels=["a", "d"])
    kept = from_csv(csv, folder, "image", "label", keep_labels=["a", "b"]).table
    assert sorted(kept["label"]) == ["a", "a", "a", "b", "b", "b"]


@pytest.mark.parametrize("label", ["a/b", "..", "a\\b", ".hidden"])
def test_labels_that_cannot_name_folders(tmp_path: Path, folder: Path, label: str) -> None:
    table = rows()
    table.loc[0, "label"] = label
    assert "labels become names of folders" in refusal(write(tmp_path, table), folder)


def test_split_and_gan_columns(tmp_path: Path, folder: Path) -> None:
    table = rows().assign(
        set=["train", "Train", "val", "validation", "valid", "test", "val", "test"]
    )
    table["used"] = ["yes", "True", "0", "no", "false", "0", "0", "0"]
    csv = write(tmp_path, table)
    read = from_csv(csv, folder, "image", "label", split_col="set", gan_col="used").table
    assert read["split"].tolist() == ["train"] * 2 + ["valid"] * 3 + ["test", "valid", "test"]
    assert read["gan"].tolist() == [True, True, *[False] * 6]
    table.loc[0, "set"] = "dev"
    assert "split has unknown values: dev" in refusal(
        write(tmp_path, table), folder, split_col="set"
    )


def test_no_groups_is_a_warning(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fgaug"):
        read = from_csv(write(tmp_path, rows()), folder, "image", "label").table
    assert "every image is its own group" in caplog.text
    assert (read["group"] == read["image_id"]).all()


def test_folders(tmp_path: Path) -> None:
    for name in ("benign/a.png", "benign/more/b.bmp", "malignant/a.png", ".cache/x.png"):
        save(tmp_path / "set" / name, noise(len(name)))
    (tmp_path / "set" / "benign" / "notes.txt").write_text("not an image")
    table = from_folders(tmp_path / "set").table
    assert table["image_id"].tolist() == ["benign/a", "benign/more/b", "malignant/a"]
    assert table["label"].tolist() == ["benign", "benign", "malignant"]
    with pytest.raises(DataError, match="at least two labels"):
        from_folders(tmp_path / "set" / "benign")


class TestReading:
    """One file -> source pixels."""

    def test_grey_in_every_format(self, tmp_path: Path) -> None:
        pixels = noise(3)
        for name in ("a.png", "a.bmp", "a.tif"):
            assert (read_image(save(tmp_path / name, pixels))[..., 0] == pixels).all()
        assert read_image(save(tmp_path / "a.jpg", pixels)).shape == (20, 24, 1)

    def test_grey_stored_as_colour_is_grey(self, tmp_path: Path) -> None:
        grey = noise(3)
        found = read_image(save(tmp_path / "a.png", np.repeat(grey[..., None], 3, axis=2)))
        assert squares.image_sha256(found) == squares.image_sha256(grey[..., None])

    def test_colour_and_palette(self, tmp_path: Path) -> None:
        colour = noise(3, (20, 24, 3)) // 64 * 64
        assert (read_image(save(tmp_path / "a.png", colour)) == colour).all()
        palette = Image.fromarray(colour).quantize(200)
        palette.save(tmp_path / "p.png")
        expected = np.asarray(palette.convert("RGB"))
        assert (read_image(tmp_path / "p.png") == expected).all()

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bits_are_scaled_by_the_full_range(self, tmp_path: Path, suffix: str) -> None:
        values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
        found = read_image(save(tmp_path / f"a.{suffix}", values))
        assert found[..., 0].tolist() == [[0, 1, 128, 255]]

    def test_one_bit(self, tmp_path: Path) -> None:
        Image.fromarray(noise(1) > 127).save(tmp_path / "a.png")
        assert set(np.unique(read_image(tmp_path / "a.png"))) == {0, 255}

    def test_transparency_lies_over_black(self, tmp_path: Path) -> None:
        pixels = np.zeros((2, 2, 4), np.uint8)
        pixels[0, 0] = (200, 100, 50, 255)
        pixels[1, 1] = (200, 100, 50, 0)
        found = read_image(save(tmp_path / "a.png", pixels))
        assert found[0, 0].tolist() == [200, 100, 50]
        assert found[1, 1].tolist() == [0, 0, 0]

    def test_orientation_is_applied(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        Image.fromarray(noise(1)).save(tmp_path / "a.png", exif=exif)
        assert read_image(tmp_path / "a.png").shape == (24, 20, 1)

    def test_floating_point_and_frames_are_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
        first, second = Image.fromarray(noise(1)), Image.fromarray(noise(2))
        first.save(tmp_path / "many.tif", save_all=True, append_images=[second])
        with pytest.raises(BrokenImageError, match="floating-point"):
            read_image(tmp_path / "f.tif")
        with pytest.raises(BrokenImageError, match="2 frames"):
            read_image(tmp_path / "many.tif")

    def test_bombs_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(tmp_path / "a.png", noise(1))
        monkeypatch.setattr(source_image, "MAX_PIXELS", 100)
        with pytest.raises(BrokenImageError, match="24 x 20 pixels"):
            read_image(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(BrokenImageError, match="decompression bomb"):
            read_image(path)

    def test_other_formats_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(noise(1)).save(tmp_path / "a.png", format="SGI")
        with pytest.raises(BrokenImageError, match="not a PNG"):
            read_image(tmp_path / "a.png")


class TestGeometry:
    """Crops and sizes."""

    def test_resize_is_antialiased(self) -> None:
        stripes = np.zeros((64, 64, 1), np.uint8)
        stripes[:, ::2] = 200
        small = squares.resize_square(stripes, 16)
        assert small.shape == (16, 16, 1)
        assert np.abs(small[:, 2:-2].astype(int) - 100).max() < 10

    def test_grey_and_repeated_grey_resize_alike(self) -> None:
        grey = noise(1)[..., None]
        small = squares.resize_square(grey, 11)
        colour = squares.resize_square(squares.to_channels(grey, 3), 11)
        assert (colour == small).all()

    def test_crop_inside(self) -> None:
        pixels = noise(1, (50, 60))[..., None]
        box = Box(x=20, y=10, width=10, height=6, of_width=60, of_height=50)
        found = squares.crop_square(pixels, box, 0.4)
        assert (found == pixels[6:20, 18:32]).all()

    def test_crop_reflects_where_it_leaves_the_image(self) -> None:
        pixels = noise(1, (10, 10))[..., None]
        box = Box(x=0, y=3, width=4, height=4, of_width=10, of_height=10)
        found = squares.crop_square(pixels, box, 1.0)
        assert found.shape == (8, 8, 1)
        assert (found[:, 1] == found[:, 3]).all()  # column -1 is column 1
        assert (found[:, 2:] == pixels[1:9, :6]).all()

    def test_boxes_follow_a_resized_image(self) -> None:
        box = Box(x=100, y=50, width=40, height=20, of_width=200, of_height=100)
        scaled = box.scaled(50, 50)
        assert (scaled.x, scaled.y, scaled.width, scaled.height) == (25, 25, 10, 10)

    def test_boxes_of_another_image_are_found(self) -> None:
        good = {"x": 1, "y": 1, "width": 5, "height": 5, "of_width": 10, "of_height": 10}
        assert Box(**good).problem() is None
        assert "extends beyond" in str(Box(**{**good, "x": 8}).problem())
        assert "no area" in str(Box(**{**good, "width": 0}).problem())
        assert "numbers" in str(Box(**{**good, "y": float("nan")}).problem())


class TestPrepare:
    """From files to a dataset."""

    def test_broken_images_are_named_or_skipped(
        self, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        cut = folder / "scan 3.png"
        cut.write_bytes(cut.read_bytes()[:200])
        (folder / "scan 4.png").write_text("not an image")
        given = {
            "csv": write(tmp_path, rows()),
            "images": folder,
            "size": 8,
            "group_col": "patient",
        }
        with pytest.raises(DataError) as caught:
            prepare(out=tmp_path / "d", **given)
        assert "2 problems" in str(caught.value)
        assert "scan 3.png" in str(caught.value)
        assert "--skip-broken" in str(caught.value)
        assert not (tmp_path / "d").exists()
        assert "Skipped 2 images" not in caplog.text
        dataset = prepare(out=tmp_path / "d", **given, skip_broken=True)
        assert "Skipped 2 images" in caplog.text
        assert len(dataset) == 6
        assert "scan 3" not in dataset.manifest["image_id"].tolist()

    def test_grey_stays_one_channel_until_a_colour_image(
        self, tmp_path: Path, folder: Path
    ) -> None:
        given = {
            "csv": write(tmp_path, rows()),
            "images": folder,
            "size": 8,
            "group_col": "patient",
        }
        assert prepare(out=tmp_path / "grey", **given).spec.channels == 1
        colour = noise(9, (20, 24, 3))
        save(folder / "scan 4.png", colour)
        mixed = prepare(out=tmp_path / "mixed", **given)
        assert mixed.pixels().shape == (8, 8, 8, 3)
        assert (mixed.pixels()[0, ..., 0] == mixed.pixels()[0, ..., 2]).all()
        luma = prepare(out=tmp_path / "luma", **given, channels=1)
        expected = Image.fromarray(colour).convert("L").resize((8, 8), Image.Resampling.LANCZOS)
        assert (luma.pixels()[4, ..., 0] == np.asarray(expected)).all()

    def test_dim_images_are_a_warning(
        self, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(8):
            save(folder / f"scan {number}.png", noise(number).astype(np.uint16) * 16)
        prepare(out=tmp_path / "d", size=8, csv=write(tmp_path, rows()), images=folder)
        assert "12 bits" in caplog.text

    def test_bus_bra_layout(self, tmp_path: Path) -> None:
        lines = ["ID,Case,Pathology,Device,Width,Height,BBOX"]
        for number in range(8):
            label = ("benign", "malignant")[number % 2]
            name = f"bus_000{number}-l"
            lines.append(f'{name},{number // 2},{label},GE @10-14MHz,24,20,"[4,5,10,8]"')
            save(tmp_path / "crops_128" / f"{name}.png", noise(number, (12, 12)))
            save(tmp_path / "Images" / f"{name}.png", noise(number))
        (tmp_path / "bus_data.csv").write_text("\n".join(lines))
        given = {"preset": "bus-bra", "source": tmp_path, "size": 8}
        crops = prepare(out=tmp_path / "crops", **given)
        assert crops.spec.sizes["width"]["max"] == 12
        assert crops.spec.strata == ("device",)
        assert crops.manifest["group"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        cropped = prepare(out=tmp_path / "boxes", margin=0.4, **given)
        square = noise(0)[2:16, 2:16, None]
        assert (cropped.pixels()[0] == squares.resize_square(square, 8)).all()
        assert cropped.spec.crop is not None
        assert cropped.spec.crop["margin"] == 0.4
        with pytest.raises(DataError, match="already cropped"):
            prepare(out=tmp_path / "x", margin=0.4, images="crops_128", **given)
        (tmp_path / "bus_data.csv").write_text("\n".join(lines).replace("[4,5,10", "[4,5,40"))
        with pytest.raises(DataError, match="extends beyond its image"):
            prepare(out=tmp_path / "x", margin=0.4, **given)

    def test_a_public_set_needs_its_folder(self, tmp_path: Path) -> None:
        for preset in ("bus-bra", "fetal-planes", "busi"):
            with pytest.raises(DataError, match=f"--preset {preset} needs the folder"):
                prepare(out=tmp_path / "d", size=8, preset=preset)

    def test_arguments_are_checked(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="3 problems") as caught:
            prepare(out=tmp_path / "d", size=0, channels=2, preset="phantim")
        assert 'did you mean "phantom"?' in str(caught.value)
        with pytest.raises(DataError, match="One of --csv, --folders, --preset"):
            prepare(out=tmp_path / "d", size=8)
        with pytest.raises(DataError, match="--images"):
            prepare(out=tmp_path / "d", size=8, csv=tmp_path / "L.csv")

    def test_columns_need_a_table_and_a_given_split_needs_no_rule(
        self, tmp_path: Path, folder: Path
    ) -> None:
        with pytest.raises(DataError, match="belong to a label table"):
            prepare(out=tmp_path / "d", size=8, preset="phantom", split_col="split")
        csv = write(tmp_path, rows().assign(split=["train"] * 4 + ["valid"] * 4))
        given = {"csv": csv, "images": folder, "size": 8, "split_col": "split"}
        with pytest.raises(DataError, match="The split is given by a column"):
            prepare(out=tmp_path / "d", extend=True, **given)
        dataset = prepare(out=tmp_path / "d", **given)
        assert dataset.spec.split == {"kind": "given", "column": "split"}
        assert dataset.manifest["split"].tolist() == ["train"] * 4 + ["valid"] * 4

    def test_progress_is_reported(self, tmp_path: Path, folder: Path) -> None:
        calls: list[tuple[int, int]] = []
        prepare(
            out=tmp_path / "d",
            size=8,
            csv=write(tmp_path, rows()),
            images=folder,
            progress=lambda done, total: calls.append((done, total)),
        )
        assert calls == [(number, 8) for number in range(1, 9)]
