"""Presets of public sets, on small folders with the odd names of the real ones."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgaug.data.prepare import prepare
from fgaug.data.presets import busi, fetal_planes
from fgaug.errors import DataError

HEADER = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
PLANES = ("Trans-thalamic", "Trans-ventricular", "Trans-cerebellum", "Other", "Not A Brain")


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (14, 18)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    """Return a folder as FETAL_PLANES_DB unpacks: 8 patients with an image of each plane."""
    source = tmp_path / "FETAL PLANES"
    lines = [HEADER]
    for number in range(40):
        patient, plane = number // 5 + 1, PLANES[number % 5]
        part = "Fetal brain" if number % 5 < 4 else "Fetal femur"
        name = f"Patient{patient:05d}_Plane3_{number % 5 + 1}_of_5"
        machine = ("Voluson E6", "Aloka")[patient % 2]
        lines.append(f"{name};{patient};{part};{plane};Op. {patient % 3};{machine};{patient % 2}")
        save(source / "Images" / f"{name}.png", number)
    (source / "FETAL_PLANES_DB_data.csv").write_bytes("\r\n".join([*lines, ""]).encode())
    return source


def edit(source: Path, old: str, new: str) -> None:
    table = source / "FETAL_PLANES_DB_data.csv"
    text = table.read_bytes().decode()
    assert old in text
    table.write_bytes(text.replace(old, new).encode())


class TestFetalPlanes:
    """FETAL_PLANES_DB: two planes of the brain by the thesis's labels."""

    def test_planes_patients_and_strata(
        self, planes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        dataset = prepare(out=tmp_path / "d", size=8, preset="fetal-planes", source=planes)
        table = dataset.manifest
        assert table["label"].value_counts().to_dict() == {"dbp": 8, "trv": 8}
        assert (table["label"] == "dbp").equals(table["image_id"].str.contains("_1_of_5"))
        assert sorted(table["group"].unique()) == list(range(1, 9)), "numbers stay numbers"
        assert dataset.spec.strata == ("operator", "machine")
        assert set(table["machine"]) == {"Voluson E6", "Aloka"}
        assert (table.groupby("group")["split"].nunique() == 1).all()
        assert dataset.spec.split["kind"] == "grouped", "the column `Train ` is not used"
        assert dataset.spec.channels == 1
        assert "8 dbp, 8 trv, uncropped; the thesis had 5311 dbp and 3436" in caplog.text
        assert "Do not compare results" in caplog.text

    def test_the_command(self, planes: Path, tmp_path: Path, fgaug: Any) -> None:
        given = ("data", "prepare", "--preset", "fetal-planes", planes, "--size", 8)
        code, out, err = fgaug(*given, "--out", tmp_path / "d", "--extend")
        assert code == 0, err
        assert "16 images of 8 groups" in out
        assert "with the gan flag" in out
        code, _, err = fgaug(*given, "--out", tmp_path / "e", "--split-col", "Train")
        assert code == 2
        assert "Column options belong to a label table" in err

    def test_another_folder_of_images(self, planes: Path) -> None:
        (planes / "Images").rename(planes / "crops")
        assert len(fetal_planes(planes, images="crops").table) == 16
        with pytest.raises(DataError, match="has no folder Images"):
            fetal_planes(planes)

    def test_a_folder_that_is_another_set(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            fetal_planes(tmp_path / "nowhere")
        assert "has no FETAL_PLANES_DB_data.csv and no folder Images" in str(caught.value)
        (tmp_path / "Images").mkdir()
        (tmp_path / "FETAL_PLANES_DB_data.csv").write_text("image,label\na,b\n")
        with pytest.raises(DataError, match='column "Image_name" is missing'):
            fetal_planes(tmp_path)

    def test_missing_images_are_listed(self, planes: Path) -> None:
        lost = planes / "Images" / "Patient00002_Plane3_2_of_5.png"
        lost.unlink()
        (planes / "Images" / "Patient00002_Plane3_3_of_5.png").unlink()  # no plane of ours
        with pytest.raises(DataError, match="1 image not found") as caught:
            fetal_planes(planes)
        assert lost.stem in str(caught.value)

    def test_planes_that_the_set_does_not_have(self, planes: Path) -> None:
        edit(planes, "Trans-cerebellum", "Trans-cerebelar")
        with pytest.raises(DataError, match="unknown planes: Trans-cerebelar"):
            fetal_planes(planes)
        edit(planes, "Trans-cerebelar", "Trans-cerebellum")
        edit(planes, "Trans-ventricular", "Other")
        with pytest.raises(DataError, match='no row has label "Trans-ventricular"'):
            fetal_planes(planes)

    def test_labels_to_keep(self, planes: Path) -> None:
        assert len(fetal_planes(planes, keep_labels=["trv", "dbp"]).table) == 16
        with pytest.raises(DataError, match="at least two labels are needed, there is only dbp"):
            fetal_planes(planes, keep_labels=["dbp"])
        with pytest.raises(DataError, match='has no label "femur"'):
            fetal_planes(planes, keep_labels=["dbp", "femur"])


def give_six_classes(source: Path) -> None:
    """Give each of the eight patients images of five of the six classes."""
    for patient in range(1, 9):
        last = ("Other", "Fetal femur")[patient % 2]
        classes = ("Fetal abdomen", "Fetal thorax", "Maternal cervix", last)
        for number, part in enumerate(classes, 2):
            was = "Fetal brain" if number < 5 else "Fetal femur"
            edit(source, f"{number}_of_5;{patient};{was}", f"{number}_of_5;{patient};{part}")


class TestPlanes:
    """`--planes`: more planes of the brain, or the six classes of the set."""

    def test_the_commands_of_the_page(
        self, planes: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
    ) -> None:
        give_six_classes(planes)
        planes.rename(planes.parent / "FETAL_PLANES")
        monkeypatch.chdir(planes.parent)
        page = Path(__file__).parent.parent / "docs" / "own-data.md"
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [
            line for line in text.splitlines() if line.startswith("fgaug") and "--planes" in line
        ]
        counted = []
        for line in lines:
            code, out, err = fgaug(*shlex.split(line)[1:])
            assert code == 0, err
            counted.append(out.splitlines()[0])
        assert "24 images of 8 groups" in counted[0]
        assert "40 images of 8 groups" in counted[1]

    def test_crops_to_the_boxes_of_a_detector(
        self, planes: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
    ) -> None:
        """Images of 18 x 14 px; one of the 16 has no box."""
        names = [path.name for path in sorted((planes / "Images").glob("*_[12]_of_5.png"))]
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), (2, 3, 12, 11), strict=True))
        boxes = pd.DataFrame({"image": names[1:], **corners})
        boxes.to_csv(planes.parent / "boxes.csv", index=False)
        planes.rename(planes.parent / "FETAL_PLANES")
        monkeypatch.chdir(planes.parent)
        page = Path(__file__).parent.parent / "docs" / "own-data.md"
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        (line,) = [
            line for line in text.splitlines() if "fetal-planes FETAL_PLANES/ --box" in line
        ]
        code, out, err = fgaug(*shlex.split(line)[1:])
        assert code == 0, err
        assert "15 images of 8 groups" in out
        assert "1 of 16 images without a box, left out" in " ".join(err.split())

    def test_labels_of_planes(self, planes: Path) -> None:
        four = ("trans-thalamic", "trans-ventricular", "trans-cerebellum", "other-brain")
        found = fetal_planes(planes, planes=four).table
        assert found["label"].value_counts().to_dict() == {
            "dbp": 8,
            "trv": 8,
            "trans-cerebellum": 8,
            "other-brain": 8,
        }
        pair = fetal_planes(planes, planes=four, keep_labels=["trv", "trans-cerebellum"]).table
        assert set(pair["label"]) == {"trv", "trans-cerebellum"}
        same = fetal_planes(planes, planes=("trans-ventricular", "trans-thalamic")).table
        assert same.equals(fetal_planes(planes).table)

    def test_the_six_classes(self, planes: Path) -> None:
        give_six_classes(planes)
        found = fetal_planes(planes, planes=["all"]).table["label"].value_counts().to_dict()
        every = ("fetal-brain", "fetal-abdomen", "fetal-thorax", "maternal-cervix")
        assert found == {**dict.fromkeys(every, 8), "fetal-femur": 4, "other": 4}
        edit(planes, "Maternal cervix", "Cervix")
        with pytest.raises(DataError, match="Plane has unknown planes: Cervix"):
            fetal_planes(planes, planes=["all"])

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["trans-thalamic"], "must name two or more planes, got trans-thalamic"),
            (["trans-thalamic", "transcerebellum"], 'did you mean "trans-cerebellum"'),
            (["trans-thalamic", "trans-thalamic"], "names a plane twice"),
            (["all", "trans-thalamic"], "--planes all stands alone"),
        ],
    )
    def test_wrong_planes(self, planes: Path, names: list[str], expected: str) -> None:
        with pytest.raises(DataError, match=expected):
            fetal_planes(planes, planes=names)

    def test_planes_of_another_set(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="--planes chooses from --preset fetal-planes"):
            prepare(out=tmp_path / "d", size=8, preset="phantom", planes=["all"])


@pytest.fixture
def breasts(tmp_path: Path) -> Path:
    """Return a folder as BUSI unpacks: six images a label, masks beside them."""
    source = tmp_path / "Dataset_BUSI_with_GT"
    for place, label in enumerate(("benign", "malignant", "normal")):
        for number in range(1, 7):
            stem = f"{label} ({number})"
            save(source / label / f"{stem}.png", 100 * place + number)
            save(source / label / f"{stem}_mask.png", 0)
    save(source / "benign" / "benign (4)_mask_1.png", 0)
    save(source / "malignant" / "malignant (2)_mask_2.png", 0)
    return source


class TestBusi:
    """BUSI: folders of images and masks, without patients."""

    def test_images_without_masks(
        self, breasts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "fgaug"):
            dataset = prepare(out=tmp_path / "d", size=8, preset="busi", source=breasts)
        table = dataset.manifest
        assert table["label"].value_counts().to_dict() == dict.fromkeys(dataset.spec.labels, 6)
        assert table["image_id"].tolist()[0] == "benign/benign (1)"
        assert table["group"].equals(table["image_id"])
        assert "every image is its own group" in caplog.text

    def test_labels_to_keep(self, breasts: Path, tmp_path: Path, fgaug: Any) -> None:
        keep = ("--keep-label", "benign", "--keep-label", "malignant")
        given = ("data", "prepare", "--preset", "busi", breasts, "--size", 8)
        code, out, err = fgaug(*given, *keep, "--out", tmp_path / "d")
        assert code == 0, err
        assert "12 images" in out
        assert "normal" not in out
        code, _, err = fgaug(*given, "--keep-label", "benigne", "--out", tmp_path / "e")
        assert code == 2
        assert 'BUSI has no label "benigne", did you mean "benign"?' in err
        with pytest.raises(DataError, match="names only benign"):
            busi(breasts, keep_labels=["benign"])
        code, _, err = fgaug(*given, "--images", "x", "--out", tmp_path / "e")
        assert code == 2
        assert "--preset busi takes no --images" in err

    def test_a_folder_that_is_another_set(self, breasts: Path) -> None:
        with pytest.raises(DataError) as caught:
            busi(breasts.parent)
        assert "no folder benign and no folder malignant and no folder normal" in str(caught.value)
        assert "Dataset_BUSI_with_GT" in str(caught.value)
        save(breasts / "benign" / "scan_7.png", 1)
        with pytest.raises(DataError, match=r"1 file with a name unlike .*: benign/scan_7.png"):
            busi(breasts)

    def test_a_folder_of_masks_alone(self, breasts: Path) -> None:
        for path in (breasts / "normal").glob("normal (?).png"):
            path.unlink()
        with pytest.raises(DataError, match='no images in the folder "normal"'):
            busi(breasts)

    def test_copies_across_the_split_are_refused(self, breasts: Path, tmp_path: Path) -> None:
        for number in range(2, 7):
            save(breasts / "normal" / f"normal ({number}).png", 201)
        with pytest.raises(DataError, match="in more than one split: normal/normal"):
            prepare(out=tmp_path / "d", size=8, preset="busi", source=breasts, copies="refuse")
        assert not (tmp_path / "d").exists()


def test_other_sets_read_as_before(tmp_path: Path) -> None:
    """Names for labels are a preset's alone: a label table keeps its own."""
    table = pd.DataFrame({"image": ["a", "b"], "label": ["Trans-thalamic", "x"]})
    table.to_csv(tmp_path / "L.csv", index=False)
    for name in table["image"]:
        save(tmp_path / "images" / f"{name}.png", 1 + len(name) * ord(name))
    from fgaug.data.ingest import from_csv

    rows = from_csv(tmp_path / "L.csv", tmp_path / "images", "image", "label")
    assert rows.table["label"].tolist() == ["Trans-thalamic", "x"]
