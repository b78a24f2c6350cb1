"""Label tables kept as Excel workbooks: read as the text that a person sees."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image

from fgaug.data.ingest import Ingested, from_csv
from fgaug.errors import DataError

Build = Callable[[Any], None]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        pixels = np.random.RandomState(number).randint(0, 256, (9, 12)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"a{number}.png")
    return folder


def rows(page: Any, patients: Sequence[object], shown: str | None = None) -> None:
    """Fill a sheet; `shown` is the number format of the patients."""
    page.append([" file", "lesion ", "patient", "seen", None])
    for number, patient in enumerate(patients):
        seen = datetime.datetime(2021, 3, number + 1)
        page.append([f"a{number}.png", "bm"[number % 2], patient, seen, "=1/0"])
        if shown is not None:
            page.cell(page.max_row, 3).number_format = shown


def read(images: Path, build: Build, **options: Any) -> Ingested:
    book = openpyxl.Workbook()
    build(book)
    path = images.parent / "t.xlsx"
    book.save(path)
    return from_csv(path, images, "file", "lesion", "patient", **options)


def refusal(images: Path, build: Build, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(images, build, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("stored", "shown", "text"),
    [
        (7, None, 7),
        (7.0, None, 7),
        (7, "000", "007"),
        (1.1, "0.00", "1.10"),
        (7, '"P"000', "P007"),
        (1.5, "0", 1.5),
        (7, "#,##0", 7),
        ("007", None, "007"),
        ("1.10", None, "1.10"),
        ("  x\u00a0", None, "x"),
        (True, None, "TRUE"),
        ("NA", None, "NA"),
        (datetime.datetime(2020, 1, 2), None, "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3, 4), None, "2020-01-02 03:04:00"),
    ],
)
def test_cells_as_they_are_seen(
    images: Path, stored: object, shown: str | None, text: object
) -> None:
    read_rows = read(images, lambda book: rows(book.active, [stored] * 8, shown))
    assert read_rows.table["group"].tolist() == [text] * 8
    assert sorted(set(read_rows.table["label"])) == ["b", "m"]


@pytest.mark.parametrize(
    ("stored", "shown", "said"),
    [
        (1234567890123456789, None, "more than 15 digits"),
        (datetime.date(2020, 1, 2), None, "8 cells with a date, read as 2020-01-02"),
        (7, "000-00", "8 numbers with the number format 000-00, read as plain numbers"),
    ],
)
def test_doubtful_cells_are_named(
    images: Path,
    stored: object,
    shown: str | None,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read(images, lambda book: rows(book.active, [stored] * 8, shown))
    assert said in caplog.text


def test_columns_nobody_asked_for_raise_nothing(
    images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(images, lambda book: rows(book.active, range(8)))
    assert caplog.text == ""


def test_sheets(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    def two(book: Any) -> None:
        rows(book.active, range(8))
        rows(book.create_sheet("Later"), range(20, 28))

    assert read(images, two).table["group"].tolist() == list(range(8))
    assert 't.xlsx has 2 sheets; "Sheet" is read, not Later' in caplog.text
    later = read(images, two, sheet="Later")
    assert later.table["group"].tolist() == list(range(20, 28))
    assert 'no sheet "Latr", did you mean "Later"?' in refusal(images, two, sheet="Latr")


def test_a_first_sheet_without_the_columns(images: Path) -> None:
    def notes_first(book: Any) -> None:
        book.active.append(["Read me"])
        rows(book.create_sheet("Labels"), range(8))

    assert 'sheet "Labels" has them. Give --sheet "Labels"' in refusal(images, notes_first)

    def title(book: Any) -> None:
        book.active.append(["Table 1"])
        rows(book.active, range(8))

    assert "header row below other text" in refusal(images, title)
    assert 'sheet "Sheet" is empty' in refusal(images, lambda book: None)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("=A1", 'column "patient" has 8 formulas without a stored result'),
        ("#REF!", 'column "patient" has 8 cells with an Excel error: #REF!'),
        ("#N/A", 'column "patient" has 8 cells with an Excel error: #N/A'),
        (None, "a7.png. In merged cells only the first has the value"),
    ],
)
def test_cells_without_a_value(images: Path, stored: object, said: str) -> None:
    assert said in refusal(images, lambda book: rows(book.active, [stored] * 8))


def test_the_name_does_not_matter(images: Path) -> None:
    read(images, lambda book: rows(book.active, range(8)))
    renamed = (images.parent / "t.xlsx").rename(images.parent / "t.csv")
    assert len(from_csv(renamed, images, "file", "lesion", "patient").table) == 8


def test_damaged_workbooks(images: Path) -> None:
    read(images, lambda book: rows(book.active, range(8)))
    path = images.parent / "t.xlsx"
    whole = path.read_bytes()
    for data in (whole[:2000], whole[:4] + b"x" * 500, whole.replace(b"sheet1", b"sheet9")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"t\.xlsx"):
            from_csv(path, images, "file", "lesion", "patient")


class TestHidden:
    """What a spreadsheet program does not show is read, and said."""

    @pytest.mark.parametrize("hidden", [(3,), (2, 4, 5), (9,)])
    def test_rows(
        self, images: Path, caplog: pytest.LogCaptureFixture, hidden: Sequence[int]
    ) -> None:
        def build(book: Any) -> None:
            rows(book.active, range(8))
            for number in hidden:
                book.active.row_dimensions[number].hidden = True

        assert len(read(images, build).table) == 8
        assert f"{len(hidden)} of 8 rows hidden (by hand or by a filter)" in caplog.text
        assert ", ".join(map(str, hidden)) in caplog.text

    def test_a_hidden_header_and_rows_without_values_are_not_counted(
        self, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def build(book: Any) -> None:
            rows(book.active, range(8))
            for number in (1, 30):
                book.active.row_dimensions[number].hidden = True

        read(images, build)
        assert "hidden" not in caplog.text

    def test_a_sheet(self, images: Path, caplog: pytest.LogCaptureFixture) -> None:
        def build(book: Any) -> None:
            rows(book.active, range(8))
            book.active.sheet_state = "hidden"
            book.create_sheet("notes")
            book.active = 1

        read(images, build)
        assert 'sheet "Sheet" is hidden, but was read' in caplog.text
