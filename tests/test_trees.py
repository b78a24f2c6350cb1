"""Trees of other people: splits above labels, masks beside images, files that are not read."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_model import kept_classifier

from fgaug.bank import open_bank
from fgaug.data import open_dataset
from fgaug.data.folders.tree import read_tree
from fgaug.data.ingest import Ingested, from_folders
from fgaug.data.presets import busi
from fgaug.errors import DataError
from fgaug.training.predict import predict

LABELS = ("cyst", "nodule")


def make(root: Path, *names: str) -> Path:
    """Write an image, or a file of a few bytes, for each name; images all differ."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg", ".bmp", ".tif", ".webp", ".pgm"):
            seed = zlib.crc32(name.encode())
            pixels = np.random.RandomState(seed).randint(0, 256, (9, 12)).astype(np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.write_bytes(b"\0" * 128 + b"DICM" if "dicom" in name else b"few bytes")
    return root


def crossed(upper: tuple[str, ...], lower: tuple[str, ...] = LABELS) -> list[str]:
    return [f"{a}/{b}/{a}-{b}-{n}.png" for a in upper for b in lower for n in range(2)]


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        from_folders(root, **options)
    return str(caught.value)


def counts(rows: Ingested, column: str = "label") -> dict[str, int]:
    return {str(name): int(count) for name, count in rows.table[column].value_counts().items()}


class TestSplits:
    """Folders that are splits are no labels."""

    @pytest.mark.parametrize(
        "upper",
        [
            ("train", "valid"),
            ("TRAIN", "Val", "TEST"),
            ("training", "validation", "testing"),
            ("trn", "dev", "tst"),
            ("train_set", "test_set"),
            ("Thyroid-train", "Thyroid-test"),
            ("imagesTr", "imagesTs"),
            ("1. Train", "2. Test"),
            ("train data", "eval data"),
            ("Train images", "Validation images"),
        ],
    )
    def test_splits_above_labels(self, tmp_path: Path, upper: tuple[str, ...]) -> None:
        text = refusal(make(tmp_path, *crossed(upper)))
        assert "are splits, not labels" in text
        assert f"Below them are cyst ({2 * len(upper)} images)" in text
        assert "--split-folders" in text
        assert "--label-level 2" in text

    @pytest.mark.parametrize(
        "upper", [("fold1", "fold2"), ("Fold 1", "Fold 2"), ("fold_0", "fold_1"), ("cv1", "cv2")]
    )
    def test_folds_above_labels(self, tmp_path: Path, upper: tuple[str, ...]) -> None:
        text = refusal(make(tmp_path, *crossed(upper)))
        assert "are folds, not labels. Below them are cyst (4 images)" in text
        assert "--label-level 2" in text
        assert "Folds are not a split" in refusal(tmp_path, split_folders=True)

    def test_splits_below_labels_and_in_a_folder_of_all(self, tmp_path: Path) -> None:
        below = make(tmp_path / "below", *crossed(LABELS, ("train", "val")))
        assert "(2 levels down) are splits, not labels. Above them are cyst" in refusal(below)
        assert counts(from_folders(below, split_folders=True)) == {"cyst": 4, "nodule": 4}
        inside = make(tmp_path / "in", *[f"all/{name}" for name in crossed(("train", "val"))])
        assert "--label-level 3" in refusal(inside)
        assert counts(from_folders(inside, split_folders=True)) == {"cyst": 4, "nodule": 4}
        folds = make(
            tmp_path / "folds",
            *[f"fold{n}/{x}" for n in (1, 2) for x in crossed(("train", "val"))],
        )
        assert "are folds" in refusal(folds)
        assert counts(from_folders(folds, label_level=3)) == {"cyst": 8, "nodule": 8}

    @pytest.mark.parametrize(
        "upper",
        [
            ("train", "val", "test"),
            ("Training", "Validation", "Testing"),
            ("a_trn", "a_dev", "a_tst"),
        ],
    )
    def test_taken_as_the_split(self, tmp_path: Path, upper: tuple[str, ...]) -> None:
        rows = from_folders(make(tmp_path, *crossed(upper)), split_folders=True)
        assert counts(rows, "split") == {"train": 4, "valid": 4, "test": 4}
        for name, split in zip(rows.table["source"], rows.table["split"], strict=True):
            assert ("train", "valid", "test")[upper.index(name.split("/")[0])] == split
        assert counts(rows) == {"cyst": 6, "nodule": 6}

    def test_images_outside_a_split_are_left_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make(tmp_path, *crossed(LABELS, ("train", "val")), "cyst/7.png", "8.png")
        assert len(from_folders(tmp_path, split_folders=True).table) == 8
        said = (
            "Skipped 2 images that are not in a label folder and a split folder: 8.png, cyst/7.png"
        )
        assert said in caplog.text
        assert "--label-level 2 is the level of the split" in refusal(
            tmp_path, split_folders=True, label_level=2
        )

    def test_images_folder_between(self, tmp_path: Path) -> None:
        names = [name.replace("/", "/images/", 1) for name in crossed(("train", "val"))]
        rows = from_folders(make(tmp_path, *names), split_folders=True)
        assert counts(rows) == {"cyst": 4, "nodule": 4}

    @pytest.mark.parametrize(
        ("upper", "said"),
        [
            (("train", "training"), "no folder for valid"),
            (("val", "test"), "no folder for train"),
            (("train", "val", "holdout"), 'folder "holdout" could mean valid or test'),
            (("site A", "site B"), "a level on which every folder is a split: site A, site B"),
        ],
    )
    def test_a_split_that_is_not_whole(
        self, tmp_path: Path, upper: tuple[str, ...], said: str
    ) -> None:
        assert said in refusal(make(tmp_path, *crossed(upper)), split_folders=True)

    def test_validation_patients_are_drawn_from_training_where_there_are_none(
        self, tmp_path: Path, fgaug: Any
    ) -> None:
        names = [f"{side}/{label}/{side}{n}.png" for side in ("Training", "Testing")
                 for label in ("cyst", "nodule") for n in range(8)]  # fmt: skip
        make(tmp_path / "set", *names)
        given = ("data", "prepare", "--folders", tmp_path / "set", "--size", 8, "--split-folders")
        code, _, err = fgaug(*given, "--out", tmp_path / "d", "--valid", 0.25)
        assert code == 0
        assert "16 training and 16 test images but no validation images" in " ".join(err.split())
        dataset = open_dataset(tmp_path / "d")
        table = dataset.manifest.set_index("image_id")
        assert table["split"].value_counts().to_dict() == {"test": 16, "train": 12, "valid": 4}
        assert (table["split"] == "test").tolist() == table.index.str.startswith(
            "Testing"
        ).tolist()
        assert dataset.spec.split == {
            "kind": "given",
            "column": "folders",
            "valid": 0.25,
            "seed": 19,
        }

    def test_pooled_or_as_labels_by_level(self, tmp_path: Path) -> None:
        make(tmp_path, *crossed(("train", "test")))
        assert counts(from_folders(tmp_path, label_level=2)) == {"cyst": 4, "nodule": 4}
        assert counts(from_folders(tmp_path, label_level=1)) == {"train": 4, "test": 4}
        assert "3 folders down: the images are only 2 deep" in refusal(tmp_path, label_level=3)

    def test_a_folder_beside_the_splits(self, tmp_path: Path) -> None:
        text = refusal(make(tmp_path, *crossed(("train", "test", "more"))))
        assert "and more beside them is not" in text

    @pytest.mark.parametrize("names", [("bus", "car", "train"), ("dev", "ops"), ("fold1", "flat")])
    def test_classes_that_are_called_so(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        make(tmp_path, *[f"{name}/{n}.png" for name in names for n in range(2)])
        assert counts(from_folders(tmp_path)) == dict.fromkeys(names, 2)

    def test_the_command(self, tmp_path: Path, fgaug: Any) -> None:
        make(tmp_path / "set", *crossed(("Train", "Val", "Test")))
        given = ("data", "prepare", "--folders", tmp_path / "set", "--size", 8)
        code, _, err = fgaug(*given, "--out", tmp_path / "d")
        assert code == 2
        assert "--split-folders" in err
        assert not (tmp_path / "d").exists()
        code, out, err = fgaug(*given, "--out", tmp_path / "d", "--split-folders")
        assert code == 0, err
        assert "train: 4 images" in out
        code, _, err = fgaug(*given, "--out", tmp_path / "e", "--split-folders", "--test", ".2")
        assert code == 2
        assert "do not apply" in err
        code, _, err = fgaug(
            "data",
            "prepare",
            "--preset",
            "phantom",
            "--size",
            8,
            "--out",
            tmp_path / "f",
            "--label-level=2",
        )
        assert code == 2
        assert "--label-level works only with --folders" in err


class TestTwoLevels:
    """Folders that all hold folders of the same names: which are the labels?"""

    @pytest.mark.parametrize("upper", [("Egypt", "Malawi"), ("2019", "2020"), ("GE", "Aplio")])
    @pytest.mark.parametrize("lower", [("benign", "malignant"), ("0", "1"), ("normal", "tumor")])
    def test_words_for_classes_below(
        self, tmp_path: Path, upper: tuple[str, ...], lower: tuple[str, ...]
    ) -> None:
        text = refusal(make(tmp_path, *crossed(upper, lower)))
        assert "If these are the labels" in text
        assert counts(from_folders(tmp_path, label_level=2)) == dict.fromkeys(lower, 4)

    @pytest.mark.parametrize(
        ("names", "level"),
        [
            (["GE/benign/1.png", "Aplio/malignant/2.png"], 2),
            (["GE/normal/1.png", "GE/tumour/2.png", "Aplio/normal/3.png"], 2),
            (["A/p1/benign/1.png", "A/p2/malignant/2.png", "B/p3/benign/3.png"], 3),
            (["A/left/grade 1/1.png", "A/right/grade 2/2.png", "B/left/grade 1/3.png"], 3),
        ],
    )
    def test_not_each_holds_every_class(
        self, tmp_path: Path, names: list[str], level: int
    ) -> None:
        text = refusal(make(tmp_path, *names))
        assert f"--label-level {level} if the lower are" in text
        assert len(counts(from_folders(tmp_path, label_level=level))) == 2

    @pytest.mark.parametrize(
        "names",
        [
            ["cyst/1/a.png", "cyst/2/a.png", "nodule/3/a.png", "nodule/4/a.png"],
            ["cyst/0/a.png", "cyst/2/a.png", "nodule/1/a.png", "nodule/4/a.png"],
            ["cyst/left/a.png", "nodule/right/a.png"],
            ["normal/case 1/a.png", "tumor/case 2/a.png"],
        ],
    )
    def test_what_lies_below_labels_raises_nothing(
        self, tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        from_folders(make(tmp_path, *names))
        assert "label-level" not in caplog.text

    @pytest.mark.parametrize(
        ("upper", "lower"), [(("benign", "malignant"), ("40X", "100X")), (LABELS, ("CC", "MLO"))]
    )
    def test_others_are_read_as_before_with_a_warning(
        self,
        tmp_path: Path,
        upper: tuple[str, ...],
        lower: tuple[str, ...],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        rows = from_folders(make(tmp_path, *crossed(upper, lower)))
        assert counts(rows) == dict.fromkeys(upper, 4)
        assert "The upper ones are used as labels" in caplog.text

    def test_patients_below_labels_raise_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = ["cyst/p1/1.png", "cyst/p2/1.png", "nodule/p3/1.png", "nodule/p4/1.png"]
        from_folders(make(tmp_path, *names))
        assert "same names" not in caplog.text

    @pytest.mark.parametrize("copy", ["brain_tumor_dataset", "Copy of set", "augmented"])
    def test_a_set_unpacked_twice(self, tmp_path: Path, copy: str) -> None:
        names = ("cyst/1.png", "nodule/2.png")
        make(tmp_path, *names, *(f"{copy}/{name}" for name in names))
        text = refusal(tmp_path)
        assert (
            f"the folder {copy} contains folders with the names of its siblings: cyst, nodule"
            in text
        )
        assert f"--folders '{tmp_path / copy}'" in text
        assert len(from_folders(tmp_path / copy).table) == 2, "the cure works"

    @pytest.mark.parametrize("above", ["a", "a/b", "a/b c/d"])
    def test_labels_further_down(self, tmp_path: Path, above: str) -> None:
        make(tmp_path, f"{above}/cyst/1.png", f"{above}/nodule/2.png")
        deep = above.count("/") + 2
        text = refusal(tmp_path)
        assert f"It contains cyst, nodule: give {tmp_path / above}, or --label-level" in text
        assert f"--label-level {deep}" in text
        assert counts(from_folders(tmp_path, label_level=deep)) == {"cyst": 1, "nodule": 1}

    def test_images_in_no_folder(self, tmp_path: Path) -> None:
        text = refusal(make(tmp_path, "1.png", "2.png"))
        assert "the images are in the folder itself" in text
        assert "--csv" in text

    @pytest.mark.parametrize("below", ["images", "x", ""])
    def test_splits_above_no_labels(self, tmp_path: Path, below: str) -> None:
        names = [f"{split}/{below}/{split}.png" for split in ("train", "val", "test")]
        text = refusal(make(tmp_path, *names))
        assert "there are no label folders" in text
        assert "--label-level" not in text, "it would lead to the next refusal"


class TestCompanions:
    """Masks and their kin are no training images."""

    @pytest.mark.parametrize(
        "name",
        [
            "scan 1_mask.png",
            "scan 1_mask_1.png",
            "scan 1_mask (2).bmp",
            "scan 1-Mask.tif",
            "scan 1 mask.png",
            "scan 1_seg.png",
            "scan 1_GT.png",
            "scan 1_gt_2.png",
            "scan 1_Annotation.png",
            "scan 1_segmentation.jpg",
            "scan 1.mask.png",
            "mask_scan 1.png",
            "scan 1_lesion.png",
            "scan 1_label.png",
            "scan 1Mask.png",
            "scan 1_ground_truth.png",
            "scan 1(mask).png",
            "scan 1_anno.bmp",
            "masks/scan 1.png",
            "GT/scan 1.png",
            "labels/scan 1.png",
            "Ground Truth/77.png",
            "annotations/scan 1_x.png",
            "mask images/0.png",
            "tumor_masks/5.png",
        ],
    )
    def test_left_out_and_named(
        self, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        make(tmp_path, "cyst/scan 1.png", f"cyst/{name}", "nodule/2.png")
        rows = from_folders(tmp_path)
        assert rows.table["image_id"].tolist() == ["cyst/scan 1", "nodule/2"]
        assert "Skipped 1 file that accompanies images" in caplog.text
        assert f"cyst/{name}" in caplog.text
        assert len(from_folders(tmp_path, with_companions=True).table) == 3

    @pytest.mark.parametrize(
        "name",
        [
            "lesion_12.png",
            "patient3_lesion.png",
            "label_3.png",
            "no_mask_4.jpg",
            "with_GTX.png",
            "unmasked.png",
            "segment_3.png",
            "labels/9.png",
            "x_tumor.png",
            "Set_with_GT/1.png",
            "no_mask/1.png",
            "masked man.png",
            "augmented_3.png",
        ],
    )
    def test_what_only_sounds_like_one(self, tmp_path: Path, name: str) -> None:
        make(tmp_path, f"cyst/{name}", "nodule/2.png", "nodule/12.png")
        assert read_tree(tmp_path).companions == ()

    def test_a_folder_of_masks_beside_the_labels(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make(tmp_path, "cyst/1.png", "nodule/2.png", "Masks/1.png", "GT/2.png", "GT/3.nii.gz")
        assert counts(from_folders(tmp_path)) == {"cyst": 1, "nodule": 1}
        assert "(2 in GT/, 1 in Masks/)" in caplog.text

    @pytest.mark.parametrize(
        ("image", "mask"),
        [
            ("train/images/7.png", "train/lung masks/7.png"),
            ("Lung Segmentation Data/images/7.png", "Lung Segmentation Data/lung masks/7.png"),
            ("7.png", "vessel masks/7.png"),
            ("test-image/7.png", "test-mask/7.jpg"),
            ("images/ISIC_7.png", "ISIC2018_GroundTruth_masks/ISIC_7.png"),
            ("7_rf1.png", "7_roi1.png"),
        ],
    )
    def test_a_folder_of_masks_with_other_words(
        self, tmp_path: Path, image: str, mask: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As in COVID-QU-Ex and TN3K; `infection masks` are no images of `lung masks`."""
        make(tmp_path, f"cyst/{image}", f"cyst/{mask}", "nodule/7 a.png")
        assert len(from_folders(tmp_path).table) == 2
        assert f"cyst/{mask}" in caplog.text

    @pytest.mark.parametrize("folder", ["with_mask", "no mask", "without GT", "masked"])
    def test_a_folder_that_only_sounds_like_one(self, tmp_path: Path, folder: str) -> None:
        make(tmp_path, f"cyst/{folder}/7.png", "cyst/images/7.png", "nodule/2.png")
        assert read_tree(tmp_path).companions == ()

    def test_two_folders_of_masks_without_images(self, tmp_path: Path) -> None:
        make(tmp_path, "cyst/lung masks/7.png", "cyst/infection masks/7.png", "nodule/2.png")
        assert read_tree(tmp_path).companions == ()

    def test_notes_in_a_folder_of_labels_are_no_images(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        notes = ("train/labels/train-cyst-0.txt", "test/labels/test-nodule-1.txt")
        make(tmp_path, *crossed(("train", "test")), *notes)
        from_folders(tmp_path, split_folders=True)
        assert "Skipped 2 files that accompany images" in caplog.text
        assert "--with-companions" not in caplog.text, "it would not make images of them"

    def test_a_label_of_masks_alone(self, tmp_path: Path) -> None:
        make(tmp_path, "cyst/1_seg.png", "cyst/2_seg.png", "nodule/2.png", "other/2.png")
        text = refusal(tmp_path)
        assert 'every image of label "cyst" (2) has the name of a mask' in text
        assert "--with-companions" in text

    def test_the_same_name_with_two_endings(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make(tmp_path, "cyst/1.jpg", "cyst/1.png", "nodule/2.png")
        assert len(from_folders(tmp_path).table) == 3
        assert "2 images differ only in the extension of their names" in caplog.text


class TestUnread:
    """What is not read is counted by ending, named, and refused if it is an image."""

    @pytest.mark.parametrize(
        ("name", "ending", "cure"),
        [
            ("7.dcm", ".dcm", "DICOM to PNG"),
            ("IM-0001 dicom", "without extension", "DICOM to PNG"),
            ("1.2.840.113 dicom.17", "without extension", "DICOM to PNG"),
            ("7.nii.gz", ".nii.gz", "Export slices"),
            ("7.MHA", ".mha", "Export slices"),
            ("7.heic", ".heic", "magick"),
            ("7.svs", ".svs", "Cut tiles"),
        ],
    )
    def test_images_of_other_formats(
        self,
        tmp_path: Path,
        name: str,
        ending: str,
        cure: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        make(tmp_path, "cyst/1.png", f"cyst/{name}", "nodule/2.png")
        text = refusal(tmp_path)
        assert f"1 image file is not supported (1 {ending}): cyst/{name}." in text
        assert cure in text
        assert "--skip-broken" in text
        assert len(from_folders(tmp_path, skip_unread=True).table) == 2
        assert f"Skipped: 1 image file is not supported (1 {ending})" in caplog.text

    def test_what_is_no_image_is_counted(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = ["read me.txt", "a.json", "b.json", "Thumbs.db", ".DS_Store", "film.AVI", "x.npz"]
        make(tmp_path, "cyst/1.png", "nodule/2.png", *[f"cyst/{name}" for name in names])
        make(tmp_path, "nodule/2.dcm", "__MACOSX/cyst/._1.png", "labels.csv")
        assert len(from_folders(tmp_path).table) == 2
        assert "Not read: 2 .json, 1 .csv, 1 .txt, 3 hidden files." in caplog.text
        assert "Not read: videos (1 .avi): cyst/film.AVI" in caplog.text
        assert "Not read: arrays (1 .npz): cyst/x.npz" in caplog.text
        assert "1 .dcm, each beside a supported image of the same name" in caplog.text

    def test_images_outside_the_labels_and_empty_folders(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make(tmp_path, "cyst/1.png", "nodule/2.png", "cover.png", "later/plan.txt")
        assert len(from_folders(tmp_path).table) == 2
        assert "Skipped 1 image that is not in a label folder: cover.png" in caplog.text
        assert "No images in folder later, so it is no label" in caplog.text

    def test_links(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        store = make(tmp_path / "store", "x/7.png")
        root = make(tmp_path / "set", "cyst/1.png", "nodule/2.png")
        (root / "cyst" / "more").symlink_to(store)
        (root / "nodule" / "again").symlink_to(root / "cyst")
        (root / "nodule" / "loop").symlink_to(root)
        rows = from_folders(root)
        assert rows.table["image_id"].tolist() == ["cyst/1", "cyst/more/x/7", "nodule/2"]
        assert "2 links to folders of the same tree: nodule/again, nodule/loop" in caplog.text

    def test_a_pipe_is_not_opened(self, tmp_path: Path) -> None:
        make(tmp_path, "cyst/1.png", "nodule/2.png")
        os.mkfifo(tmp_path / "cyst" / "pipe")
        assert len(from_folders(tmp_path).table) == 2

    def test_labels_that_look_alike(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make(tmp_path, "Cyst/1.png", "cyst/2.png", "nodule/3.png")
        assert len(counts(from_folders(tmp_path))) == 3
        assert '"Cyst" (1) and "cyst" (1)' in caplog.text

    def test_a_folder_in_the_folder(self, tmp_path: Path) -> None:
        make(tmp_path, "unpacked/cyst/1.png", "unpacked/nodule/2.png")
        text = refusal(tmp_path)
        assert f"It contains cyst, nodule: give {tmp_path / 'unpacked'}" in text


def test_busi_names_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for label in ("benign", "malignant", "normal"):
        make(tmp_path, *[f"{label}/{label} ({n}).png" for n in (1, 2)])
        make(tmp_path, f"{label}/{label} (1)_mask.png", f"{label}/{label} (1)_mask_1.png")
    make(tmp_path, "benign/notes.txt", "more/benign (1).png")
    assert len(busi(tmp_path).table) == 6
    assert "Skipped 6 files that accompany images (6 *_mask): benign/benign" in caplog.text
    assert "and 3 more" in caplog.text
    assert "Skipped 1 image outside the folders benign, malignant, normal" in caplog.text
    assert "Not read: 1 .txt" in caplog.text
    make(tmp_path, "normal/normal (3).dcm")
    with pytest.raises(DataError, match=r"1 image file is not supported \(1 .dcm\)"):
        busi(tmp_path)
    assert len(busi(tmp_path, skip_unread=True).table) == 6


def test_predict_reads_and_counts_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = kept_classifier(tmp_path / "trial")
    folder = make(tmp_path / "new", "a/1.png", "a/1_mask.png", "b.webp", "c.pgm", "notes.txt")
    frame = predict(model, folder)
    assert [Path(name).name for name in frame["image"]] == ["b.webp", "c.pgm", "1.png"]
    assert "Skipped 1 file that accompanies images (1 *_mask): a/1_mask.png" in caplog.text
    assert "Not read: 1 .txt" in caplog.text
    assert len(predict(model, [folder / "a" / "1_mask.png"])) == 1, "named, so asked for"
    make(folder, "d.heic")
    with pytest.raises(DataError, match="1 image file is not supported"):
        predict(model, folder)
    assert len(predict(model, folder, skip_broken=True)) == 3


class TestImport:
    """`bank import` reads the same files, and says what it does not."""

    def run(self, fgaug: Any, root: Path, *more: str) -> tuple[int, str, str]:
        folder = f"--folder=cyst={root / 'fakes'}"
        result: tuple[int, str, str] = fgaug(
            "bank", "import", root / "bank", folder, "--psi=0.7", *more
        )
        return result

    def square(self, root: Path, *names: str) -> None:
        for name in names:
            path = root / "fakes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.RandomState(len(name)).randint(0, 256, (16, 16)).astype(np.uint8)
            Image.fromarray(pixels).save(path)

    def test_formats(self, tmp_path: Path, fgaug: Any) -> None:
        names = ["seed1.png", "seed2.tif", "seed3.TIFF", "seed4.pgm", "seed5.jpg"]
        self.square(tmp_path, *names)
        code, out, err = self.run(fgaug, tmp_path)
        assert code == 0, err
        assert out == "cyst psi 0.7: 5 images\n"

    def test_what_is_left_out_is_said(self, tmp_path: Path, fgaug: Any) -> None:
        self.square(tmp_path, "seed1.png", "seed1_mask.png", "seed2.png", "old/seed9.png")
        make(tmp_path / "fakes", "log.txt")
        code, out, err = self.run(fgaug, tmp_path)
        assert code == 0, err
        assert out == "cyst psi 0.7: 2 images\n"
        said = " ".join(err.split())
        assert "Skipped 1 file that accompanies images (1 *_mask)" in said
        assert "not imported: 1 image in subfolders: old/seed9.png" in said
        assert "Not read: 1 .txt" in said

    def test_images_of_other_formats(self, tmp_path: Path, fgaug: Any) -> None:
        self.square(tmp_path, "seed1.png")
        make(tmp_path / "fakes", "seed2.dcm", "seed3.heic")
        code, _, err = self.run(fgaug, tmp_path)
        assert code == 2
        assert "1 image file is not supported (1 .dcm)" in err
        assert not (tmp_path / "bank").exists()

    def test_other_endings_of_a_pattern(self, tmp_path: Path, fgaug: Any) -> None:
        self.square(tmp_path, "seed1.png", "seed2.png", "seed3.bmp", "real7.png")
        code, out, err = self.run(fgaug, tmp_path, "--pattern=seed{seed}.png")
        assert code == 0, err
        assert out == "cyst psi 0.7: 2 images\n"
        assert (
            "1 file with a name that matches --pattern but a different extension: seed3.bmp"
            in " ".join(err.split())
        )
        assert set(open_bank(tmp_path / "bank").index()["z_seed"]) == {1, 2}
