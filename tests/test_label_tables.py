"""Label tables of other people: read as text, nothing merged, what looks alike is named."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgaug.data.ingest import Ingested, from_csv, from_folders
from fgaug.data.prepare import prepare
from fgaug.data.tables.label_table import typed
from fgaug.errors import DataError

EIGHT = range(8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in EIGHT:
        pixels = np.random.RandomState(number).randint(0, 256, (9, 12)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"a{number}.png")
    return folder


def table(
    patients: list[object], labels: list[str] | None = None, sep: str = ",", more: str = ""
) -> str:
    """Return a table of eight images; `more` ends the header and every row."""
    labels = labels or ["b", "m"] * 4
    rows = [
        sep.join([f"a{number}.png", label, str(patient)]) + more
        for number, (label, patient) in enumerate(zip(labels, patients, strict=True))
    ]
    return "\n".join([sep.join(["file", "lesion", "patient"]) + more, *rows, ""])


def read(images: Path, data: str | bytes, name: str = "t.csv", **options: object) -> Ingested:
    path = images.parent / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return from_csv(path, images, "file", "lesion", "patient", **options)


def refusal(images: Path, data: str | bytes, name: str = "t.csv") -> str:
    with pytest.raises(DataError) as caught:
        read(images, data, name)
    return str(caught.value)


def groups(rows: Ingested) -> list[object]:
    return rows.table["group"].tolist()


class TestIds:
    """Ids are text; only whole columns of plain numbers are kept as the numbers they were."""

    @pytest.mark.parametrize(
        "ids",
        [
            ["1.1", "1.10", "2.1", "2.10"],
            ["007", "07", "7", "0007"],
            ["123456789012345678901234567890", "123456789012345678901234567891", "7", "8"],
            ["1e3", "1000", "1E3", "1000.0"],
            ["True", "False", "TRUE", "T"],
            ["3", "3.0", "+3", "03"],
            ["2020-01-02", "2020-1-2", "02.01.2020", "Jan 2"],
            ["NA12878", "NA", "n/a", "None"],
        ],
    )
    def test_no_two_become_one(self, images: Path, ids: list[str]) -> None:
        rows = read(images, table([*ids, *ids]))
        assert groups(rows) == [*ids, *ids]

    def test_plain_numbers_keep_type_order_and_split(self, images: Path, tmp_path: Path) -> None:
        patients = [9, 9, 10, 10, 100, 100, 2, 2]
        rows = read(images, table(list(patients)))
        assert groups(rows) == patients
        assert rows.table["group"].dtype == np.int64
        options = {"image_col": "file", "label_col": "lesion", "group_col": "patient"}
        numbers = prepare(
            out=tmp_path / "n", size=8, csv=tmp_path / "t.csv", images=images, **options
        )
        # pinned: what the table had when pandas chose the types of its columns
        assert numbers.spec.digest[:12] == "ecedf17c70c0"
        expected = ["train"] * 4 + ["valid"] * 4
        assert numbers.manifest["split"].tolist() == expected
        read(images, table([f"P{patient}" for patient in patients]))
        texts = prepare(
            out=tmp_path / "t", size=8, csv=tmp_path / "t.csv", images=images, **options
        )
        assert texts.spec.digest != numbers.spec.digest

    def test_the_type_is_of_the_whole_column(self, images: Path) -> None:
        text = table([1, 2, 3, 4, 5, 6, "P7", "P8"], ["b", "m"] * 3 + ["x", "x"])
        rows = read(images, text, keep_labels=["b", "m"])
        assert groups(rows) == ["1", "2", "3", "4", "5", "6"]

    @pytest.mark.parametrize(
        ("ids", "kind"),
        [
            (["0", "-3", "12"], "int64"),
            (["9223372036854775808", "5"], "uint64"),
            (["1.5", "2.25", "10.0"], "float64"),
            (["18446744073709551616", "5"], "str"),
            (["1.50", "2.25"], "str"),
            (["-0", "1"], "str"),
            (["1", "1.5"], "str"),
            (["nan", "1.5"], "str"),
            (["1_000", "5"], "str"),
            (["\u0661", "5"], "str"),
        ],
    )
    def test_types(self, ids: list[str], kind: str) -> None:
        column = typed(pd.Series(ids, dtype="str"))
        assert str(column.dtype) == kind
        assert column.astype(str).tolist() == ids

    @pytest.mark.parametrize(
        ("ids", "named"),
        [
            (["1.1", "1.10"], '"1.1" (4) and "1.10" (4)'),
            (["7", "007"], '"007" (4) and "7" (4)'),
            (["8", "8.0"], '"8" (4) and "8.0" (4)'),
            (["P1", "p1"], '"P1" (4) and "p1" (4)'),
            (["P 1", "P1"], '"P 1" (4) and "P1" (4)'),
            (["P\u00a01", "P 1"], "'P\\xa01' (4)"),
            (["Zoe\u0308", "Zo\u00eb"], "'Zoe\\u0308' (4)"),
        ],
    )
    def test_what_looks_alike_is_named(
        self, images: Path, caplog: pytest.LogCaptureFixture, ids: list[str], named: str
    ) -> None:
        rows = read(images, table([*ids] * 4))
        assert len(set(groups(rows))) == 2
        assert 'Column "patient" has values that' in caplog.text
        assert named in caplog.text
        assert "treated as different" in caplog.text

    def test_what_stands_for_unknown_or_was_shortened_is_named(
        self, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        read(images, table(["NA", "NA", "1.23457E+17", "1.23457E+17", "5", "5", "-", "x"]))
        assert '2 rows with "NA", treated as one patient' in caplog.text
        assert '"-"' not in caplog.text, "one image: no patients merge"
        assert "1.23457E+17. Spreadsheet programs shorten long ids" in caplog.text

    @pytest.mark.parametrize("other", ["P1 ", "P1\u00a0", '"P1\t"', '=""P1""'])
    def test_blanks_at_the_ends_are_removed_and_said(
        self, images: Path, other: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = read(images, table(["P1", other.replace('""', '"'), "P2", "P2"] * 2))
        assert set(groups(rows)) == {"P1", "P2"}
        assert "1 value both with and without surrounding blanks" in caplog.text
        assert "'P1'" in caplog.text

    @pytest.mark.parametrize("written", ['="{}"', '"=""{}"""', ' ="{}" '])
    def test_ids_that_are_kept_from_excel(
        self, images: Path, written: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        ids = ["007", "7", "1.10", "1.1"] * 2
        assert groups(read(images, table([written.format(text) for text in ids]))) == ids

    def test_distinct_ids_raise_no_warning(
        self, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        long = [str(10**29 + number) for number in EIGHT]
        read(images, table(list(long)))
        assert caplog.text == ""


class TestLabels:
    """Any text is a label; only an empty cell is missing."""

    @pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "NaN", "NULL", "<NA>", "Nil"])
    def test_words_of_pandas_for_missing(
        self, images: Path, word: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = read(images, table(list(EIGHT), [word, "m"] * 4))
        assert len(set(rows.table["label"])) == 2
        assert "treated as a class" in caplog.text

    @pytest.mark.parametrize("pair", ["True False", "1 0", "0.0 1.0", "yes no", "1e0 0", "-1 1"])
    def test_flags_and_numbers(self, images: Path, pair: str) -> None:
        rows = read(images, table(list(EIGHT), pair.split() * 4))
        assert sorted(set(rows.table["label"])) == sorted(pair.split())

    @pytest.mark.parametrize("empty", ["", "  ", "\u00a0", "\u200b", '""'])
    def test_empty_cells_are_missing(self, images: Path, empty: str) -> None:
        text = refusal(images, table(list(EIGHT), ["b", "m", empty, "b", "m", empty, "b", "m"]))
        assert '2 rows without "lesion": a2.png, a5.png' in text
        assert "with --keep-label, only rows of the named labels are read" in text

    @pytest.mark.parametrize(
        ("one", "other"),
        [("Benign", "benign"), ("no mass", "no  mass"), ("0", "0.0"), ("B I", "bi")],
    )
    def test_what_looks_alike_is_named(
        self, images: Path, one: str, other: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = read(images, table(list(EIGHT), [one, other] * 4))
        assert set(rows.table["label"]) == {one, other}
        assert f'"{one}" (4)' in caplog.text
        assert "Use one spelling if they are the same class" in caplog.text

    def test_strata_and_names_of_missing_are_text(self, images: Path) -> None:
        more = [",site", ",NA", ",None", ",", ",1.10", ",007", ",True", ",x", ",nan"]
        lines = table(list(EIGHT)).splitlines()
        text = "\n".join(line + extra for line, extra in zip(lines, more, strict=True))
        rows = read(images, text, stratum_cols=["site"])
        expected = ["NA", "None", "unknown", "1.10", "007", "True", "x", "nan"]
        assert rows.table["site"].tolist() == expected

    def test_an_image_named_null(self, images: Path) -> None:
        (images / "a0.png").rename(images / "null.png")
        (images / "a1.png").rename(images / "NA.png")
        text = table(list(EIGHT)).replace("a0.png", "null").replace("a1.png", "NA")
        assert {"null", "NA"} < set(read(images, text).table["image_id"])


class TestOtherColumns:
    """Columns that nobody asked for do no harm."""

    @pytest.mark.parametrize(
        "cells",
        [
            ["True", "False", ""],
            ["12345678901234567890123", "", "-1"],
            ["1.5", "x", "2020-01-01"],
            ['"a, b\nc ""d"""', "", "inf"],
            ["{[}", "\\", "'"],
            ["x" * 200_000, "", "y"],
        ],
    )
    def test_whatever_they_hold(self, images: Path, cells: list[str]) -> None:
        header, *lines = table(list(EIGHT)).splitlines()
        rows = [f"{line},{cells[index % 3]}" for index, line in enumerate(lines)]
        assert groups(read(images, "\n".join([header + ",extra", *rows]))) == list(EIGHT)

    @pytest.mark.parametrize("more", [",", ",,,", ",x,x", ",file ?,lesion2,"])
    def test_names_that_are_empty_or_there_twice(self, images: Path, more: str) -> None:
        assert groups(read(images, table(list(EIGHT), more=more))) == list(EIGHT)

    def test_a_wanted_name_that_is_there_twice(self, images: Path) -> None:
        text = refusal(images, table(list(EIGHT)).replace("patient", "patient,lesion ", 1))
        assert 'column "lesion" occurs twice' in text


class TestDialects:
    """Separators, marks, encodings, quotation marks."""

    @pytest.mark.parametrize("sep", [";", "\t", ",", "|"])
    @pytest.mark.parametrize("first", ["sep={}", '"sep={}"', "SEP={}", "sep={}\r"])
    def test_the_line_of_spreadsheet_programs(self, images: Path, sep: str, first: str) -> None:
        text = first.format(sep) + "\n" + table(list(EIGHT), sep=sep)
        assert groups(read(images, text)) == list(EIGHT)
        assert groups(read(images, b"\xef\xbb\xbf" + text.encode())) == list(EIGHT)

    def test_decimal_commas(self, images: Path) -> None:
        ids = ["1,5", "2,5", "2,50", "10,0"] * 2
        assert groups(read(images, table(list(ids), sep=";"))) == ids

    @pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", " \n"])
    def test_line_ends(self, images: Path, end: str) -> None:
        assert groups(read(images, table(list(EIGHT)).replace("\n", end))) == list(EIGHT)

    @pytest.mark.parametrize(
        "header",
        [" file ,  lesion,patient ", '"file" , "lesion" , "patient"', "file,\ufefflesion,patient"],
    )
    def test_blanks_around_names(self, images: Path, header: str) -> None:
        text = table(list(EIGHT)).replace("file,lesion,patient", header)
        assert groups(read(images, text)) == list(EIGHT)

    def test_a_name_over_two_lines_and_in_two_codings(self, images: Path) -> None:
        text = table(list(EIGHT)).replace("patient", '"Identit\u00e9 du\npatient"')
        path = images.parent / "t.csv"
        path.write_text(text, encoding="utf-8")
        asked = "Identite\u0301 du patient"
        assert from_csv(path, images, "file", "lesion", asked).table["group"].tolist() == list(
            EIGHT
        )

    def test_windows_1252_is_said(self, images: Path, caplog: pytest.LogCaptureFixture) -> None:
        rows = read(images, table(["M\u00fcller"] * 4 + ["O'Neil"] * 4).encode("cp1252"))
        assert set(groups(rows)) == {"M\u00fcller", "O'Neil"}
        assert "not UTF-8" in caplog.text

    @pytest.mark.parametrize("at", [(5,), (2, 5), (7,), (0, 3, 6)])
    def test_a_quotation_mark_that_is_not_closed(self, images: Path, at: tuple[int, ...]) -> None:
        header, *lines = table(list(EIGHT)).splitlines()
        notes = ['"unclear' if number in at else "ok" for number in EIGHT]
        rows = [f"{line},{note}" for line, note in zip(lines, notes, strict=True)]
        if at == (7,):
            assert len(read(images, "\n".join([header + ",note", *rows])).table) == 8
        else:
            text = refusal(images, "\n".join([header + ",note", *rows]))
            assert "unclosed quotation mark" in text

    def test_more_values_than_names(self, images: Path) -> None:
        text = refusal(images, table(list(EIGHT)).replace("a3.png,m,3", "a3.png,m,3,x"))
        assert "cannot be read as a table (more values than the 3 names" in text
        assert "line 5" in text

    def test_a_title_above_the_header(self, images: Path) -> None:
        text = refusal(images, "Table 1: all patients\n\n" + table(list(EIGHT)))
        assert "header row below other text: 1 row above it" in text
        assert "Table 1: all patients" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [("train train", "no image for valid"), ("val test", "no image for train")],
)
def test_a_given_split_that_is_not_whole(
    images: Path, tmp_path: Path, given: str, said: str
) -> None:
    header, *lines = table(list(EIGHT)).splitlines()
    rows = [f"{line},{given.split()[n > 3]}" for n, line in enumerate(lines)]
    (tmp_path / "t.csv").write_text("\n".join([f"{header},set", *rows]))
    columns = {"image_col": "file", "label_col": "lesion", "split_col": "set"}
    with pytest.raises(DataError, match=said):
        prepare(out=tmp_path / "d", size=8, csv=tmp_path / "t.csv", images=images, **columns)


def _zip(name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "x")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<!DOCTYPE html>\n<html><title>Log in</title>", "an HTML page titled 'Log in'"),
        (b"  <html lang='en'>", "an HTML page"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML file"),
        (gzip.compress(b"file,lesion", mtime=0), "a gzip archive, not a label table. Unpack"),
        (_zip("labels.csv"), "a zip archive"),
        (_zip("word/document.xml"), "a Word document"),
        (_zip("ppt/presentation.xml"), "a PowerPoint document"),
        (_zip("a.npy"), "an archive of NumPy arrays"),
        (pickle.dumps([1]), "a pickle, not a label table. Export the table in it as CSV"),
        (b"RDX3\nX\n\0\0", "an R data file"),
        (b"MATLAB 5.0 MAT-file, Platform: PCWIN64" + b" " * 90, "a MATLAB file"),
        (b"\0" * 3000, "a file of zeros"),
        (_zip("content.xml"), "an OpenDocument file"),
        (_zip("xl/workbook.bin"), "a binary Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1" + b"\0" * 100, "an old Office document"),
        (b"PAR1\x15\x04\x15" + b"\0" * 20, "a Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b'[{"file": "a0.png"}]', "a JSON file"),
        (b"%PDF-1.7", "a PDF"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"file\0lesion", "neither UTF-8, UTF-16 nor Windows-1252"),
        ("file,lesion,patient\n".encode("utf-16-le"), "neither UTF-8, UTF-16"),
    ],
)
def test_what_is_no_table_is_named(images: Path, data: bytes, what: str) -> None:
    assert what in refusal(images, data)


@pytest.mark.parametrize("word", ["PAR1", "BZh", "GGUF", "GIF", "BM", "7z", "$FL2", "RDX3", "ID3"])
def test_a_header_may_begin_like_a_signature(images: Path, word: str) -> None:
    lines = table(list(EIGHT)).splitlines()
    told = "\n".join([f"{word},{lines[0]}", *(f"x,{line}" for line in lines[1:])])
    assert len(read(images, told).table) == 8


class TestRowsLeftOut:
    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            (
                ["b", "m", "n", "b", "m", "n", "b", "m"],
                "2 rows skipped, as --keep-label does not name their labels: n (2)",
            ),
            (
                ["b", "m", "x", "b", "m", "n", "b", "m"],
                "2 rows skipped, as --keep-label does not name their labels: n (1), x (1)",
            ),
            (
                ["b", "m", "", "b", "m", "", "b", ""],
                "3 rows skipped, as --keep-label does not name their labels: no label (3)",
            ),
        ],
    )
    def test_they_are_counted(
        self, images: Path, caplog: pytest.LogCaptureFixture, labels: list[str], said: str
    ) -> None:
        found = read(images, table(list(EIGHT), labels), keep_labels=["b", "m"])
        assert set(found.table["label"]) == {"b", "m"}
        assert said in caplog.text

    def test_nothing_left_out_is_not_mentioned(
        self, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        read(images, table(list(EIGHT)), keep_labels=["b", "m"])
        assert "does not name their labels" not in caplog.text

    def test_folders_likewise(self, images: Path, caplog: pytest.LogCaptureFixture) -> None:
        for number in EIGHT:
            folder = images / "bmn"[number % 3]
            folder.mkdir(exist_ok=True)
            (images / f"a{number}.png").rename(folder / f"a{number}.png")
        from_folders(images, ["b", "m"])
        assert "2 images skipped, as --keep-label does not name their labels: n (2)" in caplog.text


@pytest.mark.parametrize(
    ("label", "cure"),
    [
        ("N/A", '"N/A" to "N-A"'),
        ("a\\b", '"a\\b" to "a-b"'),
        (".hidden", '".hidden" to "hidden"'),
        ("x" * 200, "name the others with --keep-label"),
    ],
)
def test_a_label_that_is_no_name_gets_a_cure(images: Path, label: str, cure: str) -> None:
    text = refusal(images, table(list(EIGHT), [label, "m", "b", "b", "m", "b", "m", "b"]))
    assert cure in text
    assert "name the others with --keep-label" in text


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ("01", "for example train for 0 and test for 1"),
        (("FALSE", "TRUE"), "for example train for FALSE and test for TRUE"),
        ("123", "for example train for 1 and test for 2 and valid for 3"),
        ("01234", "Fold numbers are not a split"),
    ],
)
def test_a_split_in_numbers_gets_a_hint(images: Path, values: Sequence[str], hint: str) -> None:
    header, *lines = table(list(EIGHT)).splitlines()
    rows = [f"{line},{values[n % len(values)]}" for n, line in enumerate(lines)]
    path = images.parent / "t.csv"
    path.write_text("\n".join([f"{header},set", *rows]))
    with pytest.raises(DataError, match="split has unknown values") as caught:
        from_csv(path, images, "file", "lesion", "patient", split_col="set")
    assert hint in str(caught.value)


class TestCentres:
    @pytest.mark.parametrize(
        "name", ["centre", "Center", "site", "siteID", "Hospital name", "clinic", "institution"]
    )
    def test_one_number_under_two_centres_is_named(
        self, images: Path, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        header, *lines = table([1, 1, 2, 2, 3, 3, 4, 4]).splitlines()
        rows = [f"{line},{'AB'[n in (1, 3)]}" for n, line in enumerate(lines)]
        found = read(images, "\n".join([f"{header},{name}", *rows]))
        assert found.table["group"].nunique() == 4
        assert f'2 ids of 4 in several centres by column "{name}": 1 (A, B), 2 (A, B)' in (
            caplog.text
        )
        assert "for example A_1" in caplog.text

    @pytest.mark.parametrize("name", ["anatom_site_general", "lesion_site", "website", "position"])
    def test_other_columns_are_no_centres(
        self, images: Path, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        header, *lines = table([1, 1, 2, 2, 3, 3, 4, 4]).splitlines()
        rows = [f"{line},{'AB'[n % 2]}" for n, line in enumerate(lines)]
        read(images, "\n".join([f"{header},{name}", *rows]))
        assert "several centres" not in caplog.text

    @pytest.mark.parametrize("folder", ["site{}", "Hospital_{}", "centre {}"])
    def test_centres_that_are_folders(
        self, images: Path, caplog: pytest.LogCaptureFixture, folder: str
    ) -> None:
        lines = table([1, 2, 3, 4] * 2).splitlines()
        for number in EIGHT:
            place = folder.format(number // 4 + 1)
            (images / place).mkdir(exist_ok=True)
            (images / f"a{number}.png").rename(images / place / f"a{number}.png")
            lines[number + 1] = f"{place}/{lines[number + 1]}"
        read(images, "\n".join(lines))
        assert "4 ids of 4 in several centres by the images' folders" in caplog.text


class TestOneHot:
    NAMES = ("MEL", "NV", "BCC", "VASC")

    def written(self, images: Path, one: str = "1.0", zero: str = "0.0", extra: str = "") -> Path:
        path = images.parent / "t.csv"
        rows = [
            ",".join([f"a{n}.png", *(one if n % 4 == k else zero for k in range(4))]) + extra
            for n in EIGHT
        ]
        path.write_text("\n".join([",".join(["file", *self.NAMES]) + extra, *rows]))
        return path

    @pytest.mark.parametrize(("one", "zero"), [("1.0", "0.0"), ("1", "0")])
    @pytest.mark.parametrize("extra", ["", ",1", ",x"])
    def test_a_missing_label_column_names_the_cure(
        self, images: Path, one: str, zero: str, extra: str
    ) -> None:
        path = self.written(images, one, zero, extra)
        with pytest.raises(
            DataError, match="the columns MEL, NV, BCC, VASC are one-hot"
        ) as caught:
            from_csv(path, images, "file", "label")
        assert 'table[["MEL", "NV", "BCC", "VASC"]].astype(float).idxmax(axis=1)' in str(
            caught.value
        )

    @pytest.mark.parametrize("name", NAMES)
    def test_one_of_them_is_read_with_a_warning(
        self, images: Path, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        assert len(from_csv(self.written(images), images, "file", name).table) == 8
        assert f'Column "{name}" is read as two labels' in caplog.text
        assert "are one-hot" in caplog.text

    def test_several_findings_in_a_row_are_not_one_hot(
        self, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = self.written(images)
        path.write_text(path.read_text().replace("a3.png,0.0", "a3.png,1.0"))
        from_csv(path, images, "file", "MEL")
        assert "are one-hot" not in caplog.text


def test_the_command(images: Path, tmp_path: Path, fgaug: object) -> None:
    (tmp_path / "t.tsv").write_text(table(["1.1", "1.10", "2.1", "2.10"] * 2, sep="\t"))
    given = ["--csv", tmp_path / "t.tsv", "--images", images, "--image-col", "file"]
    given += ["--label-col", "lesion", "--group-col", "patient", "--size", "8"]
    assert callable(fgaug)
    code, out, err = fgaug("data", "prepare", *given, "--out", tmp_path / "d")
    assert code == 0, err
    assert "8 images of 4 groups" in out
    assert "1.10" in err
    code, _, err = fgaug("data", "prepare", *given, "--out", tmp_path / "e", "--sheet", "x")
    assert code == 2
    assert "--sheet works only with workbooks" in err
    assert not (tmp_path / "e").exists()
