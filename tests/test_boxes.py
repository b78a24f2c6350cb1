"""Crops to boxes of any table: what columns mean, which boxes are refused, what is kept whole."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgaug.data import open_dataset
from fgaug.data.boxes import box_request
from fgaug.data.prepare import prepare
from fgaug.data.reading import squares
from fgaug.data.reading.squares import Box
from fgaug.data.tables.box_columns import box_columns
from fgaug.data.tables.boxes import BoxCells, boxes_of, units_of
from fgaug.errors import DataError

DOCS = Path(__file__).parent.parent / "docs"
SHAPE = (20, 24)  # px: height, width


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


def pixels_of(number: int) -> np.ndarray:
    return np.random.RandomState(number).randint(0, 256, size=SHAPE).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images of 24 x 20 px in a folder per label."""
    for number in range(8):
        path = tmp_path / "images" / ("dbp", "trv")[number % 2] / f"scan {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(number)).save(path)
    return tmp_path / "images"


def table(**columns: list[Any]) -> pd.DataFrame:
    """Return the label table with further columns."""
    names = {
        "file": [f"scan {number}.png" for number in range(8)],
        "label": ["dbp", "trv"] * 4,
        "patient": [number // 2 for number in range(8)],
    }
    return pd.DataFrame(names | columns)


def write(tmp_path: Path, frame: pd.DataFrame, name: str = "labels.csv") -> Path:
    frame.to_csv(tmp_path / name, index=False)
    return tmp_path / name


def xywh(**changed: Any) -> dict[str, list[Any]]:
    """Return box columns in pixels; `changed` replaces the values of scan 3 in row 5."""
    columns: dict[str, list[Any]] = {"x": [4] * 8, "y": [5] * 8, "w": [10] * 8, "h": [8] * 8}
    for name, value in changed.items():
        columns[name] = [*columns[name][:3], value, *columns[name][4:]]
    return columns


def prepared(tmp_path: Path, images: Path, frame: pd.DataFrame, **options: Any) -> Any:
    request = box_request(cols=options.pop("cols", "x,y,w,h"), **options.pop("box", {}))
    given = {"image_col": "file", "group_col": "patient", "size": 8, "boxes": request}
    csv = write(tmp_path, frame)
    return prepare(out=tmp_path / "d", csv=csv, images=images, **(given | options))


def refusal(tmp_path: Path, images: Path, frame: pd.DataFrame, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, images, frame, **options)
    assert not (tmp_path / "d").exists()
    return str(caught.value)


class TestColumns:
    """What the columns of a box mean."""

    @pytest.mark.parametrize(
        ("names", "format"),
        [
            ("x,y,w,h", "xywh"),
            ("left,top,width,height", "xywh"),
            ("bbox_x,bbox_y,bbox_width,bbox_height", "xywh"),
            ("xmin,ymin,xmax,ymax", "xyxy"),
            ("x_min,y_min,x_max,y_max", "xyxy"),
            ("X1,Y1,X2,Y2", "xyxy"),
            ("x0,y0,x1,y1", "xyxy"),
            ("left,top,right,bottom", "xyxy"),
            ("x_center,y_center,width,height", "cxcywh"),
            ("cx,cy,w,h", "cxcywh"),
            ("x2,y2,w2,h2", "xywh"),
            ("left1,top1,right1,bottom1", "xyxy"),
        ],
    )
    def test_names_that_tell_the_format(self, names: str, format: str) -> None:
        found = box_columns(names.split(","))
        assert (found.format, found.inferred) == (format, True)
        assert box_columns(names.split(","), format=format).format == format

    @pytest.mark.parametrize(
        "names", ["a,b,c,d", "x,y,r,s", "w,h,x,y", "xmin,xmax,ymin,ymax", "box"]
    )
    def test_names_that_do_not(self, names: str) -> None:
        with pytest.raises(DataError, match="do not tell what the numbers are"):
            box_columns(names.split(","))

    def test_a_stated_format(self) -> None:
        assert box_columns(["a", "b", "c", "d"], format="xyxy").format == "xyxy"
        assert box_columns(["x", "y", "w", "h"], format="cxcywh").format == "cxcywh"
        assert box_columns(["BBOX"], format="xywh").names == ("BBOX",)
        for names, format in (
            ("xmin,ymin,xmax,ymax", "xywh"),
            ("w,h,x,y", "xywh"),
            ("x1,y1,x2,y2", "xywh"),
            ("x2,y2,w,h", "xywh"),
        ):
            with pytest.raises(DataError, match=f"contradicts --box-format {format}"):
                box_columns(names.split(","), format=format)

    def test_what_is_no_option(self) -> None:
        with pytest.raises(DataError) as caught:
            box_columns(["x", "y", "w"], format="xywz", units="pixel", size=["width"])
        text = str(caught.value)
        assert "four different columns" in text
        assert 'did you mean "xywh"?' in text
        assert 'did you mean "pixels"?' in text
        assert "--box-size-cols must name two columns" in text
        with pytest.raises(DataError, match="omit one"):
            box_columns(["x", "y", "w", "h"], units="shares", size=["width", "height"])
        with pytest.raises(DataError, match="--box-format and --box-table describes boxes"):
            box_request(cols=None, format="xywh", table=Path("t.csv"))
        with pytest.raises(DataError, match='--no-box "whole" is unknown'):
            box_request(cols="x,y,w,h", no_box="whole")
        with pytest.raises(DataError, match="Give the table"):
            box_request(cols="x,y,w,h", image_col="file")

    def test_units_by_the_numbers(self) -> None:
        problems: list[str] = []
        assert units_of([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]], problems) == "shares"
        assert units_of([[4, 5, 10, 8], [0, 0, 1, 8]], problems) == "pixels"
        assert problems == []
        units_of([[4, 5, 10, 8], [0.1, 0.2, 0.5, 0.6]], problems)
        units_of([[0.5, 0.6, 1.2, 1.1]], problems)
        assert "1 of 2 boxes have no number above 1" in problems[0]
        assert "0 of 1 boxes have no number above 1" in problems[1]


class TestCrops:
    """Pixels: the square around the box, from each way of writing one box."""

    WAYS = (
        (("x", 4), ("y", 5), ("w", 10), ("h", 8)),
        (("xmin", 4), ("ymin", 5), ("xmax", 14), ("ymax", 13)),
        (("cx", 9), ("cy", 9), ("w", 10), ("h", 8)),
        (("left", 4 / 24), ("top", 5 / 20), ("width", 10 / 24), ("height", 8 / 20)),
        (("xmin", 4 / 24), ("ymin", 5 / 20), ("xmax", 14 / 24), ("ymax", 13 / 20)),
    )

    @pytest.mark.parametrize("way", WAYS)
    def test_every_way_of_writing_a_box(
        self, tmp_path: Path, images: Path, way: tuple[tuple[str, float], ...]
    ) -> None:
        columns = {name: [value] * 8 for name, value in way}
        names = ",".join(columns)
        dataset = prepared(tmp_path, images, table(**columns), cols=names, margin=0.4)
        for row, number in enumerate(range(0, 8, 2)):
            square = pixels_of(number)[2:16, 2:16, None]  # side 14 = 1.4 x 10, around (9, 9)
            assert (dataset.pixels()[row] == squares.resize_square(square, 8)).all()
        assert dataset.spec.crop["margin"] == 0.4

    def test_one_column_and_an_image_of_another_size(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frame = table(box=["[8, 10, 20, 16]"] * 8, wide=[48] * 8, high=[40] * 8)
        box = {"format": "xywh", "units": "pixels", "size_cols": "wide,high"}
        dataset = prepared(tmp_path, images, frame, cols="box", box=box, margin=0.4)
        square = pixels_of(0)[2:16, 2:16, None]
        assert (dataset.pixels()[0] == squares.resize_square(square, 8)).all()
        assert dataset.spec.source["boxes"] == {
            "table": "labels.csv",
            "columns": ["box"],
            "format": "xywh",
            "units": "pixels",
            "size_columns": ["wide", "high"],
        }
        assert "Boxes are read as" not in caplog.text, "nothing was inferred"

    def test_margin_is_0_and_the_reading_is_logged(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        dataset = prepared(tmp_path, images, table(**xywh()))
        square = pixels_of(0)[4:14, 4:14, None]
        assert (dataset.pixels()[0] == squares.resize_square(square, 8)).all()
        assert dataset.spec.crop["margin"] == 0
        assert "read as xywh (left, top, width, height) in pixels" in caplog.text

    def test_the_digest_covers_margin_and_boxes(self, tmp_path: Path, images: Path) -> None:
        request = box_request(cols="x,y,w,h")
        given = {"image_col": "file", "group_col": "patient", "size": 8, "images": images}
        csv = write(tmp_path, table(**xywh()))
        one = prepare(out=tmp_path / "1", csv=csv, boxes=request, **given)
        wide = prepare(out=tmp_path / "2", csv=csv, boxes=request, margin=0.5, **given)
        whole = prepare(out=tmp_path / "3", csv=csv, **given)
        csv = write(tmp_path, table(**xywh(x=6)))
        moved = prepare(out=tmp_path / "4", csv=csv, boxes=request, **given)
        digests = {each.spec.digest for each in (one, wide, whole, moved)}
        assert len(digests) == 4
        for other in (wide, whole, moved):  # crop against whole is one grid: the same split
            assert other.manifest["split"].equals(one.manifest["split"])
            assert other.manifest["sha256"].equals(one.manifest["sha256"])


class TestRefusals:
    """Boxes that cannot be used are refused by row; the header is row 1."""

    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"w": 0}, "row 5 (scan 3.png): the box 4, 5, 0, 8 (xywh) is empty: its width is 0"),
            ({"h": -2}, "row 5 (scan 3.png): the box 4, 5, 10, -2 (xywh) is empty"),
            ({"x": "four"}, "row 5 (scan 3.png): a box is four numbers, got four, 5, 10, 8"),
            ({"y": "nan"}, "row 5 (scan 3.png): a box is four numbers, got 4, nan, 10, 8"),
            ({"y": None}, "row 5 (scan 3.png): a box is four numbers, got 4, (empty), 10, 8"),
            ({"x": 24}, "row 5 (trv/scan 3.png): the box from x 24 to 34 and y 5 to 13 px lies"),
            ({"y": -8}, "lies outside of its image of 24 x 20 px"),
        ],
    )
    def test_a_wrong_row(
        self, tmp_path: Path, images: Path, changed: dict[str, Any], expected: str
    ) -> None:
        text = refusal(tmp_path, images, table(**xywh(**changed)))
        assert expected in text
        assert "Correct the row" in text

    def test_skip_broken_does_not_skip_a_wrong_box(self, tmp_path: Path, images: Path) -> None:
        text = refusal(tmp_path, images, table(**xywh(x=30)), skip_broken=True)
        assert "Boxes outside of their images: 1 problem" in text

    def test_swapped_corners(self, tmp_path: Path, images: Path) -> None:
        columns = {"xmin": [14] * 8, "ymin": [5] * 8, "xmax": [4] * 8, "ymax": [13] * 8}
        text = refusal(tmp_path, images, table(**columns), cols="xmin,ymin,xmax,ymax")
        assert "row 2 (scan 0.png): the box 14, 5, 4, 13 (xyxy) is empty: its width is -10" in text

    def test_many_wrong_rows_are_counted(self, tmp_path: Path, images: Path) -> None:
        frame = pd.concat([table(**xywh())] * 2, ignore_index=True)
        frame["w"] = 0
        text = refusal(tmp_path, images, frame)
        assert "labels.csv: 17 problems" in text  # 16 boxes, and images that are listed twice
        assert "and 6 more rows with an unusable box" in text

    def test_rows_are_those_of_the_file(self, tmp_path: Path, images: Path) -> None:
        csv = write(tmp_path, table(**xywh(w=0)))
        lines = csv.read_text().splitlines()
        csv.write_text("\n".join(["", *lines[:3], "", *lines[3:]]))
        request = box_request(cols="x,y,w,h")
        with pytest.raises(DataError, match=r"row 7 \(scan 3.png\)"):
            prepare(
                out=tmp_path / "d",
                size=8,
                csv=csv,
                images=images,
                image_col="file",
                boxes=request,
            )

    def test_units_that_the_numbers_do_not_tell(self, tmp_path: Path, images: Path) -> None:
        frame = table(**xywh(x=0.1, y=0.1, w=0.5, h=0.5))
        assert "Give --box-units pixels or --box-units shares" in refusal(tmp_path, images, frame)
        dataset = prepared(tmp_path, images, frame, box={"units": "pixels"})
        assert len(dataset) == 8, "half a pixel, but the user says so"

    def test_wrong_sizes(self, tmp_path: Path, images: Path) -> None:
        frame = table(**xywh(), wide=[24] * 7 + [0], high=[20] * 8)
        text = refusal(tmp_path, images, frame, box={"size_cols": "wide,high"})
        assert "row 9 (scan 7.png): wide and high must be a width and a height in pixels" in text

    def test_a_missing_column(self, tmp_path: Path, images: Path) -> None:
        text = refusal(tmp_path, images, table(**xywh()), cols="x,y,w,height")
        assert 'column "height" is missing' in text

    def test_a_box_partly_outside_is_clipped(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frame = table(**xywh(x=-6, w=16))
        dataset = prepared(tmp_path, images, frame)
        assert "clipped to it: 1 of 8, at most by 6 px (trv/scan 3.png)" in caplog.text
        row = dataset.manifest["image_id"].tolist().index("trv/scan 3")
        square = squares.crop_square(
            pixels_of(3)[..., None],
            Box(x=0, y=5, width=10, height=8, of_width=24, of_height=20),
            0,
        )
        assert (dataset.pixels()[row] == squares.resize_square(square, 8)).all()

    def test_a_pixel_beyond_the_edge_is_rounding(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        prepared(tmp_path, images, table(**xywh(x=15)))
        assert "clipped" not in caplog.text

    def test_margins_and_boxes_that_do_not_go_together(self, tmp_path: Path) -> None:
        request = box_request(cols="x,y,w,h")
        for options, expected in (
            ({"csv": tmp_path, "margin": 0.2}, "needs boxes: name their columns with --box-cols"),
            ({"preset": "bus-bra", "boxes": request}, "bus-bra has boxes of its own"),
            ({"preset": "phantom", "boxes": request}, "has no boxes to crop to"),
            (
                {"preset": "busi", "boxes": request},
                "no table with boxes: give one with --box-table",
            ),
            (
                {"folders": tmp_path, "boxes": request},
                "no table with boxes: give one with --box-table",
            ),
            (
                {"preset": "bus-bra", "boxes": box_request(cols=None, no_box="keep")},
                "--no-box needs --crop-margin",
            ),
            ({"csv": tmp_path, "boxes": box_request(cols=None, no_box="keep")}, "--no-box needs"),
        ):
            with pytest.raises(DataError, match=re.escape(expected)):
                prepare(out=tmp_path / "d", size=8, **options)


class TestWithoutBox:
    """Images without a box: refused, kept whole or left out; always counted."""

    def test_refused_until_the_user_says_what(self, tmp_path: Path, images: Path) -> None:
        frame = table(**xywh(x=None, y=None, w=None, h=None))
        text = refusal(tmp_path, images, frame)
        assert "1 of 8 images without a box: trv/scan 3. Say what to do" in text
        assert "--no-box keep" in text

    def test_kept_whole(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frame = table(**xywh(x=None, y=None, w=None, h=None))
        dataset = prepared(tmp_path, images, frame, box={"no_box": "keep"})
        assert "1 of 8 images without a box, kept whole: trv/scan 3" in caplog.text
        row = dataset.manifest["image_id"].tolist().index("trv/scan 3")
        whole = squares.resize_square(pixels_of(3)[..., None], 8)
        assert (dataset.pixels()[row] == whole).all()
        assert dataset.spec.source["boxes"]["without"] == 1

    def test_left_out(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frame = table(**xywh(x=None, y=None, w=None, h=None))
        dataset = prepared(tmp_path, images, frame, box={"no_box": "drop"})
        assert "1 of 8 images without a box, left out: trv/scan 3" in caplog.text
        assert len(dataset) == 7
        assert "trv/scan 3" not in dataset.manifest["image_id"].tolist()

    def test_a_label_without_boxes_and_a_table_without(self, tmp_path: Path, images: Path) -> None:
        half = {
            name: [None if n % 2 else v for n, v in enumerate(c)] for name, c in xywh().items()
        }
        text = refusal(tmp_path, images, table(**half), box={"no_box": "drop"})
        assert "No image with label trv has a box" in text
        none: dict[str, list[Any]] = {name: [None] * 8 for name in "xywh"}
        assert "No image has a box" in refusal(tmp_path, images, table(**none))

    def test_excluded_images_need_no_box(self, tmp_path: Path, images: Path) -> None:
        (tmp_path / "out.txt").write_text("scan 3\n")
        frame = table(**xywh(x=None, y=None, w=None, h=None))
        dataset = prepared(tmp_path, images, frame, drop=tmp_path / "out.txt")
        assert len(dataset) == 7


class TestTableOfBoxes:
    """Boxes in a table of their own, as detectors write it."""

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (
                None,
                "The box table {} cannot be opened (No such file or directory). Check its path.",
            ),
            (b"", "The box table {} is empty."),
            (b"a\0b", "The box table {} is neither UTF-8, UTF-16 nor Windows-1252 text."),
            (b"%PDF-1.7\n", "{} is a PDF document, not a box table."),
        ],
    )
    def test_a_file_that_is_no_table(
        self, tmp_path: Path, images: Path, content: bytes | None, said: str
    ) -> None:
        path = tmp_path / "boxes.csv"
        if content is not None:
            path.write_bytes(content)
        request = box_request(cols="x,y,w,h", table=path)
        with pytest.raises(DataError, match=re.escape(said.format(path))):
            prepare(out=tmp_path / "d", size=8, folders=images, boxes=request)

    def test_folders(self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture) -> None:
        frame = (
            table(**xywh()).drop(columns=["label", "patient"]).rename(columns={"file": "image"})
        )
        boxes = write(tmp_path, frame[:7], "boxes.csv")
        request = box_request(cols="x,y,w,h", table=boxes, no_box="drop")
        dataset = prepare(out=tmp_path / "d", size=8, folders=images, boxes=request)
        assert len(dataset) == 7
        square = pixels_of(2)[4:14, 4:14, None]
        row = dataset.manifest["image_id"].tolist().index("dbp/scan 2")
        assert (dataset.pixels()[row] == squares.resize_square(square, 8)).all()
        assert "without a box, left out: trv/scan 7" in caplog.text

    def test_a_label_table_and_rows_of_other_images(
        self, tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        boxes = write(tmp_path, table(**xywh()), "boxes.csv")
        request = box_request(cols="x,y,w,h", table=boxes, image_col="file")
        dataset = prepare(
            out=tmp_path / "d",
            size=8,
            csv=write(tmp_path, table()[:6]),
            images=images,
            image_col="file",
            boxes=request,
        )
        assert len(dataset) == 6
        assert (
            "boxes.csv: 2 rows for images that are not in the dataset: scan 6.png" in caplog.text
        )

    def test_two_boxes_for_an_image_and_names_without_a_file(
        self, tmp_path: Path, images: Path
    ) -> None:
        frame = pd.concat([table(**xywh()), table(**xywh())[:1]])
        frame.iloc[2, 0] = "scan 9.png"
        boxes = write(tmp_path, frame, "boxes.csv")
        request = box_request(cols="x,y,w,h", table=boxes, image_col="file")
        with pytest.raises(DataError) as caught:
            prepare(out=tmp_path / "d", size=8, folders=images, boxes=request)
        assert "1 image has several rows: scan 0.png. Keep one box" in str(caught.value)
        assert "1 image not found" in str(caught.value)
        assert "Correct the names in the box table, or remove its rows" in str(caught.value)
        request = box_request(cols="x,y,w,h", table=boxes)
        with pytest.raises(DataError, match='column "image" is missing'):
            prepare(out=tmp_path / "d", size=8, folders=images, boxes=request)


def shown(start: str) -> list[str]:
    """Return the words of the command in own-data.md that begins with `start`."""
    text = (DOCS / "own-data.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return shlex.split(line.split("  #")[0])[1:]


class TestCommands:
    """The commands of the page on own data, as they stand there."""

    def test_columns_of_the_label_table(
        self, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
    ) -> None:
        columns = {"xmin": [4] * 8, "ymin": [5] * 8, "xmax": [14] * 8, "ymax": [13] * 8}
        frame = table(**columns).rename(columns={"label": "plane"}).astype(object)
        frame.loc[3, list(columns)] = None
        write(tmp_path, frame)
        images.rename(tmp_path / "img")
        monkeypatch.chdir(tmp_path)
        words = shown(
            "fgaug data prepare --csv labels.csv --images img/ --image-col file --label-col plane"
        )
        code, out, err = fgaug(*words)
        assert code == 0, err
        assert "8 images of 4 groups, 128 px" in out
        assert "1 of 8 images without a box, kept whole" in " ".join(err.split())
        assert open_dataset("data/brains").spec.crop["margin"] == 0.2

    def test_boxes_of_a_detector(
        self, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for number in range(8):  # as YOLO writes them: class, centre, size, confidence
            path = tmp_path / "detected" / f"scan {number}.txt"
            path.parent.mkdir(exist_ok=True)
            sure = f"0 {9 / 24} {9 / 20} {10 / 24} {8 / 20} 0.9\n"
            path.write_text(f"0 0.5 0.5 1 1 0.3\n{sure}" if number else sure)
        text = (DOCS / "own-data.md").read_text(encoding="utf-8")
        (code,) = [
            part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "detected" in part
        ]
        exec(compile(code, "own-data.md", "exec"), {})
        assert len(pd.read_csv("boxes.csv")) == 8
        status, out, err = fgaug(
            *shown("fgaug data prepare --folders images/ --size 128 --box-table")
        )
        assert status == 0, err
        assert "8 images" in out
        saved = json.loads(Path("data/brains/dataset.json").read_text())["source"]["boxes"]
        assert (saved["format"], saved["units"]) == ("cxcywh", "shares")
        square = squares.resize_square(pixels_of(0)[3:15, 3:15, None], 128)
        assert (open_dataset("data/brains").pixels()[0] == square).all()


@pytest.mark.parametrize(
    ("names", "format", "units", "told"),
    [
        (
            "x,y,w,h",
            None,
            None,
            "names of their columns and by their numbers. --box-format",
        ),
        ("x,y,w,h", "xywh", None, "pixels, by their numbers. --box-units changes that."),
        ("x,y,w,h", None, "pixels", "by the names of their columns. --box-format changes that."),
    ],
)
def test_only_what_was_inferred_is_called_so(
    names: str,
    format: str | None,
    units: str | None,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    columns = box_columns(names.split(","), format=format, units=units)
    cells = [BoxCells(row=2, image="a.png", texts=("1", "2", "30", "40"))]
    problems: list[str] = []
    (box,), _ = boxes_of(cells, columns, problems)
    assert box is not None
    assert not problems
    assert told in caplog.text
