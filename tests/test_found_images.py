"""Names in a label table and where their images lie: found where one file fits, else told."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgaug.data.ingest import Ingested, from_csv
from fgaug.errors import DataError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg", ".tif"):
            pixels = np.random.RandomState(zlib.crc32(name.encode())).randint(0, 256, (9, 12))
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        else:
            path.write_bytes(b"\0" * 128 + b"DICM" if "dicom" in name else b"few bytes")
    return root


def read(root: Path, *names: str) -> Ingested:
    """Return the rows of a table with these names of images, of two labels in turn."""
    lines = [f'"{name}",{"ab"[number % 2]}' for number, name in enumerate(names)]
    (root.parent / "t.csv").write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    return from_csv(root.parent / "t.csv", root, "image", "label")


def sources(rows: Ingested) -> list[str]:
    return rows.table["source"].tolist()


def refusal(root: Path, *names: str) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *names)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        (["GE/1.png", "Aplio/2.png"], ["1", "2.png"]),
        (["part 1/x/1.PNG", "part 2/2.tif"], ["1.png", "2"]),
        (["in/b/1.png", "in/m/1.png"], ["b/1", "m\\1.png"]),
        (["b/1.png", "m/1.png"], ["set/b/1.png", "images/set/m/1"]),
        (["b/1.png", "m/2.png"], ["C:\\Users\\x\\set\\b\\1.png", "D:\\m\\2.png"]),
        (["b/1.png", "m/2.png"], ["/kaggle/input/set/b/1.png", "/mnt/2"]),
        (["1.png", "2.png"], ["../img/1.png", "~/img/2.png"]),
        (["b/Zo\u00eb.png", "m/2.png"], ["Zoe\u0308", "2"]),
        (["images/1.png", "masks/1.png", "images/2.png", "GT/2.png"], ["1", "2"]),
    ],
)
def test_found_where_one_file_fits(
    root: Path, lie: list[str], named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = read(make(root, *lie), *named)
    assert sorted(sources(rows)) == sorted(name for name in lie if name[:2] not in ("ma", "GT"))
    assert "2 images found in another folder than the table names" in caplog.text


@pytest.mark.parametrize(
    ("lie", "named", "said"),
    [
        (["x/1.png", "y/1.png"], "1", "1 (x/1.png, y/1.png)"),
        (["x/1.png", "y/z/1.tif"], "/home/1.png", None),
        (["x/1.jpg", "x/1.png"], "1", "1 (x/1.jpg, x/1.png)"),
        (["a/1/p.png", "b/1/p.png"], "1/p.png", "1/p.png (a/1/p.png, b/1/p.png)"),
    ],
)
def test_several_files_fit(root: Path, lie: list[str], named: str, said: str | None) -> None:
    make(root, *lie, "q.png")
    if said is None:  # the ending decides
        assert sources(read(root, named, "q")) == ["q.png", "x/1.png"]
    else:
        text = refusal(root, named, "q")
        assert "1 of the names match several files (add the extension and the folder below" in text
        assert said in text


@pytest.mark.parametrize(
    ("lie", "named", "said"),
    [
        ("benign/1.png", "malignant/1.png", "malignant/1.png may be benign/1.png"),
        ("1.png", "1.dcm", "1.dcm may be 1.png"),
        ("1.jpg", "1.png", "1.png may be 1.jpg"),
    ],
)
def test_another_folder_or_ending_is_no_fit_but_told(
    root: Path, lie: str, named: str, said: str
) -> None:
    text = refusal(make(root, lie, "q.png"), named, "q")
    assert "1 image not found" in text
    assert said in text


@pytest.mark.parametrize(
    ("lie", "named", "said"),
    [
        ("1.dcm", "1", "(.dcm): 1 (1.dcm). Convert DICOM to PNG"),
        ("x/1.dcm", "1.dcm", "(.dcm): 1.dcm (x/1.dcm)"),
        ("IM1dicom", "IM1dicom", "(no ending): IM1dicom (IM1dicom). Convert DICOM"),
        ("1.nii.gz", "1", "(.nii.gz): 1 (1.nii.gz). Export slices"),
        ("1.heic", "1.HEIC", "(.heic)"),
        ("1.mp4", "1", "(.mp4): 1 (1.mp4). Export their frames"),
    ],
)
def test_there_but_not_read(root: Path, lie: str, named: str, said: str) -> None:
    text = refusal(make(root, lie, "q.png"), named, "q")
    assert "1 image found, but in an unsupported format" in text
    assert said in text
    assert "not found" not in text


@pytest.mark.parametrize("name", ["x" * 300, "y" * 300 + "/9", "a\nb", "?*[", "%s", "1.png/x"])
def test_names_that_no_file_has(root: Path, name: str) -> None:
    assert "1 image not found" in refusal(make(root, "1.png", "q.png"), name, "q")


def test_two_names_of_one_file_are_refused(root: Path) -> None:
    make(root, "1.png", "q.png")
    assert "listed more than once" in refusal(root, "/a/1.png", "/b/1.png", "q")


@pytest.mark.parametrize("mask", ["GT/1.png", "masks/1.png", "x/annotations/1.png"])
def test_a_mask_stands_in_for_no_missing_image(root: Path, mask: str) -> None:
    text = refusal(make(root, mask, "q.png"), "1", "q")
    assert "1 image not found" in text
    assert f"1 may be {mask}" in text


def test_masks_that_the_table_names_are_read_and_named(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(root, "1.png", "1_mask.png", "GT/3.png")
    rows = read(root, "1", "1_mask", "GT/3")
    assert len(rows.table) == 3
    assert "2 files in the table have names of masks or similar files" in caplog.text


def test_what_lies_beside_the_images_is_counted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(root, "1.png", "2.png", "3.png", "4.dcm", "5.txt", "6.txt", ".hidden.png", "far/7.png")
    read(root, "1", "2")
    assert "Not used: 1 image beside the images in the table: 3.png." in caplog.text
    assert "Beside the images in the table: 1 image file is not supported (1 .dcm)" in caplog.text
    assert "Not read: 2 .txt, 1 hidden file." in caplog.text
    caplog.clear()
    (root / "3.png").unlink()
    (root / "4.dcm").unlink()
    read(root, "1", "2", "far/7")
    assert "Not used" not in caplog.text


@pytest.mark.parametrize("mask", ["1_tumor.png", "1_mask.png", "2-GT.png"])
def test_masks_beside_the_images_are_called_so(
    root: Path, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(root, "1.png", "2.png", mask)
    read(root, "1", "2")
    assert "Not used: 1 mask (1 *" in caplog.text
    assert "Not used: 1 image" not in caplog.text


def test_no_file_outside_is_found(root: Path) -> None:
    make(root, "1.png", "2.png")
    make(root.parent, "secret.png")
    for name in ("../secret", "/etc/secret", str(root.parent / "secret.png")):
        assert "1 image outside" in refusal(root, "1", "2", name)
